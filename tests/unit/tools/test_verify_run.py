"""What a verification was asked for, and how it ends; the rest needs a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from corfu.tools.failure import Status
from corfu.tools.nemesis.client import OPTIONS, Settings
from corfu.tools.nemesis.load import Clients
from corfu.tools.sightings import Violation
from corfu.tools.verify.run import Run, Wish
from corfu.tools.workload import WorkloadOptions

WISH = Wish(
    cluster="127.0.0.1:1",
    seconds=1,
    clients=2,
    processes=1,
    rate=10,
    record_bytes=10,
    trim=False,
    fill=False,
    seed=1,
)


def _run() -> Run:
    return Run(WISH, Path("unused"), lambda _: None)


def test_run_that_found_nothing_ends_well() -> None:
    assert _run().status is Status.OK


@pytest.mark.parametrize(
    ("violated", "unavailable", "complaints", "interrupted", "status"),
    [
        (True, None, [], False, Status.NO),
        (True, "gone", ["stalled"], True, Status.NO),
        (False, "gone", ["stalled"], True, Status.UNKNOWN),
        (False, None, ["stalled"], True, Status.NO),
        (False, None, [], True, Status.INTERRUPTED),
    ],
)
def test_run_status_is_of_what_matters_most(
    violated: bool,
    unavailable: str | None,
    complaints: list[str],
    interrupted: bool,
    status: Status,
) -> None:
    run = _run()
    run.violations = [Violation("once", "", ())] if violated else []
    run.unavailable, run.complaints, run.interrupted = unavailable, complaints, interrupted
    assert run.status is status


def test_run_options_leave_room_for_others_but_not_for_its_own() -> None:
    run, other = _run(), _run()
    assert not run.options.appends_complete
    assert not run.options.trims_complete
    assert run.options.own_prefix == run.prefix
    assert run.prefix != other.prefix


def test_clients_are_spread_over_processes_and_every_second_is_ordered() -> None:
    clients = Clients(5, 2, "v-")
    assert clients.groups() == [["v-1", "v-3", "v-5"], ["v-2", "v-4"]]
    assert clients.settings().ordered == ("v-2", "v-4")
    assert Clients(2).groups() == [["c1"], ["c2"]]
    assert len(Clients(2, 9).groups()) == 2


def test_client_settings_are_decoded_as_they_were() -> None:
    settings = Settings(WorkloadOptions(first=7, fill_own_only=True), ("a", "b"))
    assert Settings.decode(settings.encode()) == settings
    compressing = Clients(2, compression="zstd", dictionaries=("one", "two")).settings()
    assert Settings.decode(compressing.encode()) == compressing
    assert compressing.dictionaries == ("one", "two")
    assert Clients(1).settings().options == OPTIONS
