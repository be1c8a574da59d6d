"""What more workers bring, and what a worker without a network costs.

usage: scaling.py QUEUE_BENCH [--jobs 60] [--skip-split] [--api JESSE_JOBS]

1. Jobs that sleep 100 ms on 1, 2, 4 and 8 worker processes of one slot each: at least 0.9 of linear.
2. One of two workers loses its network (a namespace of its own; needs root and `ip`, else it is left out): its jobs run elsewhere, and
   what it hands in when the network is back is refused.
3. With --api, requests a second that 1, 2 and 3 API instances answer that share this machine with Redis and the client: reads of a job,
   as fast as they are answered. No bar: where the processors are used up, more instances bring nothing, and the table says what was used.

Needs redis-server. Bounded: about two minutes.
"""
import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline import connect, figures
from servers import free_port

LEAST = 0.9
WORKERS = (1, 2, 4, 8)
LIMIT_S = 120
SPLIT_JOBS, SPLIT_MS = 8, 12_000
READERS, READ_S = 24, 8

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--jobs", type=int, default=60, help="for each worker")
arguments.add_argument("--skip-split", action="store_true")
arguments.add_argument("--api", metavar="JESSE_JOBS")
arguments = arguments.parse_args()
binary = os.path.abspath(arguments.binary)


def ended(process):
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Queue:
    def __init__(self, stack, address):
        self.stack, self.address, self.port = stack, address, free_port()
        self.folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scaling-"))
        self.url = f"redis://{address}:{self.port}"
        # A link that only this machine has is no reason for a password.
        command = ["redis-server", "--bind", address, "--port", str(self.port), "--dir", self.folder, "--save", "", "--protected-mode", "no"]
        self.run(command, stdout=subprocess.DEVNULL)
        self.until("Redis answers", lambda: self.cli("ping").strip() == "PONG")

    def run(self, command, **more):
        process = subprocess.Popen(command, **more)
        self.stack.callback(ended, process)
        return process

    def cli(self, *command):
        return subprocess.run(["redis-cli", "-h", self.address, "-p", str(self.port), *command], capture_output=True, text=True).stdout

    def submit(self, count, sleep_ms):
        command = [binary, "chaos-submit", "--redis", self.url, "--count", str(count), "--ids", f"{self.folder}/ids", "--plain",
                   "--least-ms", str(sleep_ms), "--most-ms", str(sleep_ms)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_S)

    def worker(self, concurrency, inside=()):
        journal = f"{self.folder}/journal-{time.monotonic_ns()}"
        return self.run([*inside, binary, "chaos-worker", "--redis", self.url, "--concurrency", str(concurrency), "--journal", journal],
                        stdout=subprocess.DEVNULL)

    def counted(self):
        for key in self.cli("--scan", "--pattern", "*:stats").split():
            parts = self.cli("hgetall", key).split()
            return {name: int(value) for name, value in zip(parts[::2], parts[1::2])}
        return {}

    def until(self, what, condition):
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"not within {LIMIT_S} s: {what}; {self.counted()}")
            time.sleep(0.02)

    def until_counted(self, name, count):
        self.until(f"{count} {name}", lambda: self.counted().get(name, 0) >= count)


