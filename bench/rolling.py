"""Restarts every API instance, every worker and Redis, over and over, under load: no client that follows Retry-After may notice.

usage: rolling.py BINARY [--seconds 180] [--rate 200] [--apis 3] [--workers 4]

Plain processes behind Debian's haproxy, with the configuration that is shipped. Prints what was sent and what was answered, and fails if
a request failed, a job was lost, or one was computed twice. Needs haproxy, socat, openssl and redis-server (`scripts/setup tests`).
"""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--seconds", type=int, default=180)
arguments.add_argument("--rate", type=int, default=200)
arguments.add_argument("--apis", type=int, default=3)
arguments.add_argument("--workers", type=int, default=4)
arguments = arguments.parse_args()
os.environ["JESSE_JOBS_BINARY"] = arguments.binary
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy/tests"))

from load import Load, check  # noqa: E402
from stack import Stack  # noqa: E402


def blows(stack):
    """One round: everything once, the instances both ways."""
    for index in range(arguments.apis):
        yield f"api {index + 1} drained and restarted", lambda index=index: stack.restart_api(index)
    for index in range(arguments.workers):
        yield f"worker {index + 1} restarted", lambda index=index: stack.restart_worker(index)
    yield "redis restarted", stack.restart_redis
    for index in range(arguments.apis):
        yield f"api {index + 1} restarted without draining", lambda index=index: stack.replace_api(index)


with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
    stack = Stack(Path(folder), apis=arguments.apis, workers=arguments.workers)
    try:
        begin, done = time.monotonic(), 0
        with Load(stack, arguments.rate) as load:
            while time.monotonic() - begin < arguments.seconds:
                for what, blow in blows(stack):
                    time.sleep(2)
                    blow()
                    done += 1
                    print(f"{time.monotonic() - begin:6.1f} s  {what}; {load.number} requests so far", flush=True)
        seconds = time.monotonic() - begin
        print(load.table())
        print(f"{load.number} requests in {seconds:.0f} s ({load.number / seconds:.0f} a second), {done} restarts, "
              f"the slowest answered after {load.slowest:.1f} s, {len(load.noticed)} noticed")
        counted = check(stack, load)
        print(f"{len(load.acknowledged)} jobs acknowledged and ended well; claims {counted['claims']}, handed back "
              f"{counted.get('interruptions', 0)}, stalls {counted.get('stalls', 0)}, late results {counted.get('late_results', 0)}")
    finally:
        stack.close()
