"""Runs that end in an error: its code, and a message that says what is wrong and where."""
import json
import sys

import pytest
from conftest import DAY_MS, HOUR_MS, JANUARY_MS, acting, error, project, spec


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
