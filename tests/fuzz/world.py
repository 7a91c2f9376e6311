"""The clusters that the targets belong to, as values for messages are drawn from them."""

from __future__ import annotations

import random

from corfu.entry import encode_entry
from corfu.layout import Segment
from corfu.sequencer import commands
from corfu.storage_units.names import entry_digest
from corfu.types import JUNK_ID, Ballot, EntryId, Incarnation, Offset, ReplicaId, UnitId
from tests.unit.corfu.client_world import make_layout
from tests.unit.sequencer import group_bench
from tests.unit.storage_units.unit_bench import CLUSTER, entry_id, layout, unit_value

from .values import Maker, Names

FIRST = 64
"""T of the epoch that the unit serves: older offsets lie in a closed segment."""

EPOCH = 2

OLD_LAYOUT = layout(1, [2, 1])
_OLD = ((UnitId(2), UnitId(1)),)
_NEW = ((UnitId(1), UnitId(2)),)
LAYOUT = layout(
    EPOCH,
    first_offset=FIRST,
    segments=(Segment(Offset(0), Offset(FIRST), _OLD), Segment(Offset(FIRST), None, _NEW)),
)
"""Unit 1 is the tail unit of the closed segment, and the head of the open one."""

_ENTRIES = tuple(b"entry %d" % number for number in range(8))

UNIT_NAMES = Names(
    cluster=CLUSTER,
    epochs=(EPOCH, EPOCH, EPOCH, EPOCH, EPOCH, 1, EPOCH + 1),
    offsets=tuple(range(FIRST + 40)),
    units=(unit_value(1), unit_value(1), unit_value(1), unit_value(2)),
    replicas=LAYOUT.replicas,
    clients=(Incarnation(b"client-incarnati"), Incarnation(b"fuzzed-session--")),
    layouts=(LAYOUT, LAYOUT, OLD_LAYOUT, layout(EPOCH + 1, [1, 2], first_offset=FIRST + 20)),
    entry_ids=(*(entry_id(number) for number in range(1, 9)), JUNK_ID),
    values=_ENTRIES,
    digests=tuple(entry_digest(entry) for entry in _ENTRIES),
)


def client_names() -> Names:
    """Return the names of a cluster of two chains, as a client of it sees them."""
    active = make_layout()
    entries = tuple(encode_entry([b"record %d" % number], 0) for number in range(4))
    return Names(
        cluster=active.cluster,
        epochs=(1, 1, 1, 1, 1, 2, 0),
        offsets=tuple(range(64)),
        units=active.units,
        replicas=active.replicas,
        clients=(Incarnation(b"fuzzed-session--"),),
        layouts=(active, active, make_layout(2, 50), make_layout(3)),
        entry_ids=(EntryId(b"i" * 16), JUNK_ID),
        values=(*entries, b"", b"no entry"),
        digests=tuple(entry_digest(entry) for entry in entries),
    )


def group_names(formatted: int) -> Names:
    """Return the names of a group of three replicas.

    Args:
        formatted: The digest of the bootstrap that all of them were formatted with.
    """
    bootstrap = group_bench.bootstrap(3)
    active = bootstrap.layout()
    ballots = tuple(Ballot(n, ReplicaId(id_)) for n in (1, 2, 3) for id_ in (1, 2, 3))
    plain = Names(
        cluster=bootstrap.cluster,
        epochs=(1, 1, 1, 1, 2, 0),
        offsets=tuple(range(40)),
        units=bootstrap.units,
        replicas=bootstrap.replicas,
        clients=tuple(group_bench.incarnation(1000 + n) for n in range(4)),
        layouts=(active,),
        entry_ids=(EntryId(b"entry-id-entryid"), JUNK_ID),
        ballots=ballots,
        slots=tuple(range(1, 16)),
        extra={"formatted": (formatted,), "count": (1, 2, 3), "detail": ("",)},
    )
    maker = Maker(plain, random.Random(1))
    made = [maker.value(kind) for kind in commands.KINDS.values() for _ in range(3)]
    values = tuple(commands.encode(command) for command in made)
    return Names(
        **{name: getattr(plain, name) for name in plain.__slots__ if name != "values"},
        values=(*values, b"", b"\xff"),
    )
