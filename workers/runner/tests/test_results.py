"""What runs answer, which is what Jesse answers when it is called directly, and the progress that they report."""
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import DAY_MS, EXCHANGE, SYMBOL, acting, candles, error, spec

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
