"""Ten thousand events through webhooks while everything that can die does, and looks whether each arrived.

usage: webhooks.py JESSE_JOBS QUEUE_BENCH [--count N] [--seed N]

First with a healthy receiver beside a dead one: 99 of 100 first attempts must begin within a second of the job's end. Then with
a receiver that fails at random (500, no answer, a connection that is cut), while delivery workers are killed with SIGKILL and Redis is
restarted: every event must arrive at least once, signed so that the `standardwebhooks` package of PyPI takes it
(`scripts/webhook-judges` gets it). Everything is on 127.0.0.1.
"""
import argparse
import datetime
import http.client
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from servers import free_port

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
NAME = "bench"  # of the queue that queue-bench uses
LIMIT_S = 900
BAR_S = 1.0

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("jesse_jobs")
arguments.add_argument("queue_bench")
arguments.add_argument("--count", type=int, default=10_000)
arguments.add_argument("--seed", type=int, default=int(time.time()))
arguments = arguments.parse_args()
judges = subprocess.run([os.path.join(ROOT, "scripts/webhook-judges")], env=dict(os.environ, JESSE_PYTHON=sys.executable),
                        check=True, capture_output=True, text=True).stdout.strip()
sys.path.insert(0, os.path.join(judges, "python"))
from standardwebhooks import Webhook  # noqa: E402  (it is there only now)

chance = random.Random(arguments.seed)
processes = []


class Receiver(http.server.ThreadingHTTPServer):
    """Remembers when which message came, and whether it was signed."""
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, failing):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failing, self.secret, self.lock = failing, None, threading.Lock()
        self.first, self.taken, self.attempts, self.forged = {}, set(), 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request, client_address):
        """Connections of workers that were killed break; anything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        came, body = time.time(), self.rfile.read(int(self.headers["content-length"]))
        message, server = self.headers["webhook-id"], self.server
        try:
            Webhook(server.secret).verify(body, dict(self.headers.items()))
            signed = True
        except Exception:
            signed = False
        ended = datetime.datetime.fromisoformat(json.loads(body)["timestamp"].replace("Z", "+00:00")).timestamp()
        with server.lock:
            server.attempts += 1
            server.forged += not signed
            server.first.setdefault(message, came - ended)
            fate = chance.random() if server.failing else 1
        if fate < 0.002:
            time.sleep(3)  # longer than an attempt may take
        elif fate < 0.05:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()  # with a reset
            self.close_connection = True
            return
        status = 500 if 0.05 <= fate < 0.3 else 204
        try:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()
        except OSError:
            return
        if status == 204 and fate >= 0.002:
            with server.lock:
                server.taken.add(message)

    def log_message(self, *_):
        pass


def spawn(*command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=dict(os.environ, LOG_LEVEL="error"))
    processes.append(process)
    return process


def until(condition, what, limit=LIMIT_S):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


class Deployment:
    """A Redis, an API instance, and three delivery workers."""

    def __init__(self, folder):
        self.folder, self.socket = folder, os.path.join(folder, "redis.sock")
        self.url = f"redis+unix://{self.socket}"
        self.start_redis()
        self.port = free_port()
        shared = "--redis-url", self.url, "--name", NAME, "--data", folder, "--webhook-allow", "127.0.0.1"
        spawn(arguments.jesse_jobs, "serve", "--listen", f"127.0.0.1:{self.port}", *shared)
        until(lambda: self.call("GET", "/health/live", fails=True) is not None, "the API serves", 30)
        self.worker = (arguments.jesse_jobs, "worker", "--webhooks", "only", *shared, "--webhook-timeout", "1",
                       "--webhook-schedule", ",".join(["0.2"] * 4 + ["1"] * 20))
        self.workers = [spawn(*self.worker) for _ in range(3)]

    def start_redis(self):
        program = "redis-server"
        self.redis = spawn(program, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--appendonly", "yes", "--save", "")
        until(lambda: os.path.exists(self.socket), "Redis is there", 30)

    def restart_redis(self):
        self.redis.terminate()
        self.redis.wait()
        until(lambda: not os.path.exists(self.socket), "Redis is gone", 30)
        self.start_redis()

    def kill_a_worker(self):
        index = chance.randrange(len(self.workers))
        self.workers[index].send_signal(signal.SIGKILL)
        self.workers[index].wait()
        self.workers[index] = spawn(*self.worker)

    def call(self, method, path, body=None, fails=False):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            text = connection.getresponse().read()
            return json.loads(text) if text.startswith((b"{", b"[")) else text
        except OSError:
            if fails:
                return None
            raise

    def endpoint(self, receiver_url):
        made = self.call("POST", "/v1/webhooks", {"url": receiver_url})
        return made["id"], made["secret"]

    def jobs(self):
        found, cursor = set(), ""
        while cursor is not None:
            page = self.call("GET", f"/v1/jobs?limit=100{cursor and '&cursor=' + cursor}")
            found |= {"msg_" + job["job_id"] for job in page["jobs"]}
            cursor = page["next_cursor"]
        return found


def finish(url, count):
    return subprocess.Popen([arguments.queue_bench, "finished", "--redis", url, "--count", str(count)], stdout=subprocess.DEVNULL)


def healthy(deployment):
    receiver = Receiver(failing=False)
    endpoint, receiver.secret = deployment.endpoint(receiver.url)
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(512)
        dead, _ = deployment.endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        for _ in range(20):
            assert finish(deployment.url, 50).wait(60) == 0
            time.sleep(0.2)
        until(lambda: len(receiver.taken) == 1000, "all have come to the healthy receiver", 60)
        deployment.call("DELETE", f"/v1/webhooks/{dead}")
    deployment.call("DELETE", f"/v1/webhooks/{endpoint}")
    lags = sorted(receiver.first.values())
    p50, p99 = lags[len(lags) // 2], lags[len(lags) * 99 // 100]
    print(f"healthy, beside a dead one: 1000 events; from job end to first attempt p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")
    assert not receiver.forged and p99 <= BAR_S, (receiver.forged, p99)
    return set(receiver.taken)


def chaos(deployment, before):
    receiver = Receiver(failing=True)
    _, receiver.secret = deployment.endpoint(receiver.url)
    begin, kills = time.monotonic(), 0
    for part in range(5):
        finishing = finish(deployment.url, arguments.count // 5)
        while finishing.poll() is None:
            time.sleep(chance.uniform(0.05, 0.3))
            deployment.kill_a_worker()
            kills += 1
        assert finishing.returncode == 0
        if part == 2:
            deployment.restart_redis()
        for _ in range(3):
            time.sleep(chance.uniform(0.2, 1))
            deployment.kill_a_worker()
            kills += 1
    expected = deployment.jobs() - before
    assert len(expected) == arguments.count // 5 * 5, len(expected)
    until(lambda: receiver.taken >= expected, "all have come")
    took = time.monotonic() - begin
    print(f"failing at random: {len(expected)} events, {receiver.attempts} attempts, {kills} workers killed, Redis restarted: all taken "
          f"in {took:.0f} s, {receiver.forged} badly signed")
    assert not receiver.forged and receiver.taken == expected, receiver.taken - expected


def main():
    print(f"webhooks (seed {arguments.seed})", flush=True)
    with tempfile.TemporaryDirectory(prefix="webhooks-") as folder:
        try:
            deployment = Deployment(folder)
            chaos(deployment, healthy(deployment))
        finally:
            for process in reversed(processes):
                if process.poll() is None:
                    process.kill()
                    process.wait()


main()
