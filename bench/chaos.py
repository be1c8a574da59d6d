"""Kills workers and Redis while jobs go through the queue, and looks whether every promise of it was kept.

usage: chaos.py BINARY [--only chaos|recovery|clock ...] [--kill-redis] [--quick] [--seed N]

BINARY is `queue-bench`: its workers sleep instead of computing. All is on servers of our own on 127.0.0.1.
* chaos: 10,000 jobs through four workers behind a proxy. For a minute, once a second, a worker is killed, asked to end, or stopped
  for longer than its lease, or all connections are cut; workers also die by themselves at the worst places. Twice Redis is restarted
  in a quiet moment, once for 20 seconds: that may cost no run its worker.
* recovery: how soon a lost worker's runs are queued and running again; a late result; a job that kills its workers; a rolling deploy.
* clock: the clock of a worker jumps by an hour (needs libfaketime, else skipped).
* --kill-redis, instead of these: Redis with `appendfsync always` is killed with SIGKILL while jobs are submitted and worked on.

Afterwards every acknowledged job must be there once and have ended once, with one worker's result, and nothing else may be left in
Redis. Ends with 1 if anything did not hold. Bounded: about five minutes, two with --kill-redis; --quick is chaos alone in one minute.
"""
import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import glob
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from resp import Connection

PREFIX = "{bench}:3:"
LEASE_S = 10
# After this time everything that a lost worker held has been taken back: a lease and a round of the reconciler.
TAKEN_BACK_S = LEASE_S + 1.5
STATES = "succeeded", "failed", "cancelled", "dead", "expired"
# What may be there when all jobs have ended, as in the tests of the queue; and what may until it expires.
KEPT = ("job:", "result:", "done:", "inbox:", "idem:", "tenant:", "list:", "batch:", "kids:", "lists", "events", "outbox", "stats",
        "seq", "sched", "idle", "beat", "cache", "garbage", "purges")
EXPIRING = "items:", "plans:", "calm", "alone:by"
# Runs that are held all the time while Redis is away.
LONG = 3
# Bars, in seconds.
QUEUED_AGAIN, RUNS_AGAIN, ENDED = 12, 15, 300
# All of it, in seconds.
LIMIT = 900

PARTS = "chaos", "recovery", "clock"
arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--only", choices=PARTS, action="append")
arguments.add_argument("--kill-redis", action="store_true")
arguments.add_argument("--quick", action="store_true", help="fewer jobs, and chaos alone")
arguments.add_argument("--seed", type=int, default=None, help="for the order of the blows")
arguments = arguments.parse_args()
binary, quick = os.path.abspath(arguments.binary), arguments.quick
seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10_000)
chance = random.Random(seed)
folder = tempfile.TemporaryDirectory(prefix="chaos-")
processes = []
missed = []


def say(text):
    print(text, flush=True)


def bar(holds, text):
    """What must hold; all of it is looked at before the test ends."""
    if not holds:
        missed.append(text)
        say(f"MISSED: {text}")


def until(what, limit, text, pause=0.05):
    """Waits until it is so; answers seconds."""
    begin = time.monotonic()
    while not what():
        if time.monotonic() - begin > limit:
            raise TimeoutError(f"not within {limit} s: {text}")
        time.sleep(pause)
    return time.monotonic() - begin


def spawn(*command, output=subprocess.DEVNULL, environment=None):
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=log, cwd=folder.name,
                               env=environment, text=True)
    processes.append(process)
    return process


def kill(process):
    if process.poll() is None:
        process.kill()
    process.wait()


