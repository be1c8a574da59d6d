"""The sandbox on the real kernel: what it stops, and that it changes no figure. Skipped where the kernel forbids it."""
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import BOMBS, CROSS, PACKAGE_PARENT, Parent, acting, alive, error, eventually, project, spec


@pytest.fixture(scope="module")
def boxed(tmp_path_factory, months):
    parent = Parent({}, ["--sandbox", "auto", "--readable", os.path.dirname(months[0]), "--staging", str(tmp_path_factory.getbasetemp())])
    if not parent.ready["sandbox"]["active"]:
        reason = parent.ready["sandbox"]["reason"]
        parent.close()
        pytest.skip(f"there is no sandbox here: {reason}")
    yield parent
    parent.close()


def fate(parent, tmp_path, months, act, **limits):
    """What a strategy that does this on its first candle says of it."""
    lines = "\n".join("    " + line for line in act.splitlines())
    bundle = acting(tmp_path, f"try:\n{lines}\n    print('done')\nexcept OSError as error:\n    print(error.strerror)\nraise KeyError")
    task = parent.run("backtest", spec(bundle, months), limits)
    error(task, "strategy_error")
    if parent.ready["sandbox"]["active"]:
        assert os.listdir(task.scratch) == ["output.log"], "all else was in a file system of its own"
    return printed(task)


def printed(task):
    with open(f"{task.scratch}/output.log") as log:
        return log.read().strip()


@pytest.mark.parametrize("fast_mode", [True, False])
def test_figures_are_the_same(boxed, parent, tmp_path, months, fast_mode):
    args = spec(project(tmp_path, Cross=CROSS), months, fast_mode=fast_mode, days=8, benchmark=True)
    bodies = [json.loads(runner.run("backtest", args).body) for runner in (parent, boxed)]
    for body in bodies:
        for trade in body["trades"]:
            for entry in (trade, *trade["orders"]):
                for name in ("id", "trade_id", "session_id"):
                    entry.pop(name, None)
    assert bodies[0]["metrics"] == bodies[1]["metrics"] and bodies[0]["equity_curve"] == bodies[1]["equity_curve"]
    assert bodies[0]["benchmark_curve"] == bodies[1]["benchmark_curve"]
    assert [trade["PNL"] for trade in bodies[0]["trades"]] == [trade["PNL"] for trade in bodies[1]["trades"]] != []


def test_no_network(boxed, parent, tmp_path, months):
    with socket.create_server(("127.0.0.1", 0)) as server:
        act = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert fate(parent, tmp_path, months, act) == "done"
        assert fate(boxed, tmp_path, months, act) in ("Network is unreachable", "Connection refused")
    udp = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"
    assert fate(boxed, tmp_path, months, udp) == "Network is unreachable"


def test_socket_of_the_runner_is_out_of_reach(boxed, tmp_path, months):
    act = f"import socket; socket.socket(socket.AF_UNIX).connect({boxed.path!r})"
    assert fate(boxed, tmp_path, months, act) == "No such file or directory"


@pytest.mark.parametrize("path", ["/usr/new", "/tmp/new", "/dev/new", os.path.join(sys.prefix, "new"), "/proc/sys/kernel/hostname"])
def test_nothing_outside_can_be_written(boxed, tmp_path, months, path):
    assert fate(boxed, tmp_path, months, f"open({path!r}, 'w').write('x')") == "Read-only file system"
    assert not os.path.exists("/usr/new")


def test_candles_can_be_read_and_not_written(boxed, tmp_path, months):
    assert fate(boxed, tmp_path, months, f"open({months[0]!r}, 'rb')") == "done"
    assert fate(boxed, tmp_path, months, f"open({months[0]!r}, 'r+b')") == "Read-only file system"


def test_what_is_not_needed_cannot_be_seen(boxed, tmp_path, months):
    secret = tmp_path / "secret"
    secret.write_text("x")
    for path in (secret, "/etc/passwd", "/etc/shadow", "/home", "/var", "/run", "/boot"):
        assert fate(boxed, tmp_path, months, f"os.stat({str(path)!r})") == "No such file or directory", path


def test_scratch_folder_and_temporary_files_can_be_written(boxed, tmp_path, months):
    act = "import tempfile\nopen('here', 'w').write('x')\ntempfile.TemporaryFile().write(b'x')\ntempfile.mkdtemp()"
    assert fate(boxed, tmp_path, months, act) == "done"


def test_other_tasks_are_out_of_sight(boxed, tmp_path, months):
    act = """print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()), os.getpid(), os.getppid())
print(sorted(set(os.listdir('.')) - {'strategies', 'storage'}))"""
    assert fate(boxed, tmp_path, months, act).splitlines() == ["[1] 1 0", "[]", "done"]


