"""The process that forks: what it says of itself, how tasks end and are ended, and that nothing outlives them or it."""
import json
import os
import signal
import struct
import textwrap

import pytest
from conftest import LIMITS, PACKAGE_PARENT, Parent, acting, alive, eventually, spec


def test_exit_status(parent, tmp_path, months):
    task = parent.run("backtest", spec(acting(tmp_path, "os._exit(3)"), months))
    assert (task.exited["status"], task.exited["signal"], task.exited["cause"]) == (3, None, None)
    assert task.last["type"] in ("hello", "progress")


def endless(parent, tmp_path, months, act="while True: pass"):
    """A task that is known to have begun its endless work."""
    task = parent.fork("backtest", spec(acting(tmp_path, "open('begun', 'w').close()\n" + textwrap.dedent(act)), months))
    eventually(lambda: os.path.exists(f"{task.scratch}/begun"))
    return task


@pytest.mark.parametrize("act, killed_by", [
    ("while True: pass", signal.SIGTERM),
    ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('deaf', 'w').close()\nwhile True: pass", signal.SIGKILL),
])
def test_kill(parent, tmp_path, months, act, killed_by):
    task = endless(parent, tmp_path, months, act)
    if "deaf" in act:
        eventually(lambda: os.path.exists(f"{task.scratch}/deaf"))
    parent.send({"type": "kill", "id": "unknown", "grace_ms": 0})
    parent.send({"type": "kill", "id": task.id, "grace_ms": 300})
    task.wait(5)
    assert (task.exited["status"], task.exited["signal"], task.exited["cause"]) == (None, killed_by, "killed")


def test_kill_right_after_fork(parent, cross, months):
    task = parent.fork("backtest", spec(cross, months))
    parent.send({"type": "kill", "id": task.id, "grace_ms": 1000})
    assert task.wait(5).exited["cause"] == "killed"


@pytest.mark.parametrize("leave", ["", "os.setsid()"])
def test_process_left_behind_is_gone(parent, tmp_path, months, leave):
    bundle = acting(tmp_path, f"""
        if self.index == 0 and os.fork() == 0:
            {leave or 'pass'}
            open("left", "w").write(str(os.getpid()))
            if os.fork() == 0:
                open("left2", "w").write(str(os.getpid()))
            time.sleep(60)
        while not (os.path.exists("left2") and open("left2").read()):
            time.sleep(0.01)
    """)
    task = parent.run("backtest", spec(bundle, months))
    assert task.last["type"] == "result"
    for name in ("left", "left2"):
        pid = int(open(f"{task.scratch}/{name}").read())
        eventually(lambda: not alive(pid))


def test_refusals(parent, tmp_path):
    good = {"type": "fork", "task": "scan", "id": "r", "scratch": str(tmp_path), "limits": LIMITS, "args": {}}
    before = len(parent.refused)
    for change in ({"task": "other"}, {"scratch": "relative"}, {"limits": {}}, {"args": None}, {"id": 5}):
        parent.send({**good, **change})
    eventually(lambda: len(parent.refused) == before + 5)
    assert all(refusal["message"] for refusal in parent.refused)


@pytest.fixture
def own_parent():
    own = Parent()
    yield own
    own.close()


def test_children_die_with_the_runner(own_parent, tmp_path, months):
    task = endless(own_parent, tmp_path, months)
    own_parent.process.kill()
    eventually(lambda: not alive(task.pid))


@pytest.mark.parametrize("stop", ["eof", "sigterm"])
def test_end_of_the_runner_ends_all(own_parent, tmp_path, months, stop):
    task = endless(own_parent, tmp_path, months, """
        if os.fork() == 0:
            os.setsid()
            open("left", "w").write(str(os.getpid()))
        time.sleep(60)
    """)
    eventually(lambda: os.path.exists(f"{task.scratch}/left") and open(f"{task.scratch}/left").read())
    if stop == "eof":
        own_parent.control.shutdown(2)
    else:
        own_parent.process.send_signal(signal.SIGINT)  # ignored
        own_parent.process.terminate()
    assert own_parent.process.wait(5) == 0
    assert own_parent.process.stdout.read() == b""
    assert not alive(task.pid) and not alive(int(open(f"{task.scratch}/left").read()))


def test_slow_parent_and_split_frames(own_parent, tmp_path):
    """Requests in single bytes, and answers that are not read for a while, must not stop anything."""
    payload = b"J" + json.dumps({"type": "fork", "id": "x", "task": "y" * 100}).encode()
    data = struct.pack(">I", len(payload)) + payload
    for byte in data:
        own_parent.control.sendall(bytes([byte]))
    own_parent.control.sendall(data * 20_000)
    eventually(lambda: len(own_parent.refused) == 20_001, 60)


def test_ready(parent):
    ready = parent.ready
    assert (ready["pid"], ready["jesse_version"], ready["engine"]) == (parent.process.pid, "3.5.3", "runner/1")
    assert ready["packages"]["jesse"] == "3.5.3" and ready["cpu"]["model"] and "1D" in ready["timeframes"]
    bybit = ready["exchanges"]["Bybit USDT Perpetual"]
    assert (bybit["type"], bybit["fee"], bybit["settlement_currency"], bybit["annualization"]) == ("futures", 0.00055, "USDT", 365)
    assert bybit["leverage_modes"] == ["cross", "isolated"] and bybit["simulation_model"] == "perpetual_futures"
    fds = os.listdir(f"/proc/{ready['pid']}/fd")
    assert len(fds) == 7, fds  # three standard streams, control, wakeup pair, epoll


def test_package_holds_what_it_needs():
    assert "jesse==3.5.3" in (PACKAGE_PARENT / "runner" / "requirements.txt").read_text().splitlines()
