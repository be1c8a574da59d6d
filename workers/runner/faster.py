"""Faster equivalents of some functions of Jesse that every simulated candle goes through.

Each gives the very same results, to the last bit, for what can happen in a backtest, and leaves everything else (live trading,
arguments out of the ordinary) to the function that it stands in for. What it was derived from is named with the hash of its
source: in a Jesse whose source differs in any of these, that part stays as it is.
"""
import hashlib
import inspect
from dataclasses import dataclass
from typing import Any, Callable

import jesse.helpers as jh
import numpy as np
from jesse.constants import TIMEFRAME_TO_ONE_MINUTES
from jesse.libs import DynamicNumpyArray
from jesse.models import ClosedTrade, Position
from jesse.services import candle_service, order_service
from jesse.store import store
from jesse.store.state_candles import CandlesState
from jesse.store.state_orders import OrdersState
from jesse.store.state_positions import PositionsState
from jesse.strategies import Strategy

_get_candles = candle_service.get_candles
_get_current_candle = candle_service.get_current_candle
_add_candle = candle_service.add_candle
_batch_add_candle = candle_service.batch_add_candle
_get_entry_orders = order_service.get_entry_orders
_to_dict = ClosedTrade.to_dict.fget

_ORDER_OF_JSON = ("id", "strategy_name", "symbol", "exchange", "type", "entry_price", "exit_price", "qty", "fee", "size", "PNL",
                  "PNL_percentage", "holding_period", "opened_at", "closed_at")


@dataclass(frozen=True)
class Equivalent:
    """Replacements that belong together. `digest` is that of the sources of what they replace and of what they `rest_on`: what
    is written out in them, or must not have effects that they leave out."""

    name: str
    replaces: tuple[tuple[Any, str, Any], ...]
    rests_on: tuple[Callable, ...]
    digest: str

    def found(self) -> str:
        """The digest of what this Jesse has."""
        replaced = [inspect.getattr_static(owner, attribute) for owner, attribute, _ in self.replaces]
        sources = (inspect.getsource(_function(found)) for found in (*replaced, *self.rests_on))
        return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def _function(found: Any) -> Callable:
    return inspect.unwrap(found.fget if isinstance(found, property) else found)


def install() -> list[str]:
    """Put all in place whose originals are known; answers their names. Before the first fork, once."""
    installed = []
    for equivalent in EQUIVALENTS:
        try:
            known = equivalent.found() == equivalent.digest
        except (AttributeError, OSError, TypeError):
            known = False  # a Jesse without this function, or without its source
        if known:
            for owner, attribute, replacement in equivalent.replaces:
                setattr(owner, attribute, replacement)
            installed.append(equivalent.name)
    return installed


# A position's least quantity is 0 unless it trades live, so that its side is the sign of its quantity.

def _type(position: Position) -> str:
    qty = position.qty
    return "long" if qty > 0 else "short" if qty < 0 else "close"


def _is_open(position: Position) -> bool:
    qty = position.qty
    return bool(qty > 0 or qty < 0)


def _is_close(position: Position) -> bool:
    qty = position.qty
    return not (qty > 0 or qty < 0)


def _strategy_is_long(strategy: Strategy) -> bool:
    return bool(strategy.position.qty > 0)


def _strategy_is_short(strategy: Strategy) -> bool:
    return bool(strategy.position.qty < 0)


# Candles of a timeframe whose last one is complete: a part of an array, without a look at anything else.

def get_candles(exchange: str, symbol: str, timeframe: str) -> np.ndarray:
    complete = _complete(exchange, symbol, timeframe)
    if complete is None:
        return _get_candles(exchange, symbol, timeframe)
    array, index = complete
    return array[:index + 1]


def get_current_candle(exchange: str, symbol: str, timeframe: str) -> np.ndarray:
    complete = _complete(exchange, symbol, timeframe)
    if complete is None:
        return _get_current_candle(exchange, symbol, timeframe)
    array, index = complete
    return array[index]


