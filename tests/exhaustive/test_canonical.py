"""The canonical form: what must not get into it, and what must."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from .canonical import Canonical

PLAIN = Canonical({}, {})


@dataclass
class Thing:
    name: str
    clock: float = 0.0
    parts: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    x: int


def test_order_of_a_dictionary_or_set_is_left_out() -> None:
    assert PLAIN.text({1: "a", 2: "b"}) == PLAIN.text({2: "b", 1: "a"})
    assert PLAIN.text({"x", "y", "z"}) == PLAIN.text({"z", "y", "x"})


def test_order_that_matters_is_kept() -> None:
    assert PLAIN.text([1, 2]) != PLAIN.text([2, 1])
    assert PLAIN.text(OrderedDict(a=1, b=2)) != PLAIN.text(OrderedDict(b=2, a=1))


def test_equal_values_of_different_classes_differ() -> None:
    assert PLAIN.text(Point(1)) != PLAIN.text((1,))
    assert PLAIN.text(True) != PLAIN.text(1)


def test_fields_left_out_and_replaced_do_not_tell_states_apart() -> None:
    quiet = Canonical({Point: lambda point: None}, {Thing: frozenset({"clock"})})
    first, second = Thing("a", 1.0, [Point(1)]), Thing("a", 2.0, [Point(2)])
    assert quiet.text(first) == quiet.text(second)
    assert PLAIN.text(first) != PLAIN.text(second)


def test_cycle_and_sharing_are_told_by_place_not_by_address() -> None:
    def ring() -> Thing:
        thing = Thing("ring")
        thing.parts += [thing, thing]
        return thing

    assert PLAIN.text(ring()) == PLAIN.text(ring())
    shared: list[int] = []
    assert PLAIN.text([shared, shared]) != PLAIN.text([[], []])
    # A value has no identity: one that is shared is as good as two that are equal.
    point = Point(1)
    assert PLAIN.text([point, point]) == PLAIN.text([Point(1), Point(1)])


def test_temporary_object_does_not_lend_its_identity() -> None:
    made = Canonical({Point: lambda point: [object.__new__(Thing).__class__.__name__]}, {})
    text = made.text([Point(1), Point(2), [1], [2]])
    assert "seen" not in text


def test_function_is_told_by_its_name_and_what_it_closes_over() -> None:
    def adder(amount: int) -> Callable[[int], int]:
        return lambda number: number + amount

    assert PLAIN.text(adder(1)) == PLAIN.text(adder(1))
    assert PLAIN.text(adder(1)) != PLAIN.text(adder(2))


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield


def test_coroutine_is_told_by_where_it_waits_and_its_variables() -> None:
    async def inner(count: int) -> None:
        for _ in range(count):
            await _Pause()

    async def outer(count: int) -> None:
        await inner(count)
        await _Pause()

    def after(count: int, steps: int) -> str:
        work = outer(count)
        for _ in range(steps):
            work.send(None)
        text = PLAIN.text(work)
        work.close()
        return text

    assert after(2, 1) == after(2, 1)
    texts = {after(2, 1), after(2, 2), after(2, 3), after(3, 1)}
    assert len(texts) == 4
