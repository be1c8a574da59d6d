"""How the queue compares with BullMQ, Celery and RQ on the same Redis, and what depth and finished jobs cost.

usage: queues.py BINARY [--only PART ...] [--rounds N] [--quick] [--peers FOLDER]

BINARY is `queue-bench`. All use one Redis with its defaults and no persistence, and take turns, so that a busy machine slows all;
figures are medians of the rounds. FOLDER holds the scripts that measure the others (`bullmq.js`, `capp.py`, `cbench.py`, `rbench.py`,
`rjobs.py`); without it only ours is measured. What they need is installed once into a folder beside BINARY's. Prints Markdown and
ends with 1 when a bar is missed. Bounded: about fifteen minutes, with --quick three, whose figures are rough.

The Redis is the redis-server that is found first in PATH.
"""
import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from answering import machine
from bars import bar, close, table
from resp import Connection
from servers import free_port, redis_program

# The others' scripts have it in them.
PORT = 6401
PARTS = ["throughput", "pickup", "depth", "memory"]
LATENCY_ROUNDS, DEPTH_ROUNDS, CALLS = 3, 7, 5000
# Bars.
PICKUP_P50_US, PICKUP_P99_US, DEEPER, BYTES = 1500, 5000, 1.10, 2048
# Where what scripts make lies among the data, all that they do takes longer the more there is.
DEEPER_IN_ONE_HEAP = 1.25

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--only", choices=PARTS, action="append")
arguments.add_argument("--rounds", type=int, default=9)
arguments.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
arguments.add_argument("--peers", default=os.path.join(os.path.dirname(__file__), "..", "..", "shared", "peers", "queues"))
arguments = arguments.parse_args()
parts = arguments.only or PARTS
binary, scripts = os.path.abspath(arguments.binary), os.path.abspath(arguments.peers)
rounds = 1 if arguments.quick else arguments.rounds
picked_up = 40 if arguments.quick else 200
deep = 100_000 if arguments.quick else 1_000_000
finished = 5_000 if arguments.quick else 20_000

folder = tempfile.TemporaryDirectory(prefix="queue-bench-")
latencies = os.path.join(folder.name, "latencies")


def note(text):
    print(f"queues.py: {text}", file=sys.stderr, flush=True)


def run(*command, limit=300, where=None):
    """What a command printed; its failure is ours."""
    environment = dict(os.environ, LATENCIES=latencies)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=where, env=environment,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        sys.exit(f"{' '.join(command)}: not done in {limit} s")
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def running(*command, where=None):
    """A process and its children, which end with the block. Its output is a file."""
    environment = dict(os.environ, LATENCIES=latencies)
    with tempfile.TemporaryFile("w+", dir=folder.name) as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=where,
                                   env=environment, start_new_session=True)
        process.output = output
        try:
            yield process
        finally:
            for how in signal.SIGTERM, signal.SIGKILL:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)


def ended(process, limit=300):
    """What a process printed that ends by itself."""
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = f"not done in {limit} s"
    process.output.seek(0)
    printed = process.output.read()
    if status:
        sys.exit(f"{' '.join(process.args)}: {status}\n{printed[-2000:]}")
    return printed


