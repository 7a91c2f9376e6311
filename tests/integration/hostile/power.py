"""Disks whose power a test cuts: a mount, and the process behind it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from corfu.tools.processes import dying_with_us
from tests.integration.running import DEADLINE_S, ROOT


class Power:
    """The disk of all folders below `mount`."""

    def __init__(self, mount: Path, process: subprocess.Popen[bytes]) -> None:
        self.mount = mount
        self.lost: Counter[str] = Counter()
        """What all cuts together have lost: sectors, and steps of folders."""
        self.met = 0
        """How many cuts met something that was not synced."""
        self._process = process

    def settle(self) -> None:
        """Bring everything to the disk."""
        self._tell({"settle": True})

    def cut(self, folders: Sequence[Path], seed: int | None) -> None:
        """Cut the power of some data folders at once, until `restore`.

        Args:
            folders: What loses power; the rest keeps it. Whoever uses them must be killed next.
            seed: Draws what of the unsynced is lost; None: all.
        """
        paths = [str(folder.relative_to(self.mount)) for folder in folders]
        lost = self._tell({"cut": paths, "seed": seed})
        self.met += any(lost.values())
        self.lost += Counter(lost)

    def restore(self) -> None:
        """Give power back to all."""
        self._tell({"power": True})

    def _tell(self, wish: dict[str, object]) -> dict[str, int]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(wish).encode() + b"\n")
        process.stdin.flush()
        assert select.select((process.stdout,), (), (), DEADLINE_S)[0], "the disk does not answer"
        answer = process.stdout.readline()
        assert answer, "the disk has ended"
        told: dict[str, int] = json.loads(answer)
        return told


@contextlib.contextmanager
def power(folder: Path, *, lies: bool = False) -> Iterator[Power]:
    """Mount a disk below `folder`; skips the test where that is not possible.

    Args:
        folder: For the mount, and what its files contain.
        lies: A disk that says that all is synced, and syncs nothing.
    """
    _require_fuse()
    mount, contents = folder / "disk", folder / "contents"
    mount.mkdir(parents=True)
    contents.mkdir()
    with (folder / "disk.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.hostile.power_mount"),
                *(str(mount), str(contents), *(("lies",) if lies else ())),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            preexec_fn=dying_with_us(),
        )
    try:
        give_up = time.monotonic() + DEADLINE_S
        while not os.path.ismount(mount):
            if process.poll() is not None:
                said = (folder / "disk.log").read_text()
                if "not permitted" in said:
                    pytest.skip(f"needs the right to mount: {said.strip()}")
                raise AssertionError(said)
            assert time.monotonic() < give_up, "not mounted"
            time.sleep(0.02)
        yield Power(mount, process)
    finally:
        _unmount(mount, process)
        shutil.rmtree(contents, ignore_errors=True)


def _unmount(mount: Path, process: subprocess.Popen[bytes]) -> None:
    """End the process, which unmounts; and unmount by force what a killed one left."""
    process.terminate()
    try:
        process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    listed = Path("/proc/self/mounts").read_text()
    if f" {mount} " in listed:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def _require_fuse() -> None:
    if sys.platform != "linux" or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse, readable and writable, to cut the power of a disk")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        pytest.skip("needs root or fusermount3, to mount a disk: install fuse3")
    try:
        import mfusepy  # noqa: F401
    except ImportError:
        pytest.skip("needs mfusepy, to make a disk: pip install -e '.[all]'")
    except OSError as error:
        pytest.skip(f"needs libfuse, to make a disk: install fuse3 ({error})")
