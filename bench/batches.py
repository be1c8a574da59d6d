"""How fast a batch of 20,000 backtests is accepted and cancelled, and how fast the processes of a cancelled backtest are gone.

usage: batches.py BINARY

Prints a table and ends with 1 when a bar is missed. Bounded: about a minute.
"""
import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from deployment import EXCHANGE, SYMBOL, descendants, generate, up

JOBS = 20_000
ACCEPTED_S, CANCELLED_S, GONE_S = 2, 2, 5

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
binary = os.path.abspath(arguments.parse_args().binary)
data = tempfile.TemporaryDirectory(prefix="batches-")
generate(binary, data.name)
server, address = up(binary, data.name, "--grace", "0")
connection = http.client.HTTPConnection(address)
rows, missed = [], []


def call(method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def measured(what, most, begin):
    took = time.perf_counter() - begin
    rows.append(f"| {what} | {took:.2f} s | {most} s |")
    if took > most:
        missed.append(what)


def redis(*command):
    socket = os.path.join(data.name, "redis", "redis.sock")
    return subprocess.run(["redis-cli", "-s", socket, *command], capture_output=True, text=True, check=True).stdout.split("\n")


def computing():
    """The processes that came after the Python that keeps Jesse: those that compute."""
    return [process for process in descendants(server.pid) if process not in idle]


try:
    idle = set(descendants(server.pid))
    base = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": "2023-02-01",
            "finish_date": "2023-03-01"}
    call("POST", "/v1/queue/pause", {})
    bodies = {
        "a list": {"base": base, "jobs": [{"balance": 10_000 + number} for number in range(JOBS)]},
        "a grid": {"base": dict(base, balance=5000), "grid": {"hyperparameters": {"fast": list(range(5, 55)), "slow": list(range(55, 155))},
                                                               "leverage": [1, 2, 3, 4]}},
    }
    for name, body in bodies.items():
        begin = time.perf_counter()
        batch = call("POST", "/v1/batches", body)
        assert batch["jobs"]["total"] == JOBS, batch
        measured(f"{JOBS:,} backtests as {name}: accepted", ACCEPTED_S, begin)
        while len(call("GET", f"/v1/batches/{batch['job_id']}/jobs?cursor={JOBS - 1}&limit=1")["jobs"]) < 1:
            time.sleep(0.01)
        rows.append(f"| ... and each can be read | {time.perf_counter() - begin:.2f} s | |")
        begin = time.perf_counter()
        ended = call("POST", f"/v1/batches/{batch['job_id']}/cancel", {})
        assert ended["state"] == "cancelled" and ended["jobs"]["cancelled"] == JOBS, ended
        measured("... cancelled, with all its jobs", CANCELLED_S, begin)
        events = " ".join(redis("XREVRANGE", "{jj}:3:events", "+", "-", "COUNT", "25000"))
        ends = sum(ids.split().count(batch["job_id"]) for ids in re.findall("job ([0-9a-f -]+) state cancelled", events))
        assert ends == 1, f"{ends} completion events"
    call("POST", "/v1/queue/resume", {})

    slow = dict(base, timeframe="1m", fast_mode=False, start_date="2023-01-10", finish_date="2024-01-30")
    job = call("POST", "/v1/jobs", {"kind": "backtest", "spec": slow})
    while call("GET", f"/v1/jobs/{job['job_id']}").get("progress") is None:
        time.sleep(0.02)
    assert computing(), "nothing computes"
    begin = time.perf_counter()
    call("POST", f"/v1/jobs/{job['job_id']}/cancel", {})
    while computing():
        time.sleep(0.005)
    measured("a running backtest cancelled: its processes gone", GONE_S, begin)
finally:
    server.send_signal(signal.SIGTERM)
    server.wait()

print("| | took | at most |\n|---|---|---|")
print("\n".join(rows))
if missed:
    sys.exit("missed: " + "; ".join(missed))
