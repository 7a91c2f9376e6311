"""Breaks production code for a while: a few words of one function are replaced by others.

An edit names the words it takes away. When the function is gone, or the words are not there exactly
once, it refuses: a change of the production code can move a bug, but never turn it off unseen.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_ANNOTATIONS = annotations.compiler_flag


class StaleBugError(Exception):
    """The production code has no longer the shape that a planted bug breaks."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is replaced in the function that is called `name` in a class or module."""

    holder: type | ModuleType
    name: str
    changes: tuple[tuple[str, str], ...]

    def places(self) -> list[type | ModuleType]:
        """Return what names the function: with it, every module that has imported it."""
        if not isinstance(self.holder, ModuleType):
            return [self.holder]
        found = vars(self.holder).get(self.name)
        return [
            module
            for name, module in tuple(sys.modules.items())
            if name.startswith("corfu.") and vars(module).get(self.name) is found
        ]


def edit(holder: type | ModuleType, name: str, *changes: tuple[str, str]) -> Edit:
    """Replace words in the function that is called `name` in a class or module."""
    return Edit(holder, name, changes)


class Planted:
    """What the broken code calls where it does wrong: `planted(value)`, or `planted.when(wrong)`.

    `count` tells how often that was.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any = True) -> Any:
        """Count, and return `value`."""
        self.count += 1
        return value

    def when(self, wrong: bool) -> bool:
        """Count if `wrong`, and return it."""
        self.count += wrong
        return wrong


@contextmanager
def plant(edits: Sequence[Edit]) -> Iterator[Planted]:
    """Break the code, and mend it at the end.

    Raises:
        StaleBugError: An edit does not fit the code any more.
    """
    planted = Planted()
    # All are made before the first is put in place: half a bug is none.
    broken = [(each, _broken(each, planted)) for each in edits]
    kept: list[tuple[type | ModuleType, str, object]] = []
    try:
        for each, function in broken:
            for holder in each.places():
                kept.append((holder, each.name, vars(holder)[each.name]))
                setattr(holder, each.name, function)
        yield planted
    finally:
        for holder, name, function in reversed(kept):
            setattr(holder, name, function)


def _broken(each: Edit, planted: Planted) -> object:
    where = f"{each.holder.__name__}.{each.name}"
    if each.name not in vars(each.holder):
        raise StaleBugError(f"{where} is gone")
    function = function_of(vars(each.holder)[each.name])
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in each.changes:
        if source.count(old) != 1:
            raise StaleBugError(f"{where} has {source.count(old)} times, not once: {old}")
        source = source.replace(old, new)
    made = f"def make(planted):\n{textwrap.indent(source, '    ')}\n    return {each.name}\n"
    code = compile(made, f"<planted in {where}>", "exec", _ANNOTATIONS, dont_inherit=True)
    namespace: dict[str, Any] = {}
    # The function keeps the names of its module, so that it differs in nothing else.
    exec(code, function.__globals__, namespace)
    return namespace["make"](planted)


def function_of(found: object) -> Any:
    if isinstance(found, property):
        return found.fget
    assert isinstance(found, Callable)  # type: ignore[arg-type]
    return found
