"""A thousand strategies that trade by lot, as one campaign through the queue: the tool must say that there is no edge, and go on to count
a thousand when jobs and results have expired.

usage: noise.py BINARY [--trials N]

Each is a backtest of three months of hours by Jesse, without fees, so that nothing but luck tells them apart. The draws are the same every
time. About six minutes on two cores, half of them spent waiting for the jobs to expire.
"""
import argparse
import http.client
import json
import os
import signal
import tempfile
import time

from deployment import EXCHANGE, SYMBOL, generate, up

STRATEGY = "RandomTrades"
SOURCE = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "project", "strategies", STRATEGY, "__init__.py")
# Longer than the batch takes, so that its table has all of its jobs.
KEPT_S = 180

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--trials", type=int, default=1000)
arguments = arguments.parse_args()
binary, trials = os.path.abspath(arguments.binary), arguments.trials
folder = tempfile.TemporaryDirectory(prefix="noise-")
generate(binary, folder.name, days=120)
server, address = up(binary, folder.name, "--allow-strategy-write", "--retention-days", str(KEPT_S / 86_400))
connection = http.client.HTTPConnection(address)


def call(method, path, body=None, accept="application/json"):
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json", "Accept": accept})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def tool(name, **given):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": given}}
    answer = call("POST", "/mcp", message, "application/json, text/event-stream")[1]["result"]
    assert not answer.get("isError"), answer
    return answer["structuredContent"]


def is_without_edge(figures):
    return figures["trials"] == trials and "no edge is shown" in figures["advice"]


try:
    with open(SOURCE, encoding="utf-8") as source:
        status, written = call("POST", "/v1/strategies", {"name": STRATEGY, "source": source.read()})
    assert status in (200, 201), written
    base = {"strategy": STRATEGY, "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "fee": 0, "start_date": "2023-01-15",
            "finish_date": "2023-04-07"}
    begin = time.time()
    answer = tool("backtest_batch", base=base, grid={"hyperparameters": {"seed": list(range(trials))}}, campaign="noise", wait_seconds=50)
    batch = answer["batch_id"]
    while answer["open"]:
        answer = tool("job_get", job_id=batch, wait_seconds=50)
    took = time.time() - begin
    print(f"{trials} strategies of noise in {took:.0f} s, {trials / took:.1f}/s: {answer['counts']}", flush=True)
    print(f"  {answer['campaign']['advice']} (deflated Sharpe ratio {answer['campaign']['deflated_sharpe']})")
    print(f"  choosing among them: {answer['selection']}", flush=True)
    assert answer["counts"]["succeeded"] == trials and is_without_edge(answer["campaign"]), answer

    end = time.time() + 10 * KEPT_S
    while call("GET", f"/v1/jobs/{batch}")[0] != 404:
        assert time.time() < end, "the batch does not expire"
        time.sleep(1)
    left, kept = call("GET", "/v1/jobs?campaign=noise")[1]["jobs"], call("GET", "/v1/campaigns/noise")[1]
    assert not left and is_without_edge(kept), (left, kept)
    print(f"  when all jobs have expired: {kept['advice']}")
finally:
    server.send_signal(signal.SIGTERM)
    status = server.wait()
assert status == 0, status
