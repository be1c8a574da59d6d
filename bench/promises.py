"""Jobs for chaos.py, and what the queue promises of them: all that must hold once they have ended."""
import collections
import json
import subprocess
import tempfile

from crew import PREFIX, STATES
from stage import ENDED, say

# What may be there when all jobs have ended, as in the tests of the queue; and what may until it expires.
KEPT = ("job:", "result:", "done:", "inbox:", "idem:", "tenant:", "list:", "batch:", "kids:", "lists", "events", "outbox", "stats",
        "seq", "sched", "idle", "beat", "cache", "garbage", "purges")
EXPIRING = "items:", "plans:", "calm", "alone:by"


def submitting(stage, url, ids, count, over, *options):
    return stage.spawn(stage.binary, "chaos-submit", "--redis", url, "--ids", ids, "--count", count, "--over", over, *options,
                       output=subprocess.PIPE)


def submitted(process, limit=ENDED):
    printed, _ = process.communicate(timeout=limit)
    if process.returncode:
        raise RuntimeError(f"chaos-submit ended with {process.returncode}")
    return json.loads(printed)


def plain(stage, redis, count, over, *options):
    """Jobs that take as long as the options say, acknowledged."""
    ids = tempfile.mktemp(dir=stage.folder)
    sent = submitted(submitting(stage, redis.url, ids, count, over, "--plain", *options))
    assert sent["submitted"] == count
    return ids


def check(stage, redis, ids):
    details = tempfile.mktemp(dir=stage.folder)
    found = stage.ours("chaos-check", "--redis", redis.url, "--ids", ids, "--details", details)
    with open(details) as file:
        return found, [json.loads(line) for line in file]


def verify(stage, redis, follower, crew, ids, sent):
    """Everything that must hold once all jobs have ended."""
    found, jobs = check(stage, redis, ids)
    counters, ends = redis.counters(), follower.all_ends()
    names = "claims", "stalls", "late_results", "interruptions", "retries", "gaps", "coalesced", "cache_hits", "repeated"
    say(f"jobs: {found['jobs']}; batches: {found['batches']}")
    say("counters: " + ", ".join(f"{name} {counters[name]}" for name in names))

    # Each was accepted once and ended once.
    stage.bar(found["wrong"] == 0, f"{found['wrong']} jobs are not as they should be, such as {found['such_as']}")
    number = sum(found["jobs"].values()), sum(found["batches"].values())
    stage.bar(number[0] == sent["submitted"], f"{sent['submitted']} jobs were acknowledged and {number[0]} are there")
    records = len(redis.keys("job:*"))
    stage.bar(records == sum(number), f"{records} records of jobs for {sum(number)} acknowledged")
    wrong = {job: ends[job] for job in ends if ends[job] != 1}
    stage.bar(len(ends) == records and not wrong, f"{len(ends)} of {records} jobs told of their end; not once: {list(wrong.items())[:5]}")
    for state in STATES:
        records = found["jobs"].get(state, 0) + found["batches"].get(state, 0)
        stage.bar(counters["jobs_" + state] == records, f"{counters['jobs_' + state]} jobs were counted as {state}, {records} are")

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
    stage.bar(not wrong, f"{len(wrong)} runs have the results of two workers, or none: {wrong[:5]}")
    wrong = [run for run in runs if any(computed[run, fence] != 1 or claimed[run, fence] != 1 for fence in accepted[run])]
    stage.bar(not wrong, f"{len(wrong)} results were not computed by one worker once: {wrong[:5]}")
    # Not that of one who had lost it to another: the clocks of workers whose own is tampered with are not compared.
    if crew.environment:
        holder, contested = {run: next(iter(accepted[run])) for run in runs}, 0
    wrong = [run for run in runs if holder.get(run) not in accepted[run]]
    stage.bar(not wrong, f"{len(wrong)} runs have the result of a worker that had lost them to another: {wrong[:5]}")
    rivals = sum(len(answers) > 1 for run, answers in answers_of.items() if run in accepted)
    say(f"{len(runs)} runs have one result each, {rivals} of them were computed more than once; {contested} times a worker "
        "handed in what another was computing by then")

    dead = [job for job in jobs if job["state"] == "dead"]
    lost = [max(claims_of[job["request"]["key"]].values(), default=0) for job in dead]
    wrong = [job["job"] for job, times in zip(dead, lost) if job["error"]["code"] != "worker_lost" or times < 3]
    stage.bar(not wrong, f"given up though their workers were not lost three times: {wrong[:5]}")
    if dead:
        say(f"{len(dead)} given up, claimed {sorted(lost)} times each")
    nothing_left(stage, redis)
    return counters


def nothing_left(stage, redis):
    keys = [key for key in redis.keys() if not key.startswith(KEPT)]
    expiring = [key for key in keys if key.startswith(EXPIRING) and redis.number("PTTL", PREFIX + key) != -1]
    left = sorted(set(keys) - set(expiring))
    stage.bar(not left, f"{len(left)} keys are left in Redis: {left[:5]}")
    if expiring:
        # Batches of whose staging Redis did not hear the end: another was staged, and accepted, instead.
        say(f"{len(expiring)} keys expire by themselves: {', '.join(sorted({key.split(':')[0] for key in expiring}))}")
    stage.bar(redis.number("HGET", PREFIX + "sched", "ready") == 0, "some runs count as ready")
    for key in redis.keys("tenant:*"):
        counts = [int(count or 0) for count in redis.call("HMGET", PREFIX + key, "open", "running")]
        stage.bar(counts == [0, 0], f"{key} counts {counts} open and running jobs")
