"""The demo's clients, each a process of its own: two producers and a follower.

    python -m corfu.tools.demo_worker produce CLUSTER NUMBER PRODUCERS
    python -m corfu.tools.demo_worker follow CLUSTER PRODUCERS

They report on stdout, a JSON object a line: {"records": n, "bytes": n}, and at the end
{"done": true, ...}. Exit status 0 only after that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import corfu
from corfu.errors import CorfuError

from .appending import Lines, Totals, append_batches, groups
from .demo_records import MismatchError, Stream, Tally, tagged

APPEND_S_MAX = 30.0
REPORT_S = 0.1


def sources() -> list[Path]:
    """Return every Python source of the standard library, sorted."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]


def lines_of(paths: list[Path]) -> Iterator[bytes]:
    """Yield every line of the files, without line ends."""
    for path in paths:
        yield from path.read_bytes().splitlines()


class _Gaps:
    """The longest time between two reports of progress: what a failing leader costs."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._records = 0
        self._since = time.monotonic()

    def see(self, records: int) -> None:
        now = time.monotonic()
        if records != self._records:
            self.longest_s = max(self.longest_s, now - self._since)
            self._records, self._since = records, now


async def produce(cluster: str, number: int, producers: int) -> None:
    """Append every line of this producer's share of the sources, in order."""
    stream, totals, gaps = Stream(), Totals(), _Gaps()

    async def batches() -> AsyncIterator[Lines]:
        for group in groups(tagged(number, lines_of(sources()[number::producers]), stream)):
            yield group

    async def report() -> None:
        reported = 0.0
        while True:
            gaps.see(totals.records)
            if time.monotonic() - reported > REPORT_S:
                reported = time.monotonic()
                _say(records=totals.records, bytes=totals.bytes)
            await asyncio.sleep(0.01)

    async with corfu.connect(cluster, ordered=True, timeout=APPEND_S_MAX) as log:
        reporting = asyncio.create_task(report())
        try:
            await append_batches(log, batches(), totals)
        finally:
            reporting.cancel()
    _say(
        done=True,
        records=stream.records,
        bytes=stream.size,
        digest=stream.digest,
        longest_s=gaps.longest_s,
    )


async def follow(cluster: str, producers: int) -> None:
    """Follow the log from its beginning until every producer has ended; checks the order."""
    tally = Tally(producers)
    reported = 0.0
    async with (
        corfu.connect(cluster) as log,
        aclosing(log.follow_batches(corfu.EARLIEST)) as batches,
    ):
        while not tally.complete:
            for record in await anext(batches):
                tally.add(record.data)
            if time.monotonic() - reported > REPORT_S:
                reported = time.monotonic()
                _say(records=tally.records)
    _say(
        done=True,
        records=tally.records,
        streams=[{"records": s.records, "digest": s.digest} for s in tally.streams],
    )


def _say(**report: object) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one client."""
    match sys.argv[1:]:
        case ["produce", cluster, number, producers]:
            work = produce(cluster, int(number), int(producers))
        case ["follow", cluster, producers]:
            work = follow(cluster, int(producers))
        case _:
            sys.exit(__doc__)
    try:
        asyncio.run(work)
    except (CorfuError, MismatchError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
