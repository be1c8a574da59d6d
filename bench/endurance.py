"""A day in fast motion: a million jobs that compute next to nothing through API instances, workers and Redis, each forgotten after a minute.

usage: endurance.py BINARY [--jobs 1000000] [--rate 1000] [--limit 1800] [--apis 2] [--workers 2] [--slots 8]

Plain processes with the configuration of Redis that is shipped, the queue's time to keep jobs and results set to a minute. Clients send
jobs one by one over connections that stay open, as many a second all the time, so that as many are kept; others wait for theirs, read and
list. Afterwards every job must have ended well and been
computed once, and the memory of every process and of Redis must be flat over the second half: the most in its last third is at most 5 %
and 2 MB above the most in its first third. What was submitted when the limit (in seconds) is reached is what is judged; fewer jobs than
asked for are said and fail. Prints a table. Needs redis-server and openssl (`scripts/setup tests`). Bounded: by the limit; at the usual
rate seventeen minutes.
"""
import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from deployment import descendants
from pipeline import connect, figures

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--jobs", type=int, default=1_000_000)
arguments.add_argument("--rate", type=int, default=1_000, help="jobs a second, at most")
arguments.add_argument("--limit", type=int, default=1800)
arguments.add_argument("--apis", type=int, default=2)
arguments.add_argument("--workers", type=int, default=2)
arguments.add_argument("--slots", type=int, default=8)
arguments = arguments.parse_args()
os.environ["JESSE_JOBS_BINARY"] = arguments.binary
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy/tests"))

from stack import Stack, analysis, post, until  # noqa: E402

CONNECTIONS = 16
MOST_WAITING = 5_000
EVERY_S, TICK_S = 2, 0.02
GROWTH, SLACK_MB = 1.05, 2


def template():
    """A request around the nine digits that make it differ from all others."""
    body = analysis(0)
    body["spec"] |= {"methods": ["historical"], "confidence": [0.95]}
    body["spec"]["returns"][0] = "NUMBER"
    text = json.dumps(body, separators=(",", ":")).replace('"NUMBER"', "0.000000000")
    before, _, after = text.partition("000000000")
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{before}"
    return head.encode(), after.encode()


class Load:
    """What is sent, and what was answered."""

    def __init__(self, stack):
        self.stack, self.most, self.sent, self.taken, self.refused, self.held = stack, arguments.jobs, 0, 0, [], False
        self.due = 0.0
        self.head, self.after = template()
        self.done, self.waited, self.begin = asyncio.Event(), 0, time.monotonic()

    def following(self):
        if self.held or self.sent >= min(self.most, self.due):
            return None
        self.sent += 1
        return b"%b%09d%b" % (self.head, self.sent, self.after)

    def tick(self, seconds):
        """Time has passed: more jobs are due. What could not be sent in its second is not caught up with, or more would be kept."""
        self.due = min(self.due + seconds * arguments.rate, self.sent + arguments.rate)

    def answered(self, status):
        self.taken += 1
        # Accepted; or ended already, when it was answered.
        if status not in (b"202", b"200"):
            self.refused.append(status)
        if self.taken >= self.most:
            self.done.set()

    def lost(self):
        self.refused.append("a connection was closed")
        self.done.set()

    async def run(self):
        senders, samples = await connect(self, self.stack.ports, CONNECTIONS), []
        while not self.done.is_set():
            waiting, sample = await asyncio.to_thread(look, self.stack)
            # The workers are to keep up: what waits takes memory too.
            self.held = waiting > MOST_WAITING
            if time.monotonic() - self.begin > arguments.limit and self.most > self.sent:
                self.most = self.sent
            samples.append((self.taken, sample))
            if self.taken >= self.most:
                break
            now = time.monotonic()
            next_look = now + EVERY_S
            while now < next_look and not self.done.is_set():
                for sender in senders:
                    sender.send()
                await asyncio.sleep(TICK_S)
                before, now = now, time.monotonic()
                self.tick(now - before)
            if len(samples) % 30 == 0:
                print(f"{time.monotonic() - self.begin:6.0f} s  {self.taken} jobs; MB {sample}", flush=True)
        for sender in senders:
            sender.close()
        return samples


