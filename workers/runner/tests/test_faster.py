"""The faster equivalents of Jesse's functions give the same bytes, and stay away from a Jesse that they were not derived from."""
import os
import subprocess
import sys

import pytest
from conftest import PACKAGE_PARENT

# Runs every case, with or without them, and prints a digest of each result.
_CASES = '''
import hashlib, itertools, os, sys, tempfile
sys.path.insert(0, sys.argv[1])
from runner import engine
engine.import_jesse()
from runner import faster
installed = faster.install() if sys.argv[2] == "faster" else []
print("installed", *installed)

import numpy as np
from runner import backtest

STRATEGY = """
import jesse.indicators as ta
from jesse import utils
from jesse.strategies import Strategy


class Busy(Strategy):
    def should_long(self):
        return ta.ema(self.candles, 8) > ta.ema(self.candles, 21)

    def should_short(self):
        return self.exchange_type == "futures" and not self.should_long() and self.index % 3 == 0

    def should_cancel_entry(self):
        return self.index % 2 == 0

    def prices(self, factor):
        # At the market, as a limit and as a stop order, in turns.
        return self.price * (1, 1 - factor, 1 + factor)[self.index % 3]

    def go_long(self):
        qty = utils.size_to_qty(self.balance * 0.2, self.price, fee_rate=self.fee_rate)
        self.buy = [(qty, self.prices(0.001)), (qty / 2, self.price * 0.997)]
        if self.exchange_type == "spot":  # where exits must not sell more than there is
            self.buy = self.buy[:1]

    def go_short(self):
        qty = utils.size_to_qty(self.balance * 0.2, self.price, fee_rate=self.fee_rate)
        self.sell = qty, self.prices(-0.001)

    def on_open_position(self, order):
        sign = 1 if self.is_long else -1
        qty = abs(self.position.qty)
        self.stop_loss = qty, self.position.entry_price * (1 - sign * 0.004)
        self.take_profit = [(qty / 2, self.position.entry_price * (1 + sign * 0.003)),
                            (qty / 2, self.position.entry_price * (1 + sign * 0.006))]
        if self.exchange_type == "spot":
            self.take_profit = [(qty, self.position.entry_price * 1.006)]

    def update_position(self):
        if self.index % 50 == 0:
            self.liquidate()
        elif self.index % 17 == 0:
            self.stop_loss = abs(self.position.qty), self.price * (0.995 if self.is_long else 1.005)
        other = self.get_candles(self.exchange, self.symbol, "1h")
        self.log(f"{self.current_candle[2]} {len(other)} {self.position.pnl} {self.position.type} {self.is_open} {self.is_close}")
"""

class Silent:
    phase = ""
    def progress(self, fraction, message):
        pass
    def output(self):
        return ""

project = tempfile.mkdtemp()
os.makedirs(f"{project}/strategies/Busy")
open(f"{project}/strategies/Busy/__init__.py", "w").write(STRATEGY)
os.chdir(project)
sys.path.insert(0, project)
MINUTE, DAY, START = 60_000, 86_400_000, 1_672_531_200_000

def candles(seed, days, gaps=False):
    random, rows = np.random.default_rng(seed), days * 1440
    close = 20_000 * np.exp(np.cumsum(random.normal(0, 0.0008, rows)))
    open_ = np.concatenate([[20_000], close[:-1]])
    high = np.maximum(open_, close) * (1 + random.uniform(0, 0.0004, rows))
    low = np.minimum(open_, close) * (1 - random.uniform(0, 0.0004, rows))
    all_ = np.column_stack([START + MINUTE * np.arange(rows), open_, close, high, low, random.lognormal(1, 1, rows)])
    return np.delete(all_, slice(5 * 1440, 5 * 1440 + 90), axis=0) if gaps else all_

for name, gaps in (("BTC-USDT", False), ("ETH-USDT", False), ("GAP-USDT", True)):
    np.save(f"{project}/{name}.npy", candles(len(name) + ord(name[0]), 7, gaps))

def run(kind, timeframe, fast, symbols, mode="cross", warm_up=30, fill=True):
    exchange = "Binance Perpetual Futures" if kind == "futures" else "Binance Spot"
    route = {"exchange": exchange, "timeframe": timeframe}
    args = {
        "bundle": project, "seed": 0,
        "config": {"starting_balance": 10_000, "fee": 0.0006, "type": kind, "futures_leverage": 3 if kind == "futures" else 1,
                   "futures_leverage_mode": mode, "exchange": exchange, "warm_up_candles": warm_up},
        "routes": [{**route, "symbol": symbol, "strategy": "Busy"} for symbol in symbols],
        "data_routes": [{"exchange": exchange, "symbol": symbol, "timeframe": "1h"} for symbol in symbols],
        "series": [{"exchange": exchange, "symbol": symbol, "files": [f"{project}/{symbol}.npy"]} for symbol in symbols],
        "warmup_start_ms": START + 3 * DAY - warm_up * 60 * MINUTE, "start_ms": START + 3 * DAY, "finish_ms": START + 7 * DAY,
        "hyperparameters": None, "fast_mode": fast, "benchmark": True, "fill_gaps": fill,
    }
    value, body = backtest.run(args, Silent())
    print(kind, timeframe, fast, *symbols, mode, warm_up, fill, value["trades"], hashlib.sha256(body).hexdigest())

for kind, timeframe, fast in itertools.product(("futures", "spot"), ("1m", "5m", "15m", "1h"), (True, False)):
    run(kind, timeframe, fast, ["BTC-USDT"])
for fast in (True, False):
    run("futures", "15m", fast, ["BTC-USDT", "ETH-USDT"])
    run("futures", "15m", fast, ["BTC-USDT"], mode="isolated")
    run("futures", "15m", fast, ["BTC-USDT"], warm_up=0)
    run("futures", "15m", fast, ["GAP-USDT"])
    run("futures", "15m", fast, ["GAP-USDT"], fill=False)  # Jesse's other simulator, by time stamps
'''