class Redis:
    """A server of our own."""

    def __init__(self, stack, port):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            sys.exit(f"something listens on port {port} already; the measurements need it")
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process = stack.enter_context(running(redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                                                   "--appendonly", "no", "--dir", folder.name))
        until = time.time() + 10
        while True:
            try:
                self.connection = Connection(port)
                break
            except OSError:
                if time.time() > until or self.process.poll() is not None:
                    ended(self.process, 1)
                time.sleep(0.05)
        stack.callback(self.connection.close)
        self.call = self.connection.call

    def has_one_heap(self):
        """Whether Lua's memory comes from where the data's does: from the C library, or from an allocator that is a library of the system,
        as in Debian's package. One that was built in is Redis's own, and Lua has the C library's or an arena for itself."""
        if self.info("mem_allocator").startswith("libc"):
            return True
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/maps") as maps:
            return "/libjemalloc" in maps.read()
        return False

    def flush(self):
        self.call("FLUSHALL")

    def info(self, name):
        return re.search(rf"^{name}:(.*?)\r?$", self.call("INFO").decode(), re.M)[1]

    def memory(self):
        time.sleep(0.5)  # tables that grew are moved in the background
        return int(self.info("used_memory"))

    def remove(self, pattern):
        cursor = b"0"
        while True:
            cursor, keys = self.call("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
            if keys:
                self.call("DEL", *keys)
            if cursor == b"0":
                return


def ours(subcommand, *options):
    return json.loads(run(binary, subcommand, *map(str, options)))


class Ours:
    name = "ours"

    def __init__(self, url):
        self.url = url

    def enqueue(self):
        counts = {"seq": 5000, "par32": 20000, "bulk": 50000}
        return {mode: ours("enqueue", "--mode", mode, "--count", count, "--redis", self.url)["per_second"]
                for mode, count in counts.items()}

    def process(self):
        ours("fill", "--count", 20000, "--redis", self.url)
        return ours("work", "--count", 20000, "--concurrency", 64, "--redis", self.url)["per_second"]

    def pickup(self, count):
        figures = ours("pickup", "--count", count, "--redis", self.url)
        return figures["p50"], figures["p99"]


def rates(printed):
    """From lines such as `seq 123/s`, `bulk1000 123/s` and `processed 20000 123/s`."""
    found = re.findall(r"^(seq|par32|bulk|processed|drain)(?:1000)?(?: \d+)? (\d+)/s$", printed, re.M)
    return {name: float(rate) for name, rate in found}


def percentiles(printed):
    return tuple(int(re.search(rf"{name} (\d+)", printed)[1]) for name in ("p50", "p99"))


class BullMQ:
    def __init__(self, home):
        self.home = os.path.join(home, "node")
        if not os.path.exists(os.path.join(self.home, "installed")):
            os.makedirs(self.home, exist_ok=True)
            with open(os.path.join(self.home, "package.json"), "w") as file:
                json.dump({"private": True}, file)
            run("npm", "install", "--no-audit", "--no-fund", "bullmq", "ioredis", where=self.home)
            open(os.path.join(self.home, "installed"), "w").close()
        shutil.copyfile(os.path.join(scripts, "bullmq.js"), os.path.join(self.home, "bullmq.js"))
        with open(os.path.join(self.home, "node_modules", "bullmq", "package.json")) as file:
            self.name = f"BullMQ {json.load(file)['version']}"
        self.version = f"Node {run('node', '--version').strip()}"

    def script(self, *words):
        return "node", "bullmq.js", *map(str, words)

    def enqueue(self):
        return rates(run(*self.script("enq"), where=self.home))

    def process(self):
        run(*self.script("push", 20000), where=self.home)
        return rates(run(*self.script("worker", 20000, 64), where=self.home))["processed"]

    def pickup(self, count):
        with running(*self.script("latw", count), where=self.home) as worker:
            time.sleep(3)
            run(*self.script("latp", count, 100), where=self.home)
            return percentiles(ended(worker, 30))


class InPython:
    """What Celery and RQ have in common: the scripts' commands."""

    def __init__(self, home):
        self.home = os.path.join(home, "python")
        self.bin = os.path.join(self.home, "venv", "bin")
        if not os.path.exists(os.path.join(self.home, "installed")):
            os.makedirs(self.home, exist_ok=True)
            run(sys.executable, "-m", "venv", "--clear", os.path.join(self.home, "venv"))
            run(os.path.join(self.bin, "python"), "-m", "pip", "install", "--quiet", "celery[redis]", "rq")
            open(os.path.join(self.home, "installed"), "w").close()
        for name in "capp.py", "cbench.py", "rbench.py", "rjobs.py":
            shutil.copyfile(os.path.join(scripts, name), os.path.join(self.home, name))
        package = self.package
        version = f"from importlib.metadata import version; print(version({package!r}))"
        self.name = f"{self.title} {run(os.path.join(self.bin, 'python'), '-c', version).strip()}"
        self.version = None

    def command(self, *words):
        return os.path.join(self.bin, "python"), self.file, *map(str, words)

    def enqueue(self):
        return rates(run(*self.command("enq"), where=self.home))

    def process(self):
        run(*self.command("push", self.count), where=self.home)
        with running(*self.command("drain", self.count), where=self.home) as drain:
            time.sleep(1)  # it watches before anything is taken
            with running(*self.worker(), where=self.home):
                return rates(ended(drain))["drain"]

    def pickup(self, count):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(latencies)
        with running(*self.worker(), where=self.home):
            time.sleep(4)
            return percentiles(run(*self.command("latp", count), where=self.home))


class Celery(InPython):
    title, package, file, count = "Celery", "celery", "cbench.py", 3000

    def worker(self):
        # What it spares a single worker.
        spare = "--without-gossip", "--without-mingle", "--without-heartbeat"
        return os.path.join(self.bin, "celery"), "-A", "capp", "worker", "-P", "solo", "-c", "1", "-l", "WARNING", *spare


class Rq(InPython):
    title, package, file, count = "RQ", "rq", "rbench.py", 1500

    def worker(self):
        url = f"redis://127.0.0.1:{PORT}/2"
        return os.path.join(self.bin, "rq"), "worker", "-q", "-u", url, "-w", "rq.SimpleWorker", "d"


def peers():
    if not os.path.exists(os.path.join(scripts, "bullmq.js")):
        note(f"skipped: the others are measured by bullmq.js and more, which are not in {scripts}; name their folder with --peers")
        return []
    home = os.path.join(os.path.dirname(os.path.dirname(binary)), "queue-peers")
    if shutil.which("npm") is None:
        note("skipped: BullMQ needs node and npm")
        return [Celery(home), Rq(home)]
    return [BullMQ(home), Celery(home), Rq(home)]


ROWS = {"seq": "enqueued a second, one by one", "par32": "by 32 producers", "bulk": "by the thousand",
        "process": "no-op jobs processed a second, one process"}


@contextlib.contextmanager
def apart(redis):
    """Redis on one processor and all else on the others, where there are several. Where the scheduler puts the two decides over
    half of what calls one after the other reach, and it decides anew at any time."""
    if not hasattr(os, "sched_setaffinity") or len(there := os.sched_getaffinity(0)) < 2:
        yield
        return
    first = {min(there)}
    os.sched_setaffinity(redis.process.pid, first)
    os.sched_setaffinity(0, there - first)  # and who is started meanwhile
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)
        os.sched_setaffinity(redis.process.pid, there)