def rate(workers):
    """Jobs a second between a tenth and nine tenths of them, so that starting and the last ones do not count."""
    with ExitStack() as stack:
        queue, count = Queue(stack, "127.0.0.1"), arguments.jobs * workers
        queue.submit(count, 100)
        for _ in range(workers):
            queue.worker(1)
        times = []
        for part in (count // 10, count * 9 // 10):
            queue.until_counted("jobs_succeeded", part)
            times.append((time.monotonic(), queue.counted()["jobs_succeeded"]))
        (begin, first), (end, last) = times
        return (last - first) / (end - begin)


@contextmanager
def link():
    """A namespace with one link to this one: its name, its end of the link, our address on the link, and `ip`."""
    name, near, far = f"split{os.getpid()}", f"sn{os.getpid()}"[:15], f"sf{os.getpid()}"[:15]
    net = f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"

    def ip(*command):
        subprocess.run(["ip", *command], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", f"{net}.1/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"{net}.2/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name, far, f"{net}.1", ip
    finally:
        ip("netns", "del", name)


def split():
    with link() as (name, far, address, ip), ExitStack() as stack:
        queue = Queue(stack, address)
        queue.submit(SPLIT_JOBS, SPLIT_MS)
        queue.worker(SPLIT_JOBS // 2, ["ip", "netns", "exec", name])
        queue.until_counted("claims", SPLIT_JOBS // 2)
        # Enough slots for its own and the other's.
        queue.worker(2 * SPLIT_JOBS)
        queue.until_counted("claims", SPLIT_JOBS)
        # Its end of the link: ours goes on serving the other worker.
        ip("-n", name, "link", "set", far, "down")
        begin = time.monotonic()
        queue.until_counted("claims", SPLIT_JOBS + SPLIT_JOBS // 2)
        elsewhere = time.monotonic() - begin
        queue.until_counted("jobs_succeeded", SPLIT_JOBS)
        ip("-n", name, "link", "set", far, "up")
        queue.until_counted("late_results", SPLIT_JOBS // 2)
        counted = queue.counted()
        print(f"network of a worker cut: its {SPLIT_JOBS // 2} runs were taken up elsewhere within {elsewhere:.1f} s; {counted['late_results']} "
              f"late results refused; {counted['jobs_succeeded']} of {SPLIT_JOBS} jobs ended well, {counted['stalls']} stalls")
        return elsewhere <= 15 and counted["jobs_succeeded"] == SPLIT_JOBS


class Reads:
    """Reads of one job, again and again."""

    def __init__(self, job):
        self.request = f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.good, self.others, self.stopped = 0, 0, False

    def following(self):
        return None if self.stopped else self.request

    def answered(self, status):
        self.good += status == b"200"
        self.others += status != b"200"

    def lost(self):
        self.others += 1


async def read_for(seconds, job, ports):
    reads = Reads(job)
    senders = await connect(reads, ports, READERS)
    await asyncio.sleep(1)
    begin, before = time.monotonic(), reads.good
    await asyncio.sleep(seconds)
    rate = (reads.good - before) / (time.monotonic() - begin)
    reads.stopped = True
    for sender in senders:
        sender.close()
    return rate, reads.others


def instances():
    os.environ["JESSE_JOBS_BINARY"] = arguments.api
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy/tests"))
    from stack import Stack, analysis, post  # noqa: PLC0415  (it looks for the binary)

    print(f"\n{os.cpu_count()} processors\n| API instances | reads a second | processors of all instances | of Redis | of the client |\n|---|---|---|---|---|")
    well = True
    for count in (1, 2, 3):
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            stack = Stack(Path(folder), apis=count, workers=1, haproxy=False)
            try:
                job = json.loads(post(stack.direct(0), "/v1/jobs?wait=60", analysis(1))[1])["job_id"]
                spent = lambda: [sum(figures(process.pid)[1] for process in stack.apis), figures(stack.redis.process.pid)[1], time.process_time()]  # noqa: E731
                before = spent()
                rate, others = asyncio.run(read_for(READ_S, job, stack.ports))
                used = [(after - then) / (READ_S + 1) for after, then in zip(spent(), before)]
                print(f"| {count} | {rate:,.0f} | " + " | ".join(f"{part:.2f}" for part in used) + " |", flush=True)
                well &= others == 0 and rate > 0
            finally:
                stack.close()
    return well


good, one = True, None
print("| worker processes | jobs a second | of linear |\n|---|---|---|")
for workers in WORKERS:
    measured = rate(workers)
    one = one or measured
    print(f"| {workers} | {measured:.1f} | {measured / one / workers:.3f} |", flush=True)
    good &= measured >= LEAST * one * workers
if arguments.skip_split or os.geteuid() != 0 or shutil.which("ip") is None:
    print("network split left out: it needs root and `ip`")
else:
    good &= split()
if arguments.api:
    good &= instances()
sys.exit(not good)
