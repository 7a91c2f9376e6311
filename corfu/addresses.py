"""Addresses as people write them. Pure."""

from __future__ import annotations

import ipaddress

from corfu.errors import UsageError
from corfu.types import Address


def parse_address(text: str) -> Address:
    """Return the address in "HOST:PORT"; the host is numeric (IPv6 in brackets) or localhost.

    Raises:
        UsageError: The text names no such address; its bad part is quoted.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!r} is not HOST:PORT")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise UsageError(f"{text!r}: {port!r} is no port (1 to 65535)")
    if host == "localhost":
        host = "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        parsed = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise UsageError(f"{text!r}: {host!r} is no numeric host address") from None
    if (parsed.version == 6) is not bracketed:
        raise UsageError(f"{text!r}: an IPv6 address stands in brackets, and nothing else does")
    return Address(str(parsed), int(port))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Return the addresses in "HOST:PORT,HOST:PORT,...", at least one, none twice.

    Raises:
        UsageError: See `parse_address`.
    """
    if not isinstance(text, str):
        raise UsageError(f"a cluster is given as text, not as {type(text).__name__}")
    if not text.strip():
        raise UsageError("no address given; wanted is HOST:PORT,HOST:PORT,...")
    found = tuple(parse_address(part) for part in text.split(","))
    for number, address in enumerate(found):
        if address in found[:number]:
            raise UsageError(f"{text!r} names {address} twice")
    return found
