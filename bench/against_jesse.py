"""How fast backtests and searches are beside Jesse's own server and Jesse's own optimisation, on the same candles.

usage: against_jesse.py BINARY [--only PART ...] [--rounds N]

A real Jesse (its server, a project, Postgres) and ours, both with two processors, take turns:
backtests: eight at once of one month 15m through Jesse's REST API, and a batch of 200, all different, through ours;
search: 200 trials of one month 15m with two hyperparameters by `jesse.research.optimize` in the project, as its users run it, and by
our `optimize`, which judges on the week after the month as well. Jesse judges only what earned something in training; the candles
have trends, so that this is about every second trial. Jesse's import is counted apart, since our worker keeps Jesse.
Prints tables and ends with 1 when a bar is missed. Bounded: about five minutes.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from datetime import date, timedelta

import numpy as np
from random_walk import candles

EXCHANGE, SYMBOL = "Binance Perpetual Futures", "BTC-USDT"
PARTS = ["backtests", "search"]
AT_ONCE, BATCH, TRIALS = 8, 200, 200
# Bars: times as many backtests a second; times as fast a search.
BACKTESTS, SEARCH = 20, 3
DAYS = 120
SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "integration", "rest", "jesse_server.py")
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
import json, sys, time
began = time.perf_counter()
from jesse.research import optimize
import numpy as np
exchange, symbol, trials, path = sys.argv[1:]
rows = np.load(path)
day = 1440
def series(first, last):
    return {f"{exchange}-{symbol}": {"exchange": exchange, "symbol": symbol, "candles": rows[first:last].copy()}}
train, test, end, warm = 31 * day, 59 * day, 66 * day, 240 * 15
config = {"exchange": {"name": exchange, "balance": 10000, "fee": 0.0006, "type": "futures", "futures_leverage": 1,
                       "futures_leverage_mode": "cross"}, "warm_up_candles": 240}
loaded = time.perf_counter()
# It multiplies the number of trials by that of hyperparameters.
found = optimize(config, [{"exchange": exchange, "strategy": "Searched", "symbol": symbol, "timeframe": "15m"}], [],
                 series(train, test), series(train - warm, train), series(test, end), series(test - warm, test), cpu_cores=2,
                 trials=int(trials) // 2, progress_bar=False)
ended = time.perf_counter()
print(json.dumps({"whole": ended - began, "search": ended - loaded, "completed": found["completed_trials"],
                  "found": len(found["best_trials"])}))
'''

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--only", choices=PARTS, action="append")
arguments.add_argument("--rounds", type=int, default=3)
arguments = arguments.parse_args()
binary, parts = os.path.abspath(arguments.binary), arguments.only or PARTS
missed = []


def ranges(count):
    """Months, all different: by their first day and, once those are used up, by a shorter end."""
    first = date(2023, 1, 20)
    for number in range(count):
        start = first + timedelta(days=number % 60)
        yield str(start), str(start + timedelta(days=31 - number // 60))


class Jesse:
    """A real server of Jesse's, with a project and Postgres."""

    def __init__(self, stack, folder, project, rows):
        self.rows = os.path.join(folder, "rows.npy")
        np.save(self.rows, rows)
        series = os.path.join(folder, "series.json")
        with open(series, "w") as file:
            json.dump([{"exchange": EXCHANGE, "symbol": SYMBOL, "file": self.rows}], file)
        process = subprocess.Popen([sys.executable, SERVER, project, series], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # It stops what it has started when its input closes.
        stack.callback(process.wait, 60)
        stack.callback(process.stdin.close)
        ready = json.loads(process.stdout.readline() or '{"skip": "Jesse did not start"}')
        if "skip" in ready:
            sys.exit(ready["skip"])
        self.url, self.folder = ready["url"], ready["folder"]
        self.token = self.call("/auth/login", {"password": ready["password"]})["auth_token"]

    def call(self, path, body):
        headers = {"Content-Type": "application/json", "Authorization": getattr(self, "token", "")}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def backtest(self, days):
        start, finish = days
        logging = dict.fromkeys("balance_update order_submission order_cancellation order_execution position_opened position_increased "
                                "position_reduced position_closed shorter_period_candles trading_candles".split(), False)
        exchange = {"name": EXCHANGE, "fee": 0.0006, "type": "futures", "balance": 10_000, "futures_leverage": 1,
                    "futures_leverage_mode": "cross"}
        job = str(uuid.uuid4())
        self.call("/backtest", {
            "id": job, "exchange": EXCHANGE, "data_routes": [], "start_date": start, "finish_date": finish, "debug_mode": False,
            "config": {"warm_up_candles": 240, "logging": logging, "exchanges": {EXCHANGE: exchange}}, "export_csv": False,
            "export_json": False, "export_chart": False, "fast_mode": True, "benchmark": False,
            "state": {"form": {}, "results": {}},
            "routes": [{"exchange": EXCHANGE, "strategy": "Searched", "symbol": SYMBOL, "timeframe": "15m"}],
        })
        while True:
            session = self.call(f"/backtest/sessions/{job}", {})["session"]
            if session["status"] not in ("running", "queued", "draft"):
                assert session["status"] == "finished" and session["metrics"]["total"] > 0, session
                return
            time.sleep(0.1)

    def backtests(self):
        """A second."""
        begin = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.backtest, ranges(AT_ONCE)))
        return AT_ONCE / (time.perf_counter() - begin)

    def search(self):
        """Seconds with Jesse's import and without."""
        done = subprocess.run([sys.executable, "-c", JESSE, EXCHANGE, SYMBOL, str(TRIALS), self.rows], capture_output=True, text=True,
                              cwd=self.folder, timeout=600)
        line = next((line for line in done.stdout.splitlines() if line.startswith('{"whole"')), None)
        if line is None:
            sys.exit(f"Jesse's optimisation failed:\n{(done.stdout + done.stderr)[-3000:]}")
        told = json.loads(line)
        # A trial that fails counts as completed for Jesse; without any success nothing was searched.
        assert told["completed"] == TRIALS and told["found"] > 0, told
        return told["whole"], told["search"]


