"""Drives the real runner over a real socket, with the real Jesse. `pytest tests` in an interpreter that has Jesse."""
import base64
import json
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import EXCHANGE, JANUARY_MS, LIMITS, MINUTE_MS, PACKAGE_PARENT, SYMBOL, Parent, alive, candles, eventually

HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

CROSS = """
    import jesse.indicators as ta
    from jesse import utils
    from jesse.strategies import Strategy


    class Cross(Strategy):
        '''Follows two averages.

        More text.
        '''

        def hyperparameters(self):
            return [
                {"name": "fast", "type": int, "min": 5, "max": 50, "default": 20},
                {"name": "slow", "type": int, "min": 30, "max": 200, "step": 5, "default": 50},
                {"name": "share", "type": float, "min": 0.1, "max": 0.9, "default": 0.5},
                {"name": "side", "type": "categorical", "options": ["long", "both"], "default": "both"},
            ]

        @property
        def rising(self):
            return ta.sma(self.candles, self.hp["fast"]) > ta.sma(self.candles, self.hp["slow"])

        def should_long(self):
            return self.rising

        def should_short(self):
            return self.exchange_type == "futures" and not self.rising

        def should_cancel_entry(self):
            return True

        def go_long(self):
            self.buy = utils.size_to_qty(self.balance * self.hp["share"], self.price, fee_rate=self.fee_rate), self.price

        def go_short(self):
            self.sell = utils.size_to_qty(self.balance * self.hp["share"], self.price, fee_rate=self.fee_rate), self.price

        def update_position(self):
            if self.is_long != self.rising:
                self.liquidate()
"""

# A strategy that does what a test asks for on its first candle.
ACTING = """
    import os, resource, signal, sys, time
    import numpy as np
    from jesse.strategies import Strategy

    class Acting(Strategy):
        def before(self):
            {act}

        def should_long(self):
            return False

        def go_long(self):
            pass
"""


def project(folder, **strategies):
    """A bundle with the given strategies; returns its path."""
    for name, source in strategies.items():
        write(folder, {f"strategies/{name}/__init__.py": source})
    return str(folder)


def acting(folder, act):
    code = textwrap.indent(textwrap.dedent(act), " " * 8).strip()
    return project(folder, Acting=textwrap.dedent(ACTING).format(act=code))


def write(folder, files):
    for path, source in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(source))


def spec(bundle, files, strategy=None, days=20, exchange=EXCHANGE, kind="futures", **changes):
    """The arguments of a run, of the bundle's only strategy unless another is named."""
    strategy = strategy or os.listdir(f"{bundle}/strategies")[0]
    start = JANUARY_MS + 20 * DAY_MS
    return {
        "bundle": bundle,
        "config": {
            "starting_balance": 10_000, "fee": 0.0006, "type": kind, "futures_leverage": 2, "futures_leverage_mode": "cross",
            "exchange": exchange, "warm_up_candles": 240, "annualization": 365,
        },
        "routes": [{"exchange": exchange, "strategy": strategy, "symbol": SYMBOL, "timeframe": "1h"}],
        "data_routes": [],
        "series": [{"exchange": exchange, "symbol": SYMBOL, "files": files}],
        "warmup_start_ms": start - 240 * HOUR_MS,
        "start_ms": start,
        "finish_ms": start + days * DAY_MS,
        "hyperparameters": None,
        "fast_mode": True,
        "benchmark": False,
        "seed": 0,
        **changes,
    }


DIRECT = """
    import json, sys
    import numpy as np
    args = json.load(sys.stdin)
    import jesse.helpers as jh
    jh.is_jesse_project = lambda: False
    from jesse.research import backtest
    route = args["routes"][0]
    rows = np.concatenate([np.load(path) for path in args["series"][0]["files"]])
    part = lambda begin, end: {jh.key(route["exchange"], route["symbol"]): {
        "exchange": route["exchange"], "symbol": route["symbol"], "candles": rows[(rows[:, 0] >= begin) & (rows[:, 0] < end)]}}
    answer = backtest(args["config"], args["routes"], args["data_routes"], part(args["start_ms"], args["finish_ms"]),
        part(args["warmup_start_ms"], args["start_ms"]), generate_equity_curve=True, hyperparameters=args["hyperparameters"],
        fast_mode=args["fast_mode"])
    print("ANSWER", json.dumps({name: answer[name] for name in ("metrics", "trades", "equity_curve")}, default=float))
"""


