"""Opening a client of a real cluster: the socket, the link, the driver, the random numbers."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from types import TracebackType

from corfu.addresses import parse_addresses
from corfu.client.log import LogClient
from corfu.client.settings import ClientSettings
from corfu.compression import CodecName, Compression, EntryCodec, compression_of
from corfu.config import LOOPBACK_DATAGRAM_BYTES_MAX, LinkSettings
from corfu.errors import UnavailableError, UsageError
from corfu.link import Link
from corfu.runtime.dictionaries import Dictionary, dictionaries_of
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation


class Connecting:
    """A log being opened: `async with connect(...) as log`, or `log = await connect(...)`."""

    def __init__(
        self, sequencers: tuple[Address, ...], settings: ClientSettings, link: LinkSettings
    ) -> None:
        self._sequencers = sequencers
        self._settings = settings
        self._link = link
        self._log: LogClient | None = None

    def __await__(self) -> Generator[object, None, LogClient]:
        return self._open().__await__()

    async def __aenter__(self) -> LogClient:
        self._log = await self._open()
        return self._log

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._log is not None:
            await self._log.close()

    async def _open(self) -> LogClient:
        ipv6 = ":" in self._sequencers[0].host
        loopback = all(map(_is_loopback, self._sequencers))
        # Off loopback the kernel knows best which interface reaches whom; only replies are taken.
        own, any_ = ("::1", "::") if ipv6 else ("127.0.0.1", "0.0.0.0")  # noqa: S104
        host = own if loopback else any_
        try:
            datagrams = await bind_udp(host, 0)
        except OSError as error:
            raise UnavailableError(f"no local socket: {error}") from error
        # What a scan reads ahead waits there while the program works. Linux says twice what it
        # gives, and counts a datagram as up to twice its length.
        room = max(1, datagrams.recv_buffer_bytes // 4)
        settings = replace(self._settings, ahead_bytes=min(self._settings.ahead_bytes, room))
        rng = random.Random(os.urandom(16))  # noqa: S311 - for jitter only
        link = Link(
            cluster=None,
            session=Incarnation(os.urandom(16)),
            settings=self._link,
            rng=rng,
        )

        def learn(cluster: ClusterId) -> None:
            link.cluster = cluster

        async def stop() -> None:
            driver.stop()
            await datagrams.wait_closed()

        driver = Driver(
            core=None,
            link=link,
            datagrams=datagrams,
            worker=None,
            loop=asyncio.get_running_loop(),
        )
        driver.start()
        log = LogClient(
            driver,
            settings,
            rng=rng,
            entropy=os.urandom,
            sequencers=self._sequencers,
            pid=os.getpid,
            wall_us=lambda: time.time_ns() // 1000,
            on_cluster=learn,
            on_close=stop,
        )
        try:
            await log.open()
        except BaseException:
            await log.close(timeout=0)
            raise
        return log


def connect(
    cluster: str,
    *,
    ordered: bool = False,
    timeout: float | None = None,
    compression: CodecName | Compression | None = None,
    dictionary: Dictionary | Sequence[Dictionary] | None = None,
    cache_bytes: int | None = None,
    settings: ClientSettings | None = None,
    link: LinkSettings | None = None,
) -> Connecting:
    """Open the log of a running cluster.

    Args:
        cluster: Addresses of its sequencer replicas: "HOST:PORT,HOST:PORT,...".
        ordered: Keep one entry without verdict at a time: log order is call order, across
            failures too, and after a failed append those queued behind it are not appended.
        timeout: Seconds a call may take that names no timeout, opening included; the default
            is 30.
        compression: "zstd" or "lz4" compresses what is appended, entry by entry; a `Compression`
            says how. Worth it where the network is the limit; all clients read it, whatever
            they say here, if they have the libraries of the extra `compression`.
        dictionary: Trained zstd dictionaries (see `corfu dict train`), or paths of such: the
            first is used for appending by "zstd", all for reading.
        cache_bytes: How much of what was read is kept in memory, so that reading it again asks
            nobody; the default is 16 MiB, 0 keeps nothing. What `trim` gave up is dropped.
        settings: All else, for those who must; the arguments above go before it.
        link: How requests travel over datagrams.

    Raises:
        UsageError: `cluster` is no list of addresses; or a library for `compression` is missing,
            a dictionary is none.
        UnavailableError: From awaiting: no replica answered; the text names those asked.
    """
    sequencers = parse_addresses(cluster)
    if len({":" in address.host for address in sequencers}) > 1:
        raise UsageError(f"{cluster!r} mixes IPv4 and IPv6: one socket reaches only one of them")
    settings = settings or ClientSettings()
    if ordered:
        settings = replace(settings, ordered=True)
    if timeout is not None:
        if not timeout > 0:
            raise UsageError(f"timeout must be above 0, not {timeout!r}")
        settings = replace(settings, timeout_s=timeout)
    chosen = compression_of(settings.compression, compression, dictionaries_of(dictionary))
    settings = replace(settings, compression=chosen)
    # Now, and not half-way through opening: what lacks is the caller's to mend.
    EntryCodec(chosen)
    if cache_bytes is not None:
        if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < 0:
            raise UsageError(f"cache_bytes must be an integer of 0 or more, not {cache_bytes!r}")
        settings = replace(settings, cache_bytes=cache_bytes)
    if link is None:
        link = LinkSettings()
        if all(map(_is_loopback, sequencers)):
            link = LinkSettings(datagram_bytes_max=LOOPBACK_DATAGRAM_BYTES_MAX)
    return Connecting(sequencers, settings, link)


def _is_loopback(address: Address) -> bool:
    return ipaddress.ip_address(address.host).is_loopback
