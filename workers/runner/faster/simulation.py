"""One step of the simulation: the candles of the step, and the strategies on them."""
import jesse.helpers as jh
import numpy as np
from jesse import exceptions
from jesse.config import config
from jesse.constants import TIMEFRAME_TO_ONE_MINUTES
from jesse.libs import DynamicNumpyArray
from jesse.models import Position
from jesse.modes import backtest_mode
from jesse.routes import router
from jesse.services import candle_service, order_service
from jesse.store import store
from jesse.store.state_orders import OrdersState
from jesse.store.state_positions import PositionsState
from jesse.strategies import Strategy
from jesse.strategies.Strategy import _np_array_equal
from jesse_rust import candle_from_one_minutes

from runner.faster.candles import MOST_ROWS
from runner.faster.equivalent import Equivalent

_simulate_new_candles = backtest_mode._simulate_new_candles
_execute_routes = backtest_mode._execute_routes
_calculate_minimum_candle_step = backtest_mode._calculate_minimum_candle_step
_current_candle = Strategy.current_candle
_check = Strategy._check
_detect_modifications = Strategy._detect_and_handle_entry_and_exit_modifications


def calculate_minimum_candle_step() -> int:
    """Python's own integer, with which each step's arithmetic is faster than with numpy's."""
    return int(_calculate_minimum_candle_step())


def simulate_new_candles(candles: dict, candles_pipelines: dict, candle_index: int, candles_step: int,
                         pairs_info: list | None = None, htf_info: list | None = None) -> None:
    """Where no order waits for a price, the candles of a step are all that changes."""
    if pairs_info is None or htf_info is None or candles_step > MOST_ROWS:
        return _simulate_new_candles(candles, candles_pipelines, candle_index, candles_step, pairs_info, htf_info)
    end = candle_index + candles_step
    active_orders, positions, storage = store.orders.active_storage, store.positions.storage, store.candles.storage
    for pair in pairs_info:
        rows, _, exchange, symbol, stored = pair
        key = f"{exchange}-{symbol}"
        if stored is None or active_orders.get(key):
            _simulate_new_candles(candles, candles_pipelines, candle_index, candles_step, [pair], htf_info)
            continue
        minutes = rows[candle_index:end]
        candle = candle_from_one_minutes(minutes)
        array, index = stored._state
        stored._state = array, index + len(minutes)
        store.app.time = candle[0] + (60_000 * len(minutes))
        position = positions.get(key)
        if position:
            traded_on = position.exchange
            if traded_on.type != "spot" and traded_on.futures_leverage_mode == "isolated":
                previous_close = rows[candle_index - 1, 2] if candle_index != 0 else None
                backtest_mode._check_for_liquidations(candle, exchange, symbol, previous_close=previous_close)
            position.current_price = minutes[-1, 2]
        for timeframe, count in htf_info:
            if end % count == 0:
                longer = candle
                if count != candles_step:
                    longer = candle_service.generate_candle_from_one_minutes(timeframe, rows[end - count:end])
                longer_stored = storage[f"{key}-{timeframe}"]
                array, index = longer_stored._state
                if longer_stored.drop_at is None and 0 <= index < len(array) - 1 and array[index, 0] < longer[0] != 0:
                    array[index + 1] = longer
                    longer_stored._state = array, index + 1
                else:
                    candle_service.add_candle(longer, exchange, symbol, timeframe, with_execution=False, with_generation=False)


def execute_routes(candle_index: int, candles_step: int) -> None:
    if config["app"]["debug_mode"]:
        return _execute_routes(candle_index, candles_step)
    end = candle_index + candles_step
    for route in router.routes:
        if end % TIMEFRAME_TO_ONE_MINUTES[route.timeframe] == 0:
            route.strategy._execute()
        if store.orders.active_storage.get(f"{route.exchange}-{route.symbol}") != []:
            order_service.update_active_orders(route.exchange, route.symbol)


def _field_of_current_candle(column: int) -> property:
    """One field of the candle needs no copy of all."""
    def field(strategy: Strategy) -> np.float64:
        if type(strategy).current_candle is not _current_candle:
            return strategy.current_candle[column]
        return candle_service.get_current_candle(strategy.exchange, strategy.symbol, strategy.timeframe)[column]
    return property(field)


