"""The faster equivalents of Jesse's functions give the same bytes, and stay away from a Jesse that they were not derived from."""
import os
import subprocess
import sys

import pytest
from conftest import PACKAGE_PARENT

_NAMES = ["order_message", "info", "now_to_timestamp", "position", "closed_trade", "get_entry_orders", "get_candles", "add_candle",
          "candles_of_each_minute", "slice_candles", "get_candle_source", "step", "strategy", "metrics"]

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
from runner.warmup import Silent

STRATEGY = """
import jesse.indicators as ta
from jesse import utils
from jesse.store import store
from jesse.strategies import Strategy


class Busy(Strategy):
    def terminate(self):
        with open("logged", "a") as file:
            file.write("".join(line["message"] for line in store.logs.info))

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

# Holds on to what it has, adds to it, and looks at every field of the current candle.
PATIENT = """
import jesse.indicators as ta
from jesse.store import store
from jesse.strategies import Strategy


class Patient(Strategy):
    def terminate(self):
        with open("logged", "a") as file:
            file.write("".join(line["message"] for line in store.logs.info))

    def before(self):
        self.vars["seen"] = [self.open, self.close, self.high, self.low, self.volume, self.price, type(self.close).__name__]

    def should_long(self):
        return ta.sma(self.candles, 8) > ta.sma(self.candles, 21, "hl2")

    def should_short(self):
        return self.exchange_type == "futures" and ta.rsi(self.candles) < 35 and not self.should_long()

    def go_long(self):
        self.buy = self.balance / self.price * 0.1, self.price

    def go_short(self):
        self.sell = self.balance / self.price * 0.1, self.price

    def update_position(self):
        if self.index % 41 == 0:
            self.liquidate()
        elif self.index % 23 == 0 and self.is_long:
            self.buy = [(self.balance / self.price * 0.05, self.price)]
        elif self.index % 23 == 0 and self.is_short:
            self.sell = [(self.balance / self.price * 0.05, self.price)]
        elif self.index % 19 == 0 and self.exchange_type == "futures":
            self.take_profit = abs(self.position.qty), self.price * (1.002 if self.is_long else 0.998)

    def after(self):
        self.log(f"{self.vars['seen']} {self.is_long} {self.is_short} {self.trades_count}")
"""

# Each ends in an error of Jesse's.
WRONG = {
    "Torn": "def should_short(self): return self.index > 5",
    "OneExit": "def update_position(self): self.stop_loss = self.take_profit = abs(self.position.qty), self.price * 0.99",
    "NoNumber": "def update_position(self): self.stop_loss = abs(self.position.qty), float('nan')",
    "NoPrice": "def update_position(self): self.buy = 1, -1",
    "NoOrder": "def update_position(self): self.take_profit = 'soon'",
}
WRONG_STRATEGY = """
from jesse.strategies import Strategy


class NAME(Strategy):
    def should_long(self):
        return self.index > 5

    def go_long(self):
        self.buy = 0.01, self.price

    BODY
