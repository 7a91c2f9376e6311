"""Small changes to sound histories: most of them break a promise, some do not."""

from __future__ import annotations

import random
from dataclasses import replace

from corfu.tools.operations import (
    Append,
    Fill,
    FinalLog,
    Mark,
    Operation,
    Outcome,
    Read,
    Scan,
    Seen,
    Tail,
    Trim,
)


def mutated(
    rng: random.Random, history: list[Operation], final: FinalLog
) -> tuple[list[Operation], FinalLog]:
    """Change one answer, or the time of one operation, or what the final log holds."""
    if rng.random() < 0.15:
        return history, _mutated_final(rng, final)
    changed = list(history)
    at = rng.randrange(len(changed))
    each = changed[at]
    if rng.random() < 0.3:
        shift = rng.choice((-5.0, -2.5, 2.5, 5.0))
        ended = None if each.completed is None else each.completed + shift
        changed[at] = replace(each, invoked=each.invoked + shift, completed=ended)
    else:
        changed[at] = _mutated_answer(rng, each, final)
    return changed, final


def _mutated_answer(rng: random.Random, each: Operation, final: FinalLog) -> Operation:
    near = rng.choice((-1, 1))
    match each:
        case Append(places=((offset, index), *others)):
            return replace(each, places=((max(0, offset + near), index), *others))
        case Append(outcome=outcome):
            fates = [fate for fate in (Outcome.UNKNOWN, Outcome.NOT_APPENDED) if fate != outcome]
            return replace(each, outcome=fates[0])
        case Read(index=None) | Fill():
            whole: list[Seen] = [Mark.UNWRITTEN, Mark.JUNK, Mark.TRIMMED, *final.entries.values()]
            return replace(each, seen=rng.choice(whole[: 3 if isinstance(each, Fill) else None]))
        case Read():
            ones: list[Seen] = [Mark.UNWRITTEN, Mark.JUNK, Mark.TRIMMED]
            ones += [(record,) for records in final.entries.values() for record in records]
            return replace(each, seen=rng.choice(ones))
        case Scan(items=items, start=start, end=end):
            if not items or rng.random() < 0.2:
                return replace(each, end=max(start, (max(0, end[0] + near), end[1])))
            lacking = rng.randrange(len(items))
            if rng.random() < 0.6:
                return replace(each, items=items[:lacking] + items[lacking + 1 :])
            return replace(each, items=items[: lacking + 1] + items[lacking:])
        case Tail(offset=int(offset)):
            return replace(each, offset=max(0, offset + near))
        case Trim(reached=int(reached)):
            return replace(each, reached=max(0, reached + near))
        case Trim(mark=mark):
            return replace(each, mark=max(0, mark + near))
        case _:
            raise AssertionError(each)


def _mutated_final(rng: random.Random, final: FinalLog) -> FinalLog:
    entries = dict(final.entries)
    if not entries or rng.random() < 0.3:
        tail = max(final.tail - 1, final.trimmed_below)
        return replace(
            final,
            tail=tail,
            entries={offset: entry for offset, entry in entries.items() if offset < tail},
            junk=frozenset(offset for offset in final.junk if offset < tail),
        )
    moved = rng.choice(sorted(entries))
    entry = entries.pop(moved)
    free = sorted({*final.junk, moved})
    to = rng.choice(free)
    if rng.random() < 0.6:
        entries[to] = entry
    if rng.random() < 0.2:
        entries[moved] = entry
    return replace(final, entries=entries, junk=frozenset({*final.junk, moved} - set(entries)))