def _digests(tmp_path, which, cases=_CASES):
    script = tmp_path / f"{which}.py"
    script.write_text(cases)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC", "MPLBACKEND": "Agg"}
    environment.pop("PYTEST_CURRENT_TEST", None)  # would have Jesse look for its own test strategies
    command = [sys.executable, str(script), str(PACKAGE_PARENT), which]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    first, *digests = ran.stdout.splitlines()
    return first.split()[1:], digests


def test_every_result_is_the_same_to_the_last_byte(tmp_path):
    installed, with_them = _digests(tmp_path, "faster")
    assert installed == ["position", "get_candles", "add_candle", "closed_trade", "get_entry_orders"], "this Jesse is another"
    none, without = _digests(tmp_path, "plain")
    assert none == [] and len(with_them) == 26
    assert with_them == without
    trades = [int(line.split()[-2]) for line in with_them]
    assert sum(trades) > 500 and sum(count > 0 for count in trades) > 20, "they have something to differ in"


@pytest.mark.parametrize("target, name", [("jesse.models.Position:Position.type", "position"),
                                          ("jesse.services.candle_service:_generate_bigger_timeframes", "add_candle")])
def test_a_jesse_with_another_source_keeps_its_own(tmp_path, target, name):
    module, _, path = target.partition(":")
    owner, _, attribute = f"module.{path}".rpartition(".")
    change = f'''
import importlib, inspect
module = importlib.import_module("{module}")
def changed(*arguments):
    return "another"
found = inspect.getattr_static({owner}, "{attribute}")
setattr({owner}, "{attribute}", property(changed) if isinstance(found, property) else changed)
before = faster.EQUIVALENTS
faster.EQUIVALENTS = tuple(faster.Equivalent(e.name, e.replaces, tuple(
    changed if getattr(f, "__name__", "") == "{attribute}" else f for f in e.rests_on), e.digest) for e in before)
print("installed", *faster.install())
'''
    head, _, _ = _CASES.partition("installed = ")
    installed, _ = _digests(tmp_path, "changed", head + change)
    assert name not in installed and len(installed) == 4