def direct(args, script=DIRECT):
    """What jesse.research.backtest says in a fresh interpreter that knows nothing of the runner."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], input=json.dumps(args), text=True, cwd=args["bundle"],
                          stdout=subprocess.PIPE, env=environment, check=True)
    return json.loads(done.stdout.partition("ANSWER")[2])


def without_nan(metrics):
    return {name: None if value != value or value in (float("inf"), float("-inf")) else value for name, value in metrics.items()}


@pytest.fixture
def cross(tmp_path):
    return project(tmp_path, Cross=CROSS)


def error(task, code):
    assert task.last["type"] == "error", task.frames
    assert task.last["code"] == code, task.last
    assert (task.exited["status"], task.exited["signal"], task.exited["cause"]) == (0, None, None)
    return task.last


# Results


@pytest.mark.parametrize("days", [20, 65])
def test_significance_is_that_of_a_direct_call(parent, cross, months, days):
    test = {"n_simulations": 300, "random_seed": 11, "mean_block_length": 5}
    task = parent.run("significance_test", spec(cross, months, days=days, **test))
    assert task.last["type"] == "result", task.last
    value, body = task.last["value"], json.loads(task.body)
    call = """rule_significance_test(args["config"], args["routes"], args["data_routes"], part(args["start_ms"], args["finish_ms"]),
        part(args["warmup_start_ms"], args["start_ms"]), n_simulations=300, random_seed=11, bootstrap_mean_block_length=5)
    answer["simulated_means"] = answer["simulated_means"].tolist()"""
    begin, end = DIRECT.index("backtest(args"), DIRECT.index("    print(")
    script = DIRECT[:begin] + call + "\n    print('ANSWER', json.dumps(answer, default=float))\n"
    expected = direct(spec(cross, months, days=days), script.replace("import backtest", "import rule_significance_test"))
    assert end > begin and len(expected["simulated_means"]) == 300
    assert {name: body[name] for name in expected} == expected
    assert all(value[name] == expected[name] for name in expected if name != "simulated_means") and "simulated_means" not in value
    assert sum(value["signals"].values()) == value["n_observations"] == days * 24 - 1 and value["dropped_observations"] == 0
    assert value["signals"]["long"] > 0 and value["signals"]["short"] > 0
    fractions = [frame["fraction"] for frame in task.progress]
    assert fractions and fractions == sorted(fractions) and fractions[-1] <= 1


def test_a_significance_test_needs_three_bars(parent, cross, months):
    args = spec(cross, months, days=2, n_simulations=100, random_seed=0, mean_block_length=1)
    args["routes"][0]["timeframe"] = "1D"
    args["config"]["warm_up_candles"] = 2
    args["warmup_start_ms"] = args["start_ms"] - 2 * DAY_MS
    assert "make 2 bars" in error(parent.run("significance_test", args), "candles_missing")["message"]


@pytest.mark.parametrize("changes", [
    {},
    {"fast_mode": False, "days": 5},
    {"hyperparameters": {"fast": 10, "slow": 30, "share": 0.3, "side": "both"}},
    {"exchange": "Binance Spot", "kind": "spot"},
    {"days": 65},  # reaches into all three files
])
def test_result_is_that_of_a_direct_call(parent, cross, months, changes):
    args = spec(cross, months, **changes)
    task = parent.run("backtest", args)
    expected = direct(args)
    value, body = task.last["value"], json.loads(task.body)
    assert task.last["body"] is True
    assert value["metrics"] == body["metrics"] == without_nan(expected["metrics"])
    assert value["trades"] == len(body["trades"]) == len(expected["trades"]) >= 3
    outcome = ("entry_price", "exit_price", "qty", "opened_at", "closed_at", "fee", "PNL")
    for ours, theirs in zip(body["trades"], expected["trades"]):
        assert [ours[key] for key in outcome] == [theirs[key] for key in outcome]
    (portfolio,) = expected["equity_curve"]
    assert [point["value"] for point in body["equity_curve"]] == [point["value"] for point in portfolio["data"]]
    assert value["equity_points"] == len(body["equity_curve"])
    assert 0 < value["compute_s"] < 30
    assert task.exited["status"] == 0 and task.exited["cpu_s"] > 0 and task.exited["max_rss_kb"] > 10_000


def test_hyperparameters_change_the_result(parent, cross, months):
    totals = {
        parent.run("backtest", spec(cross, months, hyperparameters=values)).last["value"]["metrics"]["net_profit"]
        for values in (None, {"fast": 5, "slow": 30, "share": 0.5}, {"fast": 5, "slow": 30, "share": 0.2})
    }
    assert len(totals) == 3


def test_many_at_once_do_not_affect_each_other(parent, cross, months):
    args = spec(cross, months)
    alone = parent.run("backtest", args).last["value"]["metrics"]
    together = [parent.fork("backtest", args) for _ in range(6)]
    assert all(task.wait().last["value"]["metrics"] == alone for task in together)


def test_progress(parent, cross, months):
    # Long enough for several reports, which come by time, on a fast machine too.
    routes = [{"exchange": EXCHANGE, "strategy": "Cross", "symbol": SYMBOL, "timeframe": "5m"}]
    task = parent.run("backtest", spec(cross, months, days=65, fast_mode=False, routes=routes))
    assert [frame["type"] for frame in task.frames] == ["hello", *["progress"] * len(task.progress), "result"]
    fractions = [frame["fraction"] for frame in task.progress]
    assert len(fractions) >= 3 and fractions[0] == 0 and fractions == sorted(fractions) and fractions[-1] <= 1
    assert task.progress[0]["message"] == "simulated until 2023-01-21"


def test_no_trades(parent, tmp_path, months):
    task = parent.run("backtest", spec(acting(tmp_path, "pass"), months))
    assert task.last["value"]["metrics"]["total"] == 0
    body = json.loads(task.body)
    assert (task.last["value"]["trades"], body["trades"], body["equity_curve"]) == (0, [], [])


def test_benchmark_follows_the_price(parent, cross, months):
    body = json.loads(parent.run("backtest", spec(cross, months, benchmark=True)).body)
    curve = [point["value"] for point in body["benchmark_curve"][SYMBOL]]
    rows = np.concatenate([np.load(path) for path in months])
    closes = rows[20 * 1440 : 40 * 1440].reshape(20, 1440, 6)[:, -1, 2]
    assert curve == pytest.approx(list(10_000 * closes / closes[0]))


def test_several_symbols(parent, cross, months, tmp_path):
    np.save(tmp_path / "eth.npy", candles(2, 60 * 1440))
    args = spec(cross, months)
    args["routes"].append({**args["routes"][0], "symbol": "ETH-USDT", "timeframe": "15m"})
    args["data_routes"] = [{"exchange": EXCHANGE, "symbol": "ETH-USDT", "timeframe": "4h"}]
    args["series"].append({"exchange": EXCHANGE, "symbol": "ETH-USDT", "files": [str(tmp_path / "eth.npy")]})
    first, second = (parent.run("backtest", args) for _ in range(2))
    assert first.last["value"]["metrics"] == second.last["value"]["metrics"]
    assert {trade["symbol"] for trade in json.loads(first.body)["trades"]} == {SYMBOL, "ETH-USDT"}


@pytest.mark.parametrize("gaps", [
    [(5 * 1440, 5 * 1440 + 7)],  # before all that is used
    [(20 * 1440 - 30, 20 * 1440 + 45), (25 * 1440, 27 * 1440), (31 * 1440 - 5, 31 * 1440 + 5)],  # over the start and two files
    [(9 * 1440, 11 * 1440)],  # over the start of the warm-up
])
def test_gaps_repeat_the_last_close_when_that_is_asked_for(parent, cross, months, tmp_path, gaps):
    whole, gappy = [], []
    rows = np.concatenate([np.load(path) for path in months])
    filled, missing = rows.copy(), np.zeros(len(rows), bool)
    for first, last in gaps:
        missing[first:last] = True
        filled[first:last, 1:5] = rows[first - 1, 2]
        filled[first:last, 5] = 0
    offset = 0
    for number, path in enumerate(months):
        part = slice(offset, offset := offset + len(np.load(path)))
        for name, kept, paths in (("whole", filled[part], whole), ("gappy", rows[part][~missing[part]], gappy)):
            paths.append(str(tmp_path / f"{name}-{number}.npy"))
            np.save(paths[-1], kept)
    args = spec(cross, gappy, fill_gaps=True)
    task, expected = parent.run("backtest", args), parent.run("backtest", spec(cross, whole))
    assert json.loads(task.body)["trades"] != [] and task.last["value"]["metrics"] == expected.last["value"]["metrics"]
    assert parent.run("backtest", spec(cross, whole, fill_gaps=True)).last["value"]["metrics"] == task.last["value"]["metrics"]


def test_seed_makes_chance_repeatable(parent, tmp_path, months):
    bundle = acting(tmp_path, """
        if self.index == 0:
            import random
            print("drew", random.random(), np.random.random())
    """)
    draws = [json.loads(parent.run("backtest", spec(bundle, months, seed=seed)).body)["logs"]["output"]
             for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2] and draws[0].startswith("drew")


def test_edited_strategy_is_picked_up(parent, cross, months, tmp_path):
    before = parent.run("backtest", spec(cross, months)).last["value"]["metrics"]["net_profit"]
    project(tmp_path, Cross=CROSS.replace('"default": 20', '"default": 11'))
    assert parent.run("backtest", spec(cross, months)).last["value"]["metrics"]["net_profit"] != before
    assert not list(tmp_path.rglob("__pycache__"))


def test_class_with_another_name_is_found_and_its_source_left_alone(parent, tmp_path, months):
    bundle = project(tmp_path, Renamed=CROSS)
    assert parent.run("backtest", spec(bundle, months)).last["type"] == "result"
    assert "class Cross(" in (tmp_path / "strategies/Renamed/__init__.py").read_text()


def test_strategy_finds_its_helpers_and_files(parent, tmp_path, months):
    bundle = acting(tmp_path, """
        from runner import name
        from strategies.Acting.near import there
        assert (name, there, open("strategies/Acting/data.txt").read()) == ("mine", 1, "x")
        assert not os.path.lexists("storage/mine")
        self.done = True
    """)
    write(tmp_path, {"runner.py": "name = 'mine'", "strategies/Acting/near.py": "there = 1", "strategies/Acting/data.txt": "x",
                     "storage/mine": ""})
    assert parent.run("backtest", spec(bundle, months)).last["type"] == "result"


# Errors


def test_strategy_not_found(parent, cross, months):
    for name in ("Nope", "../Cross", "no-name"):
        error(parent.run("backtest", spec(cross, months, strategy=name)), "strategy_not_found")


def test_module_without_a_strategy(parent, tmp_path, months):
    bundle = project(tmp_path, Empty="x = 1")
    assert "class Empty" in error(parent.run("backtest", spec(bundle, months)), "strategy_not_found")["message"]


def test_syntax_error(parent, tmp_path, months):
    failure = error(parent.run("backtest", spec(project(tmp_path, Broken="x = 1\nif:\n"), months)), "strategy_error")
    assert failure["message"] == "SyntaxError: invalid syntax (strategies/Broken/__init__.py:2)"
    assert failure["detail"]["phase"] == "import" and failure["detail"]["exception"] == "SyntaxError"


def test_missing_module(parent, tmp_path, months):
    failure = error(parent.run("backtest", spec(project(tmp_path, Lost="import nowhere"), months)), "strategy_error")
    assert failure["message"] == "ModuleNotFoundError: No module named 'nowhere' (strategies/Lost/__init__.py:1)"


def test_raising_strategy(parent, tmp_path, months):
    failure = error(parent.run("backtest", spec(acting(tmp_path, "raise ValueError('boom ' * 2000)"), months)), "strategy_error")
    assert failure["message"].startswith("ValueError: boom boom")
    assert failure["message"].endswith("(strategies/Acting/__init__.py:8)")
    assert len(failure["message"]) <= 2048
    assert failure["detail"]["phase"] == "run"
    assert 'File "strategies/Acting/__init__.py", line 8, in before' in failure["detail"]["traceback"]
    assert str(tmp_path) not in json.dumps(failure) and sys.prefix not in json.dumps(failure)


@pytest.mark.parametrize("act, start", [
    ("sys.exit('enough')", "SystemExit: enough ("),
    ("self.before()", "RecursionError: "),
    ("raise KeyboardInterrupt", "KeyboardInterrupt ("),
    ("self.get_candles(self.exchange, self.symbol, '7m')", "InvalidTimeframe: "),
])
def test_other_ways_to_fail(parent, tmp_path, months, act, start):
    failure = error(parent.run("backtest", spec(acting(tmp_path, act), months)), "strategy_error")
    assert failure["message"].startswith(start)


def test_abstract_strategy(parent, tmp_path, months):
    source = "from jesse.strategies import Strategy\n\nclass Half(Strategy):\n    pass\n"
    failure = error(parent.run("backtest", spec(project(tmp_path, Half=source), months)), "strategy_error")
    assert "abstract method" in failure["message"]


@pytest.mark.parametrize("change", [
    lambda args: args["routes"].clear(),
    lambda args: args["routes"].append(args["routes"][0]),
    lambda args: args["routes"][0].update(timeframe="7m"),
    lambda args: args["config"].update(type="options"),
    lambda args: args["config"].update(annualization=300),
    lambda args: args.pop("config"),
    lambda args: args.update(bundle="/nonexistent"),
    lambda args: args.update(bundle=5),
    lambda args: args.update(benchmark=True, finish_ms=args["start_ms"] + HOUR_MS),
])
def test_invalid_spec(parent, cross, months, change):
    args = spec(cross, months)
    change(args)
    error(parent.run("backtest", args), "invalid_spec")


def test_data_route_missing(parent, tmp_path, months):
    bundle = acting(tmp_path, "self.get_candles(self.exchange, self.symbol, '4h')")
    assert "'4h'" in error(parent.run("backtest", spec(bundle, months)), "invalid_spec")["message"]


@pytest.mark.parametrize("change", [
    lambda args: args["series"].clear(),
    lambda args: args["series"][0].update(files=[]),
    lambda args: args["series"][0].update(files=["/nonexistent.npy"]),
    lambda args: args.update(start_ms=0, warmup_start_ms=0, finish_ms=DAY_MS),
    lambda args: args.update(warmup_start_ms=0, start_ms=JANUARY_MS),
])
def test_candles_missing(parent, cross, months, change):
    args = spec(cross, months)
    change(args)
    error(parent.run("backtest", args), "candles_missing")


# Limits


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


BOMBS = {
    "processes": "while True:\n    try: os.fork()\n    except OSError: pass",
    "daemons": """
        while True:
            if os.fork() == 0:
                os.setsid()
                if os.fork(): os._exit(0)
                time.sleep(30)
    """,
    # Their stacks count as memory, so that most of the attempts fail.
    "threads": """
        import threading
        while True:
            try: threading.Thread(target=time.sleep, args=(30,)).start()
            except RuntimeError: pass
    """,
}


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


# Ends


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


# describe and scan


def test_describe(parent, cross):
    assert parent.run("describe", {"bundle": cross, "strategy": "Cross"}).last["value"] == {
        "doc": "Follows two averages.",
        "hyperparameters": [
            {"name": "fast", "type": "int", "min": 5, "max": 50, "default": 20},
            {"name": "slow", "type": "int", "min": 30, "max": 200, "step": 5, "default": 50},
            {"name": "share", "type": "float", "min": 0.1, "max": 0.9, "default": 0.5},
            {"name": "side", "type": "categorical", "options": ["long", "both"], "default": "both"},
        ],
    }
    error(parent.run("describe", {"bundle": cross, "strategy": "Nope"}), "strategy_not_found")


def scan(parent, root):
    value = parent.run("scan", {"root": str(root)}).last["value"]
    return {entry["name"]: entry for entry in value["strategies"]}


def test_scan_finds_what_a_strategy_imports(parent, tmp_path):
    write(tmp_path, {
        "strategies/Plain/__init__.py": "import json\nimport jesse.indicators as ta",
        "strategies/Plain/notes.txt": "",
        "strategies/Plain/__pycache__/x.pyc": "",
        "strategies/__init__.py": "",
        "strategies/Relative/__init__.py": "from . import near\nfrom .deep.er import thing\nfrom ..Plain import x",
        "strategies/Relative/near.py": "def late():\n    import shared",
        "strategies/Relative/deep/er.py": "",
        "shared.py": "import numpy as np\nfrom helpers import first\nimport helpers.sub.last",
        "helpers/__init__.py": "",
        "helpers/first.py": "from . import second as renamed",
        "helpers/second.py": "from sklearn.linear_model import Ridge",
        "helpers/unused.py": "",
        "helpers/sub/__init__.py": "",
        "helpers/sub/last.py": "import shared",
        "strategies/Star/__init__.py": "from helpers.sub import *",
        "unrelated.py": "exec('')",
    })
    found = scan(parent, tmp_path)
    assert list(found) == ["Plain", "Relative", "Star"]
    plain = ["strategies/Plain/__init__.py", "strategies/Plain/notes.txt", "strategies/__init__.py"]
    assert found["Plain"] == {"name": "Plain", "files": sorted(plain), "requires": {}, "dynamic": False, "error": None}
    # Through the relative import of a sibling, its __init__.py only: the rest of that folder is not imported.
    assert found["Relative"]["files"] == sorted([
        "helpers/__init__.py", "helpers/first.py", "helpers/second.py", "helpers/sub/__init__.py", "helpers/sub/last.py",
        "shared.py",
        "strategies/Plain/__init__.py", "strategies/Relative/__init__.py", "strategies/Relative/deep/er.py",
        "strategies/Relative/near.py", "strategies/__init__.py",
    ])
    assert found["Relative"]["requires"] == {name: parent.ready["packages"][name] for name in ("numpy", "scikit-learn")}
    assert "helpers/sub/last.py" in found["Star"]["files"] and not found["Star"]["dynamic"]


@pytest.mark.parametrize("source", [
    "import importlib", "from importlib import import_module", "__import__('x')", "exec('1')", "f = eval", "import runpy",
    "import pkgutil", "import sys\nsys.path.append('x')", "import sys as s\ns.path.insert(0, 'x')", "from sys import path",
])
def test_scan_takes_everything_when_imports_are_dynamic(parent, tmp_path, source):
    write(tmp_path, {"strategies/Dynamic/__init__.py": "import helper", "strategies/Dynamic/data.csv": "", "helper.py": source,
                     "other/far.py": "import pandas", "other/data.csv": "", "strategies/Other/__init__.py": "if:"})
    dynamic = scan(parent, tmp_path)["Dynamic"]
    assert dynamic["dynamic"] and dynamic["error"] is None and "pandas" in dynamic["requires"]
    assert dynamic["files"] == ["helper.py", "other/far.py", "strategies/Dynamic/__init__.py", "strategies/Dynamic/data.csv",
                                "strategies/Other/__init__.py"]


def test_scan_reports_syntax_errors(parent, tmp_path):
    write(tmp_path, {"strategies/Broken/__init__.py": "import good\nimport bad", "good.py": "", "bad.py": "x = 1\nif:\n",
                     "strategies/Binary/__init__.py": "x = '\0'"})
    found = scan(parent, tmp_path)
    assert found["Broken"]["error"] == {"message": "SyntaxError: invalid syntax", "line": 2, "column": 3, "file": "bad.py"}
    assert found["Broken"]["files"] == ["bad.py", "good.py", "strategies/Broken/__init__.py"]
    assert found["Binary"]["error"]["file"] == "strategies/Binary/__init__.py"


def test_scan_of_an_empty_folder(parent, tmp_path):
    assert scan(parent, tmp_path) == {}


# dna


def test_dna_is_what_a_backtest_without_values_uses(parent, cross, tmp_path, months):
    """Jesse does not look at the dna when it is given values, so the defaults that are filled in must be the dna's."""
    values = {"fast": 9, "slow": 45, "share": 0.25, "side": "long"}
    dna = base64.b64encode(json.dumps(values).encode()).decode()
    bundle = project(tmp_path / "with-dna", Cross=textwrap.dedent(CROSS) + f"\n    def dna(self):\n        return {dna!r}\n")
    found = parent.run("describe", {"bundle": bundle, "strategy": "Cross"}).last["value"]["hyperparameters"]
    assert {parameter["name"]: parameter["default"] for parameter in found} == values
    of_dna = parent.run("backtest", spec(bundle, months, hyperparameters=None)).last["value"]["metrics"]
    of_defaults = parent.run("backtest", spec(bundle, months, hyperparameters=values)).last["value"]["metrics"]
    without = parent.run("backtest", spec(cross, months, hyperparameters=None)).last["value"]["metrics"]
    assert of_dna == of_defaults != without


