"""Records that compress, dictionaries trained on such, and libraries that are not installed."""

from __future__ import annotations

import functools
import json
import random
import sys
from typing import Any

import pytest
import zstandard

from corfu.compression import Compression

CLICKS_SEED = 11


def clicks(count: int, seed: int = CLICKS_SEED) -> list[bytes]:
    """Return records as a web site's click stream has them, some 150 bytes each."""
    rng = random.Random(seed)
    return [
        json.dumps(
            {
                "ts": 1_700_000_000_000 + 37 * number + rng.randrange(37),
                "user": f"u{rng.randrange(10**6):06}",
                "session": f"{rng.randrange(2**48):012x}",
                "page": f"/products/{rng.choice(('shoes', 'hats', 'bags'))}/{rng.randrange(999)}",
                "event": rng.choice(("view", "click", "add_to_cart")),
                "ms": rng.randrange(2000),
            }
        ).encode()
        for number in range(count)
    ]


@functools.cache
def dictionary(seed: int = CLICKS_SEED) -> bytes:
    """Return a small trained dictionary; each seed gives another one."""
    # The library's stub wants the invariant list[ByteString], which later Pythons have no more.
    samples: Any = clicks(400, seed)
    return zstandard.train_dictionary(4096, samples).as_bytes()


def every_compression() -> dict[str, Compression]:
    """Return every way to compress, entries of all lengths included."""
    return {
        "zstd": Compression("zstd", bytes_min=0),
        "zstd-19": Compression("zstd", level=19, bytes_min=0),
        "lz4": Compression("lz4", bytes_min=0),
        "lz4-9": Compression("lz4", level=9, bytes_min=0),
        "dictionary": Compression("zstd", bytes_min=0, dictionaries=(dictionary(),)),
    }


def without_libraries(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make imports of these packages fail, as where they are not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
        if name == "lz4":
            monkeypatch.setitem(sys.modules, "lz4.block", None)
