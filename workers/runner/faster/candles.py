"""Candles read from the storage and added to it."""
import jesse.helpers as jh
import numpy as np
from jesse.constants import TIMEFRAME_TO_ONE_MINUTES
from jesse.libs import DynamicNumpyArray
from jesse.services import candle_service
from jesse.store import store
from jesse.store.state_candles import CandlesState
from jesse_rust import candle_from_one_minutes

from runner.faster.equivalent import Equivalent

_get_candles = candle_service.get_candles
_get_current_candle = candle_service.get_current_candle
_add_candle = candle_service.add_candle
_batch_add_candle = candle_service.batch_add_candle
_validate = candle_service.validate_observed_one_minute_candles
_generate_completed = candle_service.generate_completed_candles_from_observed_minutes
_MINUTE_MS = 60_000
# Of more rows Jesse makes a candle in another way.
MOST_ROWS = 4320


# Candles of a timeframe whose last one is complete: a part of an array, without a look at anything else. Written out twice, since a
# call of a third function would take as long as all else in them.

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


# Candles of each minute, without a gap.

def _are_of_each_minute(candles: np.ndarray) -> bool:
    if type(candles) is not np.ndarray or candles.dtype != np.float64 or candles.ndim != 2 or candles.shape[1] != 6 or len(candles) == 0:
        return False
    times = candles[:, 0]
    return bool(times[0] % _MINUTE_MS == 0 and (np.diff(times) == _MINUTE_MS).all())


def validate_observed_one_minute_candles(candles: np.ndarray, exchange: str, symbol: str) -> None:
    if not _are_of_each_minute(candles):
        _validate(candles, exchange, symbol)


def generate_completed_candles_from_observed_minutes(timeframe: str, candles: np.ndarray, available_at: int) -> np.ndarray:
    minutes = TIMEFRAME_TO_ONE_MINUTES.get(timeframe, MOST_ROWS + 1)
    if minutes > MOST_ROWS or not _are_of_each_minute(candles):
        return _generate_completed(timeframe, candles, available_at)
    length = minutes * _MINUTE_MS
    first = int(candles[0, 0]) // length * length
    generated = []
    for bucket in range(first, min(int(candles[-1, 0]), int(available_at) - length) + 1, length):
        begin = (bucket - int(candles[0, 0])) // _MINUTE_MS
        candle = candle_from_one_minutes(candles[max(begin, 0):begin + minutes])
        candle[0] = bucket
        generated.append(candle)
    return np.array(generated) if generated else np.zeros((0, 6))


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
    Equivalent(
        "candles_of_each_minute",
        (
            (candle_service, "validate_observed_one_minute_candles", validate_observed_one_minute_candles),
            (candle_service, "generate_completed_candles_from_observed_minutes", generate_completed_candles_from_observed_minutes),
        ),
        (candle_service.generate_candle_from_observed_minutes, candle_service.generate_candle_from_one_minutes,
         jh.timeframe_to_one_minutes),
        "13967ceb34c9665da4c0cf124491fdc993b14b431dcce296a453c633b46ce768",
    ),
)
