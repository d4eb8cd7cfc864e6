"""rtnetlink: what the kernel says of interfaces and addresses, and whatever else comes."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.rtnetlink import (
    RTM_GETADDR,
    AddressMessage,
    DumpDone,
    LinkMessage,
    NetlinkFailure,
    dump_request,
    read_messages,
)


def message(kind: int, body: bytes) -> bytes:
    data = struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body
    return data + b"\0" * (-len(data) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + b"\0" * (-len(data) % 4)


def link(kind: int = 16, index: int = 2, name: bytes = b"eth0\0", flags: int = 1) -> bytes:
    return message(kind, struct.pack("=BxHiII", 0, 1, index, flags, 0) + attribute(3, name))


def address(kind: int, *attributes: bytes, index: int = 2) -> bytes:
    return message(kind, struct.pack("=BBBBI", 2, 24, 0, 0, index) + b"".join(attributes))


V4, V6 = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")
PEER = ipaddress.ip_address("192.0.2.8")


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"", []),
        (link(), [LinkMessage(2, "eth0", True)]),
        (link(flags=0), [LinkMessage(2, "eth0", False)]),
        (link(17), [LinkMessage(2, "eth0", True, is_gone=True)]),
        (link(name=b"\xff\0"), [LinkMessage(2, "\ufffd", True)]),
        (address(20, attribute(1, V4.packed)), [AddressMessage(2, V4)]),
        (address(20, attribute(1, V6.packed), index=9), [AddressMessage(9, V6)]),
        (address(21, attribute(1, V4.packed)), [AddressMessage(2, V4, is_gone=True)]),
        # Of a point-to-point interface ours is the local one.
        (
            address(20, attribute(1, PEER.packed), attribute(2, V4.packed)),
            [AddressMessage(2, V4)],
        ),
        (address(20), []),
        (address(20, attribute(1, b"abc")), []),
        (message(3, b"\0\0\0\0"), [DumpDone()]),
        (message(2, struct.pack("=i", -16)), [NetlinkFailure(16)]),
        (message(2, struct.pack("=i", 0)), []),
        (message(77, b"who knows") + link(), [LinkMessage(2, "eth0", True)]),
        (link() + message(3, b"") + link(17), None),
        # A length below a header's, or beyond the end, ends the reading.
        (struct.pack("=IHHII", 3, 16, 0, 0, 0) + link(), []),
        (link()[:-1], []),
        (message(16, b"short"), []),
        (message(20, b"short"), []),
        (address(20, struct.pack("=HH", 2, 1)), []),
        (address(20, struct.pack("=HH", 99, 1)), []),
    ],
)
def test_messages_are_read(data: bytes, messages: list[object] | None) -> None:
    read = list(read_messages(data))
    if messages is None:
        assert [type(one) for one in read] == [LinkMessage, DumpDone, LinkMessage]
    else:
        assert read == messages


@given(st.binary(max_size=400))
def test_whatever_comes_is_read_to_an_end(data: bytes) -> None:
    assert len(list(read_messages(data))) <= len(data) // 16


@given(st.integers(0, 60))
def test_a_cut_message_is_not_half_read(cut: int) -> None:
    data = link() + address(20, attribute(1, V4.packed))
    assert len(list(read_messages(data[:cut]))) == (0 if cut < 44 else 1 if cut < len(data) else 2)


def test_request_asks_for_everything() -> None:
    data = dump_request(RTM_GETADDR, 5)
    length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data)
    assert (length, kind, flags, sequence) == (len(data), 22, 0x301, 5)
