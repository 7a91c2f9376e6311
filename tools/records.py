"""Unique records that tell who appended them and whether a byte of them was changed."""

from __future__ import annotations

import xxhash


def make_record(client: str, number: int, length: int) -> tuple[str, bytes]:
    """Return a record's key and its bytes: the key, then filling that follows from it."""
    key = f"{client}-{number}"
    head = f"{key}|".encode()
    return key, head + _filling(key, max(0, length - len(head)))


def key_of(data: bytes) -> str:
    """Return the key of a record; one that nobody made if its bytes are not as they were made."""
    head, separator, filling = data.partition(b"|")
    key = head.decode("utf-8", "replace")
    if not separator or filling != _filling(key, len(filling)):
        return f"damaged:{xxhash.xxh3_64_hexdigest(data)}"
    return key


def _filling(key: str, length: int) -> bytes:
    pattern = xxhash.xxh3_128_digest(key.encode())
    return (pattern * (length // len(pattern) + 1))[:length]
