"""How much the faster equivalents of Jesse's functions (workers/runner/faster) save, and that the results are the same to the last byte.

usage: faster.py [--rounds 9]

In one process, warm, in turns with Jesse's own; processor time, medians. A month of made-up candles and a strategy of two moving averages,
which trades some forty times. Prints a table and ends with 1 where bytes differ or nothing is saved. Bounded: about a minute.
"""
import argparse
import inspect
import os
import statistics
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--rounds", type=int, default=9)
arguments = parser.parse_args()
workers = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "workers")
sys.path.insert(0, workers)

from runner import engine  # noqa: E402

engine.settle_environment()
import numpy as np  # noqa: E402
from random_walk import MINUTE_MS, START_MS, candles  # noqa: E402

engine.import_jesse()
sys.path.insert(0, workers)

from runner import backtest, faster  # noqa: E402
from runner.warmup import Silent  # noqa: E402

EXCHANGE, DAY_MS = "Binance Perpetual Futures", 1440 * MINUTE_MS
STRATEGY = """
import jesse.indicators as ta
from jesse.strategies import Strategy


class Crossing(Strategy):
    @property
    def trend(self):
        return ta.sma(self.candles, 8) - ta.sma(self.candles, 65)

    def should_long(self):
        return self.trend > 0

    def should_short(self):
        return self.trend < 0

    def go_long(self):
        self.buy = self.balance / self.price * 0.5, self.price

    def go_short(self):
        self.sell = self.balance / self.price * 0.5, self.price

    def update_position(self):
        if (self.is_long and self.trend < 0) or (self.is_short and self.trend > 0):
            self.liquidate()
"""
CASES = [("15m", 28, True), ("5m", 28, True), ("1h", 28, True), ("15m", 10, False)]


class Turns:
    """Puts the equivalents in place and Jesse's own back."""

    def __init__(self):
        known = [equivalent for equivalent in faster.equivalents() if equivalent.is_of_this_jesse()]
        self.names = [equivalent.name for equivalent in known]
        self.replaced = [(owner, attribute, inspect.getattr_static(owner, attribute), replacement)
                         for equivalent in known for owner, attribute, replacement in equivalent.replaces]

    def take(self, ours):
        for owner, attribute, own, replacement in self.replaced:
            setattr(owner, attribute, replacement if ours else own)


def request(folder, timeframe, days, fast_mode):
    route, start = {"exchange": EXCHANGE, "symbol": "BTC-USDT", "timeframe": timeframe}, START_MS + 31 * DAY_MS
    return {
        "bundle": folder, "seed": 0, "hyperparameters": None, "fast_mode": fast_mode, "benchmark": False, "data_routes": [],
        "config": {"starting_balance": 10_000, "fee": 0.0006, "type": "futures", "futures_leverage": 1, "futures_leverage_mode": "cross",
                   "exchange": EXCHANGE, "warm_up_candles": 240},
        "routes": [{**route, "strategy": "Crossing"}],
        "series": [{"exchange": EXCHANGE, "symbol": "BTC-USDT", "files": [f"{folder}/candles.npy"]}],
        "warmup_start_ms": start - 240 * 60 * MINUTE_MS, "start_ms": start, "finish_ms": start + days * DAY_MS,
    }


with tempfile.TemporaryDirectory(prefix="faster-") as folder:
    os.makedirs(f"{folder}/strategies/Crossing")
    with open(f"{folder}/strategies/Crossing/__init__.py", "w") as file:
        file.write(STRATEGY)
    np.save(f"{folder}/candles.npy", candles(62))
    os.chdir(folder)
    sys.path.insert(0, folder)
    turns, missed = Turns(), []
    print(f"Equivalents: {', '.join(turns.names)}.\n\n| | Jesse's own | with the equivalents | ratio | trades |\n|---|---|---|---|---|")
    for case in CASES:
        args, taken, bodies = request(folder, *case), {True: [], False: []}, {}
        for number in range(arguments.rounds + 1):
            for ours in (False, True):
                turns.take(ours)
                begin = time.process_time()
                value, body = backtest.run(args, Silent())
                if number > 0:  # the first warms up
                    taken[ours].append((time.process_time() - begin) * 1e3)
                bodies.setdefault(body, value)
        own, quick = statistics.median(taken[False]), statistics.median(taken[True])
        timeframe, days, fast_mode = case
        print(f"| {timeframe}, {days} days{'' if fast_mode else ', without `fast_mode`'} | {own:.1f} ms | {quick:.1f} ms | {own / quick:.2f} "
              f"| {value['trades']} |", flush=True)
        if len(bodies) != 1:
            missed.append(f"{case}: the results differ")
        if quick >= own:
            missed.append(f"{case}: nothing is saved")
    os.chdir("/")
for miss in missed:
    print(f"Missed: {miss}")
sys.exit(bool(missed))
