"""Faster equivalents of some functions of Jesse that every simulated candle goes through.

Each gives the very same results, to the last bit, for what can happen in a backtest, and leaves everything else (live trading,
arguments out of the ordinary) to the function that it stands in for. What it was derived from is named with the hash of its
source: in a Jesse whose source differs in any of these, that part stays as it is.
"""
import contextlib
import importlib

from runner.faster.equivalent import Equivalent

_PARTS = ("trades", "candles", "indicators", "simulation", "metrics")


def equivalents() -> list[Equivalent]:
    """All whose originals this Jesse has at all, whatever is in them."""
    found: list[Equivalent] = []
    for part in _PARTS:
        with contextlib.suppress(ImportError, AttributeError):
            found += importlib.import_module(f"{__name__}.{part}").EQUIVALENTS
    return found


def install() -> list[str]:
    """Put all in place whose originals are known; answers their names. Before the first fork, once."""
    known = [equivalent for equivalent in equivalents() if equivalent.is_of_this_jesse()]
    for equivalent in known:
        equivalent.put_in_place()
    return [equivalent.name for equivalent in known]
