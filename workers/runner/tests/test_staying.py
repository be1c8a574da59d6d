"""Children that stay for further tasks: what they answer is what a process of its own answers, and those that might not do not stay."""
import json
import os
import random
import signal

import pytest
from conftest import CROSS, DAY_MS, Parent, alive, error, eventually, project, spec

# Trades on the hyperparameter alone, and prints it: so a difference is seen at once.
PLAIN = """
    {head}
    import jesse.indicators as ta
    import numpy as np
    from jesse.strategies import Strategy
    {module}

    class Plain(Strategy):
        {attributes}

        def hyperparameters(self):
            return [{{"name": "period", "type": int, "min": 2, "max": 90, "default": 20}}]

        def before(self):
            if self.index == 0:
                print("period", self.hp["period"], self.seen())

        def seen(self):
            {seen}

        def should_long(self):
            return ta.sma(self.candles, self.hp["period"]) < self.price

        def go_long(self):
            self.buy = self.balance / self.price * 0.5, self.price

        def update_position(self):
            if not self.should_long():
                self.liquidate()
"""

# Each answers another second time than first time, in one process.
KEEPING = {
    "a list of the module": {"module": "SEEN = []", "seen": "SEEN.append(1); return len(SEEN)"},
    "a dictionary of the class": {"attributes": "memo = {}", "seen": "return self.memo.setdefault('first', self.hp['period'])"},
    "a rebound name": {"module": "COUNT = 0", "seen": "global COUNT; COUNT += 1; return COUNT"},
    "a default": {"module": "def note(on=[]):\n        on.append(1)\n        return len(on)", "seen": "return note()"},
    "an array": {"module": "ROW = np.zeros(3)", "seen": "ROW[1] += 1; return ROW.tolist()"},
    "an attribute of the class": {"attributes": "times = 0", "seen": "type(self).times += 1; return self.times"},
    "an object of its own": {"module": "class Box:\n        def __init__(self): self.n = 0\n        def more(self): self.n += 1; return self.n"
                                       "\n    BOX = Box()", "seen": "return BOX.more()"},
    "an iterator": {"head": "import itertools", "module": "NEXT = itertools.count()", "seen": "return next(NEXT)"},
    "a closure": {"module": "def counter():\n        n = [0]\n        def more(): n[0] += 1; return n[0]\n        return more\n    MORE = counter()",
                  "seen": "return MORE()"},
    "a cache": {"head": "import functools", "module": "@functools.lru_cache\n    def first(_): return []",
                "seen": "first(1).append(1); return len(first(1))"},
    "the environment": {"head": "import os", "seen": "os.environ['N'] = os.environ.get('N', '') + '1'; return os.environ['N']"},
    "an attribute of Jesse's": {"seen": "ta.seen = ta.seen + 1 if hasattr(ta, 'seen') else 1; return ta.seen"},
    "the same under another name": {"seen": "other = ta; other.seen = other.seen + 1 if hasattr(other, 'seen') else 1; return other.seen"},
    "numpy's own state": {"seen": "was = np.geterr()['over']; np.seterr(over='ignore'); return was"},
    "its base class": {"seen": "Strategy.times = Strategy.times + 1 if hasattr(Strategy, 'times') else 1; return Strategy.times"},
    "a file": {"seen": "np.save('n', 1); return len([open])"},
    "what is reached around names": {"seen": "self.__class__.times = 1 + self.__class__.__dict__.get('times', 0); return self.times"},
    "a module of another project": {"head": "import string", "seen": "string.seen = 1; return 1"},
    "a state that is set by another name": {"head": "from numpy import seterr as settle", "seen": "return settle(over='ignore')['over']"},
    "its base class by a method": {"seen": "Plain.mark(Strategy); return Strategy.times",
                                   "attributes": "def mark(self): self.times = self.times + 1 if hasattr(self, 'times') else 1"},
    "a deque": {"head": "from collections import deque", "module": "LAST = deque(maxlen=3)", "seen": "LAST.append(self.hp['period']); return list(LAST)"},
}


def plain(folder, head="", module="", attributes="pass", seen="return 0"):
    return project(folder, Plain=PLAIN.format(head=head, module=module, attributes=attributes, seen=seen))


@pytest.fixture(scope="module", params=["off", "auto"])
def staying(request, tmp_path_factory, months):
    arguments = ["--sandbox", request.param, "--readable", os.path.dirname(months[0]), "--staging", str(tmp_path_factory.getbasetemp())]
    parent = Parent({}, [*arguments, "--stay", "2", "--stay-for", "60"])
    if request.param == "auto" and not parent.ready["sandbox"]["active"]:
        parent.close()
        pytest.skip("there is no sandbox here")
    yield parent
    parent.close()


