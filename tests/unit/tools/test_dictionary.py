"""Training dictionaries: what is trained on, what is tried, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import zstandard

from corfu.compression import dictionary_id
from corfu.entry import packed_bytes
from corfu.errors import UsageError
from corfu.tools.cli import main
from corfu.tools.dictionary_training import entries_of, train
from corfu.tools.failure import CommandError, Status
from tests.unit.corfu.compressing import clicks, without_libraries


def _run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CORFU_CLUSTER", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("clicks").write_bytes(b"\n".join(clicks(2000)))


def test_training_tries_what_it_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the last fifth trained on, too, the gain would be that of records known by heart."""
    seen: list[bytes] = []
    real = zstandard.train_dictionary

    def watching(size: int, samples: list[bytes], **options: int) -> object:
        seen.extend(samples)
        return real(size, samples, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(zstandard, "train_dictionary", watching)
    records = clicks(1003)
    trained = train(records, 4096, 3)
    assert seen == records[:803]
    assert (trained.records, trained.held_out) == (803, 200)
    assert trained.record_bytes == sum(map(len, seen))


def test_gains_are_those_of_real_entries() -> None:
    trained = train(clicks(2000), 8192, 3)
    assert len(trained.dictionary) <= 8192
    assert trained.id == dictionary_id(trained.dictionary)
    others = clicks(2000)[1600:]
    single, middle, large = trained.gains
    assert single.plain == 24 + sum(map(len, others)) / len(others)
    assert single.plain >= single.compressed > 1.4 * single.with_dictionary
    # Where records have company, they say themselves what they have in common.
    assert large.plain > 3 * large.compressed
    assert large.with_dictionary < 1.1 * large.compressed
    assert single.compressed > middle.compressed > large.compressed


def test_gain_of_random_records_is_none() -> None:
    trained = train([os.urandom(100) for _ in range(1000)], 4096, 3)
    single = trained.gains[0]
    # What does not shrink stands plain.
    assert single.plain == single.compressed == single.with_dictionary


def test_entries_of_cuts_at_the_size_and_loses_nothing() -> None:
    records = clicks(50)
    assert entries_of(records, 0) == [[record] for record in records]
    entries = entries_of(records, 1000)
    assert [record for entry in entries for record in entry] == records
    assert len(entries) > 5
    assert all(sum(map(packed_bytes, entry)) <= 1000 for entry in entries)


@pytest.mark.parametrize(
    ("records", "why"),
    [(clicks(49), "too few to train on"), ([b""] * 1000, "too short")],
)
def test_too_few_or_too_short_records_are_refused(records: list[bytes], why: str) -> None:
    with pytest.raises(CommandError, match=why) as refused:
        train(records, 4096, 3)
    assert refused.value.status is Status.NO


def test_training_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without_libraries(monkeypatch, "zstandard")
    with pytest.raises(UsageError, match=r"corfu-log\[compression\]"):
        train(clicks(100), 4096, 3)


# The commands.


def test_train_command_writes_a_new_file_and_says_what_it_gains(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = _run(["dict", "train", "--input", "clicks", "-o", "out"], capsys)
    assert status == 0
    data = Path("out").read_bytes()
    assert f"dictionary {dictionary_id(data):016x}, {len(data):,} bytes: written to out" in out
    assert "trained on 1,600 records" in out
    assert "one record" in out
    assert _run(["dict", "show", "out"], capsys)[1].startswith(f"{dictionary_id(data):016x} ")


def test_train_command_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").write_bytes(b"precious")
    status, out, err = _run(["dict", "train", "--input", "clicks", "-o", "out"], capsys)
    assert (status, out) == (5, "")
    assert err == "corfu: out is there: entries may need it, so it is not overwritten\n"
    assert Path("out").read_bytes() == b"precious"


def test_train_command_without_a_file_only_tells(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(["dict", "train", "--input", "clicks", "-n", "500"], capsys)
    assert status == 0
    assert "trained on 400 records" in out
    assert "not written" in out
    assert os.listdir() == ["clicks"]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["train"], 2, "CORFU_CLUSTER"),
        (["train", "--input", "clicks", "--from", "3"], 2, "--input"),
        (["train", "--input", "missing"], 5, "cannot read"),
        (["train", "--size", "100", "--input", "clicks"], 2, "100"),
        (["train", "--level", "23", "--input", "clicks"], 2, "23"),
        (["train", "--input", "clicks", "-n", "10"], 1, "too few"),
        (["train", "--input", "clicks", "-o", "no/folder/out"], 5, "no/folder/out"),
        (["train", "--cluster", "127.0.0.1:9", "--dictionary", "missing"], 5, "cannot read"),
        (["show"], 2, "FILE"),
        (["show", "missing"], 5, "cannot read"),
        (["show", "clicks"], 5, "clicks: a dictionary of .* is no trained zstd dictionary"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], status: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = _run(["dict", *arguments], capsys)
    assert (ended, out) == (status, "")
    assert len(err.splitlines()) == 1
    assert re.search(why, err)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["append", "--compression", "zip"], 2, "zip"),
        (["append", "--level", "3"], 2, "no codec"),
        (["append", "--compression", "lz4", "--level", "13"], 2, "not in [1, 12]"),
        (["append", "--dictionary", "missing"], 5, "cannot read missing"),
        (["append", "--dictionary", "clicks"], 2, "no trained zstd dictionary"),
        (["read", "--dictionary", "missing"], 5, "cannot read missing"),
        (["read", "--dictionary", "clicks"], 2, "no trained zstd dictionary"),
        (["verify", "--compression", "zip"], 2, "zip"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    arguments: list[str],
    status: int,
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORFU_CLUSTER", "127.0.0.1:9")
    ended, out, err = _run(arguments, capsys)
    assert (ended, out) == (status, "")
    assert len(err.splitlines()) == 1
    assert why in err


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_append_without_the_library_names_the_extra(
    codec: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_libraries(monkeypatch, "zstandard", "lz4")
    arguments = ["append", "--cluster", "127.0.0.1:9", "--compression", codec, "clicks"]
    ended, _, err = _run(arguments, capsys)
    assert ended == 2
    assert "pip install 'corfu-log[compression]'" in err
    assert len(err.splitlines()) == 1
