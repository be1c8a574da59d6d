"""What a run may use, how much of what it prints is kept, and that it is given no credentials."""
import json
import os
import re
import signal

import pytest
from conftest import BOMBS, acting, error, eventually, spec


@pytest.mark.parametrize("act", [
    "eaten = []\nwhile True: eaten.append(bytearray(100_000))",
    "eaten = []\nwhile True: eaten.append(object())",
    "np.ones(10**11)",
])
def test_memory_eater_reports(parent, tmp_path, months, act):
    task = parent.run("backtest", spec(acting(tmp_path, act), months), {"memory_mb": 256})
    assert "memory limit" in error(task, "out_of_memory")["message"]
    assert task.exited["max_rss_kb"] < 1024 * 1024


def test_memory_the_data_limit_does_not_count(parent, tmp_path, months):
    bundle = acting(tmp_path, """
        import mmap
        shared = mmap.mmap(-1, 2**30)
        for offset in range(0, 2**30, 4096):
            shared[offset] = 1
        time.sleep(20)
    """)
    task = parent.run("backtest", spec(bundle, months), {"memory_mb": 128})
    assert (task.exited["status"], task.exited["signal"], task.exited["cause"]) == (None, signal.SIGKILL, "memory")


@pytest.mark.parametrize("act", ["while True: pass", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"])
def test_cpu_limit(parent, tmp_path, months, act):
    task = parent.run("backtest", spec(acting(tmp_path, act), months), {"cpu_s": 1})
    assert task.exited["cause"] == "cpu" and task.exited["cpu_s"] >= 0.9


def test_print_flood_is_bounded(parent, tmp_path, months):
    task = parent.run("backtest", spec(acting(tmp_path, "while True: print('x' * 1000)"), months), {"file_mb": 1})
    assert "a file may have 1 MB, and so may all that is printed" in error(task, "strategy_error")["message"]
    assert os.path.getsize(f"{task.scratch}/output.log") <= 1024 * 1024


def test_file_limit(parent, tmp_path, months):
    bundle = acting(tmp_path, "open('big', 'wb').write(bytes(2**21))")
    task = parent.run("backtest", spec(bundle, months), {"file_mb": 1})
    assert "a file may have 1 MB" in error(task, "strategy_error")["message"]
    assert os.path.getsize(f"{task.scratch}/big") == 2**20


@pytest.mark.parametrize("bomb", ["processes", "threads"])
def test_bomb(parent, tmp_path, months, bomb):
    task = parent.run("backtest", spec(acting(tmp_path, BOMBS[bomb]), months), {"processes": 16})
    assert (task.exited["signal"], task.exited["cause"]) == (signal.SIGKILL, "processes")
    eventually(lambda: not children(parent))


def children(parent):
    pid = parent.ready["pid"]
    return open(f"/proc/{pid}/task/{pid}/children").read().split()


def test_cpu_limit_counts_all_processes(parent, tmp_path, months):
    bundle = acting(tmp_path, """
        for _ in range(8):  # each within its own limit
            if os.fork() == 0:
                while True: pass
        time.sleep(60)
    """)
    task = parent.run("backtest", spec(bundle, months), {"cpu_s": 1})
    assert task.exited["cause"] == "cpu"


def test_output_has_begin_and_end_and_says_what_is_left_out(parent, tmp_path, months):
    bundle = acting(tmp_path, """
        if self.index == 0: print("first")
        print("a" * 500)
        if self.index == 479:
            print("last")
            sys.stdout.flush()
            os.write(2, b"\\xff")
    """)
    task = parent.run("backtest", spec(bundle, months))
    body = json.loads(task.body)
    output = body["logs"]["output"]
    assert output.startswith("first\n") and output.endswith("last\n\ufffd")
    assert 60_000 < len(output) <= 65_600
    (cut,) = re.findall(r"\[\.\.\. (\d+) bytes are left out here \.\.\.\]", output)
    assert int(cut) == os.path.getsize(f"{task.scratch}/output.log") - 64 * 1024


def test_no_credentials(parent, tmp_path, months):
    bundle = acting(tmp_path, "assert not {'EXAMPLE_PASSWORD', 'REDIS_URL', 'AWS_ACCESS_KEY_ID', 'PGPASSWORD'} & set(os.environ)")
    assert parent.run("backtest", spec(bundle, months)).last["type"] == "result"
