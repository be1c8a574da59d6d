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
import collections
import glob
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

from crew import LEASE_S, PREFIX, Crew, Follower, Proxy, Redis
from promises import check, plain, submitted, submitting, verify
from recovery import recovery
from stage import ENDED, Stage, kill, say, until

# After this time everything that a lost worker held has been taken back: a lease and a round of the reconciler.
TAKEN_BACK_S = LEASE_S + 1.5
# Runs that are held all the time while Redis is away.
LONG = 3
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


def chaos(stage):
    count, over, parts = (1500, 42, [8, 7]) if quick else (10_000, 100, [20, 20, 20])
    away = [0, 20][:len(parts) - 1]
    rate = 0.001 if quick else 0.0005
    redis = Redis(stage)
    proxy, follower = Proxy(redis), Follower(redis)
    ids, spare = os.path.join(redis.data, "ids"), os.path.join(redis.data, "spare")
    deaths = [word for place in ("claimed", "computed", "handing-in") for word in ("--die", f"{place}:{rate}")]
    crew = Crew(stage, proxy.url, 4, 2 if quick else 4, "--spare", spare, *deaths)
    submitter = submitting(stage, proxy.url, ids, count, over)
    blows, more = collections.Counter(), 0

    def strike():
        # Two at most are stopped, so that somebody is there to notice.
        ways = ["kill", "terminate", "cut"] + (["freeze"] if len(crew.stopped) < 2 else [])
        # The first is the one that takes longest.
        blow = stage.chance.choice(ways) if blows else "freeze"
        blows[blow] += 1
        {"kill": crew.kill, "terminate": crew.terminate, "cut": proxy.cut,
         "freeze": lambda: crew.freeze(stage.chance.uniform(LEASE_S + 2, LEASE_S + 4))}[blow]()

    def restart(seconds):
        nonlocal more
        # Quiet, and all that was lost is taken back: what is lost from here on is Redis's fault.
        open(spare, "w").close()
        begin = time.monotonic()
        while crew.stopped or time.monotonic() < begin + TAKEN_BACK_S:
            crew.watch(0.1)
        # Some runs have to be held all the time, which ordinary ones are too short for.
        length = int((seconds + LEASE_S) * 1000)
        long = plain(stage, redis, LONG, 0, "--least-ms", length, "--most-ms", length)
        more += LONG
        with open(long) as file, open(ids, "a") as all_ids:
            all_ids.write(file.read())
        until(lambda: crew.look_after() or check(stage, redis, long)[0]["jobs"] == {"running": LONG}, 9, "the long runs are at work", 0.2)
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
        stage.bar(stalls == 0, f"{stalls} runs lost their worker when Redis was away for {seconds} s")
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
    counters = verify(stage, redis, follower, crew, ids, sent)
    stage.bar(counters["late_results"] > 0, f"no late result was refused after {blows['freeze']} stops for longer than a lease")
    redis.stop()


def kill_redis(stage):
    count, over, kills = (800, 20, 4) if quick else (4000, 60, 10)
    redis = Redis(stage, "always")
    follower = Follower(redis)
    ids = os.path.join(redis.data, "ids")
    crew = Crew(stage, redis.url, 4, 4)
    submitter = submitting(stage, redis.url, ids, count, over)
    begin, away = time.monotonic(), []
    for number in range(kills):
        crew.watch(max(0.5, begin + (number + 0.5 + stage.chance.random() / 2) * over / kills - time.monotonic()))
        kill(redis.process)
        # Once for longer than a reconciler is silent.
        away.append(4 if number == kills // 2 else stage.chance.uniform(0, 1.5))
        crew.watch(away[-1])
        redis.start()
    while submitter.poll() is None:
        crew.watch(0.2)
    sent = submitted(submitter)
    took = until(lambda: crew.look_after() or redis.is_idle(), ENDED, "all jobs have ended", 0.2)
    say(f"Redis killed {kills} times, away for {', '.join(f'{seconds:.1f}' for seconds in away)} s; sent: {sent}; "
        f"ended {took:.0f} s later")
    crew.dismiss()
    verify(stage, redis, follower, crew, ids, sent)
    redis.stop()


def clock(stage):
    """Leases are on Redis's clock, and a worker's own timers do not follow its wall clock."""
    places = "/usr/lib/*/faketime", "/usr/lib*/faketime", "/usr/local/lib/faketime"
    library = next((path for place in places for path in glob.glob(place + "/libfaketimeMT.so.1")), None)
    if library is None:
        say("clock: skipped, libfaketime is not installed (apt install faketime)")
        return
    redis = Redis(stage)
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
    crew = Crew(stage, redis.url, 1, 4, environment=environment)
    ids = os.path.join(redis.data, "ids")
    submitter = submitting(stage, redis.url, ids, 400, 24, "--plain")
    long = plain(stage, redis, 2, 0, "--least-ms", 26_000, "--most-ms", 26_000)
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
    counters = verify(stage, redis, follower, crew, ids, {"submitted": sent["submitted"] + 2})
    _, jobs = check(stage, redis, ids)
    hours = collections.Counter(round((job["summary"]["clock_s"] - time.time()) / 3600) for job in jobs)
    say(f"a worker's clock jumped an hour ahead, then two back: {counters['stalls']} stalls; jobs by hours off: {dict(hours)}")
    stage.bar(set(hours) >= {1, -1}, f"the clock did not jump: {hours}")
    stage.bar(counters["jobs_succeeded"] == 402, f"only {counters['jobs_succeeded']} of 402 succeeded")
    stage.bar(counters["stalls"] == counters["late_results"] == 0, f"a jump of the clock cost {counters}")
    redis.stop()


def play(stage):
    """All scenarios that were asked for."""
    # A worker that aborts leaves no core behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done in {LIMIT} s"))
    signal.alarm(LIMIT)
    scenarios = dict(zip(PARTS, (chaos, recovery, clock)))
    parts = [("kill-redis", kill_redis)] if arguments.kill_redis else [
        (name, scenarios[name]) for name in arguments.only or (PARTS[:1] if quick else PARTS)]
    for name, part in parts:
        begin = time.monotonic()
        say(f"{name} (seed {seed})")
        try:
            part(stage)
        except (OSError, RuntimeError, ValueError, TimeoutError, subprocess.TimeoutExpired) as error:
            stage.bar(False, f"{name}: {error!r}")
        say(f"{name}: {time.monotonic() - begin:.0f} s\n")


def main():
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, open(os.path.join(folder, "log"), "w+") as log:
        stage = Stage(binary, folder, log, random.Random(seed))
        try:
            play(stage)
            log.seek(0)
            printed = log.read()
        finally:
            for number in signal.SIGTERM, signal.SIGINT, signal.SIGALRM:
                signal.signal(number, signal.SIG_IGN)  # asked twice, it still leaves nothing behind
            for process in stage.processes:
                kill(process)
    if stage.missed:
        say("did not hold:\n" + "\n".join(f"- {text}" for text in stage.missed) + ("\n\nprinted:\n" + printed[-2000:] if printed else ""))
    sys.exit(1 if stage.missed else 0)


main()