def throughput(redis, queues):
    figures = {queue.name: {row: [] for row in ROWS} for queue in queues}
    for number in range(rounds):
        note(f"throughput, round {number + 1} of {rounds}")
        for queue in queues:
            redis.flush()
            for row, rate in queue.enqueue().items():
                figures[queue.name][row].append(rate)
        for queue in queues:
            redis.flush()
            figures[queue.name]["process"].append(queue.process())
    redis.flush()
    raw = ours("raw", "--count", 100000, "--redis", redis.url)
    rows = []
    for row, title in ROWS.items():
        medians = [statistics.median(figures[queue.name][row]) if figures[queue.name][row] else None for queue in queues]
        best = max((rate for rate in medians[1:] if rate), default=None)
        ratio = f"{medians[0] / best:.2f}" if best else ""
        rows.append([title, *("" if rate is None else f"{rate:,.0f}" for rate in medians), ratio])
        bar(best is None or medians[0] > best, f"{title}: {ratio} of the best of the others")
    table(["", *(queue.name for queue in queues), "ours / best"], rows)
    print(f"\nRaw limit, scripts of two writes: {raw['connections_32']:,.0f} a second on 32 connections, "
          f"{raw['pipelined']:,.0f} in pipelines.")


def pickup(redis, queues):
    figures = {queue.name: [] for queue in queues}
    turns = min(rounds, LATENCY_ROUNDS)
    for number in range(turns):
        note(f"pick-up, round {number + 1} of {turns}")
        for queue in queues:
            redis.flush()
            figures[queue.name].append(queue.pickup(picked_up))
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    best = [min((medians[queue.name][index] for queue in queues[1:]), default=None) for index in range(2)]
    rows = []
    for index, name in enumerate(("p50", "p99")):
        ratio = f"{medians['ours'][index] / best[index]:.2f}" if best[index] else ""
        rows.append([f"idle pick-up, {name}", *(f"{medians[queue.name][index] / 1e3:.2f} ms" for queue in queues), ratio])
    table(["", *(queue.name for queue in queues), "ours / best"], rows)
    for value, most, name in zip(medians["ours"], (PICKUP_P50_US, PICKUP_P99_US), ("p50", "p99")):
        bar(value <= most, f"pick-up {name}: {value / 1e3:.2f} ms, at most {most / 1e3:.1f}")


