"""How long a search of 200 trials takes, beside Jesse's own optimisation of the same size on the same candles.

usage: optimize.py BINARY [--rounds N]

Both search two hyperparameters on one month of 15m candles, judge on the week after it, and use two processors; they take turns.
Jesse's is `jesse.research.optimize` (random search on Ray) in a process of its own, as its users run it: its import counts, as ours
does not, since our worker keeps Jesse. What it costs without import and Ray's start is printed too. Prints a table and ends with 1
when a bar is missed. Bounded: about five minutes.
"""
import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

EXCHANGE, SYMBOL, TRIALS, FASTER = "Binance Perpetual Futures", "BTC-USDT", 200, 3
STRATEGY = '''
from jesse.strategies import Strategy
import jesse.indicators as ta


class Searched(Strategy):
    def hyperparameters(self):
        return [
            {"name": "fast", "type": int, "min": 5, "max": 50, "default": 20},
            {"name": "slow", "type": int, "min": 60, "max": 200, "default": 100},
        ]

    @property
    def trend(self):
        return ta.sma(self.candles, self.hp["fast"]) - ta.sma(self.candles, self.hp["slow"])

    def should_long(self):
        return self.trend > 0

    def should_short(self):
        return self.trend < 0

    def go_long(self):
        self.buy = self.balance / self.price * 0.5, self.price

    def go_short(self):
        self.sell = self.balance / self.price * 0.5, self.price

    def should_cancel_entry(self):
        return True

    def update_position(self):
        if (self.is_long and self.trend < 0) or (self.is_short and self.trend > 0):
            self.liquidate()
'''
JESSE = '''
import sys, time
began = time.perf_counter()
import jesse.helpers as jh
jh.is_jesse_project = lambda: False
from jesse.research import optimize
import numpy as np
rows = np.load(sys.argv[1])
day = 1440
start_ms = int(rows[0][0])
def series(first, last):
    return {"EXCHANGE-SYMBOL": {"exchange": "EXCHANGE", "symbol": "SYMBOL", "candles": rows[first:last].copy()}}
train, test, end, warm = 31 * day, 59 * day, 66 * day, 240 * 15
config = {"exchange": {"name": "EXCHANGE", "balance": 10000, "fee": 0.0006, "type": "futures", "futures_leverage": 1,
                       "futures_leverage_mode": "cross"}, "warm_up_candles": 240}
loaded = time.perf_counter()
found = optimize(config, [{"strategy": "Searched", "symbol": "SYMBOL", "timeframe": "15m"}], [], series(train, test),
                 series(train - warm, train), series(test, end), series(test - warm, test), cpu_cores=2, trials=TRIALS,
                 progress_bar=False)
ended = time.perf_counter()
print("measured", ended - began, ended - loaded, found["completed_trials"], len(found["best_trials"]))
'''

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--rounds", type=int, default=3)
arguments = arguments.parse_args()
binary = os.path.abspath(arguments.binary)
data = tempfile.TemporaryDirectory(prefix="optimize-")
project = os.path.join(data.name, "project")
os.makedirs(os.path.join(project, "strategies", "Searched"))
open(os.path.join(project, "strategies", "__init__.py"), "w").close()
with open(os.path.join(project, "strategies", "Searched", "__init__.py"), "w") as file:
    file.write(STRATEGY)
script = os.path.join(data.name, "jesse_optimize.py")
with open(script, "w") as file:
    file.write(JESSE.replace("EXCHANGE", EXCHANGE).replace("SYMBOL", SYMBOL).replace("TRIALS", str(TRIALS // 2)))

import numpy as np

random = np.random.default_rng(1)
minutes = 1440 * 70
close = 20_000 * np.exp(np.cumsum(random.normal(0, 0.0007, minutes)))
opened = np.concatenate([[20_000], close[:-1]])
high = np.maximum(opened, close) * (1 + np.abs(random.normal(0, 0.0002, minutes)))
low = np.minimum(opened, close) * (1 - np.abs(random.normal(0, 0.0002, minutes)))
rows = np.column_stack([1_672_531_200_000 + 60_000 * np.arange(minutes), opened, close, high, low, random.lognormal(1, 1, minutes)])
np.save(os.path.join(data.name, "rows.npy"), rows)
with open(os.path.join(data.name, "candles.csv"), "w") as file:
    file.write("timestamp,open,close,high,low,volume\n")
    for row in rows.tolist():
        file.write(f"{int(row[0])},{row[1]!r},{row[2]!r},{row[3]!r},{row[4]!r},{row[5]!r}\n")

environment = dict(os.environ, JESSE_PYTHON=sys.executable, LOG_LEVEL="error")
environment.pop("REDIS_URL", None)
subprocess.run([binary, "candles", "import", os.path.join(data.name, "candles.csv"), "--data", data.name, "--exchange", EXCHANGE,
                "--symbol", SYMBOL], check=True, stdout=subprocess.DEVNULL, env=environment)
server = subprocess.Popen([binary, "up", "--listen", "127.0.0.1:0", "--data", data.name, "--project", project, "--workers", "2"],
                          stdout=subprocess.PIPE, text=True, env=environment)
connection = http.client.HTTPConnection(server.stdout.readline().strip().removeprefix("jesse-jobs is ready: http://"))


def ours(seed):
    spec = {"strategy": "Searched", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "15m", "start_date": "2023-02-01",
            "finish_date": "2023-03-08", "test_start_date": "2023-03-01", "trials": TRIALS, "seed": seed}
    begin = time.perf_counter()
    connection.request("POST", "/v1/jobs?wait=250", json.dumps({"kind": "optimize", "cache": "off", "spec": spec}),
                       {"Content-Type": "application/json"})
    job = json.loads(connection.getresponse().read())
    took = time.perf_counter() - begin
    assert job["state"] == "succeeded" and job["summary"]["trials"] == TRIALS, job
    return took


def jesses():
    done = subprocess.run([sys.executable, script, os.path.join(data.name, "rows.npy")], capture_output=True, text=True, cwd=project,
                          timeout=600)
    line = next((line for line in done.stdout.splitlines() if line.startswith("measured")), None)
    if line is None:
        sys.exit(f"Jesse's optimisation failed:\n{(done.stdout + done.stderr)[-3000:]}")
    whole, search, completed, _ = line.split()[1:]
    assert int(completed) == TRIALS, line
    return float(whole), float(search)


try:
    ours(99)  # warm
    measured = [(ours(number), *jesses()) for number in range(arguments.rounds)]
finally:
    server.terminate()
    server.wait()
our, whole, search = (statistics.median(column) for column in zip(*measured))
print(f"| {TRIALS} trials of one month, 15m | seconds | ours is faster by |")
print("|---|---|---|")
print(f"| jesse-jobs, two slots | {our:.1f} | |")
print(f"| jesse.research.optimize, two processors | {whole:.1f} | {whole / our:.1f} |")
print(f"| ... without its import | {search:.1f} | {search / our:.1f} |")
if search / our < FASTER:
    print(f"\nMissed: less than {FASTER} times faster")
    sys.exit(1)
