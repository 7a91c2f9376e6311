from __future__ import annotations

import pytest

from corfu.addresses import parse_address, parse_addresses
from corfu.errors import UsageError
from corfu.types import Address


def test_address_forms_are_understood() -> None:
    assert parse_address("127.0.0.1:9700") == Address("127.0.0.1", 9700)
    assert parse_address("localhost:1") == Address("127.0.0.1", 1)
    assert parse_address("[::1]:65535") == Address("::1", 65535)
    assert parse_addresses("127.0.0.1:1, 127.0.0.1:2") == (
        Address("127.0.0.1", 1),
        Address("127.0.0.1", 2),
    )
    assert parse_address(str(Address("::1", 5))) == Address("::1", 5)


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", "no address"),
        ("127.0.0.1", "'127.0.0.1' is not HOST:PORT"),
        ("127.0.0.1:x", "'x' is no port"),
        ("127.0.0.1:0", "'0' is no port"),
        ("127.0.0.1:70000", "'70000' is no port"),
        ("127.0.0.1:\u0663", "is no port"),
        ("example.org:1", "'example.org' is no numeric host"),
        ("::1:5", "brackets"),
        ("[127.0.0.1]:5", "brackets"),
        ("127.0.0.1:1,,127.0.0.1:2", "'' is not HOST:PORT"),
        ("127.0.0.1:1,127.0.0.1:1", "twice"),
    ],
)
def test_address_wrong_names_its_bad_part(text: str, bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_addresses(text)
    assert bad in str(caught.value)
