"""What the console costs: how fast its first page is made while many jobs are on record, how much is sent, and how soon a change is told.

usage: console.py BINARY [--jobs N]

Prints a table and ends with 1 when a bar is missed. The jobs stand in a paused queue: batches of 50,000, each job with a record of its
own. A million of them take 2 GB of Redis; the default takes a minute or two.
"""
import argparse
import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time

from deployment import EXCHANGE, SYMBOL, generate, up

BATCH = 50_000
PAGES = 100
CHANGES = 10

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--jobs", type=int, default=100_000)
settings = arguments.parse_args()
binary = os.path.abspath(settings.binary)
data = tempfile.TemporaryDirectory(prefix="console-")
generate(binary, data.name, days=120)
server, address = up(binary, data.name, "--max-open", str(2 * settings.jobs + 1000))
connection = http.client.HTTPConnection(address)
rows, missed = [], []


def ask(method, path, body=None):
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status} {content[:500]}")
    return content


def row(what, figure, unit, most):
    rows.append(f"| {what} | {figure:,.1f} {unit} | {most:,} {unit} |")
    if figure > most:
        missed.append(what)


def page(what, path, most_ms):
    took = []
    for _ in range(PAGES):
        begin = time.perf_counter()
        content = ask("GET", path)
        took.append((time.perf_counter() - begin) * 1000)
    row(f"{what}, p50", statistics.median(took), "ms", most_ms)
    return content


def transfer(content):
    """The page with all that it loads, which is loaded once and kept."""
    files = {part for part in content.decode().split('"') if part.startswith("/console/assets/")}
    return (len(content) + sum(len(ask("GET", file)) for file in files)) / 1000


def told_after():
    """Seconds from a change (a job that is accepted and ends at once, from the cache) to its coming up in what the first page is sent."""
    stream = http.client.HTTPConnection(address, timeout=30)
    stream.request("GET", "/console/live")
    events = stream.getresponse()
    told = threading.Event()
    wanted = []

    def read():
        for line in events:
            if wanted and wanted[0] in line:
                told.set()
                return

    events.readline()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.7)
    begin = time.perf_counter()
    job = json.loads(ask("POST", "/v1/jobs", {"kind": "backtest", "spec": month}))["job_id"]
    wanted.append(job.rsplit("-")[-1].encode())
    if not told.wait(30):
        raise SystemExit("a change was never told")
    took = time.perf_counter() - begin
    stream.close()
    return took


month = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": "2023-02-01",
         "finish_date": "2023-03-01"}
try:
    first = json.loads(ask("POST", "/v1/jobs?wait=60", {"kind": "backtest", "spec": month}))
    if first["state"] != "succeeded":
        raise SystemExit(f"the backtest did not succeed: {first}")
    ask("POST", "/v1/queue/pause")
    for number in range(0, settings.jobs, BATCH):
        size = min(BATCH, settings.jobs - number)
        grid = {"balance": [10_000 + number + place for place in range(size)]}
        batch = json.loads(ask("POST", "/v1/batches", {"base": month, "grid": grid}))["job_id"]
        # All have records once the last of them can be listed.
        while not json.loads(ask("GET", f"/v1/batches/{batch}/jobs?cursor={size - 1}&limit=1"))["jobs"]:
            time.sleep(0.2)
    content = page(f"first page with {settings.jobs:,} jobs", "/", 20)
    row("first page with all that it loads", transfer(content), "KB", 150)
    page("list of jobs", "/console/jobs", 20)
    page("a job's page", f"/console/jobs/{first['job_id']}", 50)
    row("a change is told to the first page, p50", statistics.median(told_after() for _ in range(CHANGES)) * 1000, "ms", 1000)
finally:
    server.send_signal(signal.SIGTERM)
    server.wait(120)
    data.cleanup()

print("| what | measured | bar |\n|---|---|---|\n" + "\n".join(rows))
if missed:
    print("missed: " + ", ".join(missed))
sys.exit(bool(missed))
