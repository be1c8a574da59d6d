"""Schemathesis on the served OpenAPI document, for ten minutes: whatever is sent, the server answers as the document says.

usage: openapi.py BINARY [--minutes N]

Three deployments share the time: most goes to one that wants a key, with that key; then the same without it, and one that has no
keys. The checks are those of tests/openapi/schemathesis.toml (`scripts/clients` gets the program). Ends with 1 when anything is found,
or when the server or its Redis has grown beyond the bars. Everything is on 127.0.0.1; the data go with the run.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile

from deployment import generate, up

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
KEY = "an-operator-s-key-for-schemathesis-0123456789"
# Waits are cut to a second; a tenant can have only so many jobs and results.
BOUNDED = ["--request-timeout", "1", "--max-open", "200", "--cache-max-bytes", str(64 << 20), "--grace", "1"]
SERVER_MB, REDIS_MB, BLOBS_MB = 400, 300, 200

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--minutes", type=float, default=10)
arguments = arguments.parse_args()
binary = os.path.abspath(arguments.binary)
subprocess.run([os.path.join(ROOT, "scripts/clients")], env=dict(os.environ, JESSE_PYTHON=sys.executable), check=True)
schemathesis = os.path.abspath(os.path.join(ROOT, "target/clients/openapi/bin/st"))
missed = 0


def bar(holds, text):
    global missed
    missed += not holds
    print(f"{'ok  ' if holds else 'MISS'} {text}", flush=True)


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def folder_mb(folder):
    found = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                found += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                pass
    return found / 2**20


def run(address, seconds, *more):
    """Sends for so long; answers whether nothing was found."""
    command = [schemathesis, "--no-color", "--config-file", os.path.abspath(os.path.join(ROOT, "tests/openapi/schemathesis.toml")), "run",
               "--max-time", str(int(seconds)), "--continue-on-failure", "--warnings", "off", *more, f"http://{address}/openapi.json"]
    with tempfile.TemporaryDirectory(prefix="schemathesis-") as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-20_000:], done.stderr[-2_000:])
    return done.returncode == 0


def deployment(keyed, runs):
    with tempfile.TemporaryDirectory(prefix="openapi-") as data:
        generate(binary, data)
        more = []
        if keyed:
            file = os.path.join(data, "admin-key")
            with open(file, "w") as out:
                out.write(KEY)
            more = ["--admin-key-file", file]
        server, address = up(binary, data, *more, *BOUNDED)
        try:
            for minutes, what, options in runs:
                bar(run(address, minutes * 60, *options), f"{minutes:.1f} minutes {what}: nothing found")
            grown = resident_mb(server.pid)
            bar(grown <= SERVER_MB, f"the server has {grown:.0f} MB (at most {SERVER_MB})")
            socket = os.path.join(data, "redis", "redis.sock")
            info = subprocess.run(["redis-cli", "-s", socket, "info", "memory"], capture_output=True, text=True, check=True).stdout
            used = int(re.search(r"used_memory:(\d+)", info)[1]) / 2**20
            bar(used <= REDIS_MB, f"Redis has {used:.0f} MB (at most {REDIS_MB})")
            blobs = folder_mb(os.path.join(data, "blobs"))
            bar(blobs <= BLOBS_MB, f"the blobs have {blobs:.0f} MB (at most {BLOBS_MB})")
        finally:
            server.send_signal(signal.SIGTERM)
            bar(server.wait(60) == 0, "the server stops as asked")


total = arguments.minutes
deployment(True, [
    (total * 0.7, "with a key", ["--header", f"Authorization: Bearer {KEY}"]),
    (total * 0.1, "without one that is needed", []),
])
deployment(False, [(total * 0.2, "where none is needed", [])])
sys.exit(1 if missed else 0)
