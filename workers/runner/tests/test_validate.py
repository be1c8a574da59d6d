"""The task `validate`: what is wrong with a strategy, and where."""
import textwrap

import pytest
from conftest import write

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
