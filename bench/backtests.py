"""How much a backtest costs on top of Jesse itself, and how fast the cache and the list of tools answer.

usage: backtests.py BINARY [--floor FOLDER] [--compare "ARGUMENTS OF UP"]

The floor is what any queue in front of Jesse can at best reach: Jesse imported once and warmed, a fork per backtest, the result
as JSON. FOLDER holds `research_compute.py`, which measures it, and its candles; floor and ours take turns on the same candles, so
that a busy machine slows both. So does a batch of one-month 15m backtests, all different, in rounds: throughput, on all
processors. --compare starts a second server with these arguments, whose rounds are taken in turn too. Bounded: about four minutes.
"""
import argparse
import gc
import http.client
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta

EXCHANGE, SYMBOL = "Binance Perpetual Futures", "BTC-USDT"
RANGES, REPEATS = 20, 1000
ROUNDS, BATCH = 4, 50

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--floor", default=os.path.join(os.path.dirname(__file__), "..", "..", "shared", "peers"))
arguments.add_argument("--compare", default=None, metavar="ARGUMENTS")
arguments = arguments.parse_args()
binary, floor_folder = os.path.abspath(arguments.binary), os.path.abspath(arguments.floor)
if not os.path.exists(os.path.join(floor_folder, "research_compute.py")):
    print(f"skipped: the floor is measured by research_compute.py, which is not in {floor_folder}; name its folder with --floor")
    sys.exit()

sys.path.insert(0, floor_folder)
import research_compute as floor  # imports Jesse, makes the candles, and changes into a project with SmaCross

data = tempfile.TemporaryDirectory(prefix="bench-")


def candles_on_disk():
    """The floor's candles as a CSV file."""
    path = os.path.join(data.name, "candles.csv")
    with open(path, "w") as file:
        file.write("timestamp,open,close,high,low,volume\n")
        for row in floor.ROWS.tolist():
            file.write(f"{int(row[0])},{row[1]!r},{row[2]!r},{row[3]!r},{row[4]!r},{row[5]!r}\n")
    return path


class Server:
    """`up` on a free port, with a connection that is kept open."""

    def __init__(self, data=data.name, *more):
        environment = dict(os.environ, JESSE_PYTHON=sys.executable, LOG_LEVEL="warn")
        command = [binary, "up", "--listen", "127.0.0.1:0", "--data", data, "--project", floor.project, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        address = self.process.stdout.readline().strip().removeprefix("jesse-jobs is ready: http://")
        self.connection = http.client.HTTPConnection(address)

    def post(self, path, body, headers=()):
        headers = {"Content-Type": "application/json", **dict(headers)}
        self.connection.request("POST", path, json.dumps(body), headers)
        response = self.connection.getresponse()
        return json.loads(response.read())

    def get(self, path):
        self.connection.request("GET", path)
        return json.loads(self.connection.getresponse().read())

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def milliseconds(call, *args):
    begin = time.perf_counter()
    answer = call(*args)
    return (time.perf_counter() - begin) * 1e3, answer


def percentiles(times):
    times = sorted(times)
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def backtest(start, finish):
    spec = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": start,
            "finish_date": finish, "leverage": 2, "fee": 0.0006}
    return {"kind": "backtest", "spec": spec}


def ranges(numbers):
    """One month from each of these days on."""
    first = date(2023, 1, 20)
    return [(str(first + timedelta(days=number)), str(first + timedelta(days=number + 31))) for number in numbers]


def floor_batch(months):
    """Backtests a second of the floor: as many forks at once as there are processors."""
    begin, running, left = time.perf_counter(), [], list(months)
    while left or running:
        while left and len(running) < os.cpu_count():
            running.append(floor.start(*left.pop(), "15m"))
        ready = select.select(running, [], [])[0][0]
        running.remove(ready)
        floor.finish(ready)
    return len(months) / (time.perf_counter() - begin)


