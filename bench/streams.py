"""What 10,000 open long polls and event streams cost one API instance, and how fast it answers an ordinary call meanwhile.

usage: streams.py BINARY [--count N]

Each follows a job of its own, which waits in a paused queue: half by `?wait=`, half by server-sent events. Prints a table and ends with 1 when
a bar is missed. Bounded: about two minutes.
"""
import argparse
import asyncio
import http.client
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from deployment import EXCHANGE, SYMBOL, environment, generate, up
from servers import free_port

CALLS = 3000
BYTES_EACH, P99_MS = 20 * 1024, 20

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--count", type=int, default=10_000)
arguments = arguments.parse_args()
binary = os.path.abspath(arguments.binary)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if limit < arguments.count + 200:
    sys.exit(f"{arguments.count} connections need more open files than the {limit} that are allowed here (ulimit -Hn)")
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

data = tempfile.TemporaryDirectory(prefix="streams-")
generate(binary, data.name)
worker, _ = up(binary, data.name, "--grace", "0")
unix = os.path.join(data.name, "redis", "redis.sock")
# An instance of its own, which does nothing but answer.
host, port = "127.0.0.1", free_port()
address = f"{host}:{port}"
api = subprocess.Popen([binary, "serve", "--listen", address, "--data", data.name, "--redis-url", f"redis+unix://{unix}"], env=environment())


def redis(*command):
    return subprocess.run(["redis-cli", "-s", unix, *command], capture_output=True, text=True, check=True).stdout


def memory():
    with open(f"/proc/{api.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) * 1024


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def ordinary(connection, jobs):
    """Milliseconds that reading a job takes, at two hundred calls a second."""
    took = []
    for number in range(CALLS):
        begin = time.perf_counter()
        call(connection, "GET", f"/v1/jobs/{jobs[number % len(jobs)]}")
        took.append((time.perf_counter() - begin) * 1e3)
        time.sleep(max(0, 0.005 - (time.perf_counter() - begin)))
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


async def open_one(path):
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
    return reader, writer


async def open_all(jobs):
    opened = []
    for number, job in enumerate(jobs):
        events = number % 2 == 0
        opened.append(await open_one(f"/v1/jobs/{job}/events" if events else f"/v1/jobs/{job}?wait=280"))
        if events:
            # It has been answered, with the job as it stands.
            await opened[-1][0].readuntil(b"event: job")
    return opened


def connected():
    for _ in range(600):
        connection = http.client.HTTPConnection(address)
        try:
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            return connection
        except OSError:
            assert api.poll() is None, "the API instance has ended"
            time.sleep(0.05)
    raise TimeoutError("the API instance does not answer")


async def main():
    connection = connected()
    call(connection, "POST", "/v1/queue/pause", {})
    base = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": "2023-02-01",
            "finish_date": "2023-03-01"}
    body = {"base": base, "jobs": [{"balance": 10_000 + number} for number in range(arguments.count)]}
    batch = call(connection, "POST", "/v1/batches", body)["job_id"]
    jobs, cursor = [], 0
    while len(jobs) < arguments.count:
        page = call(connection, "GET", f"/v1/batches/{batch}/jobs?cursor={cursor}&limit=100")["jobs"]
        jobs += [job["job_id"] for job in page]
        cursor = len(jobs)
        await asyncio.sleep(0 if page else 0.05)
    alone = await asyncio.to_thread(ordinary, connection, jobs)
    before = memory()
    opened = await open_all(jobs)
    await asyncio.sleep(3)
    each = (memory() - before) / len(opened)
    spent, begin = cpu(api.pid), time.perf_counter()
    beside = await asyncio.to_thread(ordinary, connection, jobs)
    busy = (cpu(api.pid) - spent) / (time.perf_counter() - begin)
    own = re.findall(r"^.*\bcmd=xread\b.*$", redis("CLIENT", "LIST"), re.MULTILINE)
    call(connection, "POST", f"/v1/batches/{batch}/cancel", {})
    begin = time.perf_counter()
    for number, (reader, _) in enumerate(opened):
        await reader.readuntil(b"event: end" if number % 2 == 0 else b'"state":"cancelled"')
    told = time.perf_counter() - begin
    print(f"""
| {arguments.count:,} open, half long polls, half event streams | | bar |
|---|---|---|
| memory of the instance, for each | {each / 1024:.1f} KB | {BYTES_EACH // 1024} KB |
| an ordinary call meanwhile, p50 / p99 | {beside[0]:.2f} / {beside[1]:.2f} ms | p99 {P99_MS} ms |
| the same without them | {alone[0]:.2f} / {alone[1]:.2f} ms | |
| processor of the instance meanwhile, 200 calls a second among it | {busy:.0%} of a core | |
| all are cancelled: from the answer to the last that is told | {told:.2f} s | |
| connections that read events or wake-ups of Redis, of both processes | {len(own)} | |
""")
    return each <= BYTES_EACH and beside[1] <= P99_MS


try:
    sys.exit(0 if asyncio.run(main()) else 1)
finally:
    for process in (api, worker):
        process.send_signal(signal.SIGTERM)
    for process in (api, worker):
        process.wait(60)
    data.cleanup()
