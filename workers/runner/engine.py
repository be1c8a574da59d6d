"""Jesse in this process: imported without a project, warmed up, and described to the parent.

Nothing here imports Jesse or numpy at module level, because both read the environment and the working directory when imported.
"""
import ctypes
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
_LARGE_PAGES_OF_THE_HEAP = "glibc.malloc.hugetlb=1"
_MADV_COLLAPSE = 25
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGE_PAGE = 2 << 20
# About what Jesse takes; of objects that Python's own allocator serves (up to 512 bytes).
_RESERVED_MB, _BLOCK = 80, 400
_reserved: list[bytes] = []
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
    tunables = os.environ.pop("GLIBC_TUNABLES", "").split(":")
    if os.environ.get("PYTHONHASHSEED") != "0" or _LARGE_PAGES_OF_THE_HEAP not in tunables:
        set_up = {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": ":".join([*filter(None, tunables), _LARGE_PAGES_OF_THE_HEAP])}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **set_up})
    time.tzset()


def reserve_memory() -> None:
    """To be called before Jesse is imported. Python takes memory a megabyte at a time, and the libraries of what is imported
    come to lie in between; taken beforehand, it is in one piece, which `freeze` can have in large pages.

    A few objects in each megabyte are kept, so that Python does not give it back.
    """
    blocks = [bytes(_BLOCK) for _ in range(_RESERVED_MB * (1 << 20) // _BLOCK)]
    _reserved[:] = blocks[::(1 << 20) // _BLOCK // 2]


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
    """Get ready to fork: no threads, no garbage collection that would write to, and so copy, the shared pages, and as few pages
    as can be."""
    if threading.active_count() != 1:
        raise RuntimeError(f"threads at fork: {threading.enumerate()}")
    gc.collect()
    gc.disable()
    gc.freeze()
    _use_large_pages()


def _use_large_pages() -> None:
    """A fork copies an entry for each page, and its end takes each back: of a page of 2 MB once instead of 512 times.

    What cannot be had (another libc, a kernel before 6.1, no room) leaves things as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
        # Months of candles come from the end of the heap, which is in large pages as well, and not each from a mapping of its own.
        for setting in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 256 << 20), (_M_TOP_PAD, 16 << 20)):
            libc.mallopt(*setting)
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps.read().splitlines():
            addresses, access, _, _, inode, *name = line.split(maxsplit=5)
            if access == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
                begin, end = (int(address, 16) for address in addresses.split("-"))
                first, last = -(-begin // _LARGE_PAGE) * _LARGE_PAGE, end // _LARGE_PAGE * _LARGE_PAGE
                if first < last:
                    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_COLLAPSE)


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
