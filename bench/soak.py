"""Many backtests through one server: all must succeed, and nothing may be left over or grow.

usage: soak.py BINARY [--rounds N]

Each round runs 200 different one-month backtests from 32 clients. After every round the processes must hold as many file descriptors
as after the first, hardly more memory, and no scratch folder may be left. Then the server is killed with SIGKILL in the middle of a
round and started again: every job that was accepted must still end well. Bounded: about twenty seconds a round on two cores.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import signal
import sys
import tempfile
import time

from deployment import EXCHANGE, SYMBOL, descendants, generate, up

JOBS, CLIENTS = 200, 32
GROWTH = 1.2

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--rounds", type=int, default=5)
arguments = arguments.parse_args()
binary = os.path.abspath(arguments.binary)
folder = tempfile.TemporaryDirectory(prefix="soak-")
data = folder.name


def call(address, method, path, body=None):
    connection = http.client.HTTPConnection(address)
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def backtest(number):
    spec = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "15m", "start_date": "2023-01-20",
            "finish_date": "2023-02-20", "balance": 10_000 + number}
    return {"kind": "backtest", "spec": spec}


def run(address, number):
    job = call(address, "POST", "/v1/jobs?wait=120", backtest(number))
    assert job["state"] == "succeeded", job


def held(process):
    """What the server and the Python that keeps Jesse hold: megabytes and file descriptors each, and folders of tasks."""
    found = []
    for pid in [process.pid, *descendants(process.pid, "python")]:
        with open(f"/proc/{pid}/status") as status:
            resident = next(line for line in status if line.startswith("VmRSS"))
        found.append((int(resident.split()[1]) // 1024, len(os.listdir(f"/proc/{pid}/fd"))))
    scratch = [name for _, names, _ in os.walk(os.path.join(data, "worker", "run")) for name in names if name.startswith("task-")]
    return found, scratch


generate(binary, data, days=60)
server, address = up(binary, data)
try:
    first = None
    for number in range(arguments.rounds):
        begin = time.time()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda index: run(address, index), range(number * JOBS, (number + 1) * JOBS)))
        rate = JOBS / (time.time() - begin)
        time.sleep(2)  # the last processes end
        now, scratch = held(server)
        print(f"round {number + 1}: {rate:.1f}/s; (MB, descriptors) of server and Jesse: {now}", flush=True)
        first = first or now
        assert not scratch, scratch
        assert all(after[0] <= before[0] * GROWTH and after[1] <= before[1] + 8 for before, after in zip(first, now)), (first, now)

    accepted = [call(address, "POST", "/v1/jobs", backtest(-1 - number))["job_id"] for number in range(JOBS)]
    time.sleep(2)
    server.send_signal(signal.SIGKILL)
    server.wait()
    server, address = up(binary, data)
    states = [call(address, "GET", f"/v1/jobs/{job}?wait=120")["state"] for job in accepted]
    assert set(states) == {"succeeded"}, states
    print(f"killed with {JOBS} jobs accepted and started again: all succeeded")
finally:
    server.send_signal(signal.SIGTERM)
    status = server.wait()
assert status == 0, status
