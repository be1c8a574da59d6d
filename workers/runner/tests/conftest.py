"""What the modules of tests share: the parent's side of the socket, which starts the real runner with the real Jesse and talks to it, and
the strategies, candles and arguments of what is run. `pytest tests` in an interpreter that has Jesse.
"""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
EXCHANGE, SYMBOL = "Binance Perpetual Futures", "BTC-USDT"
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
JANUARY_MS = 1_672_531_200_000  # 2023-01-01T00:00Z
LIMITS = {"cpu_s": 60, "memory_mb": 512, "file_mb": 8, "processes": 32}

CROSS = """
    import jesse.indicators as ta
    from jesse import utils
    from jesse.strategies import Strategy


    class Cross(Strategy):
        '''Follows two averages.

        More text.
        '''

        def hyperparameters(self):
            return [
                {"name": "fast", "type": int, "min": 5, "max": 50, "default": 20},
                {"name": "slow", "type": int, "min": 30, "max": 200, "step": 5, "default": 50},
                {"name": "share", "type": float, "min": 0.1, "max": 0.9, "default": 0.5},
                {"name": "side", "type": "categorical", "options": ["long", "both"], "default": "both"},
            ]

        @property
        def rising(self):
            return ta.sma(self.candles, self.hp["fast"]) > ta.sma(self.candles, self.hp["slow"])

        def should_long(self):
            return self.rising

        def should_short(self):
            return self.exchange_type == "futures" and not self.rising

        def should_cancel_entry(self):
            return True

        def go_long(self):
            self.buy = utils.size_to_qty(self.balance * self.hp["share"], self.price, fee_rate=self.fee_rate), self.price

        def go_short(self):
            self.sell = utils.size_to_qty(self.balance * self.hp["share"], self.price, fee_rate=self.fee_rate), self.price

        def update_position(self):
            if self.is_long != self.rising:
                self.liquidate()
"""

# A strategy that does what a test asks for on its first candle.
ACTING = """
    import os, resource, signal, sys, time
    import numpy as np
    from jesse.strategies import Strategy

    class Acting(Strategy):
        def before(self):
            {act}

        def should_long(self):
            return False

        def go_long(self):
            pass
"""

# Each starts processes or threads without end.
BOMBS = {
    "processes": "while True:\n    try: os.fork()\n    except OSError: pass",
    "daemons": """
        while True:
            if os.fork() == 0:
                os.setsid()
                if os.fork(): os._exit(0)
                time.sleep(30)
    """,
    # Their stacks count as memory, so that most of the attempts fail.
    "threads": """
        import threading
        while True:
            try: threading.Thread(target=time.sleep, args=(30,)).start()
            except RuntimeError: pass
    """,
}


class Task:
    """What the parent has heard about one task."""

    def __init__(self, name, scratch):
        self.id, self.scratch = name, scratch
        self.frames, self.body, self.exited = [], None, None
        self.connected, self.closed, self.ended = (threading.Event() for _ in range(3))

    @property
    def pid(self):
        return self.frames[0]["pid"]

    @property
    def last(self):
        return self.frames[-1]

    @property
    def progress(self):
        return [frame for frame in self.frames if frame["type"] == "progress"]

    def wait(self, timeout=60):
        assert self.ended.wait(timeout), f"no end; heard {self.frames}"
        if self.connected.is_set():
            assert self.closed.wait(timeout), "connection left open"
        return self


