"""The fast checker against a brute-force search for a linearization (Wing and Gong, 1993).

The specification searched over: a log is a tail and one value for each offset. An append puts
its record at some offset not below the tail (what is skipped was granted to others) and moves the
tail behind it; tail() moves the tail up to what it returns; an offset not below the tail reads as
unwritten; one below it reads as its record or, if it has none, as junk for ever.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from corfu.tools.check import check
from corfu.tools.operations import Append, FinalLog, Mark, Operation, Outcome, Read, Tail

JUNK = "junk"
State = tuple[int, tuple[tuple[int, str], ...]]


def _step(state: State, operation: Operation, final_place: dict[str, int]) -> State | None:
    """Apply one operation; None if its answer does not fit the state."""
    tail, log = state
    held = dict(log)
    match operation:
        case Append(records=(record,), places=(place,)):
            offset = place[0] if place is not None else final_place[record]
            if offset < tail:
                return None
            return offset + 1, tuple(sorted({**held, offset: record}.items()))
        case Tail(offset=int(offset)):
            return (offset, log) if offset >= tail else None
        case Read(offset=offset, seen=Mark.UNWRITTEN):
            return state if offset >= tail else None
        case Read(offset=offset, seen=Mark.JUNK):
            if held.get(offset, JUNK) != JUNK:
                return None
            return max(tail, offset + 1), tuple(sorted({**held, offset: JUNK}.items()))
        case Read(offset=offset, seen=(record,)):
            return state if held.get(offset) == record else None
        case _:
            raise AssertionError(operation)


def is_linearizable(history: list[Operation], final: FinalLog) -> bool:
    """Search all orders that respect real time, the final scan being the last operations."""
    final_place = {each[0]: offset for offset, each in final.entries.items()}
    end = max((each.completed or each.invoked for each in history), default=0.0) + 1
    operations: list[Operation] = []
    for each in history:
        if isinstance(each, Append):
            if each.outcome is Outcome.NOT_APPENDED:
                if each.records[0] in final_place:
                    return False
                continue
            if each.outcome is Outcome.UNKNOWN:
                if each.records[0] not in final_place:
                    continue
                # It may take effect at any time, also after the caller gave up.
                each = replace(each, completed=end)
        operations.append(each)
    for offset in range(final.tail):
        seen = final.entries.get(offset, Mark.JUNK)
        operations.append(Read(end + 1, end + 2, "final", offset, seen))
    operations.append(Tail(end + 1, end + 2, "final", final.tail))
    return _search(operations, final_place)


def _search(operations: list[Operation], final_place: dict[str, int]) -> bool:
    tried: set[tuple[int, State]] = set()
    todo: list[tuple[int, State]] = [(0, (0, ()))]
    everything = (1 << len(operations)) - 1
    while todo:
        done, state = todo.pop()
        if done == everything:
            return True
        left = [i for i in range(len(operations)) if not done >> i & 1]
        first_end = min(_end(operations[i]) for i in left)
        for i in left:
            # What began after another one ended cannot come before it.
            if operations[i].invoked > first_end:
                continue
            after = _step(state, operations[i], final_place)
            if after is not None:
                node = (done | 1 << i, after)
                if node not in tried:
                    tried.add(node)
                    todo.append(node)
    return False


def _end(operation: Operation) -> float:
    return math.inf if operation.completed is None else operation.completed


def _legal(rng: random.Random, count: int) -> tuple[list[Operation], FinalLog]:
    """Run a random program on the specification itself: each takes effect at its own moment."""
    tail = 0
    held: dict[int, str] = {}
    history: list[Operation] = []
    for number in range(count):
        moment = float(number)
        start, end = moment - rng.random() * 3, moment + rng.random() * 3
        kind = rng.random()
        if kind < 0.5:
            fate = rng.choice((Outcome.APPENDED,) * 3 + (Outcome.UNKNOWN, Outcome.NOT_APPENDED))
            record = f"r{number}"
            if fate is Outcome.NOT_APPENDED or (fate is Outcome.UNKNOWN and rng.random() < 0.5):
                history.append(Append(start, end, "c", (record,), (None,), fate))
                continue
            offset = tail + rng.choice((0, 0, 0, 1))
            held[offset] = record
            tail = offset + 1
            known = (offset, 0) if fate is Outcome.APPENDED else None
            ended = None if known is None and rng.random() < 0.5 else end
            history.append(Append(start, ended, "c", (record,), (known,), fate))
        elif kind < 0.75:
            tail += rng.choice((0, 0, 0, 1))
            history.append(Tail(start, end, "c", tail))
        else:
            offset = rng.randrange(tail + 2)
            seen: tuple[str, ...] | Mark = Mark.UNWRITTEN
            if offset < tail:
                seen = (held[offset],) if offset in held else Mark.JUNK
            history.append(Read(start, end, "c", offset, seen))
    return history, _final(held, tail)


def _final(held: dict[int, str], tail: int) -> FinalLog:
    junk = frozenset(offset for offset in range(tail) if offset not in held)
    return FinalLog({offset: (record,) for offset, record in held.items()}, tail, junk)


def _mutated(
    rng: random.Random, history: list[Operation], final: FinalLog
) -> tuple[list[Operation], FinalLog]:
    """Change one answer, or the time of one operation, or what the final log holds."""
    changed = list(history)
    place = rng.randrange(len(changed))
    each = changed[place]
    if rng.random() < 0.4:
        shift = rng.choice((-4.0, -2.0, 2.0, 4.0))
        ended = None if each.completed is None else each.completed + shift
        changed[place] = replace(each, invoked=each.invoked + shift, completed=ended)
        return changed, final
    match each:
        case Append():
            held = {offset: records[0] for offset, records in final.entries.items()}
            taken = next((o for o, record in held.items() if record == each.records[0]), None)
            other = rng.randrange(final.tail + 1)
            if taken is not None and rng.random() < 0.5:
                del held[taken]
            if other not in held and rng.random() < 0.5:
                held[other] = each.records[0]
            final = _final(held, max(final.tail, other + 1))
        case Tail(offset=int(offset)):
            changed[place] = replace(each, offset=max(0, offset + rng.choice((-1, 1))))
        case Read(offset=offset):
            records = [one[0] for one in final.entries.values()]
            options: list[tuple[str, ...] | Mark] = [Mark.UNWRITTEN, Mark.JUNK]
            options += [(rng.choice(records),)] if records else []
            changed[place] = replace(each, seen=rng.choice(options))
        case _:
            raise AssertionError(each)
    return changed, final


@pytest.mark.parametrize("seed", range(8))
def test_check_legal_histories_pass_and_are_linearizable(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        history, final = _legal(rng, rng.randint(1, 9))
        assert check(history, final) == []
        assert is_linearizable(history, final)


@pytest.mark.parametrize("seed", range(8))
def test_check_mutated_histories_are_flagged_exactly_if_not_linearizable(seed: int) -> None:
    rng = random.Random(1000 + seed)
    verdicts: list[bool] = []
    for _ in range(150):
        history, final = _mutated(rng, *_legal(rng, rng.randint(2, 9)))
        legal = is_linearizable(history, final)
        assert (check(history, final) == []) == legal, (history, final)
        verdicts.append(legal)
    # Both kinds must be there in numbers, or the comparison says little.
    assert 20 < sum(verdicts) < 130


def test_check_long_legal_history_passes() -> None:
    history, final = _legal(random.Random(7), 20_000)
    assert check(history, final) == []
