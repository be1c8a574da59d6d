"""Which files of a project a strategy consists of, found in the syntax trees of its import statements."""
import ast
import importlib.machinery
import os
import sys
from dataclasses import dataclass, field
from typing import Iterator

_SUFFIXES = [*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES]
_DYNAMIC_MODULES = {"builtins", "imp", "importlib", "pkgutil", "runpy", "zipimport"}
_DYNAMIC_NAMES = {"__import__", "eval", "exec"}
_DYNAMIC_SYS_ATTRIBUTES = {"meta_path", "modules", "path", "path_hooks"}
_ENGINE_DISTRIBUTION = "jesse"


def list_strategies(root: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(root, "strategies"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if os.path.isfile(os.path.join(root, "strategies", name, "__init__.py")))


@dataclass
class _Source:
    """What one file imports. `targets` holds (module, name): `from a import b` is ("a", "b"), where b may be a module too."""

    targets: list[tuple[str, str | None]] = field(default_factory=list)
    dynamic: bool = False
    error: dict | None = None


class Project:
    """A project root. Files are parsed once, however many strategies reach them."""

    def __init__(self, root: str, distributions: dict[str, dict[str, str]]) -> None:
        self._root = root
        self._distributions = distributions
        self._sources: dict[str, _Source] = {}

    def describe(self, name: str) -> dict:
        folder = f"strategies/{name}"
        own = set(self._walk(folder))
        files, imported = self._closure(own | set(self._resolve(f"strategies.{name}")))
        dynamic = any(self._source(path).dynamic for path in files if path.endswith(".py"))
        errors = self.errors(sorted(files))
        if dynamic:
            # Anything may be loaded: take all there is. A broken file among it matters only if it is reached.
            everything = {path for path in self._walk("") if path.endswith(".py")}
            files, imported = self._closure(files | everything)
        if not name.isidentifier():
            errors = [{"message": "the folder's name is not a Python identifier", "line": None, "column": None,
                       "file": folder}]
        return {
            "name": name,
            "files": sorted(files),
            "requires": self._requires(imported),
            "dynamic": dynamic,
            "error": errors[0] if errors else None,
        }

    def errors(self, files: list[str]) -> list[dict]:
        """What keeps these files from being parsed."""
        sources = (self._source(path) for path in files if path.endswith(".py"))
        return [source.error for source in sources if source.error]

    def _closure(self, files: set[str]) -> tuple[set[str], set[str]]:
        """The files, all local files they import, directly or not, and the other top-level modules that those import."""
        reached, queue, imported = set(files), [path for path in files if path.endswith(".py")], set()
        while queue:
            for module, name in self._source(queue.pop()).targets:
                local = self._resolve(module, name)
                if not local and not self._is_local(module):
                    imported.add(module.partition(".")[0])
                for path in local:
                    if path not in reached:
                        reached.add(path)
                        if path.endswith(".py"):
                            queue.append(path)
        return reached, imported

    def _requires(self, imported: set[str]) -> dict[str, str]:
        found = {}
        for module in imported - sys.stdlib_module_names:
            found.update(self._distributions.get(module, {}))
        return {name: found[name] for name in sorted(found) if name != _ENGINE_DISTRIBUTION}

    def _is_local(self, module: str) -> bool:
        """Whether the top-level name is a folder of the project without an __init__.py."""
        top = module.partition(".")[0]
        return top != "" and os.path.isdir(os.path.join(self._root, top))

    def _resolve(self, module: str, name: str | None = None) -> list[str]:
        """The files that importing a module, and a name from it, runs: its parents, itself, and a submodule of that name."""
        found, parts = [], module.split(".") if module else []
        for depth in range(1, len(parts) + 1):
            found += self._module_files("/".join(parts[:depth]))
        base = "/".join(parts)
        if name == "*":
            # __all__ may name any submodule.
            folder = os.path.join(self._root, base)
            if os.path.isdir(folder):
                for entry in sorted(os.listdir(folder)):
                    found += self._module_files(f"{base}/{entry.partition('.')[0]}" if base else entry.partition(".")[0])
        elif name is not None:
            found += self._module_files(f"{base}/{name}" if base else name)
        return found

    def _module_files(self, stem: str) -> list[str]:
        """A package shadows a module of the same name, as it does for Python."""
        candidates = [f"{stem}/__init__{suffix}" for suffix in _SUFFIXES] + [stem + suffix for suffix in _SUFFIXES]
        return [path for path in candidates if os.path.isfile(os.path.join(self._root, path))][:1]

    def _walk(self, folder: str) -> Iterator[str]:
        for directory, folders, names in os.walk(os.path.join(self._root, folder)):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for name in names:
                if not name.endswith(".pyc"):
                    yield os.path.relpath(os.path.join(directory, name), self._root)

    def _source(self, path: str) -> _Source:
        if path not in self._sources:
            self._sources[path] = _read(self._root, path)
        return self._sources[path]


def _read(root: str, path: str) -> _Source:
    try:
        with open(os.path.join(root, path), "rb") as file:
            tree = ast.parse(file.read(), path)
        package = path.split("/")[:-1]
        source = _Source()
        _Collector(source, package).visit(tree)
        return source
    except SyntaxError as error:
        return _Source(error={"message": f"{type(error).__name__}: {error.msg}", "line": error.lineno, "column": error.offset,
                              "file": path})
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return _Source(error={"message": f"{type(error).__name__}: {error}", "line": None, "column": None, "file": path})


class _Collector(ast.NodeVisitor):
    def __init__(self, source: _Source, package: list[str]) -> None:
        self._source = source
        self._package = package
        self._sys_names: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._source.targets.append((alias.name, None))
            self._check_dynamic(alias.name)
            if alias.name == "sys":
                self._sys_names.add(alias.asname or "sys")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            parents = self._package[: max(0, len(self._package) - node.level + 1)]
            module = ".".join([*parents, *([module] if module else [])])
        else:
            self._check_dynamic(module)
        for alias in node.names:
            self._source.targets.append((module, alias.name))
            if module == "sys" and alias.name in _DYNAMIC_SYS_ATTRIBUTES:
                self._source.dynamic = True

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _DYNAMIC_NAMES:
            self._source.dynamic = True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self._sys_names and node.attr in _DYNAMIC_SYS_ATTRIBUTES:
            self._source.dynamic = True
        self.generic_visit(node)

    def _check_dynamic(self, module: str) -> None:
        if module.partition(".")[0] in _DYNAMIC_MODULES:
            self._source.dynamic = True
