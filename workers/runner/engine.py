"""Jesse in this process: imported without a project, warmed up, and described to the parent.

Nothing here imports Jesse or numpy at module level, because both read the environment and the working directory when imported.
"""
import gc
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time

from runner import ENGINE

_SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                    "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
_CREDENTIAL = re.compile(r"REDIS_URL|DATABASE_URL|POSTGRES_.*|PG[A-Z]+|AWS_.*|.*_(PASSWORD|TOKEN|SECRET|KEY)", re.IGNORECASE)


def settle_environment() -> None:
    """Make runs repeatable and strategies blind to credentials.

    Jesse iterates over sets of strings, so the order in which it visits several symbols depends on the hash seed, which only
    a new interpreter can change. Native thread pools are kept out since a fork copies their locks but not their threads. UTC
    because Jesse renders times through local time, which has ambiguous hours elsewhere.
    """
    for name in [name for name in os.environ if _CREDENTIAL.fullmatch(name)]:
        del os.environ[name]
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # would have Jesse look for its own test strategies
    os.environ.update({name: "1" for name in _SINGLE_THREADED}, TZ="UTC", MPLBACKEND="Agg")
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    time.tzset()


def import_jesse() -> None:
    """Import Jesse as outside of a project: inside one it would read .env and open a Postgres connection.

    It creates `storage` as it runs, and would take its next working directory that has one for a project; hence a function
    that keeps saying no.
    """
    search_path = list(sys.path)
    empty = tempfile.mkdtemp(prefix="runner-")
    os.chdir(empty)
    try:
        import jesse.helpers

        jesse.helpers.is_jesse_project = lambda: False
        import jesse.indicators  # noqa: F401
        import jesse.modes.backtest_mode  # noqa: F401
        import jesse.research  # noqa: F401
        import jesse.services.charts  # noqa: F401
        import jesse.strategies  # noqa: F401, which makes the folder `storage` where it is imported
        import jesse.utils  # noqa: F401
    finally:
        os.chdir("/")
        shutil.rmtree(empty)
    # Importing Jesse puts the working directory, here an empty one, on the path; `python -m` did so with the one it started in.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", empty, search_path[0])]


def freeze() -> None:
    """Get ready to fork: no threads, and no garbage collection that would write to, and so copy, the shared pages."""
    if threading.active_count() != 1:
        raise RuntimeError(f"threads at fork: {threading.enumerate()}")
    gc.collect()
    gc.disable()
    gc.freeze()


def describe() -> dict:
    """The `ready` message: everything that a result depends on and that the parent cannot know by itself."""
    import jesse
    from jesse import info
    from jesse.version import __version__

    return {
        "type": "ready",
        "pid": os.getpid(),
        "jesse_version": __version__,
        "engine": ENGINE,
        "python": platform.python_version(),
        "packages": {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()},
        "cpu": _cpu(),
        "exchanges": {name: _exchange(info.exchange_info[name]) for name in info.backtesting_exchanges},
        "timeframes": list(info.jesse_supported_timeframes),
        "package_folders": sorted({os.path.realpath(str(dist.locate_file(""))) for dist in importlib.metadata.distributions()}),
        "jesse_folder": os.path.dirname(os.path.realpath(jesse.__file__)),
    }


def _exchange(entry: dict) -> dict:
    """Jesse's own entry, less what only its dashboard shows. `timeframes` are the venue's; a backtest can use all of Jesse's."""
    described = {name: entry[name] for name in ("type", "fee", "simulation_model", "annualization", "asset_class",
                                                "instrument_type")}
    described["settlement_currency"] = entry.get("settlement_currency")
    described["leverage_modes"] = list(entry["supported_leverage_modes"])
    described["timeframes"] = list(entry["supported_timeframes"])
    return described


def _cpu() -> dict:
    """Floating-point results can differ between processors; this says whether two runs had the same."""
    fields = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        for line in cpuinfo:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    return {
        "model": fields.get("model name", platform.machine()),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16],
    }
