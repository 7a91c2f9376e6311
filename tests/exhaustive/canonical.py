"""The canonical form of a live object graph: equal for states that behave alike.

Walks plain objects, frozen values, containers and coroutines. No memory address, no hash order and
no insertion order of a plain dictionary gets into the form. What a model declares to be noise (an
absolute time, a position in a file) is left out or replaced by a handler.
"""

from __future__ import annotations

import enum
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[[Any], object]
Seen = dict[int, tuple[int, object]]


class Canonical:
    """Makes canonical forms; `handlers` replace objects of a class, `left_out` drops fields."""

    def __init__(
        self, handlers: Mapping[type, Handler], left_out: Mapping[type, frozenset[str]]
    ) -> None:
        self._handlers = dict(handlers)
        self._left_out = dict(left_out)
        self._fields: dict[type, tuple[str, ...]] = {}

    def text(self, value: object) -> str:
        """Return the canonical form as text."""
        return repr(self._form(value, {}))

    def _form(self, value: Any, seen: Seen) -> object:  # noqa: C901
        kind = type(value)
        if value is None or kind in (bool, int, str, bytes, float):
            return value
        if isinstance(value, enum.Enum):
            return (kind.__name__, value.name)
        if isinstance(value, tuple):
            return (kind.__name__, *(self._form(each, seen) for each in value))
        # Values are never in a cycle and have no identity: only what can change is numbered.
        if not _is_value(kind):
            known = seen.get(id(value))
            if known is not None:
                return ("seen", known[0])
            # The object is kept, or a temporary one would lend its identity to the next.
            seen[id(value)] = (len(seen), value)
        handler = self._handlers.get(kind)
        if handler is not None:
            return (kind.__name__, self._form(handler(value), seen))
        if isinstance(value, OrderedDict):
            return (
                "ordered",
                *((self._form(k, seen), self._form(v, seen)) for k, v in value.items()),
            )
        if isinstance(value, dict):
            return ("dict", *self._sorted_items(value, seen))
        if isinstance(value, set | frozenset):
            return ("set", *sorted((self._form(each, seen) for each in value), key=repr))
        if isinstance(value, list | deque):
            return ("list", *(self._form(each, seen) for each in value))
        if isinstance(value, types.MethodType):
            return ("method", value.__func__.__qualname__, self._form(value.__self__, seen))
        if isinstance(value, types.FunctionType):
            cells = value.__closure__ or ()
            return (
                "function",
                value.__qualname__,
                *(self._form(cell.cell_contents, seen) for cell in cells),
            )
        if isinstance(value, types.CoroutineType):
            return self._coroutine(value, seen)
        return (
            kind.__name__,
            *((name, self._form(getattr(value, name), seen)) for name in self._names(value, kind)),
        )

    def _sorted_items(self, value: dict[Any, Any], seen: Seen) -> list[object]:
        # The keys are values, so that their order does not depend on what was seen before.
        keys = sorted(value, key=lambda key: repr(self._form(key, {})))
        return [(self._form(key, seen), self._form(value[key], seen)) for key in keys]

    def _names(self, value: object, kind: type) -> tuple[str, ...]:
        names = self._fields.get(kind)
        if names is None or hasattr(value, "__dict__"):
            found: list[str] = []
            for base in kind.__mro__:
                slots = base.__dict__.get("__slots__", ())
                found += [slots] if isinstance(slots, str) else list(slots)
            found += getattr(value, "__dict__", {})
            left_out = self._left_out.get(kind, frozenset())
            names = tuple(sorted({n for n in found if n not in left_out and hasattr(value, n)}))
            self._fields[kind] = names
        return names

    def _coroutine(self, value: Any, seen: Seen) -> object:
        """Where it waits, with which variables, and what it waits for."""
        if value.cr_frame is None:
            return ("ended", value.__qualname__)
        return (
            "coroutine",
            value.__qualname__,
            value.cr_frame.f_lasti,
            self._form(dict(value.cr_frame.f_locals), seen),
            self._form(value.cr_await, seen)
            if isinstance(value.cr_await, types.CoroutineType)
            else None,
        )


def _is_value(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)
