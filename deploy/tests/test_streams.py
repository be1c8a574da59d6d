"""Server-sent events and subscriptions of MCP through HAProxy."""
import json
import re
import threading
import time

from stack import DEPLOY, LIMIT_S, Stack, analysis, post, stop, until

TIMEOUT_S = 20
"""In place of the 330 s of the file that is shipped; an instance sends something every 15 s."""

MCP = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28"}


class Stream:
    """What comes over a connection that stays open, with the time of each line."""

    def __init__(self, stack, method, path, body=None, headers=None):
        connection = stack.client(timeout=LIMIT_S)
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} | (headers or {}))
        self.answer, self.lines, self.broken = connection.getresponse(), [], None
        assert self.answer.status == 200, self.answer.read()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            while line := self.answer.readline():
                self.lines.append(line.decode().strip())
        except Exception as error:  # a cut in the middle of a chunk
            self.broken = repr(error)

    def is_open(self):
        return self.thread.is_alive()

    def events(self):
        return [json.loads(line.removeprefix("data:")) for line in list(self.lines) if line.startswith("data:") and line != "data:"]


def listen(stack, job):
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"notifications": {"resourceSubscriptions": [f"job://{job}"]}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    return Stream(stack, "POST", "/mcp", body, MCP | {"Mcp-Method": "subscriptions/listen"})


def test_streams_outlive_the_time_outs_and_the_draining_of_their_instance(tmp_path):
    shipped = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    own = tmp_path / "haproxy.cfg"
    own.write_text(re.sub(r"(timeout (?:client|server|tunnel)) 330s", rf"\1 {TIMEOUT_S}s", shipped))
    assert own.read_text().count(f" {TIMEOUT_S}s") == 3
    stack = Stack(tmp_path, apis=2, workers=1, proxy_config=own)
    try:
        own_machine = stack.direct(0)
        answer, body = post(own_machine, "/v1/queue/pause", {})
        assert answer.status == 200, body
        client = stack.client()
        answer, body = post(client, "/v1/jobs", analysis(1))
        job = json.loads(body)["job_id"]
        # Two of each, so that both instances have some.
        streams = [Stream(stack, "GET", f"/v1/jobs/{job}/events") for _ in range(2)] + [listen(stack, job) for _ in range(2)]
        begin = time.monotonic()
        until("more than twice the time-out has passed", lambda: time.monotonic() - begin > 2.2 * TIMEOUT_S)
        assert all(stream.is_open() for stream in streams), [stream.broken for stream in streams]

        drained = threading.Thread(target=stack.instance, args=("drain", "api1"))
        drained.start()
        until("it is being drained", lambda: "DRAIN" in stack.proxy_states())
        assert all(stream.is_open() for stream in streams) and drained.is_alive()
        # Others are served by the other one meanwhile; a connection that was idle for longer than the time-out is gone.
        client = stack.client()
        client.request("GET", f"/v1/jobs/{job}")
        assert json.loads(client.getresponse().read())["state"] == "queued"
        post(own_machine, "/v1/queue/resume", {})
        for stream in streams:
            stream.thread.join(LIMIT_S)
            assert not stream.is_open() and stream.broken is None, stream.broken
        for stream in streams[:2]:
            assert [event["state"] for event in stream.events()][-1] == "succeeded", stream.lines
        for stream in streams[2:]:
            assert any(event.get("method") == "notifications/resources/updated" for event in stream.events()), stream.lines
        drained.join(LIMIT_S)
        assert not drained.is_alive()
        stop(stack.apis[0])
        answer, body = post(client, "/v1/jobs?wait=60", analysis(2))
        assert json.loads(body)["state"] == "succeeded", body
    finally:
        stack.close()
