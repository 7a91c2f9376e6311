"""A mounted `PowerDisk`, by FUSE; commands on stdin cut its power.

    python -m tests.integration.hostile.power_mount MOUNT CONTENTS [lies]

Each line of stdin is JSON: {"settle": true}, {"cut": [FOLDER, ...], "seed": N or null}, which
leaves them without power, or {"power": true}, which gives it back to all. Each is answered by a
line with what was lost. Ends at SIGTERM, and unmounts.
"""

from __future__ import annotations

import json
import os
import random
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mfusepy

from tests.integration.hostile.power_disk import File, Folder, PowerDisk

SYNC_S = 0.01
"""How long a sync takes: as on a slow disk."""

_ENDED_BY_SIGNAL = 8


class Mounted(mfusepy.Operations):  # type: ignore[misc]
    """What FUSE asks for, on a `PowerDisk`."""

    use_ns = True

    def __init__(self, disk: PowerDisk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._open: dict[int, File] = {}
        self._handles = 0

    def command(self, line: str) -> dict[str, int]:
        """Carry out a line of stdin."""
        wish = json.loads(line)
        with self._lock:
            if "settle" in wish:
                self._disk.settle()
                return {}
            if "power" in wish:
                self._disk.restore_power()
                return {}
            seed = wish["seed"]
            rng = None if seed is None else random.Random(seed)
            return dict(self._disk.cut(wish["cut"], rng))

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self._lock:
            node = self._disk.node(path) if fh is None else self._open[fh]
        if isinstance(node, Folder):
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": node.size}

    def readdir(self, path: str, fh: int) -> list[str]:
        with self._lock:
            return [".", "..", *self._disk.folder(path).names]

    def mkdir(self, path: str, mode: int) -> int:
        with self._lock:
            self._disk.make_folder(path)
        return 0

    def unlink(self, path: str) -> int:
        with self._lock:
            self._disk.remove(path)
        return 0

    def rmdir(self, path: str) -> int:
        with self._lock:
            self._disk.remove(path)
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._lock:
            self._disk.rename(old, new)
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        with self._lock:
            return self._handle(self._disk.make_file(path))

    def open(self, path: str, flags: int) -> int:
        with self._lock:
            file = self._disk.file(path)
            if flags & os.O_TRUNC:
                file.truncate(0)
            return self._handle(file)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._lock:
            self._disk.require_power(path)
            return self._open[fh].read(offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._lock:
            self._disk.require_power(path)
            self._open[fh].write(offset, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._lock:
            file = self._disk.file(path) if fh is None else self._open[fh]
            file.truncate(length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        # A new length is part of what fdatasync brings to the disk, too. Until the time is over
        # nothing is durable, so that a power cut mostly meets something that is not.
        time.sleep(SYNC_S)
        with self._lock:
            self._disk.require_power(path)
            self._disk.sync(self._open[fh])
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        with self._lock:
            self._disk.sync(self._disk.folder(path))
        return 0

    def release(self, path: str, fh: int) -> int:
        with self._lock:
            del self._open[fh]
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        blocks = 1 << 20
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_bavail": blocks}

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    def _handle(self, file: File) -> int:
        self._handles += 1
        self._open[self._handles] = file
        return self._handles


def _obey(mounted: Mounted) -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(mounted.command(line)) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Run the process."""
    mount, contents, *lies = sys.argv[1:]
    mounted = Mounted(PowerDisk(Path(contents), lies=bool(lies)))
    threading.Thread(target=_obey, args=(mounted,), daemon=True).start()
    try:
        mfusepy.FUSE(
            mounted,
            mount,
            foreground=True,
            # Nothing may stay in the kernel: it knows of no power cuts.
            direct_io=True,
            attr_timeout=0,
            entry_timeout=0,
            negative_timeout=0,
            hard_remove=True,
            fsname="power-disk",
        )
    except RuntimeError as error:
        if error.args != (_ENDED_BY_SIGNAL,):
            raise


if __name__ == "__main__":
    main()
