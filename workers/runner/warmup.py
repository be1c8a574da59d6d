"""Runs a few small tasks in the zygote, so that whatever Jesse imports or caches late is there before the first fork.

The tasks go through the very code that the children run. Afterwards no trace of the throw-away project is left: a child must
find its own `strategies` package, not this one.
"""
import os
import shutil
import sys
import tempfile

import numpy as np

from runner import backtest, strategies

_STRATEGY = '''
import jesse.indicators as ta
from jesse import utils
from jesse.strategies import Strategy


class WarmUp(Strategy):
    """Trades often, and touches the indicators and properties that strategies usually do."""

    def hyperparameters(self):
        return [{"name": "period", "type": int, "min": 2, "max": 9, "default": 3}]

    def before(self):
        ta.sma(self.candles, 5)
        ta.sma(self.candles, 5, sequential=True)
        ta.rsi(self.candles)
        ta.macd(self.candles)
        ta.atr(self.candles)
        ta.adx(self.candles)
        ta.bollinger_bands(self.candles)
        ta.stoch(self.candles)
        utils.crossed(ta.ema(self.candles, 3, sequential=True), ta.ema(self.candles, 5, sequential=True))

    def should_long(self):
        return self.index % 4 == 0

    def should_short(self):
        return self.exchange_type == "futures" and self.index % 4 == 2

    def should_cancel_entry(self):
        return True

    def go_long(self):
        self.buy = utils.size_to_qty(self.balance * 0.3, self.price, fee_rate=self.fee_rate), self.price

    def go_short(self):
        self.sell = utils.size_to_qty(self.balance * 0.3, self.price, fee_rate=self.fee_rate), self.price

    def on_open_position(self, order):
        if self.exchange_type == "futures":
            self.stop_loss = self.position.qty, self.price * (0.9 if self.is_long else 1.1)
            self.take_profit = self.position.qty, self.price * (1.1 if self.is_long else 0.9)

    def update_position(self):
        if self.index % 4 == self.hp["period"]:
            self.liquidate()
'''

_START_MS = 1_672_531_200_000
_MINUTE_MS = 60_000
_DAY_MS = 1440 * _MINUTE_MS
_MARKETS = (("Binance Perpetual Futures", "futures"), ("Binance Spot", "spot"))


class Silent:
    """A session nobody listens to."""

    phase = ""

    def imported(self) -> None:
        pass

    def progress(self, fraction: float, message: str) -> None:
        pass

    def output(self) -> str:
        return ""


def run() -> None:
    project, home = tempfile.mkdtemp(prefix="runner-warmup-"), os.getcwd()
    try:
        os.makedirs(f"{project}/strategies/WarmUp")
        with open(f"{project}/strategies/WarmUp/__init__.py", "w", encoding="utf-8") as source:
            source.write(_STRATEGY)
        np.save(f"{project}/candles.npy", _candles(days=4))
        os.chdir(project)
        sys.path.insert(0, project)
        session = Silent()
        strategies.scan({"root": project}, session)
        strategies.describe({"bundle": project, "strategy": "WarmUp"}, session)
        for exchange, kind in _MARKETS:
            for fast_mode in (True, False):
                backtest.run(_args(project, exchange, kind, fast_mode), session)
    finally:
        os.chdir(home)
        shutil.rmtree(project)
        _forget(project)


def _forget(project: str) -> None:
    sys.path[:] = [entry for entry in sys.path if entry != project]
    for name in [name for name in sys.modules if name.partition(".")[0] == "strategies"]:
        del sys.modules[name]
    for entry in [entry for entry in sys.path_importer_cache if entry.startswith(project)]:
        del sys.path_importer_cache[entry]


def _args(project: str, exchange: str, kind: str, fast_mode: bool) -> dict:
    route = {"exchange": exchange, "symbol": "BTC-USDT", "timeframe": "15m"}
    return {
        "bundle": project,
        "config": {"starting_balance": 10_000, "fee": 0.001, "type": kind, "futures_leverage": 2,
                   "futures_leverage_mode": "cross", "exchange": exchange, "warm_up_candles": 40},
        "routes": [{**route, "strategy": "WarmUp"}],
        "data_routes": [{**route, "timeframe": "1h"}],
        "series": [{"exchange": exchange, "symbol": "BTC-USDT", "files": [f"{project}/candles.npy"]}],
        "warmup_start_ms": _START_MS,
        "start_ms": _START_MS + 2 * _DAY_MS,
        "finish_ms": _START_MS + 4 * _DAY_MS,
        "hyperparameters": None,
        "fast_mode": fast_mode,
        "benchmark": True,
    }


def _candles(days: int) -> np.ndarray:
    rows = days * 1440
    close = 20_000 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.0007, rows)))
    open_ = np.concatenate([[20_000], close[:-1]])
    time = _START_MS + _MINUTE_MS * np.arange(rows)
    return np.column_stack([time, open_, close, np.maximum(open_, close), np.minimum(open_, close), np.ones(rows)])
