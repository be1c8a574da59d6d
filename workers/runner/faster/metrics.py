"""The figures at the end: Jesse's own formulas on arrays.

Jesse has them of pandas, which takes more time to get ready than to compute, and of which a forked process copies a third of all
memory that it copies at all. A sum, mean or deviation of pandas is one of numpy with zeros in place of what is missing, and so it
is here: with other zeros, or without, the additions would group in another way and the last digit would differ.
"""
import datetime
from typing import Any, Sequence

import jesse.helpers as jh
import numpy as np
import pandas
from jesse.models import ClosedTrade
from jesse.services import metrics
from jesse.store import store
from pandas.core import nanops

from runner.faster.equivalent import Equivalent

_trades = metrics.trades
_DAY_MS = 86_400_000


class _OutOfTheOrdinary(Exception):
    """What is for Jesse's own."""


def trades(trades_list: list[ClosedTrade], daily_balance: list, final: bool = True) -> dict:
    if not trades_list or len(daily_balance) < 3 or nanops._USE_BOTTLENECK:
        return _trades(trades_list, daily_balance, final)
    try:
        # Infinities and undefined figures, with the warnings that come of them, are Jesse's own.
        with np.errstate(all="raise", under="ignore"):
            return _figures(trades_list, daily_balance)
    except (_OutOfTheOrdinary, ArithmeticError, TypeError, ValueError):
        return _trades(trades_list, daily_balance, final)


def _figures(trades_list: list[ClosedTrade], daily_balance: list) -> dict:
    annualization = jh.get_config("env.metrics.annualization", 365)
    starting_balance = current_balance = 0
    currency = jh.app_currency()
    for exchange in store.exchanges.storage.values():
        starting_balance += exchange.starting_assets[currency]
        current_balance += exchange.assets[currency]

    about = [trade.to_dict for trade in trades_list]
    pnl, fees, held = (_numbers([trade[name] for trade in about]) for name in ("PNL", "fee", "holding_period"))
    long = np.array([trade["type"] == "long" for trade in about])
    short = np.array([trade["type"] == "short" for trade in about])
    won, lost = pnl > 0, pnl < 0
    total, winners, losers = len(about), int(won.sum()), int(lost.sum())
    if winners == 0 or losers == 0:
        raise _OutOfTheOrdinary  # means of nothing
    wins, losses = pnl[won], pnl[lost]

    pos = np.clip(pnl, 0, 1).astype(bool).cumsum()
    neg = np.clip(pnl, -1, 0).astype(bool).cumsum()
    streaks = np.where(pnl >= 0, pos - np.maximum.accumulate(np.where(pnl <= 0, pos, 0)),
                       -neg + np.maximum.accumulate(np.where(pnl >= 0, neg, 0)))
    least, most = streaks.min(), streaks.max()

    win_rate = winners / (losers + winners)
    longs, shorts = int(long.sum()), int(short.sum())
    longs_percentage = longs / (longs + shorts) * 100
    net_profit = pnl.sum()
    average_win, average_loss = _mean(wins), abs(_mean(losses))
    expectancy = average_win * win_rate - average_loss * (1 - win_rate)
    expectancy_percentage = (expectancy / starting_balance) * 100
    per_day = _per_day(total)
    return {
        "total": total,
        "total_winning_trades": winners,
        "total_losing_trades": losers,
        "starting_balance": float(starting_balance),
        "finishing_balance": float(current_balance),
        "win_rate": win_rate,
        "win_rate_longs": float(_rate(won, lost, long)),
        "win_rate_shorts": float(_rate(won, lost, short)),
        "ratio_avg_win_loss": float(average_win / average_loss),
        "longs_count": longs,
        "longs_percentage": longs_percentage,
        "shorts_percentage": 100 - longs_percentage,
        "shorts_count": shorts,
        "fee": float(fees.sum()),
        "net_profit": float(net_profit),
        "net_profit_percentage": float((net_profit / starting_balance) * 100),
        "average_win": float(average_win),
        "average_loss": float(average_loss),
        "expectancy": float(expectancy),
        "expectancy_percentage": float(expectancy_percentage),
        "expected_net_profit_every_100_trades": float(expectancy_percentage * 100),
        "average_holding_period": float(_mean(held)),
        "average_winning_holding_period": float(_mean(held[won])),
        "average_losing_holding_period": float(_mean(held[lost])),
        "gross_profit": float(wins.sum()),
        "gross_loss": float(losses.sum()),
        **_ratios(daily_balance, annualization),
        "total_open_trades": int(store.app.total_open_trades),
        "open_pl": float(store.app.total_open_pl),
        "winning_streak": int(max(most, 0)),
        "losing_streak": 0 if least > 0 else int(abs(least)),
        "largest_losing_trade": float(losses.min()),
        "largest_winning_trade": float(wins.max()),
        "current_streak": int(streaks[-1]),
        "avg_trades_per_day": float(per_day),
        "avg_trades_per_week": float(per_day * 7),
        "avg_trades_per_month": float(per_day * 30.44),
    }


