"""Candles read from the storage and added to it."""
import jesse.helpers as jh
import numpy as np
from jesse.constants import TIMEFRAME_TO_ONE_MINUTES
from jesse.libs import DynamicNumpyArray
from jesse.services import candle_service
from jesse.store import store
from jesse.store.state_candles import CandlesState

from runner.faster.equivalent import Equivalent

_get_candles = candle_service.get_candles
_get_current_candle = candle_service.get_current_candle
_add_candle = candle_service.add_candle
_batch_add_candle = candle_service.batch_add_candle


# Candles of a timeframe whose last one is complete: a part of an array, without a look at anything else.

def get_candles(exchange: str, symbol: str, timeframe: str) -> np.ndarray:
    candles = store.candles
    if timeframe != "1m" and not candles.uses_timestamp_buckets:
        storage = candles.storage
        try:
            array, index = storage[f"{exchange}-{symbol}-{timeframe}"]._state
            minutes = storage[f"{exchange}-{symbol}-1m"]._state[1] + 1
            if index >= 0 and minutes % TIMEFRAME_TO_ONE_MINUTES[timeframe] == 0:
                return array[:index + 1]
        except KeyError:
            pass
    return _get_candles(exchange, symbol, timeframe)


def get_current_candle(exchange: str, symbol: str, timeframe: str) -> np.ndarray:
    candles = store.candles
    if timeframe != "1m" and not candles.uses_timestamp_buckets:
        storage = candles.storage
        try:
            array, index = storage[f"{exchange}-{symbol}-{timeframe}"]._state
            minutes = storage[f"{exchange}-{symbol}-1m"]._state[1] + 1
            if index >= 0 and minutes % TIMEFRAME_TO_ONE_MINUTES[timeframe] == 0:
                return array[index]
        except KeyError:
            pass
    return _get_current_candle(exchange, symbol, timeframe)


# A candle, or many, after all that are stored: written into the array that is there.

def add_candle(candle: np.ndarray, exchange: str, symbol: str, timeframe: str, with_execution: bool = True,
               with_generation: bool = True, with_skip: bool = True) -> None:
    stored = store.candles.storage.get(f"{exchange}-{symbol}-{timeframe}")
    if stored is not None and stored.drop_at is None:
        array, index = stored._state
        moment = candle[0]
        if 0 <= index < len(array) - 1 and moment > array[index, 0] and moment != 0:
            array[index + 1] = candle
            stored._state = (array, index + 1)
            return
    _add_candle(candle, exchange, symbol, timeframe, with_execution, with_generation, with_skip)


def batch_add_candle(candles: np.ndarray, exchange: str, symbol: str, timeframe: str, with_generation: bool = True) -> None:
    stored = store.candles.storage.get(f"{exchange}-{symbol}-{timeframe}")
    if stored is None or stored.drop_at is not None or not _ascend_after(stored, candles):
        _batch_add_candle(candles, exchange, symbol, timeframe, with_generation)
        return
    array, index = stored._state
    end = index + 1 + len(candles)
    size = len(array)
    while size < end:  # as one by one
        size = max(size * 2, max(stored.bucket_size, 1))
    if size > len(array):
        larger = np.zeros((size,) + array.shape[1:], dtype=array.dtype)
        larger[:index + 1] = array[:index + 1]
        array = larger
    array[index + 1:end] = candles
    stored._state = (array, end - 1)


def _ascend_after(stored: DynamicNumpyArray, candles: np.ndarray) -> bool:
    """Whether adding these is appending them all."""
    if type(candles) is not np.ndarray or candles.dtype != np.float64 or len(candles) == 0:
        return False
    array, index = stored._state
    times = candles[:, 0]
    follows = index < 0 or times[0] > array[index, 0]
    return bool(follows and (times[1:] > times[:-1]).all() and (times != 0).all())


EQUIVALENTS = (
    Equivalent(
        "get_candles",
        ((candle_service, "get_candles", get_candles), (candle_service, "get_current_candle", get_current_candle)),
        (CandlesState.forming_estimation, CandlesState.get_storage, DynamicNumpyArray, jh.timeframe_to_one_minutes, jh.is_live),
        "505b645669feda569c14a3fed5eb9f70d6cd75519bd6db712ab8888b0d82f564",
    ),
    Equivalent(
        "add_candle",
        ((candle_service, "add_candle", add_candle), (candle_service, "batch_add_candle", batch_add_candle)),
        (candle_service._generate_bigger_timeframes, CandlesState.get_storage, DynamicNumpyArray, jh.is_live),
        "d3fe9c3809197b4a79555bf77dfd526726342f15302c9718d1058d772c8b4db4",
    ),
)