def ours(subcommand, *options, limit=ENDED):
    process = spawn(binary, subcommand, *options, output=subprocess.PIPE)
    printed, _ = process.communicate(timeout=limit)
    if process.returncode:
        raise RuntimeError(f"{subcommand} ended with {process.returncode}")
    return json.loads(printed)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A server of our own that can be restarted."""

    def __init__(self, fsync="everysec"):
        self.program = shutil.which("redis-server") or shutil.which("valkey-server")
        if self.program is None:
            sys.exit("neither redis-server nor valkey-server is installed: make setup")
        self.port, self.fsync = free_port(), fsync
        self.data = tempfile.mkdtemp(dir=folder.name)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.local = threading.local()
        self.start()

    def start(self):
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.data, "save": "", "appendonly": "yes",
                   "appendfsync": self.fsync, "loglevel": "warning", "logfile": "redis.log"}
        self.process = spawn(self.program, *(word for name, value in options.items() for word in (f"--{name}", value)))
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

    def __init__(self, url, size, concurrency, *options, environment=None):
        self.command = [binary, "chaos-worker", "--redis", url, "--concurrency", concurrency, *options]
        self.environment = environment
        self.journal = tempfile.mkdtemp(dir=folder.name)
        self.started, self.aborted, self.leaving, self.stopped = 0, 0, [], {}
        self.workers = [self.hire() for _ in range(size)]

    def hire(self):
        self.started += 1
        journal = os.path.join(self.journal, str(self.started))
        return spawn(*self.command, "--journal", journal, environment=self.environment)

    def look_after(self):
        """Replaces those that died by themselves, and lets those go on whose time is over."""
        for index, worker in enumerate(self.workers):
            if worker.poll() is not None:
                bar(worker.returncode == -signal.SIGABRT, f"a worker ended by itself with {worker.returncode}")
                self.aborted += 1
                self.workers[index] = self.hire()
        for worker, end in list(self.stopped.items()):
            if time.monotonic() > end:
                worker.send_signal(signal.SIGCONT)
                del self.stopped[worker]

    def pick(self):
        return chance.choice([index for index, worker in enumerate(self.workers) if worker not in self.stopped])

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
        bar(not bad, f"of {len(self.leaving + self.workers)} workers asked to end, some did so with {bad}")

    def lines(self):
        """What the journals say: (claimed or computed, run, fence, cache key, nanoseconds), in the order in which it was."""
        lines = []
        for path in glob.glob(os.path.join(self.journal, "*")):
            with open(path) as file:
                lines += (line.split() for line in file)
        return sorted(lines, key=lambda line: int(line[4]))


def submitting(url, ids, count, over, *options):
    return spawn(binary, "chaos-submit", "--redis", url, "--ids", ids, "--count", count, "--over", over, *options,
                 output=subprocess.PIPE)


def submitted(process, limit=ENDED):
    printed, _ = process.communicate(timeout=limit)
    if process.returncode:
        raise RuntimeError(f"chaos-submit ended with {process.returncode}")
    return json.loads(printed)


def check(redis, ids):
    details = tempfile.mktemp(dir=folder.name)
    found = ours("chaos-check", "--redis", redis.url, "--ids", ids, "--details", details)
    with open(details) as file:
        return found, [json.loads(line) for line in file]


def verify(redis, follower, crew, ids, sent):
    """Everything that must hold once all jobs have ended."""
    found, jobs = check(redis, ids)
    counters, ends = redis.counters(), follower.all_ends()
    names = "claims", "stalls", "late_results", "interruptions", "retries", "gaps", "coalesced", "cache_hits", "repeated"
    say(f"jobs: {found['jobs']}; batches: {found['batches']}")
    say("counters: " + ", ".join(f"{name} {counters[name]}" for name in names))

    # Each was accepted once and ended once.
    bar(found["wrong"] == 0, f"{found['wrong']} jobs are not as they should be, such as {found['such_as']}")
    number = sum(found["jobs"].values()), sum(found["batches"].values())
    bar(number[0] == sent["submitted"], f"{sent['submitted']} jobs were acknowledged and {number[0]} are there")
    records = len(redis.keys("job:*"))
    bar(records == sum(number), f"{records} records of jobs for {sum(number)} acknowledged")
    wrong = {job: ends[job] for job in ends if ends[job] != 1}
    bar(len(ends) == records and not wrong, f"{len(ends)} of {records} jobs told of their end; not once: {list(wrong.items())[:5]}")
    for state in STATES:
        records = found["jobs"].get(state, 0) + found["batches"].get(state, 0)
        bar(counters["jobs_" + state] == records, f"{counters['jobs_' + state]} jobs were counted as {state}, {records} are")

    # Of each run one worker's outcome was taken: what jobs, results and the run itself say is the same.
    claimed, computed = collections.Counter(), collections.Counter()
    contested = 0
    claims_of, answers_of, holder = collections.defaultdict(collections.Counter), collections.defaultdict(set), {}
    for what, run, fence, key, _ in crew.lines():
        (claimed if what == "claimed" else computed)[run, fence] += 1
        if what == "claimed":
            claims_of[key][run] += 1
            holder[run] = fence
        else:
            answers_of[run].add(fence)
            contested += holder.get(run) != fence and (run, holder.get(run)) not in computed
    accepted = collections.defaultdict(set)
    for job in jobs:
        if job["state"] == "succeeded":
            accepted[job["summary"]["run"]].add(job["summary"]["fence"])
    results = redis.keys("result:*")
    done = {fence.decode() for key in redis.keys("done:*") for fence in redis.call("HKEYS", PREFIX + key)}
    for stored in redis.calls([("GET", PREFIX + key) for key in results]):
        head, _, summary = stored.split(b"\n")
        summary = json.loads(summary)
        accepted[summary["run"]].add(summary["fence"])
        # A stored result names the fence it was taken under, so that it is nowhere else.
        done.add(head.split(b"\x1f")[0].split(b" ")[3].decode())
    # That of a result which another replaced is left as the name of its body.
    done |= {fence.decode() for fence in redis.call("SMEMBERS", PREFIX + "garbage")} & set().union(*accepted.values())
    runs = list(accepted)
    fences = collections.defaultdict(set)
    for run, fence in computed:
        fences[run].add(fence)
    wrong = [run for run in runs if len(accepted[run]) != 1 or fences[run] & done != accepted[run]]
    bar(not wrong, f"{len(wrong)} runs have the results of two workers, or none: {wrong[:5]}")
    wrong = [run for run in runs if any(computed[run, fence] != 1 or claimed[run, fence] != 1 for fence in accepted[run])]
    bar(not wrong, f"{len(wrong)} results were not computed by one worker once: {wrong[:5]}")
    # Not that of one who had lost it to another: the clocks of workers whose own is tampered with are not compared.
    if crew.environment:
        holder, contested = {run: next(iter(accepted[run])) for run in runs}, 0
    wrong = [run for run in runs if holder.get(run) not in accepted[run]]
    bar(not wrong, f"{len(wrong)} runs have the result of a worker that had lost them to another: {wrong[:5]}")
    rivals = sum(len(answers) > 1 for run, answers in answers_of.items() if run in accepted)
    say(f"{len(runs)} runs have one result each, {rivals} of them were computed more than once; {contested} times a worker "
        "handed in what another was computing by then")

    dead = [job for job in jobs if job["state"] == "dead"]
    lost = [max(claims_of[job["request"]["key"]].values(), default=0) for job in dead]
    wrong = [job["job"] for job, times in zip(dead, lost) if job["error"]["code"] != "worker_lost" or times < 3]
    bar(not wrong, f"given up though their workers were not lost three times: {wrong[:5]}")
    if dead:
        say(f"{len(dead)} given up, claimed {sorted(lost)} times each")
    nothing_left(redis)
    return counters


def nothing_left(redis):
    keys = [key for key in redis.keys() if not key.startswith(KEPT)]
    expiring = [key for key in keys if key.startswith(EXPIRING) and redis.number("PTTL", PREFIX + key) != -1]
    left = sorted(set(keys) - set(expiring))
    bar(not left, f"{len(left)} keys are left in Redis: {left[:5]}")
    if expiring:
        # Batches of whose staging Redis did not hear the end: another was staged, and accepted, instead.
        say(f"{len(expiring)} keys expire by themselves: {', '.join(sorted({key.split(':')[0] for key in expiring}))}")
    bar(redis.number("HGET", PREFIX + "sched", "ready") == 0, "some runs count as ready")
    for key in redis.keys("tenant:*"):
        counts = [int(count or 0) for count in redis.call("HMGET", PREFIX + key, "open", "running")]
        bar(counts == [0, 0], f"{key} counts {counts} open and running jobs")


def chaos():
    count, over, parts = (1500, 42, [8, 7]) if quick else (10_000, 100, [20, 20, 20])
    away = [0, 20][:len(parts) - 1]
    rate = 0.001 if quick else 0.0005
    redis = Redis()
    proxy, follower = Proxy(redis), Follower(redis)
    ids, spare = os.path.join(redis.data, "ids"), os.path.join(redis.data, "spare")
    deaths = [word for place in ("claimed", "computed", "handing-in") for word in ("--die", f"{place}:{rate}")]
    crew = Crew(proxy.url, 4, 2 if quick else 4, "--spare", spare, *deaths)
    submitter = submitting(proxy.url, ids, count, over)
    blows, more = collections.Counter(), 0

    def strike():
        # Two at most are stopped, so that somebody is there to notice.
        ways = ["kill", "terminate", "cut"] + (["freeze"] if len(crew.stopped) < 2 else [])
        # The first is the one that takes longest.
        blow = chance.choice(ways) if blows else "freeze"
        blows[blow] += 1
        {"kill": crew.kill, "terminate": crew.terminate, "cut": proxy.cut,
         "freeze": lambda: crew.freeze(chance.uniform(LEASE_S + 2, LEASE_S + 4))}[blow]()

    def restart(seconds):
        nonlocal more
        # Quiet, and all that was lost is taken back: what is lost from here on is Redis's fault.
        open(spare, "w").close()
        begin = time.monotonic()
        while crew.stopped or time.monotonic() < begin + TAKEN_BACK_S:
            crew.watch(0.1)
        # Some runs have to be held all the time, which ordinary ones are too short for.
        length = int((seconds + LEASE_S) * 1000)
        long = plain(redis, LONG, 0, "--least-ms", length, "--most-ms", length)
        more += LONG
        with open(long) as file, open(ids, "a") as all_ids:
            all_ids.write(file.read())
        until(lambda: crew.look_after() or check(redis, long)[0]["jobs"] == {"running": LONG}, 9, "the long runs are at work", 0.2)
        before, depth = redis.counters(), redis.number("ZCARD", PREFIX + "leases")
        gone = time.time()
        redis.stop()
        crew.watch(seconds)
        redis.start()
        back = time.time()
        crew.watch(TAKEN_BACK_S + (LEASE_S if seconds > LEASE_S else 0) + 1)
        after = redis.counters()
        os.unlink(spare)
        stalls, claims = after["stalls"] - before["stalls"], after["claims"] - before["claims"]
        say(f"Redis away for {seconds} s with {depth} runs at work: {stalls} stalls, {after['gaps'] - before['gaps']} gaps noticed, "
            f"{claims} runs claimed since")
        bar(stalls == 0, f"{stalls} runs lost their worker when Redis was away for {seconds} s")
        claims = collections.defaultdict(list)
        for what, run, _, _, at in crew.lines() if stalls else []:
            claims[run] += [int(at) / 1e9] if what == "claimed" else []
        for run, since, at in [lost for lost in follower.lost if lost[2] > gone][:10]:
            known = any(since - 0.1 < claim < at for claim in claims[run])
            how = "held" if known else "claimed, which its worker did not hear,"
            say(f"  {run}: {how} since {since - gone:.2f} s after Redis went, "
                f"taken back {at - back:.2f} s after it was there again")

    for part, seconds in zip(parts, [*away, None]):
        for _ in range(part):
            strike()
            crew.watch(1)
        if seconds is not None:
            restart(seconds)
    open(spare, "w").close()
    while crew.stopped or submitter.poll() is None:
        crew.watch(0.2)
    sent = submitted(submitter)
    sent["submitted"] += more
    took = until(lambda: crew.look_after() or redis.is_idle(), ENDED, "all jobs have ended", 0.2)
    say(f"blows: {dict(blows)}, {crew.aborted} died by themselves; {crew.started} workers; sent: {sent}; ended {took:.0f} s later")
    crew.dismiss()
    counters = verify(redis, follower, crew, ids, sent)
    bar(counters["late_results"] > 0, f"no late result was refused after {blows['freeze']} stops for longer than a lease")
    redis.stop()


def kill_redis():
    count, over, kills = (800, 20, 4) if quick else (4000, 60, 10)
    redis = Redis("always")
    follower = Follower(redis)
    ids = os.path.join(redis.data, "ids")
    crew = Crew(redis.url, 4, 4)
    submitter = submitting(redis.url, ids, count, over)
    begin, away = time.monotonic(), []
    for number in range(kills):
        crew.watch(max(0.5, begin + (number + 0.5 + chance.random() / 2) * over / kills - time.monotonic()))
        kill(redis.process)
        # Once for longer than a reconciler is silent.
        away.append(4 if number == kills // 2 else chance.uniform(0, 1.5))
        crew.watch(away[-1])
        redis.start()
    while submitter.poll() is None:
        crew.watch(0.2)
    sent = submitted(submitter)
    took = until(lambda: crew.look_after() or redis.is_idle(), ENDED, "all jobs have ended", 0.2)
    say(f"Redis killed {kills} times, away for {', '.join(f'{seconds:.1f}' for seconds in away)} s; sent: {sent}; "
        f"ended {took:.0f} s later")
    crew.dismiss()
    verify(redis, follower, crew, ids, sent)
    redis.stop()


def plain(redis, count, over, *options):
    """Jobs that take as long as the options say, acknowledged."""
    ids = tempfile.mktemp(dir=folder.name)
    sent = submitted(submitting(redis.url, ids, count, over, "--plain", *options))
    assert sent["submitted"] == count
    return ids


def state_and_fence(redis, run):
    """The first word of a run's first line, and of its second: ("", "") when there is none."""
    lines = (redis.call("GET", PREFIX + run) or b"\n").decode().split("\n")
    return tuple(line.partition(" ")[0] for line in lines[:2])


