"""The task `scan`: which files and packages each strategy of a project needs."""
import pytest
from conftest import write


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