def processes(stack):
    """The processes of each part; some of Jesse's are there for a moment only."""
    found = {f"API {number}": [process.pid] for number, process in enumerate(stack.apis, 1)}
    for number, process in enumerate(stack.workers, 1):
        found[f"worker {number}"] = [process.pid]
        found[f"Jesse of worker {number}"] = descendants(process.pid, "python")
    return found | {"Redis, as the kernel sees it": [stack.redis.process.pid]}


def together(pids):
    """Megabytes and processor seconds of those that are there."""
    total = [0.0, 0.0]
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
            total = [sum(parts) for parts in zip(total, figures(pid))]
    return total


def look(stack):
    """How many runs wait, and megabytes by process."""
    sample = {name: round(together(pids)[0], 1) for name, pids in processes(stack).items()}
    info = dict(line.split(":", 1) for line in stack.redis.cli("info", "memory").splitlines() if ":" in line)
    sample["Redis, as it counts itself"] = round(int(info["used_memory"]) / 2**20, 1)
    waiting = stack.redis.cli("hget", "{jj}:3:sched", "ready").strip()
    return int(waiting or 0), sample


def others(stack, load, ended):
    """A client that waits for its jobs, reads and lists, one after the other."""
    connection = stack.direct(0, timeout=120)
    while not ended.wait(0.05):
        answer, body = post(connection, "/v1/jobs?wait=60", analysis(arguments.jobs + 1000 + load.waited))
        load.waited += 1
        if answer.status >= 300 or json.loads(body)["state"] != "succeeded":
            load.refused.append(body)
            return
        for path in (f"/v1/jobs/{json.loads(body)['job_id']}", "/v1/jobs?limit=5", "/health"):
            connection.request("GET", path)
            answer = connection.getresponse()
            if not answer.read() or answer.status != 200:
                load.refused.append(path)


def judged(samples):
    """A row for each process over the second half: at its begin, most in its first and last third, growth; and whether all are flat."""
    half = [sample for taken, sample in samples if taken >= samples[-1][0] / 2]
    third = max(1, len(half) // 3)
    good = len(half) >= 3
    print("| memory in MB | half way | most in the first third of the second half | most in its last third | growth |\n|---|---|---|---|---|")
    for name in half[0] if half else ():
        first, last = (max(sample[name] for sample in part) for part in (half[:third], half[-third:]))
        flat = last <= first * GROWTH + SLACK_MB
        good &= flat
        print(f"| {name} | {half[0][name]:.1f} | {first:.1f} | {last:.1f} | {(last / first - 1) * 100:+.1f} %{'' if flat else ' NOT FLAT'} |")
    return good


def main(folder):
    settings = {"JESSE_JOBS_RETENTION_DAYS": "0.0007"}
    stack = Stack(Path(folder), arguments.apis, arguments.workers, arguments.slots, haproxy=False, settings=settings, maxmemory="2gb")
    try:
        load, ended = Load(stack), threading.Event()
        reader = threading.Thread(target=others, args=(stack, load, ended), daemon=True)
        reader.start()
        samples = asyncio.run(load.run())
        seconds = time.monotonic() - load.begin
        ended.set()
        reader.join()
        until("all jobs have ended", lambda: (told := stack.counters()).get("jobs_succeeded") == told["submitted"])
        counted, cost = stack.counters(), {name: together(pids)[1] for name, pids in processes(stack).items()}
        total = counted["submitted"]
        print(f"{load.taken} jobs sent and {load.waited} waited for in {seconds:.0f} s ({total / seconds:.0f} a second); {len(load.refused)} refused; "
              f"claims {counted['claims']}, stalls {counted.get('stalls', 0)}, late results {counted.get('late_results', 0)}")
        print("processor time for a job, microseconds: " + ", ".join(f"{name} {spent / total * 1e6:.0f}" for name, spent in cost.items()))
        flat = judged(samples)
        assert not load.refused, load.refused[:5]
        assert counted["jobs_succeeded"] == counted["claims"] == total and not counted.get("stalls") and not counted.get("late_results"), counted
        return flat and load.taken == arguments.jobs
    finally:
        stack.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        sys.exit(not main(folder))