def depth():
    with contextlib.ExitStack() as stack:
        empty, filled = Redis(stack, free_port()), Redis(stack, free_port())
        deeper = DEEPER_IN_ONE_HEAP if filled.has_one_heap() else DEEPER
        before = filled.memory()
        note(f"filling a queue with {deep:,} jobs")
        rate = json.loads(run(binary, "fill", "--count", str(deep), "--redis", filled.url, limit=600))["per_second"]
        size = (filled.memory() - before) / deep
        costs = {}
        for number in range(DEPTH_ROUNDS):
            note(f"depth, round {number + 1} of {DEPTH_ROUNDS}")
            # Who begins alternates.
            order = [empty, filled][::1 if number % 2 == 0 else -1]
            options = [option for redis in order for option in ("--redis", redis.url)]
            found = ours("scripts", "--count", 1000 if arguments.quick else CALLS, *options)["servers"]
            of = dict(zip((redis.url for redis in order), found))
            for script in of[empty.url]:
                costs.setdefault(script, []).append((of[empty.url][script], of[filled.url][script]))
    rows = []
    for script, pairs in costs.items():
        ratio = statistics.median(with_many / with_none for with_none, with_many in pairs)
        least, most = (limit(with_many / with_none for with_none, with_many in pairs) for limit in (min, max))
        rows.append([script, *(f"{statistics.median(column):.1f} µs" for column in zip(*pairs)), f"{ratio:.3f}",
                     f"{least:.2f} to {most:.2f}"])
        bar(ratio <= deeper, f"{script} with {deep:,} queued: {ratio:.3f} of its time with none, at most {deeper}")
    table(["Redis's time for each call", "nothing queued", f"{deep:,} queued", "ratio", "in the rounds"], rows)
    print(f"\nFilled at {rate:,.0f} jobs a second; {size:,.0f} bytes for each queued job.")
    if deeper > DEEPER:
        print(f"This server keeps Lua's memory among the data, so that ratios of {deeper} are let pass; with one that does not, {DEEPER}.")


def memory(redis):
    redis.flush()
    # Fills what is bounded: events, scripts, buffers.
    ours("finished", "--count", 10000, "--redis", redis.url)
    for keys in "result:*", "done:*":
        redis.remove("{bench}:3:" + keys)
    before = redis.memory()
    ours("finished", "--count", finished, "--request-bytes", 400, "--summary-bytes", 500, "--redis", redis.url)
    sizes = [redis.memory()]
    for keys in "result:*", "done:*":
        redis.remove("{bench}:3:" + keys)
        sizes.append(redis.memory())
    redis.flush()
    sizes = [(size - before) / finished for size in sizes]
    names = "all records", "without results", "an hour later, without fences"
    table([f"{finished:,} finished jobs, requests of 400 and summaries of 500 bytes", "bytes for each"],
          [[name, f"{size:,.0f}"] for name, size in zip(names, sizes)])
    bar(sizes[1] <= BYTES, f"a finished job without its result: {sizes[1]:,.0f} bytes, at most {BYTES:,}")


def main():
    with contextlib.ExitStack() as stack:
        queues = [Ours(None)] + (peers() if {"throughput", "pickup"} & set(parts) else [])
        redis = Redis(stack, PORT)
        queues[0].url = redis.url
        versions = [f"Redis {redis.info('redis_version')}", *(queue.version for queue in queues[1:] if queue.version),
                    f"Python {platform.python_version()}"]
        command = " ".join(["bench/queues.py", os.path.basename(binary), *sys.argv[2:]])
        print(f"`{command}` on {machine()}; {', '.join(versions)}.")
        if "throughput" in parts:
            with apart(redis):
                throughput(redis, queues)
        if "pickup" in parts:
            pickup(redis, queues)
        if "memory" in parts:
            memory(redis)
        if "depth" in parts:
            depth()
    close()


main()
