"""The kernel's list of addresses: read whole, or refused."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from sluicegate.app.interfaces import parse_addresses


def message(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 1, 0) + body + bytes(-length % 4)


def address_of(*attributes: tuple[int, str]) -> bytes:
    body = bytes(8)
    for kind, text in attributes:
        packed = ipaddress.ip_address(text).packed
        body += struct.pack("=HH", 4 + len(packed), kind) + packed
    return message(20, body)


def test_addresses_of_both_families_are_read() -> None:
    data = address_of((1, "10.0.0.1"), (2, "10.0.0.1")) + address_of((1, "fd00::1"))
    found, is_done = parse_addresses(data)
    assert ([str(one) for one in found], is_done) == (["10.0.0.1", "fd00::1"], False)


def test_own_end_of_a_tunnel_is_read_and_not_the_other() -> None:
    found, _ = parse_addresses(address_of((1, "10.0.0.2"), (2, "10.0.0.1")))
    assert [str(one) for one in found] == ["10.0.0.1"]


def test_end_of_the_list_is_noticed() -> None:
    assert parse_addresses(message(3, bytes(4))) == ([], True)


def test_error_of_the_kernel_is_raised() -> None:
    with pytest.raises(PermissionError):
        parse_addresses(message(2, struct.pack("=i", -1)))


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(16), bytes(64)])
def test_what_is_no_message_ends(data: bytes) -> None:
    assert parse_addresses(data) == ([], False)