"""

project = tempfile.mkdtemp()
wrong = {name: WRONG_STRATEGY.replace("NAME", name).replace("BODY", body) for name, body in WRONG.items()}
for name, source in {"Busy": STRATEGY, "Patient": PATIENT, **wrong}.items():
    os.makedirs(f"{project}/strategies/{name}")
    open(f"{project}/strategies/{name}/__init__.py", "w").write(source)
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

def run(kind, timeframe, fast, symbols, mode="cross", warm_up=30, fill=True, strategy="Busy"):
    exchange = "Binance Perpetual Futures" if kind == "futures" else "Binance Spot"
    route = {"exchange": exchange, "timeframe": timeframe}
    args = {
        "bundle": project, "seed": 0,
        "config": {"starting_balance": 10_000, "fee": 0.0006, "type": kind, "futures_leverage": 3 if kind == "futures" else 1,
                   "futures_leverage_mode": mode, "exchange": exchange, "warm_up_candles": warm_up},
        "routes": [{**route, "symbol": symbol, "strategy": strategy} for symbol in symbols],
        "data_routes": [{"exchange": exchange, "symbol": symbol, "timeframe": "1h"} for symbol in symbols],
        "series": [{"exchange": exchange, "symbol": symbol, "files": [f"{project}/{symbol}.npy"]} for symbol in symbols],
        "warmup_start_ms": START + 3 * DAY - warm_up * 60 * MINUTE, "start_ms": START + 3 * DAY, "finish_ms": START + 7 * DAY,
        "hyperparameters": None, "fast_mode": fast, "benchmark": True, "fill_gaps": fill,
    }
    about = kind, timeframe, fast, *symbols, mode, warm_up, fill, strategy
    try:
        value, body = backtest.run(args, Silent())
    except Exception as error:
        return print(*about, 0, type(error).__name__, *str(error).split())
    with open("logged", "rb") as file:
        logged = file.read()
    os.unlink("logged")
    print(*about, value["trades"], hashlib.sha256(body + logged).hexdigest())

for name in WRONG:
    for kind, fast in (("futures", True), ("spot", False)):
        run(kind, "15m", fast, ["BTC-USDT"], strategy=name)
for kind, timeframe, fast in itertools.product(("futures", "spot"), ("1m", "15m"), (True, False)):
    run(kind, timeframe, fast, ["BTC-USDT"], strategy="Patient")
run("futures", "15m", True, ["BTC-USDT", "ETH-USDT"], mode="isolated", strategy="Patient")
for kind, timeframe, fast in itertools.product(("futures", "spot"), ("1m", "5m", "15m", "1h"), (True, False)):
    run(kind, timeframe, fast, ["BTC-USDT"])
for fast in (True, False):
    run("futures", "15m", fast, ["BTC-USDT", "ETH-USDT"])
    run("futures", "15m", fast, ["BTC-USDT"], mode="isolated")
    run("futures", "15m", fast, ["BTC-USDT"], warm_up=0)
    run("futures", "15m", fast, ["GAP-USDT"])
    run("futures", "15m", fast, ["GAP-USDT"], fill=False)  # Jesse's other simulator, by time stamps
'''


# Compares what Jesse's own functions and the equivalents answer for what no backtest here comes to.
_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
from runner import engine
engine.import_jesse()
import warnings
from types import SimpleNamespace
import jesse.helpers as jh
import numpy as np
from jesse.store import store
from runner.faster import candles, metrics

warnings.simplefilter("ignore")
jh.app_currency = lambda: "USDT"
store.exchanges.storage = {"x": SimpleNamespace(starting_assets={"USDT": 10_000.0}, assets={"USDT": 12_345.678})}
random, MINUTE, DAY, START = np.random.default_rng(7), 60_000, 86_400_000, 1_672_531_200_000


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and (one == other or (one != one and other != other))


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        return str(error)


own = ordinary = 0
for case in range(800):
    count, days = int(random.integers(1, 60)), int(random.integers(1, 400 if case % 3 else 40))
    pnl = random.normal(0, 100, count)
    kind = case % 11
    if kind == 1:
        pnl = abs(pnl)
    elif kind == 2:
        pnl = -abs(pnl)
    elif kind == 3:
        pnl[random.random(count) < 0.5] = 0
    elif kind == 4:
        pnl[0] = np.nan
    values = [int(value) for value in pnl] if kind == 5 else list(pnl)
    trades = [SimpleNamespace(to_dict={
        "type": str(random.choice(["long", "short"])), "PNL": value, "fee": 0 if kind == 6 else abs(value) / 100,
        "holding_period": float(random.integers(1, 10_000)) * 60}) for value in values]
    app = store.app
    app.daily_balance_timestamps = [START + DAY * day + (MINUTE if day else 0) for day in range(days - (case % 50 == 0))]
    app.starting_time, app.ending_time = START, None if case % 13 == 0 else START + DAY * days
    app.total_open_trades, app.total_open_pl = int(random.integers(0, 3)), float(random.normal())
    balance = 10_000 * np.exp(np.cumsum(random.normal(0, 0.01, days)))
    if case % 9 == 0:
        balance[random.random(days) < 0.6] = 10_000.0
    if case % 31 == 0:
        balance[:] = 10_000.0
    if case % 41 == 0:
        balance.sort()
    called = []
    metrics._trades, jesse = lambda *given: called.append(given) or jesse(*given), metrics._trades
    found = metrics.trades(trades, list(balance))
    metrics._trades = jesse
    wanted = jesse(trades, list(balance))
    assert list(found) == list(wanted), case
    for name in wanted:
        assert same(found[name], wanted[name]), (case, name, found[name], wanted[name])
    own, ordinary = own + bool(called), ordinary + (not called)

for case in range(400):
    minutes = int(random.integers(1, 3000))
    rows = np.column_stack([START + MINUTE * (np.arange(minutes) + int(random.integers(0, 2000))), *random.lognormal(9, 1, (5, minutes))])
    if case % 5 == 1 and minutes > 3:
        rows = np.delete(rows, slice(1, 3), axis=0)
    elif case % 5 == 2:
        rows[:, 0] += 1
    elif case % 5 == 3:
        rows = rows[::-1].copy()
    for arguments in ((rows, "x", "y"), (rows[:0], "x", "y")):
        assert outcome(candles.validate_observed_one_minute_candles, *arguments) == outcome(candles._validate, *arguments), case
    for timeframe in ("1m", "3m", "15m", "1h", "4h", "1D", "1W", "2m"):
        for later in (0, -1, 1, 60, 1440):
            arguments = timeframe, rows, int(rows[-1, 0]) + MINUTE * (1 + later)
            try:
                wanted = candles._generate_completed(*arguments)
            except Exception as error:
                wanted = error
            try:
                found = candles.generate_completed_candles_from_observed_minutes(*arguments)
            except Exception as error:
                found = error
            assert same(wanted, found) if isinstance(wanted, np.ndarray) else (type(wanted), str(wanted)) == (type(found), str(found)), case
print("compared", own, ordinary)
"""


def test_what_stands_alone_answers_the_same(tmp_path):
    (own, ordinary), _ = _digests(tmp_path, "alone", _ALONE)
    assert int(own) > 100 and int(ordinary) > 400, "both ways were taken"


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
    assert installed == _NAMES, "this Jesse is another"
    none, without = _digests(tmp_path, "plain")
    assert none == [] and len(with_them) == 45
    assert with_them == without
    ended_well = [line for line in with_them if len(line.rpartition(" ")[2]) == 64]
    assert len(ended_well) == 35, "those that are wrong end in an error"
    trades = [int(line.split()[-2]) for line in ended_well]
    assert sum(trades) > 700 and sum(count > 0 for count in trades) > 28, "they have something to differ in"


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
before = faster.equivalents()
faster.equivalents = lambda: [faster.Equivalent(e.name, e.replaces, tuple(
    changed if getattr(f, "__name__", "") == "{attribute}" else f for f in e.rests_on), e.digest) for e in before]
print("installed", *faster.install())
'''
    head, _, _ = _CASES.partition("installed = ")
    installed, _ = _digests(tmp_path, "changed", head + change)
    assert name not in installed and len(installed) == len(_NAMES) - 1
