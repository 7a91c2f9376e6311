"""The blocking API: the same as the async one, without its event loop."""

from __future__ import annotations

import inspect
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import corfu
import corfu.sync
from corfu.errors import UnavailableError, UnwrittenError, UsageError
from corfu.types import Position


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_sync_has_each_method_of_the_async_log_with_its_parameters() -> None:
    asynchronous, blocking = public(corfu.Log), public(corfu.sync.SyncLog)
    assert asynchronous.keys() == blocking.keys()
    for name, signature in asynchronous.items():
        assert list(signature.parameters.values()) == list(blocking[name].parameters.values())
    for name in ("connect", "local"):
        signature = inspect.signature(getattr(corfu, name))
        other = inspect.signature(getattr(corfu.sync, name))
        assert list(signature.parameters.values()) == list(other.parameters.values())


def test_sync_append_read_scan_follow(tmp_path: Path) -> None:
    with corfu.sync.local(tmp_path / "log") as log:
        position = log.append(b"a")
        log.append_many([b"b", b"c"])
        assert log.read(position).data == b"a"
        assert len(log.read(1)) == 2
        assert [record.data for record in log.scan()] == [b"a", b"b", b"c"]
        assert [len(batch) for batch in log.scan_batches(1)] == [2]
        assert log.tail() == 2
        follower = log.follow(position)
        assert [next(follower).data for _ in range(3)] == [b"a", b"b", b"c"]
        follower.close()
        assert log.trim(1) == 1
        with pytest.raises(UnwrittenError):
            log.read(Position(log.tail(), 0))
        with pytest.raises(UsageError, match="integer"):
            log.scan("x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="closed"):
        log.append(b"late")
    log.close()


def test_sync_calls_from_many_threads_are_all_appended(tmp_path: Path) -> None:
    with corfu.sync.local(tmp_path / "log") as log:
        threads = [
            threading.Thread(target=lambda: [log.append(b"x") for _ in range(20)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(log.scan())) == 160


def test_sync_broken_off_iterators_leave_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with corfu.sync.local(tmp_path / "log") as log:
        log.append_many([b"a", b"b"])
        for _ in log.scan():
            break
        follower = log.follow(0)
        next(follower)
    assert threading.active_count() == before


def test_sync_interrupt_ends_a_waiting_call_and_the_log_goes_on(tmp_path: Path) -> None:
    with corfu.sync.local(tmp_path / "log") as log:
        follower = log.follow()
        interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(follower)
        assert time.monotonic() - began < 5
        assert log.append(b"still here").offset == 0


def test_sync_open_failure_is_raised_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(UsageError, match="no port"):
        corfu.sync.connect("127.0.0.1:none")
    # Nobody listens there.
    with pytest.raises(UnavailableError, match=r"tried 127\.0\.0\.1:9"):
        corfu.sync.connect("127.0.0.1:9", timeout=0.3)
    assert threading.active_count() == before


def test_sync_after_fork_is_refused(tmp_path: Path) -> None:
    with corfu.sync.local(tmp_path / "log") as log:
        log._pid += 1
        with pytest.raises(UsageError, match="fork"):
            log.append(b"x")
        log._pid -= 1