def check(strategy: Strategy) -> None:
    if strategy._is_handling_updated_order or jh.is_live():
        return _check(strategy)
    strategy._is_initiated = True
    key = f"{strategy.exchange}-{strategy.symbol}"
    orders, position = store.orders, strategy.position
    is_open = position.is_open

    # Only where there are orders can there be any that are to open the position.
    if (orders.active_storage if is_open else orders.storage).get(key):
        if (len(strategy.entry_orders) and strategy.is_close and not strategy._has_entries_awaiting_fill()
                and strategy.should_cancel_entry()):
            strategy._execute_cancel()
        is_open = position.is_open

    if is_open and not strategy._is_handling_updated_order:
        strategy.update_position()
        strategy._detect_and_handle_entry_and_exit_modifications()
    elif is_open:
        strategy._update_position()

    if orders.to_execute:
        strategy._simulate_market_order_execution()

    if position.is_close and not orders.storage.get(key):
        strategy._reset()

        should_short = strategy.should_short()
        if strategy.exchange_type == "spot" and should_short:
            raise exceptions.InvalidStrategy('should_short cannot be True if the exchange type is "spot".')

        should_long = strategy.should_long()
        if should_short and should_long:
            raise exceptions.ConflictingRules("should_short and should_long should not be true at the same time.")

        if should_long:
            strategy._execute_long()
        elif should_short:
            strategy._execute_short()


def detect_modifications(strategy: Strategy) -> None:
    """An entry and exits that are those of the candle before need nothing done; all else is for Jesse's own."""
    if strategy.position.is_close:
        return
    stop_loss, take_profit = strategy.stop_loss, strategy.take_profit
    if strategy.is_long:
        same = _is_still(strategy.buy, strategy._buy)
    else:
        same = strategy.is_short and _is_still(strategy.sell, strategy._sell)
    if (not same or (stop_loss is not None and not _is_still(stop_loss, strategy._stop_loss))
            or (take_profit is not None and (stop_loss is not None or not _is_still(take_profit, strategy._take_profit)))):
        _detect_modifications(strategy)


def _is_still(wanted: object, submitted: object) -> bool:
    """Lists compare these few numbers faster than arrays do."""
    return (type(wanted) is np.ndarray and type(submitted) is np.ndarray and wanted.dtype == submitted.dtype == np.float64
            and wanted.shape == submitted.shape and wanted.tolist() == submitted.tolist())


EQUIVALENTS = (
    Equivalent(
        "step",
        (
            (backtest_mode, "_calculate_minimum_candle_step", calculate_minimum_candle_step),
            (backtest_mode, "_simulate_new_candles", simulate_new_candles),
            (backtest_mode, "_execute_routes", execute_routes),
        ),
        (
            backtest_mode._skip_simulator,
            backtest_mode._simulate_price_change_effect_multiple_candles,
            backtest_mode._get_opening_gap_and_executing_orders,
            backtest_mode._check_for_liquidations,
            backtest_mode.get_candles_from_pipeline,
            candle_service.add_candle,
            order_service.update_active_orders,
            DynamicNumpyArray,
            OrdersState,
            PositionsState.get_position,
            Position.mode,
            jh.is_debuggable,
            jh.is_debugging,
        ),
        "db88069f925ab801f3e6bcf54f57d8ce06544f5b0b4d6bb721a179685a9b2329",
    ),
    Equivalent(
        "strategy",
        (
            (Strategy, "_check", check),
            (Strategy, "_detect_and_handle_entry_and_exit_modifications", detect_modifications),
            (Strategy, "open", _field_of_current_candle(1)),
            (Strategy, "close", _field_of_current_candle(2)),
            (Strategy, "high", _field_of_current_candle(3)),
            (Strategy, "low", _field_of_current_candle(4)),
            (Strategy, "volume", _field_of_current_candle(5)),
        ),
        (
            Strategy.current_candle,
            Strategy.entry_orders,
            Strategy.is_close,
            Strategy._prepare_buy,
            Strategy._prepare_sell,
            Strategy._prepare_stop_loss,
            Strategy._prepare_take_profit,
            Strategy._validate_stop_loss,
            Strategy._validate_take_profit,
            Strategy._get_formatted_order,
            Strategy._simulate_market_order_execution,
            Strategy._update_position,
            Strategy._wait_until_executing_orders_are_fully_handled,
            _np_array_equal,
            order_service.get_entry_orders,
            OrdersState.get_orders,
            OrdersState.get_active_orders,
            jh.is_livetrading,
            jh.is_live,
        ),
        "291e75a0d56a68a035d1265dcb54acb77ace716d264d08d2ac118330773c1974",
    ),
)
