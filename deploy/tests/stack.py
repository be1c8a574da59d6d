"""The deployment as plain processes on loopback: Redis with the configuration and users that are shipped, API instances and workers,
and HAProxy with the file that is shipped. Whatever was started here is ended by `Stack.close`, by its process id."""
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
LIMIT_S = 120
"""The longest that anything here is waited for; the machine may be busy."""

_taken: set[int] = set()


def binary() -> str:
    return os.path.abspath(os.environ.get("JESSE_JOBS_BINARY", ROOT / "target/debug/jesse-jobs"))


def python() -> str:
    return os.environ.get("JESSE_PYTHON", sys.executable)


def free_port() -> int:
    """A port that nobody listens on, and that this process has not been given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _taken:
            _taken.add(port)
            return port


def until(what, condition, limit=LIMIT_S):
    """What `condition` answers as soon as it is true."""
    end = time.monotonic() + limit
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.05)
    return answer


def answers(port) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def stop(process, how=signal.SIGTERM):
    """Asks it to end, and waits until it has."""
    if process.poll() is None:
        process.send_signal(how)
    return process.wait(LIMIT_S)


def get(port, path, timeout=30):
    """Status and body of a plain request to an instance on loopback; (0, b"") if nobody answers."""
    connection = http.client.HTTPConnection("localhost", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


class Redis:
    """redis-server as deploy/redis/redis.conf and the users of deploy/secrets make it."""

    def __init__(self, folder: Path, secrets: Path, name="redis", maxmemory="512mb"):
        self.folder, self.secrets, self.port, self.maxmemory = folder / name, secrets, free_port(), maxmemory
        self.folder.mkdir(exist_ok=True)
        password = (secrets / "redis_password").read_text()
        self.url = f"redis://jesse-jobs:{password}@127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        command = ["redis-server", DEPLOY / "redis/redis.conf", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
                   "--aclfile", self.secrets / "redis_acl", "--maxmemory", self.maxmemory]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        until("Redis answers", lambda: "PONG" in self.cli("ping"))

    def cli(self, *command, user="jesse-jobs"):
        secret = "redis_password" if user == "jesse-jobs" else "backup_password"
        environment = dict(os.environ, REDISCLI_AUTH=(self.secrets / secret).read_text())
        full = ["redis-cli", "-p", str(self.port), "--user", user, *command]
        return subprocess.run(full, env=environment, capture_output=True, text=True, timeout=LIMIT_S).stdout


class Stack:
    """`apis` and `workers` processes on one Redis, with HAProxy in front. `settings` are variables of the processes."""

    def __init__(self, folder: Path, apis=2, workers=2, slots=2, haproxy=True, worker_metrics=False, settings=None, maxmemory="512mb",
                 proxy_config=DEPLOY / "haproxy/haproxy.cfg"):
        self.folder, self.slots, self.worker_metrics, self.worker_ports = folder, slots, worker_metrics, []
        self.settings, self.proxy_config = settings or {}, proxy_config
        self.secrets = folder / "secrets"
        subprocess.run([DEPLOY / "secrets", self.secrets], check=True, stdout=subprocess.DEVNULL)
        self.data = folder / "data"
        self.apis, self.workers, self.ports, self.proxy = [], [], [], None
        self.redis = Redis(folder, self.secrets, maxmemory=maxmemory)
        try:
            self.ports = [free_port() for _ in range(apis)]
            self.workers = [self.start_worker() for _ in range(workers)]
            self.apis = [self.start_api(port) for port in self.ports]
            if haproxy:
                self.start_haproxy()
            until("every instance is ready", lambda: all(self.is_ready(port) for port in self.ports))
            if haproxy:
                until("HAProxy has found every instance", lambda: self.proxy_states() == ["UP"] * apis)
        except BaseException:
            self.close()
            raise

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        return kept | {"REDIS_URL": self.redis.url, "JESSE_JOBS_DATA": str(self.data), "LOG_LEVEL": "warn", "JESSE_PYTHON": python(),
                       "JESSE_PROJECT": str(ROOT / "demo/project"), "JESSE_JOBS_GRACE": "10"} | self.settings | more

    def log(self, name):
        return open(self.folder / name, "ab")

    def start_api(self, port):
        command = [binary(), "serve", "--listen", f"127.0.0.1:{port}"]
        # The same variables serve a worker; `serve` ignores those it does not know.
        with self.log(f"api-{port}.log") as log:
            return subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, cwd=self.folder)

    def start_worker(self):
        command = [binary(), "worker", "--workers", str(self.slots)]
        if self.worker_metrics:
            self.worker_ports.append(free_port())
            command += ["--metrics-listen", f"127.0.0.1:{self.worker_ports[-1]}"]
        with self.log("workers.log") as log:
            return subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, cwd=self.folder)

    def start_haproxy(self):
        self.https, self.http, self.stats, self.metrics = (free_port() for _ in range(4))
        # Paths of Unix sockets are short; a test's folder may not be.
        self.admin = f"/tmp/jj-{os.getpid()}-{self.https}.sock"
        own = {f"API_{number}": f"127.0.0.1:{port}" for number, port in enumerate(self.ports, 1)}
        own |= {"BIND_HTTPS": f"127.0.0.1:{self.https}", "BIND_HTTP": f"127.0.0.1:{self.http}", "BIND_STATS": f"127.0.0.1:{self.stats}",
                "BIND_METRICS": f"127.0.0.1:{self.metrics}", "CERTIFICATE": str(self.secrets / "certificate.pem"),
                "ADMIN_SOCKET": self.admin, "MAXCONN": "1000", "SOURCE_REQUESTS": os.environ.get("SOURCE_REQUESTS", "100000")}
        self.proxy_environment = self.environment(**own)
        with self.log("haproxy.log") as log:
            self.proxy = subprocess.Popen(["haproxy", "-W", "-db", "-f", str(self.proxy_config)],
                                          env=self.proxy_environment, stdout=log, stderr=log)
        until("HAProxy listens or has ended", lambda: answers(self.https) or self.proxy.poll() is not None)
        assert self.proxy.poll() is None, (self.folder / "haproxy.log").read_text()

    def is_ready(self, port):
        return get(port, "/health/ready")[0] == 200

    def proxy_states(self):
        """Of each server: UP, DOWN, DRAIN ..."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.admin)
            admin.sendall(b"show stat api 4 -1\n")
            text = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        return [row.split(",")[17].split(" ")[0] for row in text.splitlines() if row.startswith("api,")]

    def instance(self, *command):
        """deploy/haproxy/instance"""
        subprocess.run([DEPLOY / "haproxy/instance", *command], env=self.proxy_environment, check=True, timeout=LIMIT_S)

    def client(self, timeout=60):
        """A connection through HAProxy, which checks the certificate."""
        trust = ssl.create_default_context(cafile=str(self.secrets / "certificate.pem"))
        return http.client.HTTPSConnection("localhost", self.https, timeout=timeout, context=trust)

    def direct(self, index, timeout=60):
        """A connection to one instance, as a program on its machine has."""
        return http.client.HTTPConnection("127.0.0.1", self.ports[index], timeout=timeout)

    def counters(self):
        """What the deployment has counted in Redis: claims, stalls, submitted ..., as /metrics of any instance says it."""
        lines = [line for line in self.exposition(self.ports[0]).splitlines() if line.startswith("jesse_jobs_events_total{")]
        return {line.split('"')[1]: int(line.rpartition(" ")[2]) for line in lines}

    def exposition(self, port):
        status, text = get(port, "/metrics")
        assert status == 200, text
        return text.decode()

    # What an operator does.

    def restart_api(self, index):
        """As docs/operations.md says: drain, stop, start, put back."""
        self.instance("drain", f"api{index + 1}")
        stop(self.apis[index])
        self.apis[index] = self.start_api(self.ports[index])
        self.instance("ready", f"api{index + 1}")

    def replace_api(self, index):
        """Without draining, as a crash of the machine's service manager would."""
        stop(self.apis[index])
        self.apis[index] = self.start_api(self.ports[index])
        until("the instance is back", lambda: self.is_ready(self.ports[index]))

    def restart_worker(self, index):
        stop(self.workers[index])
        self.workers[index] = self.start_worker()

    def restart_redis(self):
        stop(self.redis.process)
        self.redis.start()

    def close(self):
        for process in [self.proxy, *self.apis, *self.workers, self.redis.process]:
            if process is not None:
                try:
                    stop(process)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self.proxy is not None and os.path.exists(self.admin):
            os.unlink(self.admin)


def analysis(number):
    """A job that takes a millisecond and differs from all with another number."""
    returns = [round(((number * 7919 + day * 104729) % 2003 - 1000) / 50000, 6) for day in range(20)]
    return {"kind": "var_calculation", "spec": {"returns": [number * 1e-9, *returns], "period": "1D"}}


def post(connection, path, body, headers=None):
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"} | (headers or {}))
    answer = connection.getresponse()
    return answer, answer.read()
