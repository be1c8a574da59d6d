"""Clients that behave: each request at its time, and when the answer says Retry-After, again after it. What they sent and what they were
answered is written down."""
import http.client
import json
import random
import threading
import time
from collections import Counter

from stack import analysis

LONGEST_RETRY_S = 60
CLIENTS = 24


class Load:
    """`rate` requests a second: submits under an Idempotency-Key, reads, waits for jobs, and listings."""

    def __init__(self, stack, rate):
        self.stack, self.pause = stack, CLIENTS / rate
        self.answers, self.noticed, self.acknowledged, self.slowest = Counter(), [], [], 0.0
        self.lock, self.number, self.stopping = threading.Lock(), 0, threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(seed,), daemon=True) for seed in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(LONGEST_RETRY_S + 30)
            assert not thread.is_alive(), "a client hangs"

    def work(self, seed):
        choice, connection = random.Random(seed), self.stack.client()
        due = time.monotonic() + choice.random() * self.pause
        while not self.stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.pause, time.monotonic() - 1)
            try:
                self.one(connection, choice)
            except Exception as error:  # whatever it is, a client has noticed it
                with self.lock:
                    self.noticed.append(repr(error))
                connection.close()
        connection.close()

    def one(self, connection, choice):
        with self.lock:
            self.number += 1
            number = self.number
            known = choice.choice(self.acknowledged) if self.acknowledged else None
        dice = choice.random()
        if known is None or dice < 0.5:
            body = self.ask(connection, "submit", "POST", "/v1/jobs", analysis(number), {"Idempotency-Key": f"load-{number}"})
            with self.lock:
                self.acknowledged.append(body["job_id"])
        elif dice < 0.8:
            self.ask(connection, "read", "GET", f"/v1/jobs/{known}")
        elif dice < 0.95:
            self.ask(connection, "wait", "GET", f"/v1/jobs/{known}?wait=2")
        else:
            self.ask(connection, "list", "GET", "/v1/jobs?limit=5")

    def ask(self, connection, what, method, path, body=None, headers=None):
        """The first answer that is no Retry-After. Anything else than success is an error."""
        begin = time.monotonic()
        text = None if body is None else json.dumps(body)
        while True:
            try:
                connection.request(method, path, text, {"Content-Type": "application/json"} | (headers or {}))
                answer = connection.getresponse()
                content = answer.read()
            except http.client.RemoteDisconnected:
                # HTTP/1.1: the proxy may close a connection that is idle; the request on it was not read, and all of ours may be sent again.
                self.tally(what, "connection closed while idle")
                connection.close()
                continue
            self.tally(what, answer.status)
            if answer.status < 300:
                with self.lock:
                    self.slowest = max(self.slowest, time.monotonic() - begin)
                return json.loads(content)
            wait = answer.getheader("Retry-After")
            if wait is None or time.monotonic() - begin > LONGEST_RETRY_S:
                raise AssertionError(f"{method} {path}: {answer.status} {content[:300]!r}")
            time.sleep(min(float(wait), 10))

    def tally(self, what, status):
        with self.lock:
            self.answers[what, status] += 1

    def table(self):
        rows = [f"{'request':8} {'answer':>28} {'times':>8}"]
        rows += [f"{what:8} {status!s:>28} {times:8}" for (what, status), times in sorted(self.answers.items(), key=str)]
        return "\n".join(rows)


def check(stack, load):
    """All that was acknowledged has ended well, and nothing was computed twice."""
    assert not load.noticed, f"{len(load.noticed)} noticed, first: {load.noticed[:3]}"
    jobs, connection = load.acknowledged, stack.client()
    assert len(set(jobs)) == len(jobs), "two submits were answered with one job"
    for job in jobs:
        ended = load.ask(connection, "check", "GET", f"/v1/jobs/{job}?wait=30")
        assert ended["state"] == "succeeded", ended
    counted = stack.counters()
    handed_back = counted.get("interruptions", 0)
    assert counted["submitted"] == len(jobs), counted
    assert counted["claims"] - handed_back == len(jobs), counted
    assert counted.get("stalls", 0) == counted.get("late_results", 0) == 0, counted
    return counted