# validate

SOUND = """
from jesse.strategies import Strategy

class Mine(Strategy):
    \"\"\"Says what it does.\"\"\"
    def should_long(self):
        return False
    def go_long(self):
        pass
"""


def validated(parent, folder, source, files=None):
    write(folder, {"strategies/Mine/__init__.py": textwrap.dedent(source), **(files or {})})
    return parent.run("validate", {"bundle": str(folder), "strategy": "Mine"}).last["value"]


def test_validate_a_sound_strategy(parent, tmp_path):
    source = SOUND + """
    def hyperparameters(self):
        return [{"name": "fast", "type": int, "min": 1, "max": 9, "default": 3}]
"""
    found = validated(parent, tmp_path, source, {"unused.py": ""})
    assert found == {
        "valid": True, "errors": [], "warnings": [], "doc": "Says what it does.", "requires": {},
        "hyperparameters": [{"name": "fast", "type": "int", "min": 1, "max": 9, "default": 3}],
        "files": ["strategies/Mine/__init__.py"],
    }


OWN = "strategies/Mine/__init__.py"


@pytest.mark.parametrize("source, files, expected", [
    ("import x\nif:\n", {}, {"message": "SyntaxError: invalid syntax", "file": OWN, "line": 2, "column": 3}),
    ("import helper", {"helper.py": "\n\ndef (:"}, {"message": "SyntaxError: invalid syntax", "file": "helper.py", "line": 3, "column": 5}),
    ("import nothing_like_it", {}, {"message": "ModuleNotFoundError: No module named 'nothing_like_it'", "file": OWN, "line": 1}),
    ("\nimport sys\nsys.exit(3)", {}, {"message": "SystemExit: 3", "file": OWN, "line": 3}),
    ("x = 1", {}, {"message": "no class Mine(Strategy) is defined", "file": OWN}),
    ("\nclass Other:\n    pass", {}, {"message": "no class Mine(Strategy) is defined; its class Other does not derive from "
                                                 "jesse.strategies.Strategy", "file": OWN, "line": 2}),
    ("class Mine:\n    pass", {}, {"message": "the class Mine does not derive from jesse.strategies.Strategy", "file": OWN, "line": 1}),
    (SOUND.replace("should_long", "shuold_long"), {},
     {"message": "the method should_long(self) -> bool is missing", "file": OWN, "line": 4}),
    (SOUND.replace("go_long(self)", "go_long(self, price)"), {},
     {"message": "Jesse calls go_long(self) -> None: missing a required argument: 'price'", "file": OWN, "line": 8}),
    (SOUND.replace("    def should_long", "    @property\n    def should_long"), {},
     {"message": "should_long must be a method, not a property", "file": OWN, "line": 6}),
    (SOUND + "    def hyperparameters(self):\n        return 1 / 0\n", {},
     {"message": "ZeroDivisionError: division by zero", "file": OWN, "line": 11}),
])
def test_validate_finds_the_mistake_and_its_place(parent, tmp_path, source, files, expected):
    found = validated(parent, tmp_path, source, files)
    assert not found["valid"] and found["errors"] == [expected], found