def only_run(redis):
    """The key of the only run there is, and the fence that it was claimed under."""
    run, = redis.keys("run:*")
    return run, state_and_fence(redis, run)[1]


def taken_back(free):
    """Seconds from the death of a worker until its run is queued again, or, with a free slot elsewhere, runs again."""
    redis = Redis()
    endless = "--least-ms", 120_000, "--most-ms", 120_000
    first = Crew(redis.url, 1, 1)
    plain(redis, 1, 0, *endless)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1, 10, "it runs")
    run, fence = only_run(redis)
    others = Crew(redis.url, 3, 1)
    busy = 2 if free else 3
    plain(redis, busy, 0, *endless)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1 + busy, 10, "the others are busy")
    time.sleep(chance.uniform(0, 2.5))  # anywhere between two renewals
    kill(first.workers[0])

    def again():
        state, now = state_and_fence(redis, run)
        return (state == "running" and now != fence) if free else state == "queued"
    took = until(again, 30, "the run was taken back", 0.02)
    for worker in others.workers:
        kill(worker)
    redis.stop()
    return took


def poison():
    """A job that kills whoever runs it, beside others. Answers seconds until it was given up."""
    redis = Redis()
    crew = Crew(redis.url, 2, 2)
    begin = time.monotonic()
    bad = plain(redis, 1, 0, "--poison")
    good = plain(redis, 300, 20)

    def ended():
        crew.look_after()
        return redis.is_idle()
    until(ended, 90, "the job that kills its workers was given up")
    took = time.monotonic() - begin
    crew.dismiss()
    found, (job,) = check(redis, bad)
    others, _ = check(redis, good)
    bar(found["jobs"] == {"dead": 1} and job["error"]["code"] == "worker_lost" and "lost 3 times" in job["error"]["message"],
        f"a job that kills its workers: {job}")
    bar(others["jobs"] == {"succeeded": 300}, f"beside a job that kills its workers: {others}")
    bar(crew.aborted == 3, f"a job killed {crew.aborted} workers")
    nothing_left(redis)
    redis.stop()
    return took, job["error"]["message"]


