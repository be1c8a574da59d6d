"""chaos.py's scenario of single workers: how soon a lost one's runs are taken back, a late result, a job that kills, a deploy."""
import concurrent.futures
import os
import time

from crew import LEASE_S, PREFIX, Crew, Follower, Redis
from promises import check, nothing_left, plain, submitted, submitting, verify
from stage import kill, say, until

# Bars, in seconds.
QUEUED_AGAIN, RUNS_AGAIN = 12, 15


def state_and_fence(redis, run):
    """The first word of a run's first line, and of its second: ("", "") when there is none."""
    lines = (redis.call("GET", PREFIX + run) or b"\n").decode().split("\n")
    return tuple(line.partition(" ")[0] for line in lines[:2])


def only_run(redis):
    """The key of the only run there is, and the fence that it was claimed under."""
    run, = redis.keys("run:*")
    return run, state_and_fence(redis, run)[1]


def taken_back(stage, free):
    """Seconds from the death of a worker until its run is queued again, or, with a free slot elsewhere, runs again."""
    redis = Redis(stage)
    endless = "--least-ms", 120_000, "--most-ms", 120_000
    first = Crew(stage, redis.url, 1, 1)
    plain(stage, redis, 1, 0, *endless)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1, 10, "it runs")
    run, fence = only_run(redis)
    others = Crew(stage, redis.url, 3, 1)
    busy = 2 if free else 3
    plain(stage, redis, busy, 0, *endless)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1 + busy, 10, "the others are busy")
    time.sleep(stage.chance.uniform(0, 2.5))  # anywhere between two renewals
    kill(first.workers[0])

    def again():
        state, now = state_and_fence(redis, run)
        return (state == "running" and now != fence) if free else state == "queued"
    took = until(again, 30, "the run was taken back", 0.02)
    for worker in others.workers:
        kill(worker)
    redis.stop()
    return took


def poison(stage):
    """A job that kills whoever runs it, beside others. Answers seconds until it was given up."""
    redis = Redis(stage)
    crew = Crew(stage, redis.url, 2, 2)
    begin = time.monotonic()
    bad = plain(stage, redis, 1, 0, "--poison")
    good = plain(stage, redis, 300, 20)

    def ended():
        crew.look_after()
        return redis.is_idle()
    until(ended, 90, "the job that kills its workers was given up")
    took = time.monotonic() - begin
    crew.dismiss()
    found, (job,) = check(stage, redis, bad)
    others, _ = check(stage, redis, good)
    stage.bar(found["jobs"] == {"dead": 1} and job["error"]["code"] == "worker_lost" and "lost 3 times" in job["error"]["message"],
              f"a job that kills its workers: {job}")
    stage.bar(others["jobs"] == {"succeeded": 300}, f"beside a job that kills its workers: {others}")
    stage.bar(crew.aborted == 3, f"a job killed {crew.aborted} workers")
    nothing_left(stage, redis)
    redis.stop()
    return took, job["error"]["message"]


def contest(stage):
    """A worker is stopped for longer than its lease and hands in its result while another computes the run again."""
    redis = Redis(stage)
    seconds = LEASE_S + 2
    first = Crew(stage, redis.url, 1, 1)
    ids = plain(stage, redis, 1, 0, "--least-ms", seconds * 1000, "--most-ms", seconds * 1000)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 1, 10, "it runs")
    second = Crew(stage, redis.url, 1, 1)
    run, fence = only_run(redis)
    first.freeze(seconds + 1)
    until(lambda: state_and_fence(redis, run)[1] != fence, 20, "another has it")
    until(lambda: first.look_after() or not first.stopped, 20, "the first goes on")
    until(lambda: redis.counters()["late_results"] == 1, 5, "its result is refused")
    until(redis.is_idle, 30, "the second has ended it")
    first.dismiss()
    second.dismiss()
    _, (job,) = check(stage, redis, ids)
    stage.bar(job["state"] == "succeeded" and job["summary"]["fence"] != fence and redis.counters()["stalls"] == 1,
              f"the result of a worker that had lost its run was taken: {job}")
    redis.stop()


def deploy(stage):
    """All workers are replaced, one after the other, while they are busy."""
    redis = Redis(stage)
    follower = Follower(redis)
    crew = Crew(stage, redis.url, 4, 4)
    ids = os.path.join(redis.data, "ids")
    # Some take longer than the time that a worker has to end.
    submitter = submitting(stage, redis.url, ids, 400, 15, "--plain", "--least-ms", 20, "--most-ms", 1000)
    crew.watch(2)
    longest = 0
    for index in range(4):
        worker = crew.terminate(index)
        longest = max(longest, until(lambda: worker.poll() is not None, 15, "a worker has ended"))
        crew.watch(0.5)
    sent = submitted(submitter)
    long = plain(stage, redis, 16, 0, "--least-ms", 4000, "--most-ms", 4000)
    until(lambda: redis.number("ZCARD", PREFIX + "leases") == 16, 15, "all workers are busy")
    for index in range(4):
        worker = crew.terminate(index)
        longest = max(longest, until(lambda: worker.poll() is not None, 15, "a worker has ended"))
    until(redis.is_idle, 60, "all jobs have ended")
    crew.dismiss()
    with open(long) as more, open(ids, "a") as file:
        file.write(more.read())
    counters = verify(stage, redis, follower, crew, ids, {"submitted": sent["submitted"] + 16})
    stage.bar(counters["jobs_succeeded"] == 416, f"only {counters['jobs_succeeded']} of 416 succeeded")
    stage.bar(counters["stalls"] == counters["retries"] == counters["late_results"] == 0, f"a rolling deploy cost {counters}")
    stage.bar(counters["interruptions"] > 0, "a rolling deploy handed nothing back")
    say(f"rolling deploy: 8 workers replaced, the slowest ended in {longest:.1f} s; {counters['interruptions']} runs handed back, "
        f"{counters['stalls']} stalls, {counters['retries']} attempts lost")
    redis.stop()


def recovery(stage):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        given_up, late = pool.submit(poison, stage), pool.submit(contest, stage)
        queued, running = ([pool.submit(taken_back, stage, free) for _ in range(3)] for free in (False, True))
        queued, running = ([each.result() for each in group] for group in (queued, running))
        took, message = given_up.result()
        late.result()
    for what, times, most in ("queued again, all others busy", queued, QUEUED_AGAIN), ("running again", running, RUNS_AGAIN):
        say(f"after kill -9, {what}: {', '.join(f'{each:.1f}' for each in sorted(times))} s (at most {most})")
        stage.bar(max(times) <= most, f"{what} only after {max(times):.1f} s")
    say("a worker that was stopped for longer than its lease: its late result was refused, the next one's was taken")
    say(f"a job that kills its workers: given up after {took:.0f} s and three workers: {message[:70]}...")
    deploy(stage)
