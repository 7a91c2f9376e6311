"""The demo's records, and the tally that proves they were all read, once each and in order.

Pure. A record is `producer sequence L line`; `producer count E` ends a producer's stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


class MismatchError(Exception):
    """What was read is not what was appended."""


@dataclass(slots=True)
class Stream:
    """What was seen of one producer: how many lines, and the digest over them in order."""

    records: int = 0
    size: int = 0
    ended: bool = False
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, record: bytes) -> None:
        """Count one more record."""
        self.records += 1
        self.size += len(record)
        self._digest.update(record + b"\n")

    @property
    def digest(self) -> str:
        """SHA-256 over all records so far, each followed by a line end."""
        return self._digest.hexdigest()


def tagged(producer: int, lines: Iterable[bytes], stream: Stream) -> Iterator[bytes]:
    """Yield the record of each line, counting them in `stream`, then the end record."""
    for line in lines:
        record = b"%d %d L %b" % (producer, stream.records, line)
        stream.add(record)
        yield record
    yield b"%d %d E" % (producer, stream.records)


class Tally:
    """Checks a log's records, in log order, against what producers must have appended."""

    def __init__(self, producers: int) -> None:
        self.streams = [Stream() for _ in range(producers)]

    @property
    def complete(self) -> bool:
        """Whether every producer's end record was seen."""
        return all(stream.ended for stream in self.streams)

    @property
    def records(self) -> int:
        """Lines seen so far, of all producers."""
        return sum(stream.records for stream in self.streams)

    def add(self, record: bytes) -> None:
        """Take the next record of the log.

        Raises:
            MismatchError: it is not the one that must come next of its producer.
        """
        producer, sequence, rest = record.split(b" ", 2)
        stream = self.streams[int(producer)]
        if stream.ended or int(sequence) != stream.records:
            raise MismatchError(
                f"producer {int(producer)}: record {int(sequence)} came where "
                f"{'its stream had ended' if stream.ended else f'{stream.records} was due'}"
            )
        if rest[:1] == b"E":
            stream.ended = True
        else:
            stream.add(record)
