"""What both servers need of the machine: their folder to themselves, a loop, fitting datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

from corfu.config import LOOPBACK_DATAGRAM_BYTES_MAX, LinkSettings

LOCK_NAME = "lock"


@contextlib.contextmanager
def locked(folder: Path, in_use: Exception) -> Iterator[None]:
    """Keep every other process off the folder; raise `in_use` if one has it.

    The lock is the system's, on an open file: it ends with the process, however that ends.
    """
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise in_use from error
        yield
    finally:
        os.close(descriptor)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where there is one, else the standard one."""
    try:
        import uvloop
    except ImportError:
        # Only faster: the standard loop does as well.
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def link_settings(host: str, datagram_bytes: int | None) -> LinkSettings:
    """Return the link settings of a server at `host`; None: the size that fits its network."""
    if datagram_bytes is not None:
        return LinkSettings(datagram_bytes_max=datagram_bytes)
    if ipaddress.ip_address(host).is_loopback:
        return LinkSettings(datagram_bytes_max=LOOPBACK_DATAGRAM_BYTES_MAX)
    return LinkSettings()
