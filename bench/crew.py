"""Who plays in chaos.py: the queue's Redis, a proxy before it, a reader of its events, and workers that are killed and replaced."""
import asyncio
import collections
import contextlib
import glob
import os
import signal
import subprocess
import tempfile
import threading
import time

from resp import Connection
from servers import free_port, redis_program
from stage import kill, until

PREFIX = "{bench}:3:"
LEASE_S = 10
STATES = "succeeded", "failed", "cancelled", "dead", "expired"


class Redis:
    """A server of our own that can be restarted."""

    def __init__(self, stage, fsync="everysec"):
        self.stage, self.port, self.fsync = stage, free_port(), fsync
        self.data = tempfile.mkdtemp(dir=stage.folder)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.local = threading.local()
        self.start()

    def start(self):
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.data, "save": "", "appendonly": "yes",
                   "appendfsync": self.fsync, "loglevel": "warning", "logfile": "redis.log"}
        self.process = self.stage.spawn(redis_program(), *(word for name, value in options.items() for word in (f"--{name}", value)))
        until(self.is_there, 20, "Redis is there")

    def is_there(self):
        with contextlib.suppress(OSError, RuntimeError):
            return self.call("PING") == b"PONG"
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def call(self, *words):
        return self.calls([words])[0]

    def calls(self, commands):
        """Many commands in one round trip, on a connection for each thread."""
        try:
            if getattr(self.local, "connection", None) is None:
                self.local.connection = Connection(self.port, 20)
            return self.local.connection.calls(commands)
        except OSError:
            self.local.connection = None
            raise

    def number(self, *words):
        return int(self.call(*words) or 0)

    def keys(self, pattern="*"):
        cursor, found = b"0", set()
        while True:
            cursor, keys = self.call("SCAN", cursor.decode(), "MATCH", PREFIX + pattern, "COUNT", 5000)
            found.update(key.decode().removeprefix(PREFIX) for key in keys)
            if cursor == b"0":
                return sorted(found)

    def counters(self):
        pairs = iter(self.call("HGETALL", PREFIX + "stats"))
        return collections.Counter({name.decode(): int(value) for name, value in zip(pairs, pairs)})

    def is_idle(self):
        """Whether all jobs have ended, and whatever else was to be done is done."""
        try:
            sets = [("ZCARD", PREFIX + name) for name in ("leases", "delayed", "settling", "opening", "closing", "alone", "newer")]
            tenants = [("HGET", PREFIX + key, "open") for key in self.keys("tenant:*")]
            return all(int(answer or 0) == 0 for answer in self.calls([*sets, *tenants, ("HGET", PREFIX + "sched", "ready")]))
        except OSError:
            return False


class Proxy:
    """Carries connections to a Redis, and cuts them."""

    def __init__(self, redis):
        self.upstream, self.transports = redis.port, set()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)
        self.url = "redis://127.0.0.1:%d/0" % self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        both = {writer.transport, other_writer.transport}
        self.transports |= both
        await asyncio.gather(self.pump(reader, other_writer), self.pump(other_reader, writer))
        self.transports -= both

    @staticmethod
    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        # What was read was written before: only a cut loses answers.
        writer.close()

    def cut(self):
        self.loop.call_soon_threadsafe(lambda: [transport.abort() for transport in list(self.transports)])


class Follower(threading.Thread):
    """Reads all events, of which Redis keeps only the last ones."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.redis, self.last, self.stop = redis, "0", threading.Event()
        self.ends, self.running, self.lost = collections.Counter(), {}, []
        self.start()

    def run(self):
        while not self.stop.wait(0.2):
            with contextlib.suppress(OSError, RuntimeError):
                while self.read():
                    pass

    def read(self):
        found = self.redis.call("XREAD", "COUNT", 2000, "STREAMS", PREFIX + "events", self.last)
        for entry, fields in found[0][1] if found else []:
            if fields[0] == b"job" and fields[3].decode() in STATES:
                self.ends.update(fields[1].decode().split())
            elif fields[0] in (b"run", b"runs"):
                at = int(entry.split(b"-")[0]) / 1000
                for run in fields[1].decode().split():
                    since = self.running.pop(run, None)
                    if fields[3] == b"running":
                        self.running[run] = at
                    elif fields[3] == b"queued" and since:
                        # Taken from its worker, or handed back.
                        self.lost.append((run, since, at))
            self.last = entry.decode()
        return bool(found)

    def all_ends(self):
        self.stop.set()
        self.join()
        while self.read():
            pass
        return self.ends


class Crew:
    """Workers, as many as there should be: who dies is replaced."""

    def __init__(self, stage, url, size, concurrency, *options, environment=None):
        self.stage = stage
        self.command = [stage.binary, "chaos-worker", "--redis", url, "--concurrency", concurrency, *options]
        self.environment = environment
        self.journal = tempfile.mkdtemp(dir=stage.folder)
        self.started, self.aborted, self.leaving, self.stopped = 0, 0, [], {}
        self.workers = [self.hire() for _ in range(size)]

    def hire(self):
        self.started += 1
        journal = os.path.join(self.journal, str(self.started))
        return self.stage.spawn(*self.command, "--journal", journal, environment=self.environment)

    def look_after(self):
        """Replaces those that died by themselves, and lets those go on whose time is over."""
        for index, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.stage.bar(worker.returncode == -signal.SIGABRT, f"a worker ended by itself with {worker.returncode}")
                self.aborted += 1
                self.workers[index] = self.hire()
        for worker, end in list(self.stopped.items()):
            if time.monotonic() > end:
                worker.send_signal(signal.SIGCONT)
                del self.stopped[worker]

    def pick(self):
        return self.stage.chance.choice([index for index, worker in enumerate(self.workers) if worker not in self.stopped])

    def kill(self):
        index = self.pick()
        kill(self.workers[index])
        self.workers[index] = self.hire()

    def terminate(self, index=None):
        index = self.pick() if index is None else index
        worker, self.workers[index] = self.workers[index], self.hire()
        # An end by itself a moment before this is another's: it was not asked then.
        self.aborted += worker.poll() is not None
        if worker.returncode is None:
            worker.terminate()
            self.leaving.append(worker)
        return worker

    def freeze(self, seconds):
        worker = self.workers[self.pick()]
        worker.send_signal(signal.SIGSTOP)
        self.stopped[worker] = time.monotonic() + seconds

    def watch(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look_after()
            time.sleep(0.05)

    def dismiss(self):
        """All must end well when asked."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.leaving + self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(15)
        bad = [worker.returncode for worker in self.leaving + self.workers if worker.returncode != 0]
        self.stage.bar(not bad, f"of {len(self.leaving + self.workers)} workers asked to end, some did so with {bad}")

    def lines(self):
        """What the journals say: (claimed or computed, run, fence, cache key, nanoseconds), in the order in which it was."""
        lines = []
        for path in glob.glob(os.path.join(self.journal, "*")):
            with open(path) as file:
                lines += (line.split() for line in file)
        return sorted(lines, key=lambda line: int(line[4]))
