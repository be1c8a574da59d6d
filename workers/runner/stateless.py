"""Whether strategies keep anything from one run to the next. If they do not, their process may do another run of theirs.

Two things are asked, and code of which either is not known for sure counts as code that keeps something:

* What can it reach that outlives a run? By its syntax, next to nothing but its own modules: what it imports is on a list, and it
  neither rebinds what is not its own nor uses what reaches around names.
* Is anything in its own modules another than right after their import? They are compared down to the last item.
"""
import ast
import collections
import datetime
import decimal
import enum
import hashlib
import itertools
import os
import sys
import threading
import types
import typing
from fractions import Fraction
from typing import Any, Iterator

import numpy as np

_MODULES = {
    "__future__", "abc", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "itertools", "math", "statistics", "talib",
    "tulipy", "typing",
    "jesse.enums", "jesse.indicators", "jesse.strategies", "jesse.utils",
}
_OWN = "strategies"
_DECORATORS = {"abstractmethod", "cached", "classmethod", "dataclass", "final", "override", "property", "staticmethod"}
_NAMES = {"__import__", "breakpoint", "compile", "delattr", "eval", "exec", "getattr", "globals", "input", "locals", "open", "setattr",
          "vars"}
# What sets the state of numpy, TA-Lib or decimal, or leads past numpy's front.
_ATTRIBUTES = {"core", "ctypeslib", "distutils", "f2py", "getcontext", "lib", "set_compatibility", "set_numeric_ops", "set_printoptions",
               "set_string_function", "set_unstable_period", "setbufsize", "setcontext", "seterr", "seterrcall", "testing"}
# Code without a source.
_COMPILED = (".so", ".pyd", ".pyc")
_PLAIN = (bool, int, float, complex, str, bytes, range, type(None), type(Ellipsis), type(NotImplemented), datetime.date, datetime.datetime,
          datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, Fraction)
_FIXED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
          types.MemberDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType)
# Made of a class by Python itself.
_OF_CLASSES = {"__dict__", "__weakref__", "_abc_impl", "__abstractmethods__", "__doc__", "__module__", "__qualname__"}
_MOST_BYTES = 1 << 20
_before: set[str] = set()
_packages_before: set[str] = set()


class KeepsState(Exception):
    """It does, or might."""


class Memory:
    """What the modules of a project in a folder held right after their import."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        own = _own_packages(folder)
        for path in _files(folder):
            if path.endswith(_COMPILED):
                raise KeepsState("it has code without a source")
            if path.endswith(".py"):
                with open(path, "rb") as source:
                    check(source.read(), own)
        self._then = self._now()

    def is_unchanged(self) -> bool:
        try:
            return self._now() == self._then
        except KeepsState:
            return False

    def _now(self) -> tuple:
        around = (threading.active_count(), os.getcwd(), tuple(sorted(np.geterr().items())), frozenset(_files(self._folder)))
        return _State(_own_modules(self._folder)).digest(), around


def check(source: bytes, own: set[str]) -> None:
    """Raises KeepsState unless code can reach nothing that outlives a run but what is in its own modules, which are in these packages."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise KeepsState("it cannot be parsed") from error
    imported = {alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
                for alias in node.names}
    for node in ast.walk(tree):
        _check(node, imported, own)


def _check(node: ast.AST, imported: set[str], own: set[str]) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            _check_module(alias.name, own)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if alias.name in _ATTRIBUTES or alias.name in _NAMES or alias.name.startswith("__"):
                raise KeepsState(f"it imports {alias.name}")
            if node.level == 0:
                _check_module(f"jesse.{alias.name}" if node.module == "jesse" else node.module or "", own)
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        raise KeepsState("it rebinds a name outside of a function")
    elif isinstance(node, ast.Name) and node.id in _NAMES:
        raise KeepsState(f"it uses {node.id}")
    elif isinstance(node, ast.Attribute):
        if node.attr in _ATTRIBUTES or node.attr.startswith("__") or node.attr in _NAMES:
            raise KeepsState(f"it uses {node.attr}")
        if not isinstance(node.ctx, ast.Load) and _root(node) != "self":
            raise KeepsState(f"it sets {node.attr} of something else than self")
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and _root(node) in imported | {None}:
        raise KeepsState("it sets an item of what it has imported")
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for decorator in node.decorator_list:
            _check_decorator(decorator)
        if isinstance(node, ast.ClassDef) and node.keywords:
            raise KeepsState("it has a class with a metaclass")


def _check_module(name: str, own: set[str]) -> None:
    parts = name.split(".")
    if name not in _MODULES and parts[0] not in own and (parts[0] != "numpy" or not _ATTRIBUTES.isdisjoint(parts)):
        raise KeepsState(f"it imports {name}")