def _numbers(values: Sequence[Any]) -> np.ndarray:
    numbers = np.array(values)
    if numbers.dtype not in (np.float64, np.int64) or not np.isfinite(numbers).all():
        raise _OutOfTheOrdinary
    return numbers


def _mean(values: np.ndarray) -> np.float64:
    return values.sum(dtype=np.float64) / len(values)


def _rate(won: np.ndarray, lost: np.ndarray, among: np.ndarray) -> float:
    winners, losers = int((among & won).sum()), int((among & lost).sum())
    return winners / (losers + winners) if losers + winners > 0 else 0


def _per_day(total: int) -> float:
    if store.app.ending_time is None or store.app.starting_time is None:
        return 0
    days = (store.app.ending_time - store.app.starting_time) / (1000 * 60 * 60 * 24)
    return total / days if days > 0 else 0


def _ratios(daily_balance: list, annualization: int) -> dict:
    """Of the daily returns. The first day has none; `filled` has 0 in its place."""
    balances, times = _numbers(daily_balance), store.app.daily_balance_timestamps
    if balances.dtype != np.float64 or len(times) != len(balances):
        raise _OutOfTheOrdinary
    count = len(balances)
    returns = balances[1:] / balances[:-1] - 1
    filled = np.concatenate(([0.0], returns))
    growth = 1 + filled
    days = _whole_days(times[0], times[-1])
    if days == 0:
        raise _OutOfTheOrdinary

    mean = filled.sum() / (count - 1)
    squares = (mean - filled) ** 2
    squares[0] = 0
    deviation = np.sqrt(squares.sum() / (count - 2))
    below, above = returns[returns < 0], returns[returns > 0]
    downside = np.sqrt((below ** 2).sum() / count)
    if deviation == 0 or downside == 0:
        raise _OutOfTheOrdinary
    penalty, year = _autocorrelation_penalty(returns), np.sqrt(annualization)
    value = np.cumprod(growth)
    deepest = (value[1:] / np.maximum.accumulate(value[1:])).min() - 1
    annual_return = np.clip(growth.prod() / 1, 1e-10, 1e10) ** (1 / (float(days) / 365)) - 1
    gains, pains = above.sum(), -1.0 * below.sum()
    return {
        "max_drawdown": float(deepest * 100),
        "max_underwater_period": float(metrics.calculate_max_underwater_period(daily_balance, times)),
        "annual_return": float(annual_return * 100),
        "annualization": annualization,
        "sharpe_ratio": float(mean / deviation * year),
        "calmar_ratio": float(annual_return / abs(deepest)) if deepest != 0 else 0.0,
        "sortino_ratio": float(mean / downside * year),
        "smart_sharpe": float(mean / (deviation * penalty) * year),
        "smart_sortino": float(mean / (downside * penalty) * year),
        "omega_ratio": float(gains / pains),
        "serenity_index": _serenity(filled, count),
    }


def _whole_days(first: float, last: float) -> int:
    """As pandas counts those between two moments (in milliseconds)."""
    if first != int(first) or last != int(last):
        raise _OutOfTheOrdinary
    return datetime.timedelta(milliseconds=int(last) - int(first)).days


def _autocorrelation_penalty(returns: np.ndarray) -> np.float64:
    count = len(returns)
    if count < 3:
        raise _OutOfTheOrdinary
    coefficient = np.abs(np.corrcoef(returns[:-1], returns[1:])[0, 1])
    return np.sqrt(1 + 2 * np.sum([((count - lag) / count) * coefficient ** lag for lag in range(1, count)]))


def _serenity(filled: np.ndarray, count: int) -> float:
    """What Jesse's formula comes to: the first day, which has no return, leaves no drawdown of any day defined."""
    total = filled.sum()
    if int((1 - 0.95) * count) == 0 or total == 0:
        return np.nan
    return float(np.copysign(np.inf, total))


EQUIVALENTS = (
    Equivalent(
        "metrics",
        ((metrics, "trades", trades),),
        (
            metrics._prepare_returns,
            metrics.sharpe_ratio,
            metrics.sortino_ratio,
            metrics.autocorr_penalty,
            metrics.calmar_ratio,
            metrics.max_drawdown,
            metrics.cagr,
            metrics.omega_ratio,
            metrics.serenity_index,
            metrics.ulcer_index,
            metrics.to_drawdown_series,
            metrics.conditional_value_at_risk,
            f"pandas {pandas.__version__}",
        ),
        "1333dfcb32d684c4f3c8e40c5f001bb17d421928b5b86b4f1117eb31f4eaf400",
    ),
)
