"""Names in a pickle, and what stands in their place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxdet.errors import InputError

_MAX_NAME = 1000


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names, and what is called in its place; None makes it inert."""

    module: str
    name: str
    call: Callable | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """An object of a class that is not run: its class, its arguments, its `__dict__` and its items."""

    kind: Global
    args: tuple = field(default=(), repr=False)
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    items: list = field(default_factory=list, repr=False)


class Buildable:
    """A value under construction, such as one of NumPy's dtypes or arrays."""

    def build(self, state: Any) -> None:
        """Take the state that the pickle has for it."""
        raise NotImplementedError


def _nothing(_module: str, _name: str) -> bool:
    return False


@dataclass(frozen=True)
class Names:
    """Table of what the names in a pickle may become.

    `calls` maps (module, name) to the function that is called in its place; `is_inert(module, name)` admits
    further names without any effect. `expected` and `advice` complete the line that refuses all others.
    `max_objects` bounds the opcodes of a pickle.
    """

    calls: Mapping[tuple[str, str], Callable]
    expected: str
    advice: str = "do not trust the file"
    is_inert: Callable[[str, str], bool] = _nothing
    max_objects: int = 10_000_000

    def resolve(self, module: Any, name: Any) -> Global:
        """The meaning of a name, in the spelling of Python 3 and NumPy 1. Raises InputError if the table has
        none.
        """
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is not text")
        if len(module) + len(name) > _MAX_NAME or not (module + name).isprintable():
            raise ValueError("a name that is very long or not printable")
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        module = module.replace("numpy._core", "numpy.core")
        call = self.calls.get((module, name))
        if call is None and not self.is_inert(module, name):
            shown = f"{module}.{name}"[:120]
            raise InputError(f"asks for {shown}, expected {self.expected}; nothing was run; {self.advice}")
        return Global(module, name, call)
