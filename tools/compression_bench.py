"""What compressing costs and gains, measured on records like those of a web site's click stream.

    python -m corfu.tools.compression_bench [--rounds N]
    corfu dev -- python -m corfu.tools.compression_bench --append

Packing and unpacking alone, as a client does them, in CPU time of this process; with `--append`
how many records a cluster takes from one client. All ways are measured in turn, several rounds,
and medians count, so that other work on the machine falls on all alike.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import click

import corfu
from corfu.compression import ZSTD_LEVEL, CodecName, Compression, EntryCodec
from corfu.entry import encode_entry

from .connection import run
from .dictionary_training import entries_of, train
from .tables import plain_table, table_console

_SEED = 5
_ENTRY_BYTES = 60_000
_CALLS_AT_ONCE = 24
_TRAINED_ON = 10_000
_DICTIONARY_BYTES = 16 << 10
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
)
_PAGES = ("shoes", "hats", "bags", "coats", "search", "cart", "checkout", "account")


def small_event(rng: random.Random, number: int) -> bytes:
    """Return a click event of about 150 bytes."""
    event = {
        "ts": 1_700_000_000_000 + 37 * number + rng.randrange(37),
        "user": f"u{rng.randrange(10**6):06}",
        "session": f"{rng.randrange(2**64):016x}",
        "page": f"/{rng.choice(_PAGES)}/{rng.randrange(9999)}",
        "from": f"/{rng.choice(_PAGES)}/{rng.randrange(9999)}",
        "event": rng.choice(("view", "click", "add_to_cart", "scroll")),
        "ms": rng.randrange(2000),
        "x": rng.randrange(1920),
        "y": rng.randrange(1080),
    }
    return json.dumps(event, separators=(",", ":")).encode()


def large_event(rng: random.Random, number: int) -> bytes:
    """Return a click event of about 1,000 bytes: what a small one has, and where it came from."""
    event = {
        **json.loads(small_event(rng, number)),
        "id": f"{rng.randrange(2**128):032x}",
        "trace": f"{rng.randrange(2**128):032x}",
        "ip": ".".join(str(rng.randrange(256)) for _ in range(4)),
        "agent": rng.choice(_AGENTS),
        "referrer": f"https://www.example.com/{rng.choice(_PAGES)}?q={rng.randrange(10**8)}"
        f"&utm_source=newsletter&utm_campaign=c{rng.randrange(50)}",
        "viewport": {"width": rng.choice((390, 1280, 1920)), "height": rng.choice((844, 720))},
        "experiments": {f"exp_{name}": rng.choice("AB") for name in range(12)},
        "cart": [
            {"sku": f"SKU-{rng.randrange(10**7):07}", "quantity": rng.randint(1, 3)}
            for _ in range(7)
        ],
        "token": f"{rng.randrange(2**256):064x}",
    }
    return json.dumps(event, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way costs per record: bytes in the log, and microseconds to pack and to unpack."""

    bytes: float
    pack_us: float
    unpack_us: float


def ways(dictionary: bytes) -> dict[str, EntryCodec]:
    """Return what is compared; every entry that gets smaller is compressed."""
    made = {
        "none": Compression(),
        "lz4": Compression("lz4", bytes_min=0),
        "zstd": Compression("zstd", bytes_min=0),
        "zstd, level 3": Compression("zstd", level=3, bytes_min=0),
        "zstd, dictionary": Compression("zstd", bytes_min=0, dictionaries=(dictionary,)),
    }
    return {name: EntryCodec(each) for name, each in made.items()}


def measure(
    codecs: dict[str, EntryCodec], entries: Sequence[Sequence[bytes]], rounds: int
) -> dict[str, Cost]:
    """Pack and unpack all entries in each way, `rounds` times in turn; return the medians."""
    count = sum(map(len, entries))
    packed = {name: [codec.encode(e, 0) for e in entries] for name, codec in codecs.items()}
    packing: dict[str, list[float]] = {name: [] for name in codecs}
    unpacking: dict[str, list[float]] = {name: [] for name in codecs}
    for _ in range(rounds):
        for name, codec in codecs.items():
            begun = time.process_time()
            for entry in entries:
                codec.encode(entry, 0)
            half = time.process_time()
            for data in packed[name]:
                codec.decode(data)
            packing[name].append(half - begun)
            unpacking[name].append(time.process_time() - half)
    return {
        name: Cost(
            sum(map(len, packed[name])) / count,
            1e6 * statistics.median(packing[name]) / count,
            1e6 * statistics.median(unpacking[name]) / count,
        )
        for name in codecs
    }


