"""Strategies: which code a run loads, and how it is described."""
import base64
import json
import textwrap

from conftest import CROSS, acting, error, project, spec, write


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
