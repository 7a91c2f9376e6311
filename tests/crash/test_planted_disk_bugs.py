"""The campaign, checked: each bug that is planted here must be found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import corfu.journal.folder
import corfu.journal.planner
import corfu.journal.recovery
import corfu.journal.scan
import corfu.sequencer.storage
import corfu.storage_units.identity
import corfu.storage_units.index_file
import corfu.storage_units.recovery
import corfu.storage_units.unit
from corfu.effects import Effect, Send
from corfu.journal import format as journal_format
from corfu.journal.execute import execute
from corfu.journal.files import Part, Releases, replace_file
from corfu.journal.folder import JournalFolder
from corfu.journal.format import RECORD_HEADER_BYTES, RecordHeader
from corfu.journal.planner import Journal
from corfu.journal.recovery import Recovered, _Recovery
from corfu.journal.state import Doubt
from corfu.messages import Message, Sealed
from corfu.ports import Allocate, Disk, DiskOperation, Remove, Rename, Sync, SyncFolder, WriteAt
from corfu.storage_units.index_file import FileIndex
from corfu.storage_units.unit import StorageUnit
from corfu.types import Address
from tests.crash.campaign import Campaign, Effort, Problem
from tests.crash.cluster import recording
from tests.crash.plan import SUBJECTS

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _fresh_recordings() -> Iterator[None]:
    """A recording of the planted bug is nobody else's, and one without it is not this test's."""
    recording.cache_clear()
    yield
    recording.cache_clear()


def found(kind: str, damage: str, states: int = 3000, seed: int = 1) -> list[Problem]:
    effort = Effort(problems=8)
    return Campaign(SUBJECTS[kind](), damage, effort).run(seed, states).problems


def without(
    dropped: type[DiskOperation], make: Callable[..., tuple[DiskOperation, ...]]
) -> Callable[..., tuple[DiskOperation, ...]]:
    return lambda *args: tuple(each for each in make(*args) if not isinstance(each, dropped))


def fsync_skipped_before_the_reply(patch: Patch) -> None:
    operations = Part.operations
    patch.setattr(
        Part, "operations", lambda self: [o for o in operations(self) if not isinstance(o, Sync)]
    )


def name_not_synced_before_the_reply(patch: Patch) -> None:
    operations = Part.operations
    patch.setattr(
        Part,
        "operations",
        lambda self: [o for o in operations(self) if not isinstance(o, SyncFolder)],
    )


def file_freed_before_that_is_durable(patch: Patch) -> None:
    def add(self: Releases, serial: int, file_bytes: int) -> None:
        self._sizes[serial] = file_bytes
        self._freed.append(serial)
        self.stale = True

    cut = Journal.cut

    def freeing_first(self: Journal) -> tuple[DiskOperation, ...]:
        operations = cut(self)
        frees = [
            each
            for each in operations
            if isinstance(each, Remove)
            or (isinstance(each, Rename) and each.old.startswith("journal-"))
        ]
        return (*frees, *(each for each in operations if each not in frees))

    patch.setattr(Releases, "add", add)
    patch.setattr(Journal, "cut", freeing_first)


def damage_taken_for_a_torn_end(patch: Patch) -> None:
    run = _Recovery.run

    def forgiving(self: _Recovery) -> Recovered:
        recovered = run(self)
        return dataclasses.replace(recovered, damage=())

    patch.setattr(_Recovery, "run", forgiving)


def header_digest_unchecked(patch: Patch) -> None:
    def decode(data: memoryview, at: int, position: int, seed: int) -> RecordHeader | None:
        del position, seed
        if at + RECORD_HEADER_BYTES > len(data) or data[at : at + 4] != journal_format.RECORD_MAGIC:
            return None
        _, kind, flags, own, length, _, offset, epoch, entry_id, digest, _ = (
            journal_format._RECORD.unpack_from(data, at)
        )
        return RecordHeader(kind, flags, offset, epoch, entry_id, length, digest, bool(own & 1))

    patch.setattr(corfu.journal.scan, "decode_record_header", decode)
    patch.setattr(corfu.journal.planner, "decode_record_header", decode)


def body_digest_unchecked(patch: Patch) -> None:
    def body_of(data: memoryview, at: int, header: RecordHeader) -> memoryview:
        start = at + RECORD_HEADER_BYTES
        return data[start : start + header.body_bytes]

    patch.setattr(corfu.journal.scan, "body_of", body_of)
    patch.setattr(corfu.journal.planner, "body_of", body_of)


def digests_not_bound_to_the_serial(patch: Patch) -> None:
    file_seed = journal_format.file_seed

    def unbound(incarnation: bytes, serial: int, origin: journal_format.Origin) -> int:
        return file_seed(incarnation, 0 * serial, origin)

    patch.setattr(corfu.journal.folder, "file_seed", unbound)
    patch.setattr(corfu.journal.planner, "file_seed", unbound)


def recovery_that_syncs_nothing(patch: Patch) -> None:
    def lazy(disk: Disk, operations: tuple[DiskOperation, ...]) -> None:
        for operation in operations:
            if not (isinstance(operation, Sync) and operation.name.startswith("journal-")):
                execute(disk, operation)

    write_again = _Recovery._write_again

    def writing(self: _Recovery, *args: Any) -> Journal:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(corfu.journal.recovery, "execute_all", lazy)
            return write_again(self, *args)

    patch.setattr(_Recovery, "_write_again", writing)


def cut_file_believed(patch: Patch) -> None:
    patch.setattr(JournalFolder, "_refuse_cut", lambda self, serial: None)


def snapshot_renamed_before_its_fsync(patch: Patch) -> None:
    patch.setattr(corfu.sequencer.storage, "replace_file", without(Sync, replace_file))


def identity_written_in_place(patch: Patch) -> None:
    def in_place(name: str, data: bytes) -> tuple[DiskOperation, ...]:
        return Allocate(name, 0), WriteAt(name, 0, data), Sync(name), SyncFolder()

    patch.setattr(corfu.storage_units.identity, "replace_file", in_place)


def index_trusted_without_its_digest(patch: Patch) -> None:
    def is_sound(data: bytes, *_: object) -> bool:
        return len(data) > 100

    decode = corfu.storage_units.index_file.decode_index

    def decoded(*args: Any) -> FileIndex | None:
        index = decode(*args)
        if index is not None:
            # A run of 2**60 offsets would take for ever.
            index.runs = [run for run in index.runs if run.end - run.start < 100 and run.step]
        return index

    patch.setattr(corfu.storage_units.index_file, "is_sound", is_sound)
    patch.setattr(corfu.storage_units.recovery, "decode_index", decoded)


def index_renamed_before_its_fsync(patch: Patch) -> None:
    patch.setattr(corfu.storage_units.unit, "replace_file", without(Sync, replace_file))
    index_trusted_without_its_digest(patch)


def seal_answered_before_it_is_durable(patch: Patch) -> None:
    handle = StorageUnit.handle

    def hasty(self: StorageUnit, message: Message, sender: Address, now: float) -> list[Effect]:
        return [
            dataclasses.replace(effect, ordered=False)
            if isinstance(effect, Send) and isinstance(effect.message, Sealed)
            else effect
            for effect in handle(self, message, sender, now)
        ]

    patch.setattr(StorageUnit, "handle", hasty)


def acceptor_that_votes_in_doubt(patch: Patch) -> None:
    recover = corfu.sequencer.storage._recover

    def sure(*args: object) -> Recovered:
        return dataclasses.replace(recover(*args), doubt=Doubt())  # type: ignore[arg-type]

    patch.setattr(corfu.sequencer.storage, "_recover", sure)


PLANTED: list[tuple[Callable[[Patch], None], str, str, str]] = [
    (fsync_skipped_before_the_reply, "journal", "crash", "is lost"),
    (fsync_skipped_before_the_reply, "unit", "crash", "taken for damage"),
    (fsync_skipped_before_the_reply, "replica", "crash", "votes no more"),
    (fsync_skipped_before_the_reply, "local", "crash", "is lost"),
    (name_not_synced_before_the_reply, "journal", "crash", "is lost"),
    (file_freed_before_that_is_durable, "journal", "crash", "is missing"),
    (damage_taken_for_a_torn_end, "journal", "flip", "not named"),
    (header_digest_unchecked, "journal", "flip", "nobody ever wrote"),
    (body_digest_unchecked, "journal", "flip", "nobody ever wrote"),
    (digests_not_bound_to_the_serial, "journal", "crash", "is back"),
    (recovery_that_syncs_nothing, "journal", "crash again", "shows something else"),
    (cut_file_believed, "journal", "cut", "nobody says so"),
    (snapshot_renamed_before_its_fsync, "replica", "crash", "snapshot"),
    (identity_written_in_place, "unit", "crash", "identity"),
    (index_trusted_without_its_digest, "unit", "flip", "index"),
    (index_renamed_before_its_fsync, "unit", "crash", ""),
    (seal_answered_before_it_is_durable, "unit", "crash", "sealed went back"),
    (acceptor_that_votes_in_doubt, "replica", "flip", "nobody says so"),
]


@pytest.mark.parametrize(("plant", "kind", "damage", "text"), PLANTED)
def test_planted_bug_of_the_disk_when_its_states_are_judged_is_found(
    plant: Callable[[Patch], None],
    kind: str,
    damage: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    problems = found(kind, damage)
    assert problems
    assert any(text in problem.text for problem in problems), "\n".join(map(str, problems))