class Parent:
    def __init__(self, environment=None, arguments=(), prefix=()):
        self.folder = tempfile.mkdtemp(prefix="runner-test-")
        self.path = f"{self.folder}/socket"
        self.tasks, self.refused, self._count = {}, [], 0
        self._ready = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "runner", self.path, *arguments],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_PARENT), **(environment or {})},
            cwd=self.folder,
            stdout=subprocess.PIPE,
        )
        threading.Thread(target=self._accept, daemon=True).start()
        assert self._ready.wait(60), "the runner is not ready"

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection):
        stream, task = connection.makefile("rb"), None
        for kind, payload in frames(stream):
            if kind == b"B":
                task.body = payload
                continue
            message = json.loads(payload)
            if message["type"] == "ready":
                self.ready, self.control = message, connection
                self._ready.set()
            elif message["type"] == "refused":
                self.refused.append(message)
            elif message["type"] == "exited":
                assert self.tasks[message["id"]].exited is None
                self.tasks[message["id"]].exited = message
                self.tasks[message["id"]].ended.set()
            else:
                if message["type"] == "hello":
                    task = self.tasks[message["id"]]
                    task.connected.set()
                task.frames.append(message)
        if task is not None:
            task.closed.set()

    def send(self, message):
        payload = b"J" + json.dumps(message).encode()
        self.control.sendall(struct.pack(">I", len(payload)) + payload)

    def fork(self, task, args, limits=None):
        self._count += 1
        name = f"{task}-{self._count}"
        scratch = f"{self.folder}/{name}"
        os.mkdir(scratch)
        self.tasks[name] = started = Task(name, scratch)
        limits = {**LIMITS, **(limits or {})}
        self.send({"type": "fork", "task": task, "id": name, "scratch": scratch, "limits": limits, "args": args})
        return started

    def run(self, task, args, limits=None):
        return self.fork(task, args, limits).wait()

    def close(self):
        if self.process.poll() is None:
            self.control.shutdown(socket.SHUT_RDWR)
            self.process.wait(10)
        self._listener.close()
        shutil.rmtree(self.folder)


def frames(stream):
    while header := stream.read(4):
        (length,) = struct.unpack(">I", header)
        data = stream.read(length)
        yield data[:1], data[1:]


def candles(seed, rows, start_ms=JANUARY_MS):
    rng = np.random.default_rng(seed)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.0007, rows)))
    open_ = np.concatenate([[20_000], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.0002, rows)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.0002, rows)))
    return np.column_stack([start_ms + MINUTE_MS * np.arange(rows), open_, close, high, low, rng.lognormal(1, 1, rows)])


def project(folder, **strategies):
    """A bundle with the given strategies; returns its path."""
    for name, source in strategies.items():
        write(folder, {f"strategies/{name}/__init__.py": source})
    return str(folder)


def acting(folder, act):
    code = textwrap.indent(textwrap.dedent(act), " " * 8).strip()
    return project(folder, Acting=textwrap.dedent(ACTING).format(act=code))


def write(folder, files):
    for path, source in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(source))


def spec(bundle, files, strategy=None, days=20, exchange=EXCHANGE, kind="futures", **changes):
    """The arguments of a run, of the bundle's only strategy unless another is named."""
    strategy = strategy or os.listdir(f"{bundle}/strategies")[0]
    start = JANUARY_MS + 20 * DAY_MS
    return {
        "bundle": bundle,
        "config": {
            "starting_balance": 10_000, "fee": 0.0006, "type": kind, "futures_leverage": 2, "futures_leverage_mode": "cross",
            "exchange": exchange, "warm_up_candles": 240, "annualization": 365,
        },
        "routes": [{"exchange": exchange, "strategy": strategy, "symbol": SYMBOL, "timeframe": "1h"}],
        "data_routes": [],
        "series": [{"exchange": exchange, "symbol": SYMBOL, "files": files}],
        "warmup_start_ms": start - 240 * HOUR_MS,
        "start_ms": start,
        "finish_ms": start + days * DAY_MS,
        "hyperparameters": None,
        "fast_mode": True,
        "benchmark": False,
        "seed": 0,
        **changes,
    }


def error(task, code):
    assert task.last["type"] == "error", task.frames
    assert task.last["code"] == code, task.last
    assert (task.exited["status"], task.exited["signal"], task.exited["cause"]) == (0, None, None)
    return task.last


def eventually(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not become true"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    # It may go between the opening and the reading.
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def parent():
    parent = Parent({
        "EXAMPLE_PASSWORD": "secret", "REDIS_URL": "redis://", "AWS_ACCESS_KEY_ID": "AKID", "PGPASSWORD": "secret",
    })
    yield parent
    parent.close()


@pytest.fixture(scope="session")
def months():
    """Three months of one symbol, in a file each. Not among the folders of tests, of which tasks see only what they need."""
    with tempfile.TemporaryDirectory(prefix="runner-candles-") as folder:
        yield write_months(Path(folder))


def write_months(folder):
    rows, first, paths = candles(1, 90 * 1440), 0, []
    for number, days in enumerate((31, 28, 31)):
        paths.append(str(folder / f"{number}.npy"))
        np.save(paths[-1], rows[first : first + days * 1440])
        first += days * 1440
    return paths


@pytest.fixture
def cross(tmp_path):
    return project(tmp_path, Cross=CROSS)