@pytest.fixture
def alone(staying):
    """With nothing left of other tests."""
    for pid in children(staying):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not children(staying))
    return staying


def children(parent):
    """The processes of tasks, by the one that forks them."""
    pid = parent.process.pid
    if parent.ready["sandbox"]["active"]:
        (pid,) = _children(pid)
    return _children(pid)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def stayed(parent, bundle, months, **changes):
    """Does a task; answers its body and the processes that are there a moment later."""
    task = parent.run("backtest", spec(bundle, months, days=3, **changes))
    assert task.last["type"] == "result", task.last
    return task, children(parent)


def test_answers_are_those_of_processes_of_their_own(staying, parent, tmp_path, months):
    bundle = project(tmp_path, Cross=CROSS)
    draw = random.Random(5)
    cases = [{"hyperparameters": {"fast": fast, "slow": slow, "share": share, "side": "both"}, "days": days, "fast_mode": fast_mode}
             for fast, slow, share, days, fast_mode in ((5, 30, 0.5, 20, True), (20, 50, 0.1, 5, False), (50, 200, 0.9, 40, True))]
    cases += [{"benchmark": True}, {"exchange": "Binance Spot", "kind": "spot"},
              {"scenario": {"seed": 3, "pipeline": {"type": "moving_block_bootstrap", "batch_minutes": 1440}}},
              {"scenario": {"seed": 4, "pipeline": {"type": "gaussian_noise", "batch_minutes": 1440, "close_sigma": 0.001,
                                                    "high_sigma": 0.0001, "low_sigma": 0.0001}}},
              {"config": {**spec(bundle, months)["config"], "futures_leverage_mode": "isolated", "futures_leverage": 10}}]
    expected = [parent.run("backtest", spec(bundle, months, **case)).body for case in cases]
    assert len(set(expected)) == len(cases)
    order = [*range(len(cases))] * 3
    draw.shuffle(order)
    seen = set()
    for number in order:
        assert staying.run("backtest", spec(bundle, months, **cases[number])).body == expected[number], cases[number]
        seen.update(children(staying))
    assert len(seen) < len(order) / 2, "most were done by a process that had done others"


def test_a_process_does_further_tasks_and_each_has_its_own_output(alone, tmp_path, months):
    bundle = plain(tmp_path)
    pids = set()
    for period in (5, 30, 60):
        task, there = stayed(alone, bundle, months, hyperparameters={"period": period})
        assert json.loads(task.body)["logs"]["output"] == f"period {period} 0\n"
        assert open(f"{task.scratch}/output.log").read() == f"period {period} 0\n"
        assert (task.exited["status"], task.exited["cause"]) == (0, None) and 0 <= task.exited["cpu_s"] < 30
        pids.update(there)
    assert len(pids) == 1


@pytest.mark.parametrize("what", KEEPING)
def test_what_keeps_something_has_a_process_of_its_own(alone, tmp_path, months, what):
    bundle = plain(tmp_path, **KEEPING[what])
    outputs = []
    for period in (5, 5):
        task, there = stayed(alone, bundle, months, hyperparameters={"period": period})
        outputs.append(json.loads(task.body)["logs"]["output"])
        eventually(lambda: not children(alone))
    assert outputs[0] == outputs[1], "nothing was kept"


def test_code_may_be_in_several_files(alone, tmp_path, months):
    bundle = plain(tmp_path, head="import shared\n    from shared.sums import double", seen="return double(shared.ONE)")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "__init__.py").write_text("ONE = 1\n")
    (tmp_path / "shared" / "sums.py").write_text("def double(number):\n    return number * 2\n")
    pids = set()
    for _ in range(3):
        task, there = stayed(alone, bundle, months)
        assert json.loads(task.body)["logs"]["output"] == "period 20 2\n"
        pids.update(there)
    assert len(pids) == 1


@pytest.mark.parametrize("files", [
    {"shared.py": "SEEN = []\n\ndef more():\n    SEEN.append(1)\n    return len(SEEN)\n"},
    {"shared.py": "import os\n\ndef more():\n    return 1\n"},
    {"shared.py": "def more():\n    return 1\n", "shared/native.so": ""},
])
def test_other_files_count_as_well(alone, tmp_path, months, files):
    bundle = plain(tmp_path, head="import shared", seen="return shared.more()")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for _ in range(2):
        task, there = stayed(alone, bundle, months)
        assert json.loads(task.body)["logs"]["output"] == "period 20 1\n"
        eventually(lambda: not children(alone))


