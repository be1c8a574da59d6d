"""Positions, and the trades and orders that belong to them."""
import jesse.helpers as jh
import numpy as np
from jesse.libs import DynamicNumpyArray
from jesse.models import ClosedTrade, Position
from jesse.services import order_service
from jesse.store import store
from jesse.store.state_orders import OrdersState
from jesse.store.state_positions import PositionsState
from jesse.strategies import Strategy

from runner.faster.equivalent import Equivalent

_get_entry_orders = order_service.get_entry_orders
_to_dict = ClosedTrade.to_dict.fget

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