@pytest.mark.parametrize("act", [
    "open(f'/proc/{2}/environ', 'rb').read()",
    "os.kill(2, 9)",
])
def test_other_processes_are_out_of_reach(boxed, tmp_path, months, act):
    assert fate(boxed, tmp_path, months, act) in ("No such file or directory", "No such process")


def test_no_privileges_and_no_way_to_get_them_back(boxed, tmp_path, months):
    act = """status = dict(line.split(':', 1) for line in open('/proc/self/status'))
print({status[name].strip() for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}, status['NoNewPrivs'].strip())
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x00020000, 0x40000000):
    print(libc.unshare(flag))
print(libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None))"""
    assert fate(boxed, tmp_path, months, act).splitlines() == ["{'0000000000000000'} 1", "-1", "-1", "-1", "-1", "done"]


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb(boxed, tmp_path, months, bomb):
    task = boxed.run("backtest", spec(acting(tmp_path, BOMBS[bomb]), months), {"processes": 16})
    assert (task.exited["signal"], task.exited["cause"]) == (signal.SIGKILL, "processes")
    assert fate(boxed, tmp_path, months, "pass") == "done"


def test_limits_hold(boxed, tmp_path, months):
    task = boxed.run("backtest", spec(acting(tmp_path, "while True: pass"), months), {"cpu_s": 1})
    assert task.exited["cause"] == "cpu"
    task = boxed.run("backtest", spec(acting(tmp_path, "np.ones(10**11)"), months), {"memory_mb": 256})
    error(task, "out_of_memory")


@pytest.mark.parametrize("act", ["[open(str(number), 'w').write('x' * 2**20) for number in range(100)]",
                                 "[open(str(number), 'w').close() for number in range(20_000)]"])
def test_files_have_their_bounds(boxed, tmp_path, months, act):
    """There is room for two of the largest, and for some thousands of small ones."""
    assert fate(boxed, tmp_path, months, act, file_mb=4) == "No space left on device"
    assert fate(boxed, tmp_path, months, "open('fits', 'w').write('x' * 3 * 2**20)", file_mb=4) == "done"


def test_kill(boxed, tmp_path, months):
    task = boxed.fork("backtest", spec(acting(tmp_path, "print('begun')\nwhile True: pass"), months))
    eventually(lambda: os.path.exists(f"{task.scratch}/output.log") and printed(task) == "begun")
    boxed.send({"type": "kill", "id": task.id, "grace_ms": 60_000})
    assert task.wait(5).exited["cause"] == "killed"


def test_errors_have_no_path_of_this_machine(boxed, tmp_path, months):
    failure = error(boxed.run("backtest", spec(acting(tmp_path, "raise ValueError('no')"), months)), "strategy_error")
    assert failure["message"] == "ValueError: no (strategies/Acting/__init__.py:8)"
    assert boxed.folder not in json.dumps(failure)


def test_scan_and_describe(boxed, tmp_path):
    bundle = project(tmp_path, Cross=CROSS)
    assert [entry["name"] for entry in boxed.run("scan", {"root": bundle}).last["value"]["strategies"]] == ["Cross"]
    assert boxed.run("describe", {"bundle": bundle, "strategy": "Cross"}).last["value"]["doc"] == "Follows two averages."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_end_of_the_outer_process_ends_all(boxed, tmp_path, months, number):
    own = Parent({}, ["--sandbox", "on", "--readable", os.path.dirname(months[0]), "--staging", str(tmp_path)])
    try:
        task = own.fork("backtest", spec(acting(tmp_path, "print('begun')\ntime.sleep(60)"), months))
        eventually(lambda: os.path.exists(f"{task.scratch}/output.log") and printed(task) == "begun")
        before = descendants(own.process.pid)
        assert len(before) == 3
        own.process.send_signal(number)
        own.process.wait(10)
        eventually(lambda: not any(alive(pid) for pid in before))
    finally:
        own.close()


def descendants(pid):
    found = [pid]
    for parent in found:
        with open(f"/proc/{parent}/task/{parent}/children") as children:
            found.extend(int(child) for child in children.read().split())
    return found


def test_where_the_kernel_forbids_it_auto_goes_without_and_on_refuses(months):
    """Inside a user namespace that allows no more of them, as on a hardened system."""
    forbid = ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    if subprocess.run([*forbid, "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare is not there, or user namespaces are not allowed")
    with_auto = Parent({}, ["--sandbox", "auto"], forbid)
    try:
        sandbox = with_auto.ready["sandbox"]
        assert not sandbox["active"] and "unshare" in sandbox["reason"]
    finally:
        with_auto.close()
    command = [*forbid, sys.executable, "-m", "runner", f"{with_auto.folder}/none", "--sandbox", "on"]
    refused = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PACKAGE_PARENT)}, capture_output=True, text=True)
    assert refused.returncode == 1 and "the sandbox cannot be set up: " in refused.stderr
