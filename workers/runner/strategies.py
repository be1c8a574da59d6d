"""Strategies: loading a class, and the tasks `describe` and `scan`."""
import functools
import importlib
import importlib.metadata
import os
from typing import Any

import jesse.helpers
import numpy as np
from jesse.strategies import Strategy

from runner.imports import Project, list_strategies
from runner.protocol import TaskError

_TYPE_NAMES = {int: "int", float: "float", bool: "bool", str: "categorical", list: "categorical"}
_OPTIONAL_KEYS = ("min", "max", "step", "options", "default")


def load(name: str) -> type[Strategy]:
    """Import a strategy, as Jesse finds it: a class named like its folder, or else a strategy class defined there."""
    source = f"strategies/{name}/__init__.py"
    if not name.isidentifier() or not os.path.isfile(source):
        raise TaskError("strategy_not_found", f"there is no {source}")
    module = importlib.import_module(f"strategies.{name}")
    named = getattr(module, name, None)
    if isinstance(named, type):
        return named
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__:
            return value
    raise TaskError("strategy_not_found", f"{source} defines no class {name}")


def describe(args: dict, session: Any) -> tuple[dict, None]:
    session.phase = "import"
    strategy = load(args["strategy"])
    session.phase = "run"
    return {"hyperparameters": parameters(strategy()), "doc": first_line(strategy)}, None


def first_line(strategy: type[Strategy]) -> str:
    """Of its own documentation: strategy.__doc__ would be that of Jesse's base class."""
    doc = (vars(strategy).get("__doc__") or "").strip()
    return doc.partition("\n")[0].strip()


def parameters(strategy: Strategy) -> list[dict]:
    """The hyperparameters, with the defaults that a backtest without values uses: those of the strategy's dna, if it has one."""
    entries = strategy.hyperparameters() or []
    described = [_parameter(entry) for entry in entries]
    dna = strategy.dna()
    if not dna:
        return described
    values = jesse.helpers.dna_to_hp(entries, dna)
    for parameter in described:
        if parameter["name"] in values:
            parameter["default"] = values.pop(parameter["name"])
    # Jesse hands the strategy whatever the dna holds.
    return described + [{"name": name, "type": type_name(type(value)) or "categorical", "default": value}
                        for name, value in values.items()]


def _parameter(entry: dict) -> dict:
    kind = entry["type"]
    described = {"name": entry["name"], "type": type_name(kind) or str(kind)}
    described.update((key, entry[key]) for key in _OPTIONAL_KEYS if key in entry)
    return described


def type_name(kind: object) -> str | None:
    """How the parent calls a hyperparameter's type, which Jesse takes as a class or as its name."""
    if isinstance(kind, str):
        return kind if kind in _TYPE_NAMES.values() else None
    return _TYPE_NAMES.get(kind) if isinstance(kind, type) else None


def plain_number(value: object) -> int | float | None:
    """A number, numpy's included, as Python's own; None for anything else, also for True and False."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def scan(args: dict, session: Any) -> tuple[dict, None]:
    """What each strategy of a project consists of, read from the source without running any of it."""
    session.phase = "scan"
    project = Project(args["root"], installed_distributions())
    return {"strategies": [project.describe(name) for name in list_strategies(args["root"])]}, None


@functools.cache
def installed_distributions() -> dict[str, dict[str, str]]:
    """{top-level module: {distribution: version}}. Slow to read, so the zygote's warm-up does it for all children."""
    return {
        module: {name: importlib.metadata.version(name) for name in set(names)}
        for module, names in importlib.metadata.packages_distributions().items()
    }