class Ours:
    """`up` with two slots."""

    def __init__(self, stack, folder, project, rows):
        path = os.path.join(folder, "candles.csv")
        with open(path, "w") as file:
            file.write("timestamp,open,close,high,low,volume\n")
            for row in rows.tolist():
                file.write(f"{int(row[0])},{row[1]!r},{row[2]!r},{row[3]!r},{row[4]!r},{row[5]!r}\n")
        data = os.path.join(folder, "data")
        environment = dict(os.environ, JESSE_PYTHON=sys.executable, LOG_LEVEL="error")
        environment.pop("REDIS_URL", None)
        subprocess.run([binary, "candles", "import", path, "--data", data, "--exchange", EXCHANGE, "--symbol", SYMBOL], check=True,
                       stdout=subprocess.DEVNULL, env=environment)
        process = subprocess.Popen([binary, "up", "--listen", "127.0.0.1:0", "--data", data, "--project", project, "--workers", "2"],
                                   stdout=subprocess.PIPE, text=True, env=environment)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        self.connection = http.client.HTTPConnection(process.stdout.readline().strip().removeprefix("jesse-jobs is ready: http://"))

    def post(self, path, body):
        begin = time.perf_counter()
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        job = json.loads(self.connection.getresponse().read())
        while job.get("state") not in ("succeeded", "failed", "dead"):
            assert "job_id" in job, job
            self.connection.request("GET", f"/v1/jobs/{job['job_id']}?wait=50")
            job = json.loads(self.connection.getresponse().read())
        assert job["state"] == "succeeded", job
        return job, time.perf_counter() - begin

    def backtests(self):
        """A second."""
        specs = [{"strategy": "Searched", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "15m", "start_date": start,
                  "finish_date": finish} for start, finish in ranges(BATCH)]
        job, took = self.post("/v1/batches", {"jobs": specs, "cache": "off"})
        assert job["jobs"]["succeeded"] == BATCH, job
        return BATCH / took

    def search(self, seed):
        spec = {"strategy": "Searched", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "15m", "start_date": "2023-02-01",
                "finish_date": "2023-03-08", "test_start_date": "2023-03-01", "trials": TRIALS, "seed": seed}
        job, took = self.post("/v1/jobs", {"kind": "optimize", "cache": "off", "spec": spec})
        assert job["summary"]["trials"] == TRIALS, job
        return took


with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jesse-"))
    project = os.path.join(folder, "project")
    os.makedirs(os.path.join(project, "strategies", "Searched"))
    open(os.path.join(project, "strategies", "__init__.py"), "w").close()
    with open(os.path.join(project, "strategies", "Searched", "__init__.py"), "w") as file:
        file.write(STRATEGY)
    rows = candles(DAYS)
    ours, theirs = Ours(stack, folder, project, rows), Jesse(stack, folder, project, rows)
    if "backtests" in parts:
        theirs.backtest(("2023-01-20", "2023-02-20"))  # warm
        our, their = zip(*((ours.backtests(), theirs.backtests()) for _ in range(arguments.rounds)))
        our, their = statistics.median(our), statistics.median(their)
        print(f"\n| backtests of one month, 15m | a second | ours are more by |\n|---|---|---|\n| a batch of {BATCH} | {our:.2f} | |")
        print(f"| Jesse's REST API, {AT_ONCE} at once | {their:.2f} | {our / their:.1f} |", flush=True)
        if our / their < BACKTESTS:
            missed.append(f"backtests: less than {BACKTESTS} times as many")
    if "search" in parts:
        ours.search(99)  # warm
        our, their = zip(*((ours.search(number), theirs.search()) for number in range(arguments.rounds)))
        our, (whole, search) = statistics.median(our), map(statistics.median, zip(*their))
        print(f"\n| {TRIALS} trials of one month, 15m | seconds | ours is faster by |\n|---|---|---|\n| optimize, two slots | {our:.1f} | |")
        print(f"| jesse.research.optimize, two processors | {whole:.1f} | {whole / our:.1f} |")
        print(f"| the same without its import | {search:.1f} | {search / our:.1f} |")
        if search / our < SEARCH:
            missed.append(f"search: less than {SEARCH} times as fast")
for miss in missed:
    print(f"\nMissed: {miss}")
sys.exit(bool(missed))
