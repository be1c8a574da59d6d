"""A replacement for functions of Jesse, and how it is known that they are those that it was derived from."""
import hashlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any, Callable


@dataclass(frozen=True)
class Equivalent:
    """Replacements that belong together. `digest` is that of the sources of what they replace and of what they `rest_on`: what
    is written out in them, or must not have effects that they leave out. A text there, for a library's version, is its own source."""

    name: str
    replaces: tuple[tuple[Any, str, Any], ...]
    rests_on: tuple[Any, ...]
    digest: str

    def is_of_this_jesse(self) -> bool:
        """Whether this Jesse has what it was derived from."""
        try:
            return self.found() == self.digest
        except (AttributeError, OSError, TypeError):
            return False  # a Jesse without this function, or without its source

    def found(self) -> str:
        """The digest of what this Jesse has."""
        replaced = [inspect.getattr_static(owner, attribute) for owner, attribute, _ in self.replaces]
        functions = dict.fromkeys(_function(found) for found in (*replaced, *self.rests_on))
        sources = (function if isinstance(function, str) else inspect.getsource(function) for function in functions)
        return hashlib.sha256("\0".join(sources).encode()).hexdigest()

    def put_in_place(self) -> None:
        for owner, attribute, replacement in self.replaces:
            setattr(owner, attribute, replacement)


def wherever_named(original: Callable, replacement: Callable) -> tuple[tuple[Any, str, Callable], ...]:
    """What `Equivalent.replaces` is for a function that modules of Jesse have imported under its own name."""
    name = original.__name__
    modules = [module for path, module in sorted(sys.modules.items()) if path.partition(".")[0] == "jesse"]
    return tuple((module, name, replacement) for module in modules if vars(module).get(name) is original)


def _function(found: Any) -> Callable:
    return inspect.unwrap(found.fget if isinstance(found, property) else found)
