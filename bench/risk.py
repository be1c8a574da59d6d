"""How fast risk analysis is: beside numpy and arch on the same data, and from submit to answer through a whole server.

usage: risk.py JESSE_JOBS RISK_BENCH [--only PART ...] [--rounds N]

crate: Monte Carlo of 10,000 paths x 1,000 trades and the stationary bootstrap of mean and Sharpe ratio, beside vectorised numpy and
arch, which take turns; the correlation of 100 series over a year of hours;
report: `risk_report` of a real backtest of a year, submitted over HTTP, with a worker and Redis, every time with another seed;
correlation: 100 symbols x a year of hours through the server, from synthetic minutes; a worker keeps the hourly closes of each month
that it has read once.
Prints tables and ends with 1 when a bar is missed. Bounded: about eight minutes, most of it for making 100 years of candles (2.5 GB in
a temporary folder).
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import time

import numpy as np

from answering import Answering, libraries, machine, peers
from bars import bar, close, table
from deployment import EXCHANGE, SYMBOL, generate, up

PARTS = ["crate", "report", "correlation"]
PATHS, TRADES, SYMBOLS, HOURS = 10_000, 1_000, 100, 365 * 24
REPORTS, MATRICES = 40, 20
# Bars: times as fast as each of the others; milliseconds.
FASTER, REPORT_MS, CORRELATION_MS = 5, 100, 200

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("risk_bench")
arguments.add_argument("--only", choices=PARTS, action="append")
arguments.add_argument("--rounds", type=int, default=7)
arguments = arguments.parse_args()
binary, risk_bench = os.path.abspath(arguments.binary), os.path.abspath(arguments.risk_bench)
parts = arguments.only or PARTS


def crate(stack):
    ours, theirs = Answering(stack, risk_bench), peers(stack, libraries(risk_bench))
    versions = ", ".join(f"{name} {version}" for name, version in theirs.ask("versions").items())
    returns = (np.random.default_rng(1).standard_t(5, TRADES) * 0.01 + 0.0008).tolist()
    rows = []
    for title, ask, peer, peer_ask, length in (
        ("Monte Carlo, each trade by itself", "simulation", "numpy", "simulation", 1.0),
        ("Monte Carlo, blocks of 10", "simulation", "numpy", "simulation", 10.0),
        ("stationary bootstrap, blocks of 10", "bootstrap", "numpy", "numpy_bootstrap", 10.0),
        ("stationary bootstrap, blocks of 10", "bootstrap", "arch", "bootstrap", 10.0),
    ):
        size = {"paths" if ask == "simulation" else "replications": PATHS, "returns": returns, "block_length": length}
        all_threads, one_thread, others = [], [], []
        for seed in range(arguments.rounds + 1):
            others.append(theirs.ask(peer_ask, seed=seed, threads=1, **size))
            all_threads.append(ours.ask(ask, seed=seed, threads=0, **size))
            one_thread.append(ours.ask(ask, seed=seed, threads=1, **size))
        agree(title, all_threads[-1], others[-1])
        # The first round warms.
        ms, one_ms, other_ms = (statistics.median(answer["ms"] for answer in answers[1:]) for answers in (all_threads, one_thread, others))
        rows.append([title, peer, f"{other_ms:.0f} ms", f"{ms:.1f} ms", f"{other_ms / ms:.1f}", f"{one_ms:.1f} ms", f"{other_ms / one_ms:.1f}"])
        bar(other_ms >= FASTER * ms, f"{title}: {other_ms / ms:.1f} times as fast as {peer}, at least {FASTER}")
    print(f"{PATHS:,} paths x {TRADES:,} trades; {versions}; {os.cpu_count()} threads here, one there, where there are no more.")
    table(["", "beside", "takes", "here", "times as fast", "here on one thread", "times as fast"], rows)
    rows = []
    for method in ("pearson", "spearman"):
        found = [ours.ask("correlation", series=SYMBOLS, observations=HOURS, method=method, seed=seed)["ms"] for seed in range(arguments.rounds)]
        ms = statistics.median(found)
        rows.append([method, f"{ms:.0f} ms"])
        bar(ms <= CORRELATION_MS, f"correlation ({method}) in the crate: {ms:.0f} ms, at most {CORRELATION_MS}")
    table([f"{SYMBOLS} series x {HOURS:,} hours, with intervals and shrinkage", "median"], rows)


def agree(title, ours, theirs):
    """Both must have done the same: their figures differ by their numbers of paths alone."""
    for name in ours.keys() - {"ms"}:
        our, their = (found if isinstance(found, list) else [found] for found in (ours[name], theirs[name]))
        scale = max(map(abs, our + their))
        if any(abs(a - b) > 0.05 * scale for a, b in zip(our, their)):
            raise SystemExit(f"{title}: {name} is {our} here and {their} there")


class Server:
    def __init__(self, stack, data):
        process, address = up(binary, data, "--workers", "2")
        stack.callback(process.wait, 60)
        stack.callback(process.send_signal, signal.SIGTERM)
        self.connection = http.client.HTTPConnection(address)

    def submit(self, kind, **spec):
        """The ended job, and the milliseconds from the call to its answer."""
        body = json.dumps({"kind": kind, "spec": spec})
        begin = time.perf_counter()
        self.connection.request("POST", "/v1/jobs?wait=120", body, {"Content-Type": "application/json"})
        job = json.loads(self.connection.getresponse().read())
        took = (time.perf_counter() - begin) * 1e3
        if job.get("state") != "succeeded":
            raise SystemExit(f"{kind} did not succeed: {job}")
        return job, took


def times(found):
    found = sorted(found)
    return statistics.median(found), found[int(len(found) * 0.95)]


def row(title, found, most, rows):
    median, high = times(found)
    rows.append([title, f"{median:.1f} ms", f"{high:.1f} ms", "" if most is None else f"{most} ms"])
    bar(most is None or median <= most, f"{title}: {median:.1f} ms, at most {most}")


def report(stack, rows):
    data = stack.enter_context(tempfile.TemporaryDirectory(prefix="risk-"))
    generate(binary, data, days=400)
    server = Server(stack, data)
    year = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": "2023-01-20", "finish_date": "2024-01-20"}
    job, _ = server.submit("backtest", **year)
    computed, known = [], []
    for seed in range(REPORTS + 3):
        answer, took = server.submit("risk_report", job_id=job["job_id"], seed=seed)
        assert not answer["cached"], answer
        again, took_again = server.submit("risk_report", job_id=job["job_id"], seed=seed)
        assert again["cached"] and again["summary"] == answer["summary"], again
        computed.append(took)
        known.append(took_again)
    trades = answer["summary"]["trades"]
    row(f"risk_report of a year ({answer['summary']['data']['returns']} daily returns, {trades} trades)", computed[3:], REPORT_MS, rows)
    row("the same again, from the cache", known[3:], None, rows)
    simulated = [server.submit("monte_carlo", job_id=job["job_id"], method="returns", seed=seed)[1] for seed in range(REPORTS)]
    row("monte_carlo of it, 10,000 paths", simulated, None, rows)


def correlation(stack, rows):
    data = stack.enter_context(tempfile.TemporaryDirectory(prefix="risk-"))
    symbols = [f"C{number:03}-USDT" for number in range(SYMBOLS)]

    server = Server(stack, data)

    def make(numbered):
        number, symbol = numbered
        generate(binary, data, days=365, symbol=symbol, seed=number)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, enumerate(symbols)))
    year = {"exchange": EXCHANGE, "symbols": symbols, "timeframe": "1h", "start_date": "2023-01-01", "finish_date": "2024-01-01"}
    _, first = server.submit("correlation_matrix", **year)
    found, known = [], []
    for number in range(MATRICES):
        # Another confidence is another question; the candles and their closes are the same.
        answer, took = server.submit("correlation_matrix", confidence=0.9 + number / 1000, **year)
        assert not answer["cached"] and answer["summary"]["observations"] == HOURS - 1, answer
        found.append(took)
        known.append(server.submit("correlation_matrix", confidence=0.9 + number / 1000, **year)[1])
    row(f"correlation_matrix of {SYMBOLS} symbols x a year of hours", found, CORRELATION_MS, rows)
    row("the same again, from the cache", known, None, rows)
    rows.append(["the very first, which reads the minutes", f"{first:.0f} ms", "", ""])


print(f"`bench/risk.py` on {machine()}.")
with contextlib.ExitStack() as stack:
    if "crate" in parts:
        crate(stack)
rows = []
for part in (report, correlation):
    if part.__name__ in parts:
        with contextlib.ExitStack() as stack:
            part(stack, rows)
if rows:
    table(["from submit to answer over HTTP", "median", "95 %", "bar"], rows)
close()