def our_batch(server, months):
    """Backtests a second through the queue, from the submit to the end of the last."""
    base = {name: value for name, value in backtest(*months[0])["spec"].items() if not name.endswith("_date")}
    jobs = [{"start_date": start, "finish_date": finish} for start, finish in months]
    begin = time.perf_counter()
    batch = server.post("/v1/batches", {"base": {**base, "timeframe": "15m"}, "jobs": jobs})
    ended = server.get(f"/v1/batches/{batch['job_id']}?wait=300")
    assert ended["state"] == "succeeded", ended
    return len(months) / (time.perf_counter() - begin)


def imported(folder):
    """This data folder, with the floor's candles."""
    subprocess.run([binary, "candles", "import", file, "--exchange", EXCHANGE, "--symbol", SYMBOL, "--data", folder],
                   check=True, stdout=subprocess.DEVNULL)
    return folder


file = candles_on_disk()
server = Server(imported(data.name))
other = Server(imported(os.path.join(data.name, "other")), *arguments.compare.split()) if arguments.compare else None
try:
    idle_mb = server.resident_mb()
    floor.run("2023-01-20", "2023-01-24", "1h", "WarmUp")
    gc.freeze()
    ours, floors, differences = [], [], []
    for index in range(RANGES):
        start = date(2023, 1, 20) + timedelta(days=15 * index)
        days = start.isoformat(), (start + timedelta(days=31)).isoformat()
        of_floor, theirs = milliseconds(lambda: floor.finish(floor.start(*days, "1h")))
        of_ours, answer = milliseconds(server.post, "/v1/jobs?wait=60", backtest(*days))
        assert answer["state"] == "succeeded" and not answer["cached"], answer
        profit = answer["summary"]["metrics"]["net_profit_percentage"]
        assert profit == theirs["metrics"]["net_profit_percentage"], (profit, theirs["metrics"])
        floors.append(of_floor)
        ours.append(of_ours)
        differences.append(of_ours - of_floor)

    rates = {"floor": [], "ours": [], "other": []}
    for number in range(ROUNDS):
        months = ranges(range(number * BATCH, (number + 1) * BATCH))
        rates["floor"].append(floor_batch(months))
        rates["ours"].append(our_batch(server, months))
        if other:
            rates["other"].append(our_batch(other, months))

    hits = [milliseconds(server.post, "/v1/jobs?wait=60", backtest(*days)) for _ in range(REPEATS)]
    assert all(answer["cached"] for _, answer in hits)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    lists = [milliseconds(server.post, "/mcp", call, headers) for _ in range(REPEATS)]
    assert all(answer["result"]["tools"] for _, answer in lists)
finally:
    server.stop()
    if other:
        other.stop()

hit, hit_99 = percentiles([time for time, _ in hits])
medians = {name: statistics.median(rate) for name, rate in rates.items() if rate}
labels = {"floor": "floor", "ours": "a batch over HTTP", "other": f"the same with {arguments.compare}"}
throughput = "\n".join(f"| {labels[name]} | {rate:.2f} | {rate / medians['floor']:.0%} |" for name, rate in medians.items())
tools, tools_99 = percentiles([time for time, _ in lists])
print(f"""
| one month 1 h, {RANGES} different ranges, idle | median |
|---|---|
| floor: Jesse warm, one fork | {statistics.median(floors):.1f} ms |
| submit to result over HTTP | {statistics.median(ours):.1f} ms |
| difference, range by range | {statistics.median(differences):+.1f} ms |

| {ROUNDS} rounds of {BATCH} one-month 15m backtests, all different, {os.cpu_count()} at once | a second | of the floor |
|---|---|---|
{throughput}

| {REPEATS} calls | p50 | p99 |
|---|---|---|
| the same backtest again | {hit:.2f} ms | {hit_99:.2f} ms |
| tools/list | {tools:.2f} ms | {tools_99:.2f} ms |

API, worker and queue in one process, idle: {idle_mb:.1f} MB resident""")