async def _append_s(cluster: str, calls: Sequence[list[bytes]], codec: CodecName | None) -> float:
    async with corfu.connect(cluster, compression=codec) as log:
        begun = time.monotonic()
        for at in range(0, len(calls), _CALLS_AT_ONCE):
            await asyncio.gather(
                *(log.append_many(call) for call in calls[at : at + _CALLS_AT_ONCE])
            )
        return time.monotonic() - begun


async def _append(cluster: str, records: int, rounds: int) -> None:
    rng = random.Random(_SEED)  # noqa: S311 - the same events each time
    calls = entries_of([small_event(rng, number) for number in range(records)], _ENTRY_BYTES)
    codecs: tuple[CodecName | None, ...] = (None, *get_args(CodecName))
    taken: dict[CodecName | None, list[float]] = {codec: [] for codec in codecs}
    for _ in range(rounds):
        for codec in codecs:
            taken[codec].append(await _append_s(cluster, calls, codec))
    table = plain_table("codec", "records/s", "of none", "in half of the rounds")
    for codec, times in taken.items():
        ratios = sorted(none / own for none, own in zip(taken[None], times, strict=True))
        low, high = ratios[rounds // 4], ratios[-1 - rounds // 4]
        table.add_row(
            codec or "none",
            f"{records / statistics.median(times):,.0f}",
            f"{statistics.median(ratios):.2f}",
            f"{low:.2f} to {high:.2f}",
        )
    table_console().print(table)


@click.command()
@click.option("--append", is_flag=True, help="Append to the cluster of CORFU_CLUSTER.")
@click.option("--cluster", envvar="CORFU_CLUSTER", metavar="HOST:PORT,...")
@click.option("--records", type=click.IntRange(50), default=2000, show_default=True, metavar="N")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, metavar="N")
def main(append: bool, cluster: str | None, records: int, rounds: int) -> None:
    """Print what each way to compress costs and gains, per record."""
    if append:
        if cluster is None:
            raise click.UsageError("--append needs --cluster or CORFU_CLUSTER")
        run(_append(cluster, 20 * records, rounds))
        return
    table = plain_table(
        "records", "entries of", "codec", "bytes", "ratio", "pack us", "unpack us", "of both"
    )
    for make in (small_event, large_event):
        rng = random.Random(_SEED)  # noqa: S311 - the same events each time
        events = [make(rng, number) for number in range(_TRAINED_ON + records)]
        # Its own last fifth is tried by training; what is measured here it has not seen at all.
        dictionary = train(events[:_TRAINED_ON], _DICTIONARY_BYTES, ZSTD_LEVEL).dictionary
        measured = events[_TRAINED_ON:]
        size = sum(map(len, measured)) / len(measured)
        for entry_bytes in (0, _ENTRY_BYTES):
            entries = entries_of(measured, entry_bytes)
            costs = measure(ways(dictionary), entries, rounds)
            plain = sum(len(encode_entry(e, 0)) for e in entries) / len(measured)
            base = costs["none"].pack_us + costs["none"].unpack_us
            for name, cost in costs.items():
                table.add_row(
                    f"{size:,.0f} B",
                    f"{len(entries[0]):,}",
                    name,
                    f"{cost.bytes:,.1f}",
                    f"{plain / cost.bytes:.2f}",
                    f"{cost.pack_us:.2f}",
                    f"{cost.unpack_us:.2f}",
                    f"+{cost.pack_us + cost.unpack_us - base:.2f}",
                )
    table_console().print(table)


if __name__ == "__main__":
    main()