@pytest.mark.parametrize("entry, words", [
    ("5", "must be a dict, not int"),
    ("{'type': int, 'default': 1}", "has no name"),
    ("{'name': 'x', 'type': dict, 'default': 1}", "type must be int, float, bool or 'categorical'"),
    ("{'name': 'x', 'type': int, 'min': 1, 'max': 2}", "has no default"),
    ("{'name': 'x', 'type': int, 'min': 5, 'max': 2, 'default': 3}", "min 5 is above max 2"),
    ("{'name': 'x', 'type': float, 'min': 1, 'max': 2, 'default': 3.0}", "default 3.0 is not from 1 to 2"),
    ("{'name': 'x', 'type': float, 'min': 1, 'max': 2, 'default': float('nan')}", "must be numbers"),
    ("{'name': 'x', 'type': int, 'min': 1, 'max': 2, 'default': '1'}", "must be numbers"),
    ("{'name': 'x', 'type': int, 'min': 1, 'max': 2, 'default': 1.5}", "default 1.5 is not a whole number"),
    ("{'name': 'x', 'type': 'categorical', 'default': 1}", "needs options"),
    ("{'name': 'x', 'type': 'categorical', 'options': [2], 'default': 1}", "none of the options"),
    ("{'name': 'x', 'type': bool, 'default': 1}", "not True or False"),
])
def test_validate_checks_hyperparameters(parent, tmp_path, entry, words):
    found = validated(parent, tmp_path, SOUND + f"    def hyperparameters(self):\n        return [{entry}]\n")
    assert [words in mistake["message"] and mistake["line"] == 10 for mistake in found["errors"]] == [True], found


def test_validate_without_an_import_runs_nothing(parent, tmp_path):
    write(tmp_path, {"strategies/Mine/__init__.py": "raise SystemExit\n" + SOUND})
    args = {"bundle": str(tmp_path), "strategy": "Mine", "import": False}
    found = parent.run("validate", args).last["value"]
    assert found["valid"] and "only the syntax" in found["warnings"][0]["message"] and found["hyperparameters"] == []
    write(tmp_path, {"strategies/Mine/__init__.py": "x = 1"})
    assert not parent.run("validate", args).last["value"]["valid"]


def test_validate_warns(parent, tmp_path):
    source = SOUND.replace("class Mine", "class Yours") + """
    def should_short(self):
        return True
    def hyperparameters(self):
        return [{"name": "x", "type": int, "default": 1}]
"""
    found = validated(parent, tmp_path, source)
    assert found["valid"] and len(found["warnings"]) == 3, found


def test_package_holds_what_it_needs():
    assert "jesse==3.5.3" in (PACKAGE_PARENT / "runner" / "requirements.txt").read_text().splitlines()