def _complete(exchange: str, symbol: str, timeframe: str) -> tuple[np.ndarray, int] | None:
    candles = store.candles
    if timeframe == "1m" or candles.uses_timestamp_buckets:
        return None
    try:
        _, minute = candles.storage[f"{exchange}-{symbol}-1m"]._state
        array, index = candles.storage[f"{exchange}-{symbol}-{timeframe}"]._state
        complete = index >= 0 and (minute + 1) % TIMEFRAME_TO_ONE_MINUTES[timeframe] == 0
    except KeyError:
        return None
    return (array, index) if complete else None


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


# What is worked out of a trade's orders, once instead of at each mention.

def to_dict(trade: ClosedTrade) -> dict:
    figures = _figures(trade)
    if figures is None:
        return _to_dict(trade)
    entry_price, exit_price, qty, fee, size, pnl, roi = figures
    return {
        "id": trade.id,
        "strategy_name": jh.get_class_name(trade.strategy_name),
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "type": trade.type,
        "entry_price": entry_price,
        "exit_price": exit_price,
        "qty": qty,
        "opened_at": trade.opened_at,
        "closed_at": trade.closed_at,
        "fee": fee,
        "size": size,
        "PNL": pnl,
        "PNL_percentage": roi,
        "holding_period": trade.holding_period,
    }


def to_json(trade: ClosedTrade) -> dict:
    """The same in another order."""
    fields = to_dict(trade)
    return {name: fields[name] for name in _ORDER_OF_JSON}


def _figures(trade: ClosedTrade) -> tuple | None:
    """Entry price, exit price, quantity, fee, size, profit and return, by Jesse's own formulas in Jesse's own order."""
    side = trade.type
    if side == "long":
        entries, exits = trade.buy_orders[:], trade.sell_orders[:]
    elif side == "short":
        entries, exits = trade.sell_orders[:], trade.buy_orders[:]
    else:
        return None
    qty = entries[:, 0].sum()
    entry_price, exit_price = _mean_price(entries), _mean_price(exits)
    fee = sum(order.fee or 0 for order in trade.orders)
    amount = abs(qty)
    profit = amount * (exit_price - entry_price)
    if side == "short":
        profit *= -1
    pnl = profit - fee
    roi = pnl / (entry_price * amount / trade.leverage) * 100
    return entry_price, exit_price, qty, fee, qty * entry_price, pnl, roi


def _mean_price(orders: np.ndarray) -> float:
    quantity = orders[:, 0].sum()
    if quantity == 0:
        return np.nan
    return (orders[:, 0] * orders[:, 1]).sum() / quantity


def get_entry_orders(exchange: str, symbol: str) -> list:
    """Of an open position without active orders there are none."""
    key = f"{exchange}-{symbol}"
    if not store.orders.active_storage.get(key):
        position = store.positions.storage.get(key)
        if position is not None and position.is_open:
            return []
    return _get_entry_orders(exchange, symbol)


EQUIVALENTS = (
    Equivalent(
        "position",
        (
            (Position, "type", property(_type)),
            (Position, "is_open", property(_is_open)),
            (Position, "is_close", property(_is_close)),
            (Position, "_min_qty", property(lambda _: 0)),
            (Strategy, "is_long", property(_strategy_is_long)),
            (Strategy, "is_short", property(_strategy_is_short)),
        ),
        (jh.is_livetrading,),
        "00c8619e48eaabd7d560a66b67c6464816af95ac3b2c4c8db7fb775015975031",
    ),
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
        "closed_trade",
        ((ClosedTrade, "to_dict", property(to_dict)), (ClosedTrade, "to_json", property(to_json))),
        (ClosedTrade, DynamicNumpyArray),
        "be888abddecccc7a5dd656a4cf84ef9b308fbb3d2aa92e4d0e5fe711ab0062bc",
    ),
    Equivalent(
        "get_entry_orders",
        ((order_service, "get_entry_orders", get_entry_orders),),
        (jh.type_to_side, OrdersState.get_active_orders, OrdersState.get_orders, PositionsState.get_position),
        "1c3842b16ae14d937f5314c133fc3c2ec9c23940803217ef8e2d886adfe33cd2",
    ),
)