def contest():
    """A worker is stopped for longer than its lease and hands in its result while another computes the run again."""
    redis = Redis()
    seconds = LEASE_S + 2
    first = Crew(redis.url, 1, 1)
    ids = plain(redis, 1, 0, "--least-ms", seconds * 1000, "--most-ms", seconds * 1000)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1, 10, "it runs")
    second = Crew(redis.url, 1, 1)
    run, fence = only_run(redis)
    first.freeze(seconds + 1)
    until(lambda: state_and_fence(redis, run)[1] != fence, 20, "another has it")
    until(lambda: first.look_after() or not first.stopped, 20, "the first goes on")
    until(lambda: redis.counters()["late_results"] == 1, 5, "its result is refused")
    until(redis.is_idle, 30, "the second has ended it")
    first.dismiss()
    second.dismiss()
    _, (job,) = check(redis, ids)
    bar(job["state"] == "succeeded" and job["summary"]["fence"] != fence and redis.counters()["stalls"] == 1,
        f"the result of a worker that had lost its run was taken: {job}")
    redis.stop()


def deploy():
    """All workers are replaced, one after the other, while they are busy."""
    redis = Redis()
    follower = Follower(redis)
    crew = Crew(redis.url, 4, 4)
    ids = os.path.join(redis.data, "ids")
    # Some take longer than the time that a worker has to end.
    submitter = submitting(redis.url, ids, 400, 15, "--plain", "--least-ms", 20, "--most-ms", 1000)
    crew.watch(2)
    longest = 0
    for index in range(4):
        worker = crew.terminate(index)
        longest = max(longest, until(lambda: worker.poll() is not None, 15, "a worker has ended"))
        crew.watch(0.5)
    sent = submitted(submitter)
    long = plain(redis, 16, 0, "--least-ms", 4000, "--most-ms", 4000)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 16, 15, "all workers are busy")
    for index in range(4):
        worker = crew.terminate(index)
        longest = max(longest, until(lambda: worker.poll() is not None, 15, "a worker has ended"))
    until(redis.is_idle, 60, "all jobs have ended")
    crew.dismiss()
    with open(long) as more, open(ids, "a") as file:
        file.write(more.read())
    counters = verify(redis, follower, crew, ids, {"submitted": sent["submitted"] + 16})
    bar(counters["jobs_succeeded"] == 416, f"only {counters['jobs_succeeded']} of 416 succeeded")
    bar(counters["stalls"] == counters["retries"] == counters["late_results"] == 0, f"a rolling deploy cost {counters}")
    bar(counters["interruptions"] > 0, "a rolling deploy handed nothing back")
    say(f"rolling deploy: 8 workers replaced, the slowest ended in {longest:.1f} s; {counters['interruptions']} runs handed back, "
        f"{counters['stalls']} stalls, {counters['retries']} attempts lost")
    redis.stop()


