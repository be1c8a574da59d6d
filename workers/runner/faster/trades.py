"""Positions, the trades and orders that belong to them, and what is noted of those."""
from typing import Any

import jesse.helpers as jh
import numpy as np
from jesse.config import config
from jesse.libs import DynamicNumpyArray
from jesse.models import ClosedTrade, Order, Position
from jesse.services import logger, order_service
from jesse.store import store
from jesse.store.state_orders import OrdersState
from jesse.store.state_positions import PositionsState
from jesse.strategies import Strategy

from runner.faster.equivalent import Equivalent, wherever_named

_get_entry_orders = order_service.get_entry_orders
_order_message = order_service._order_message
_now_to_timestamp = jh.now_to_timestamp
_info = logger.info
_to_dict = ClosedTrade.to_dict.fget
_pnl = ClosedTrade.pnl.fget

_ORDER_OF_JSON = ("id", "strategy_name", "symbol", "exchange", "type", "entry_price", "exit_price", "qty", "fee", "size", "PNL",
                  "PNL_percentage", "holding_period", "opened_at", "closed_at")


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
    profits = _profits(trade)
    if profits is None:
        return None
    entry_price, exit_price, qty, fee, pnl = profits
    roi = pnl / (entry_price * abs(qty) / trade.leverage) * 100
    return entry_price, exit_price, qty, fee, qty * entry_price, pnl, roi


def _profits(trade: ClosedTrade) -> tuple | None:
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
    profit = abs(qty) * (exit_price - entry_price)
    if side == "short":
        profit *= -1
    return entry_price, exit_price, qty, fee, profit - fee


def _trade_pnl(trade: ClosedTrade) -> float:
    profits = _profits(trade)
    return _pnl(trade) if profits is None else profits[-1]


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


# What is noted of each order.

def order_message(order: Order, event: str, qty: float | None = None) -> str:
    """Nobody reads it outside of live trading and debugging."""
    if config["app"]["debug_mode"] or jh.is_live():
        return _order_message(order, event, qty)
    return ""


def info(msg: str, send_notification: bool = False, webhook: Any = None) -> None:
    if config["app"]["debug_mode"] or jh.is_live():
        return _info(msg, send_notification, webhook)
    msg = str(msg)
    store.logs.info.append({"id": jh.generate_unique_id(), "session_id": store.app.session_id, "timestamp": jh.now_to_timestamp(),
                            "message": msg})
    if send_notification:
        logger.notify(msg, webhook=webhook)


def now_to_timestamp(force_fresh: bool = False) -> int:
    if force_fresh or jh.is_live() or config["app"]["trading_mode"] == "candles":
        return _now_to_timestamp(force_fresh)
    return store.app.time


EQUIVALENTS = (
    Equivalent(
        "order_message",
        ((order_service, "_order_message", order_message),),
        (order_service.create_order, order_service.execute_order, order_service.execute_order_partially, order_service.cancel_order,
         order_service.queue_order, order_service.resubmit_order, order_service._notify_submission, jh.is_debuggable, jh.is_debugging,
         jh.is_live),
        "52eb40941966903db81ee7297fc767df7ded048ef7301edc9826240f802daadc",
    ),
    Equivalent("info", ((logger, "info", info),), (jh.is_live, jh.is_backtesting, jh.is_debugging), "dc8f701c347592536bf36827052744e68a446825a4d3bdfb627e9aebfedf6a7d"),
    Equivalent("now_to_timestamp", wherever_named(_now_to_timestamp, now_to_timestamp), (jh.is_live, jh.is_importing_candles), "c84444bd775aefd217774c407c52c86dcd9777444fd02a53e09dddcea9c393d4"),
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
        "closed_trade",
        (
            (ClosedTrade, "to_dict", property(to_dict)),
            (ClosedTrade, "to_json", property(to_json)),
            (ClosedTrade, "pnl", property(_trade_pnl)),
        ),
        (ClosedTrade, DynamicNumpyArray),
        "f5d39a5b4de86fc038b5dae9fe9b3a513296669ae044bf14744229185a087666",
    ),
    Equivalent(
        "get_entry_orders",
        ((order_service, "get_entry_orders", get_entry_orders),),
        (jh.type_to_side, OrdersState.get_active_orders, OrdersState.get_orders, PositionsState.get_position),
        "1c3842b16ae14d937f5314c133fc3c2ec9c23940803217ef8e2d886adfe33cd2",
    ),
)
