"""The task `validate`: everything that is wrong with a strategy, each mistake with its place in the source."""
import ast
import importlib
import inspect
import os
from typing import Any, Iterator

from jesse.strategies import Strategy

from runner import strategies
from runner.imports import Project
from runner.protocol import TaskError

_MAX_MISTAKES = 20
_MAX_MESSAGE = 500
# What a search over hyperparameters needs beside the name, the type and the default that a backtest uses.
_RANGE = ("min", "max")


class _Report:
    """What was found so far. A mistake keeps the strategy from running; a warning says what its author may not expect."""

    def __init__(self) -> None:
        self.errors: list[dict] = []
        self.warnings: list[dict] = []

    def error(self, message: str, file: str | None = None, line: int | None = None, column: int | None = None) -> None:
        _note(self.errors, message, file, line, column)

    def warn(self, message: str, file: str | None = None, line: int | None = None) -> None:
        _note(self.warnings, message, file, line, None)


def _note(notes: list[dict], message: str, file: str | None, line: int | None, column: int | None) -> None:
    if len(notes) < _MAX_MISTAKES:
        place = {"file": file, "line": line, "column": column}
        notes.append({"message": message[:_MAX_MESSAGE], **{key: value for key, value in place.items() if value is not None}})


def run(args: dict, session: Any) -> tuple[dict, None]:
    name, report = args["strategy"], _Report()
    session.phase = "scan"
    project = Project(os.getcwd(), strategies.installed_distributions())
    scanned = project.describe(name)
    for error in project.errors(scanned["files"]):
        report.error(error["message"], error["file"], error["line"], error["column"])
    parameters, doc = [], ""
    if not report.errors and not args.get("import", True):
        _look_at_source(name, report)
    elif not report.errors:
        session.phase = "import"
        strategy = _load(name, report)
        if strategy is not None:
            session.phase = "run"
            doc = strategies.first_line(strategy)
            _check_methods(strategy, report)
            if not report.errors:
                parameters = _check_instance(strategy, report)
    found = {"valid": not report.errors, "errors": report.errors, "warnings": report.warnings, "hyperparameters": parameters,
             "doc": doc, "files": scanned["files"], "requires": scanned["requires"]}
    return found, None


def _look_at_source(name: str, report: _Report) -> None:
    """What can be said without running any of it: importing a module is running code."""
    source = f"strategies/{name}/__init__.py"
    line = _line(source, name)
    if line is None:
        report.error(f"no class {name}(Strategy) is defined", source)
    report.warn("only the syntax was looked at: strategies cannot be written here, so none of their code is run", source, line)


def _load(name: str, report: _Report) -> type[Strategy] | None:
    source = f"strategies/{name}/__init__.py"
    try:
        module = importlib.import_module(f"strategies.{name}")
        found = strategies.load(name)
    except TaskError:
        classes = [value for value in vars(module).values() if _is_class_of(value, module.__name__)]
        hint = f"; its class {classes[0].__name__} does not derive from jesse.strategies.Strategy" if classes else ""
        report.error(f"no class {name}(Strategy) is defined{hint}", source, _line(source, classes[0].__name__) if classes else None)
        return None
    except BaseException as error:  # SystemExit too: whatever keeps the module from being imported is its mistake
        _raised(error, report)
        return None
    if not issubclass(found, Strategy):
        report.error(f"the class {name} does not derive from jesse.strategies.Strategy", source, _line(source, name))
        return None
    if found.__name__ != name:
        report.warn(f"the class is named {found.__name__}; Jesse wants it named like the strategy, {name}", source,
                    _line(source, found.__name__))
    return found