def recovery():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        given_up, late = pool.submit(poison), pool.submit(contest)
        queued, running = ([pool.submit(taken_back, free) for _ in range(3)] for free in (False, True))
        queued, running = ([each.result() for each in group] for group in (queued, running))
        took, message = given_up.result()
        late.result()
    for what, times, most in ("queued again, all others busy", queued, QUEUED_AGAIN), ("running again", running, RUNS_AGAIN):
        say(f"after kill -9, {what}: {', '.join(f'{each:.1f}' for each in sorted(times))} s (at most {most})")
        bar(max(times) <= most, f"{what} only after {max(times):.1f} s")
    say("a worker that was stopped for longer than its lease: its late result was refused, the next one's was taken")
    say(f"a job that kills its workers: given up after {took:.0f} s and three workers: {message[:70]}...")
    deploy()


def clock():
    """Leases are on Redis's clock, and a worker's own timers do not follow its wall clock."""
    places = "/usr/lib/*/faketime", "/usr/lib*/faketime", "/usr/local/lib/faketime"
    library = next((path for place in places for path in glob.glob(place + "/libfaketimeMT.so.1")), None)
    if library is None:
        say("clock: skipped, libfaketime is not installed (apt install faketime)")
        return
    redis = Redis()
    follower = Follower(redis)
    jump = os.path.join(redis.data, "jump")

    def set_clock(offset):
        with open(jump + ".new", "w") as file:
            file.write(offset + "\n")
        os.replace(jump + ".new", jump)
    set_clock("+0")
    # A clock that is set leaves the monotonic one as it is.
    environment = dict(os.environ, LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=jump, FAKETIME_NO_CACHE="1",
                       FAKETIME_DONT_FAKE_MONOTONIC="1")
    crew = Crew(redis.url, 1, 4, environment=environment)
    ids = os.path.join(redis.data, "ids")
    submitter = submitting(redis.url, ids, 400, 24, "--plain")
    long = plain(redis, 2, 0, "--least-ms", 26_000, "--most-ms", 26_000)
    # Each time for longer than a lease.
    for offset in "+3600", "-3600":
        crew.watch(1.5)
        set_clock(offset)
        crew.watch(LEASE_S + 1.5)
    sent = submitted(submitter)
    until(redis.is_idle, 60, "all jobs have ended")
    crew.dismiss()
    with open(long) as more, open(ids, "a") as file:
        file.write(more.read())
    counters = verify(redis, follower, crew, ids, {"submitted": sent["submitted"] + 2})
    _, jobs = check(redis, ids)
    hours = collections.Counter(round((job["summary"]["clock_s"] - time.time()) / 3600) for job in jobs)
    say(f"a worker's clock jumped an hour ahead, then two back: {counters['stalls']} stalls; jobs by hours off: {dict(hours)}")
    bar(set(hours) >= {1, -1}, f"the clock did not jump: {hours}")
    bar(counters["jobs_succeeded"] == 402, f"only {counters['jobs_succeeded']} of 402 succeeded")
    bar(counters["stalls"] == counters["late_results"] == 0, f"a jump of the clock cost {counters}")
    redis.stop()


def main():
    # A worker that aborts leaves no core behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done in {LIMIT} s"))
    signal.alarm(LIMIT)
    parts = [("kill-redis", kill_redis)] if arguments.kill_redis else [
        (name, globals()[name]) for name in arguments.only or (PARTS[:1] if quick else PARTS)]
    for name, part in parts:
        begin = time.monotonic()
        say(f"{name} (seed {seed})")
        try:
            part()
        except (OSError, RuntimeError, ValueError, TimeoutError, subprocess.TimeoutExpired) as error:
            bar(False, f"{name}: {error!r}")
        say(f"{name}: {time.monotonic() - begin:.0f} s\n")


with folder, open(os.path.join(folder.name, "log"), "w+") as log:
    try:
        main()
        log.seek(0)
        printed = log.read()
    finally:
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGALRM:
            signal.signal(number, signal.SIG_IGN)  # asked twice, it still leaves nothing behind
        for process in processes:
            kill(process)
if missed:
    say("did not hold:\n" + "\n".join(f"- {text}" for text in missed) + ("\n\nprinted:\n" + printed[-2000:] if printed else ""))
sys.exit(1 if missed else 0)