def test_other_code_and_other_limits_have_other_processes(alone, tmp_path, months):
    first, second = plain(tmp_path / "first"), plain(tmp_path / "second", module="ANOTHER = 1")
    _, one = stayed(alone, first, months)
    _, two = stayed(alone, second, months)
    assert len(two) == 2 and set(one) < set(two)
    alone.run("backtest", spec(first, months, days=3), {"memory_mb": 700})
    eventually(lambda: len(children(alone)) == 2 and set(one).isdisjoint(children(alone)))  # the one that waited longest has gone


def test_a_process_whose_task_failed_does_not_stay(alone, tmp_path, months):
    bundle = plain(tmp_path, seen="return 1 / (self.hp['period'] - 7)")
    stayed(alone, bundle, months)
    failure = error(alone.run("backtest", spec(bundle, months, days=3, hyperparameters={"period": 7})), "strategy_error")
    assert failure["message"].startswith("ZeroDivisionError: division by zero (strategies/Plain/__init__.py:")
    assert alone.folder not in json.dumps(failure)
    eventually(lambda: not children(alone))


def test_waiting_has_an_end(tmp_path, months):
    own = Parent({}, ["--stay", "2", "--stay-for", "0.2"])
    try:
        stayed(own, plain(tmp_path), months)
        eventually(lambda: not children(own))
        assert not [name for name in os.listdir(own.folder) if name.startswith("home")]
    finally:
        own.close()


def test_a_further_task_is_stopped_as_any_other(alone, tmp_path, months):
    bundle = plain(tmp_path, seen="return sum(1 for _ in range(10**12 if self.hp['period'] == 9 else 1))")
    _, (pid,) = stayed(alone, bundle, months)
    task = alone.fork("backtest", spec(bundle, months, days=3, hyperparameters={"period": 9}))
    eventually(lambda: task.connected.is_set())
    assert children(alone) == [pid]
    alone.send({"type": "kill", "id": task.id, "grace_ms": 1000})
    assert task.wait(10).exited["cause"] == "killed"
    assert not alive(pid)


def test_limits_hold_for_further_tasks(alone, tmp_path, months):
    bundle = plain(tmp_path, seen="return sum(1 for _ in range(10**12 if self.hp['period'] == 9 else 1))")
    limits = {"cpu_s": 1}
    alone.run("backtest", spec(bundle, months, days=3), limits)
    (pid,) = children(alone)
    task = alone.run("backtest", spec(bundle, months, days=3, hyperparameters={"period": 9}), limits)
    assert task.exited["cause"] == "cpu" and not alive(pid)
    bundle = plain(tmp_path / "more", seen="return len([0] * (10**10 if self.hp['period'] == 9 else 1))")
    stayed(alone, bundle, months)
    error(alone.run("backtest", spec(bundle, months, days=3, hyperparameters={"period": 9})), "out_of_memory")


def test_each_run_has_the_whole_of_its_memory_and_no_more(alone, tmp_path, months):
    bundle = plain(tmp_path, seen="return len(b'x' * (self.hp['period'] << 23))")
    limits, fits, too_much = {"memory_mb": 256}, {"period": 25}, {"period": 40}
    error(alone.run("backtest", spec(bundle, months, days=3, hyperparameters=too_much), limits), "out_of_memory")
    pids = set()
    for _ in range(3):
        task = alone.run("backtest", spec(bundle, months, days=3, hyperparameters=fits), limits)
        assert task.last["type"] == "result", task.last
        pids.update(children(alone))
    assert len(pids) == 1
    error(alone.run("backtest", spec(bundle, months, days=3, hyperparameters=too_much), limits), "out_of_memory")


def test_one_that_was_lost_while_it_waited_is_not_missed(alone, tmp_path, months):
    bundle = plain(tmp_path)
    first, (pid,) = stayed(alone, bundle, months)
    os.kill(pid, signal.SIGKILL)
    second, _ = stayed(alone, bundle, months)
    assert first.body == second.body


def test_all_end_with_the_runner(tmp_path, months):
    own = Parent({}, ["--stay", "4", "--stay-for", "60"])
    try:
        stayed(own, plain(tmp_path), months)
        running = own.fork("backtest", spec(plain(tmp_path / "long", seen="return time.sleep(60)", head="import time"), months, days=3))
        eventually(lambda: running.connected.is_set())
        there = children(own)
        assert len(there) == 2
    finally:
        own.close()
    eventually(lambda: not any(alive(pid) for pid in there))


def test_candles_are_read_anew(staying, tmp_path, months):
    bundle = plain(tmp_path)
    january = spec(bundle, months, days=3)
    march = {**january, "start_ms": january["start_ms"] + 30 * DAY_MS, "finish_ms": january["finish_ms"] + 30 * DAY_MS,
             "warmup_start_ms": january["warmup_start_ms"] + 30 * DAY_MS}
    bodies = [staying.run("backtest", args).body for args in (january, march, january)]
    assert bodies[0] == bodies[2] != bodies[1]