def _is_class_of(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


def _check_methods(strategy: type[Strategy], report: _Report) -> None:
    """Holds the methods against those of Jesse that they replace: a call of Jesse must fit them."""
    source, line = _place(strategy)
    for missing in sorted(getattr(strategy, "__abstractmethods__", ())):
        report.error(f"the method {missing}{inspect.signature(getattr(Strategy, missing))} is missing", source, line)
    for name, own in vars(strategy).items():
        theirs = inspect.getattr_static(Strategy, name, None)
        if name.startswith("__") or not inspect.isfunction(theirs):
            continue
        wanted = inspect.signature(theirs)
        if isinstance(own, property):
            report.error(f"{name} must be a method, not a property", source, own.fget.__code__.co_firstlineno if own.fget else line)
        elif inspect.isfunction(own):
            required = [parameter for parameter in wanted.parameters.values() if parameter.default is parameter.empty]
            try:
                inspect.signature(own).bind(*required)
            except TypeError as error:
                report.error(f"Jesse calls {name}{wanted}: {error}", source, own.__code__.co_firstlineno)
    if _replaces(strategy, "should_short") and not _replaces(strategy, "go_short"):
        report.warn("should_short is there but go_short is not: a short cannot be opened", source, line)


def _replaces(strategy: type[Strategy], name: str) -> bool:
    return getattr(strategy, name) is not getattr(Strategy, name)


def _check_instance(strategy: type[Strategy], report: _Report) -> list[dict]:
    try:
        instance = strategy()
        entries = instance.hyperparameters() or []
    except BaseException as error:
        _raised(error, report)
        return []
    source, line = _method_place(strategy, "hyperparameters")
    if not isinstance(entries, (list, tuple)):
        report.error(f"hyperparameters() must give a list, not {type(entries).__name__}", source, line)
        return []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        for mistake in _parameter_mistakes(entry, names):
            report.error(f"hyperparameters()[{index}]: {mistake}", source, line)
        if isinstance(entry, dict) and entry.get("type") in (int, float) and not all(key in entry for key in _RANGE):
            report.warn(f"hyperparameters()[{index}] has no min and max, which a search over it needs", source, line)
    if report.errors:
        return []
    try:
        return strategies.parameters(instance)
    except Exception as error:
        report.error(f"dna() cannot be decoded: {type(error).__name__}: {error}", *_method_place(strategy, "dna"))
        return []


def _parameter_mistakes(entry: object, names: set[str]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"must be a dict, not {type(entry).__name__}"
        return
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        yield "has no name"
    elif name in names:
        yield f"there are two of the name {name!r}"
    else:
        names.add(name)
    kind = strategies.type_name(entry.get("type"))
    if kind is None:
        yield f"type must be int, float, bool or 'categorical', not {entry.get('type')!r}"
        return
    if "default" not in entry:
        yield "has no default"
        return
    default, low, high = entry["default"], entry.get("min"), entry.get("max")
    if kind == "categorical":
        options = entry.get("options")
        if not isinstance(options, (list, tuple)) or not options:
            yield "a categorical one needs options, a list"
        elif default not in options:
            yield f"default {default!r} is none of the options"
    elif kind == "bool":
        if not isinstance(default, bool):
            yield f"default {default!r} is not True or False"
    elif any(value is not None and not _is_number(value) for value in (default, low, high)) or default is None:
        yield "min, max and default must be numbers"
    elif kind == "int" and default != int(default):
        yield f"default {default!r} is not a whole number"
    elif low is not None and high is not None and low > high:
        yield f"min {low!r} is above max {high!r}"
    elif (low is not None and default < low) or (high is not None and default > high):
        yield f"default {default!r} is not from {low!r} to {high!r}"


def _is_number(value: object) -> bool:
    plain = strategies.plain_number(value)
    return plain is not None and plain - plain == 0


def _raised(error: BaseException, report: _Report) -> None:
    """What the strategy's code raised, at its innermost line in the strategy's own files."""
    message = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else _text(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return report.error(message, _relative(error.filename), error.lineno, error.offset)
    place: tuple[str | None, int | None] = (None, None)
    trace = error.__traceback__
    while trace is not None:
        file = _relative(trace.tb_frame.f_code.co_filename)
        if file is not None:
            place = (file, trace.tb_lineno)
        trace = trace.tb_next
    report.error(message, *place)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the exception's class may be as faulty as the rest of it
        return f"<unprintable: {type(broken).__name__}>"


def _relative(path: str) -> str | None:
    root = os.getcwd() + os.sep
    return path[len(root):] if path.startswith(root) else None


def _place(strategy: type) -> tuple[str | None, int | None]:
    source = strategy.__module__.replace(".", "/")
    source = f"{source}/__init__.py" if os.path.isdir(source) else f"{source}.py"
    return source, _line(source, strategy.__name__)


def _method_place(strategy: type, name: str) -> tuple[str | None, int | None]:
    method = getattr(strategy, name)
    code = getattr(method, "__code__", None)
    file = _relative(code.co_filename) if code is not None else None
    return (file, code.co_firstlineno) if file is not None else _place(strategy)


def _line(source: str, name: str) -> int | None:
    """The line at which a file defines a class."""
    try:
        with open(source, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    return next((node.lineno for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name), None)