def _check_decorator(decorator: ast.expr) -> None:
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(name, ast.Attribute) and name.attr in ("setter", "getter", "deleter"):
        return
    if not isinstance(name, ast.Name) or name.id not in _DECORATORS:
        raise KeepsState("it has a decorator that is not known")


def _root(node: ast.expr) -> str | None:
    """The name that a chain of attributes and items begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _own_packages(folder: str) -> set[str]:
    """What is imported from the folder; what was there before has its name's place."""
    return {entry.partition(".")[0] for entry in os.listdir(folder)} - _packages_before


def _files(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(parent, name)


def note_modules(names: set[str]) -> None:
    """To be called before the first fork, with the modules that each child begins with: none of them is a project's."""
    _before.update(names)
    _packages_before.update(name.partition(".")[0] for name in names)


def _own_modules(folder: str) -> dict[str, types.ModuleType]:
    # The last ones, without a look at all the others: that would copy the memory that their names are in.
    new = sorted(itertools.takewhile(lambda name: name not in _before, reversed(sys.modules)))
    if len(new) != len(sys.modules) - len(_before):
        raise KeepsState("modules that were there have gone or come anew")
    return {name: module for name, module in ((name, sys.modules[name]) for name in new)
            if name == _OWN or (getattr(module, "__file__", None) or "").startswith(f"{folder}/")}


class _State:
    """A digest of all that can be reached from some modules, by what it is and not by where it is in memory. What belongs to other
    modules counts as what it is called there: that it is still the same."""

    def __init__(self, modules: dict[str, types.ModuleType]) -> None:
        self._modules = modules
        self._hash = hashlib.blake2b(digest_size=16)
        self._seen: dict[int, int] = {}
        self._kept_alive: list[Any] = []

    def digest(self) -> bytes:
        for name, module in self._modules.items():
            self._note(name)
            for key, value in _names_of(module):
                self._note(key)
                self._walk(value)
        return self._hash.digest()

    def _note(self, *what: Any) -> None:
        self._hash.update(repr(what).encode())

    def _walk(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            self._note(kind.__name__, value)
        elif id(value) in self._seen:
            self._note("again", self._seen[id(value)])
        else:
            self._seen[id(value)] = len(self._seen)
            self._kept_alive.append(value)  # so that no other object gets its id meanwhile
            self._note(kind.__module__, kind.__qualname__)
            self._open(value, kind)

    def _open(self, value: Any, kind: type) -> None:
        if kind in (list, tuple, collections.deque):
            self._all(value)
        elif kind in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter, types.MappingProxyType):
            for key, item in value.items():
                self._walk(key)
                self._walk(item)
        elif kind in (set, frozenset):
            if not all(type(item) in _PLAIN for item in value):
                raise KeepsState("a set of more than plain values")
            self._note(sorted(map(repr, value)))
        elif kind is np.ndarray:
            if value.dtype.hasobject or value.nbytes > _MOST_BYTES:
                raise KeepsState("an array that is not compared")
            self._note(value.dtype.str, value.shape)
            self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, np.generic) and not value.dtype.hasobject:
            self._note(value.dtype.str, value.tobytes())
        elif kind is types.FunctionType:
            self._function(value)
        elif kind in (staticmethod, classmethod):
            self._walk(value.__func__)
        elif kind is property:
            self._all((value.fget, value.fset, value.fdel))
        elif isinstance(value, type):
            self._class(value)
        elif kind is types.ModuleType:
            self._note(value.__name__, *((name, id(item)) for name, item in _names_of(value) if value.__name__ not in self._modules))
        elif isinstance(value, enum.Enum) or kind in _FIXED or kind.__module__ in ("typing", "types"):
            self._note(repr(value))
        elif kind.__module__ in self._modules and not hasattr(kind, "__slots__"):
            self._walk(kind)
            self._walk(vars(value))
        else:
            raise KeepsState(f"an object of {kind.__qualname__}")

    def _all(self, values: typing.Iterable[Any]) -> None:
        for value in values:
            self._walk(value)

    def _function(self, function: types.FunctionType) -> None:
        self._note(function.__qualname__, id(function.__code__), *((name, id(value)) for name, value in vars(function).items()))
        if function.__module__ in self._modules:
            cells = function.__closure__ or ()
            try:
                self._all([function.__defaults__, function.__kwdefaults__, function.__dict__, *(cell.cell_contents for cell in cells)])
            except ValueError as error:
                raise KeepsState("a function that is not complete") from error

    def _class(self, of: type) -> None:
        self._note(of.__module__, of.__qualname__, *(id(base) for base in of.__bases__))
        if of.__module__ in self._modules:
            for name, value in vars(of).items():
                if name not in _OF_CLASSES:
                    self._note(name)
                    self._walk(value)
            self._all(of.__bases__)
        else:
            self._note(*((name, id(value)) for name, value in vars(of).items()))


def _names_of(module: types.ModuleType) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in sorted(vars(module).items()) if not (name.startswith("__") and name.endswith("__"))]
