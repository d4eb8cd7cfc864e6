"""Capture files: pcap and pcapng, as tcpdump, dumpcap and Wireshark write them, to IP packets.

``reassembly`` makes conversations of what is read here. The invariant: what is not understood is
refused with its place in the file or, where it is a packet of another protocol, left out; nothing
is guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["CAPTURE_BYTES_MAX", "IpPacket", "NotACapture", "is_capture", "read_capture"]

CAPTURE_BYTES_MAX: Final = 256 << 20
"""The largest file: it is read into memory, and a conversation of a test is much smaller."""

_PCAP: Final = {
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",  # with nanoseconds
    b"\x4d\x3c\xb2\xa1": "<",
}
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_PACKET_BYTES_MAX: Final = 1 << 20

_NULL, _ETHERNET, _RAW_BSD, _RAW_OPENBSD = 0, 1, 12, 14
_RAW, _COOKED, _IPV4, _IPV6, _COOKED2 = 101, 113, 228, 229, 276
_LINKS: Final = frozenset(
    {_NULL, _ETHERNET, _RAW_BSD, _RAW_OPENBSD, _RAW, _COOKED, _IPV4, _IPV6, _COOKED2}
)
_IP_TYPES: Final = frozenset({0x0800, 0x86DD})
_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8})


class NotACapture(ValueError):
    """A file is no capture that can be read: says where, and what cures it."""


class IpPacket(NamedTuple):
    """One packet of the capture, from its IP header on."""

    number: int
    """As Wireshark counts, from 1."""
    data: bytes


def is_capture(head: bytes) -> bool:
    """Tell whether a file begins as a capture does."""
    return head[:4] in _PCAP or head[:4] == _PCAPNG


def read_capture(data: bytes) -> Iterator[IpPacket]:
    """Yield the IP packets of a capture; frames of other protocols are left out.

    Raises:
        NotACapture: The file is cut, or of another kind, or packets were captured in part.
    """
    frames = _read_pcapng(data) if data[:4] == _PCAPNG else _read_pcap(data)
    for number, (link, length, frame) in enumerate(frames, 1):
        if len(frame) < length:
            raise NotACapture(
                f"packet {number}: {len(frame)} of {length} bytes were captured (tcpdump -s 0)"
            )
        packet = _ip_of(link, frame, number)
        if packet:
            yield IpPacket(number, packet)


def _read_pcap(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    order = _PCAP.get(data[:4])
    if order is None or len(data) < 24:  # noqa: PLR2004 - the file's header
        raise NotACapture("no pcap or pcapng file")
    (link,) = struct.unpack_from(f"{order}I", data, 20)
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            raise NotACapture(f"byte {at}: the file is cut")
        captured, length = struct.unpack_from(f"{order}II", data, at + 8)
        yield link & 0xFFFF, length, _taken(data, at + 16, captured)
        at += 16 + captured


def _read_pcapng(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the frames of all sections; draft-ietf-opsawg-pcapng, section 4."""
    order, links, at = "<", list[int](), 0
    while at < len(data):
        if data[at : at + 4] == _PCAPNG:
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        if at + 12 > len(data):
            raise NotACapture(f"byte {at}: the file is cut")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if size < 12 or size % 4:  # noqa: PLR2004 - the frame of a block
            raise NotACapture(f"byte {at}: a block of {size} bytes")
        body = _taken(data, at + 8, size - 12)
        if kind == 1:
            links.append(_number(body, f"{order}H", 0, at))
        elif kind == 6:  # noqa: PLR2004 - the enhanced packet block
            which = _number(body, f"{order}I", 0, at)
            captured, length = (_number(body, f"{order}I", place, at) for place in (12, 16))
            if which >= len(links):
                raise NotACapture(f"byte {at}: a packet of an interface that is not described")
            yield links[which], length, _taken(body, 20, captured)
        elif kind == 3 and links:  # noqa: PLR2004 - the simple packet block
            length = _number(body, f"{order}I", 0, at)
            yield links[0], length, body[4 : 4 + length]
        at += size


def _number(body: bytes, form: str, place: int, at: int) -> int:
    if place + struct.calcsize(form) > len(body):
        raise NotACapture(f"byte {at}: the block is too short")
    (found,) = struct.unpack_from(form, body, place)
    return int(found)


def _taken(data: bytes, start: int, count: int) -> bytes:
    if count > _PACKET_BYTES_MAX or start + count > len(data):
        raise NotACapture(f"byte {start}: the file is cut, or a packet has {count} bytes")
    return data[start : start + count]


def _ip_of(link: int, frame: bytes, number: int) -> bytes:
    """Return the IP packet in a frame; empty where it carries something else."""
    if link not in _LINKS:
        raise NotACapture(f"packet {number}: link type {link} (capture Ethernet, lo or any)")
    if link == _ETHERNET:
        kind, start = _ether_type(frame, 12)
        return frame[start:] if kind in _IP_TYPES else b""
    if link == _COOKED:
        kind, start = _ether_type(frame, 14)
        return frame[start:] if kind in _IP_TYPES else b""
    if link == _COOKED2:
        kind = int.from_bytes(frame[:2], "big")
        return frame[20:] if kind in _IP_TYPES else b""
    return frame[4:] if link == _NULL else frame


def _ether_type(frame: bytes, at: int) -> tuple[int, int]:
    """Return the type behind any VLAN tags, and where its payload begins."""
    kind = int.from_bytes(frame[at : at + 2], "big")
    while kind in _VLAN_TYPES:
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    return kind, at + 2
