"""What nearly every indicator does with the candles first."""
import sys

import jesse.constants
import jesse.helpers as jh
import numpy as np

from runner.faster.equivalent import Equivalent, wherever_named

_slice_candles = jh.slice_candles
_get_candle_source = jh.get_candle_source
_WARM_UP = "env.data.warmup_candles_num"


def slice_candles(candles: np.ndarray, sequential: bool) -> np.ndarray:
    count = jh.CACHED_CONFIG.get(_WARM_UP)
    if count is None or jh._is_unit_testing_outside_pytest is not False or "pytest" in sys.modules:
        return _slice_candles(candles, sequential)
    if not sequential and candles.shape[0] > count:
        return candles[-count:]
    return candles


def get_candle_source(candles: np.ndarray, source_type: str = "close") -> np.ndarray:
    if source_type == "close":
        return candles[:, 2]
    return _get_candle_source(candles, source_type)


EQUIVALENTS = (
    Equivalent(
        "slice_candles",
        wherever_named(_slice_candles, slice_candles),
        (_slice_candles, jh.get_config, jh.is_unit_testing),
        "fe2d7fb4f95541774d1439c83a7763fb22cbc9bd5dcba2a8500bb7be3b80408a",
    ),
    Equivalent(
        "get_candle_source",
        wherever_named(_get_candle_source, get_candle_source),
        (_get_candle_source, jesse.constants),
        "461d3c12a8b75ee6330607c8a382ca6e69f3f48261a05d326c0c1d987e856070",
    ),
)
