"""Records of a DNS message, as far as they are of use: addresses, names, and ends of zones.

``packets.py`` calls it with a message whose head it has compared. It walks the records itself,
with the codec for names alone, because the codec reads the content of every kind of record there
is: one message of 60 KiB cost a quarter of a second of the loop. The invariant: the walk ends at
the last byte or the message is malformed, and it costs a bounded time per announced record.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.name

from sluicegate.address import IpAddress
from sluicegate.errors import ProtocolError, Side

from .record_type import RecordType

__all__ = ["Record", "Sections", "read_sections"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a kind that is read; ``value`` is what its kind is for."""

    name: dns.name.Name
    record_type: RecordType
    ttl_s: int
    value: IpAddress | dns.name.Name | int
    """The address, the name pointed to, or how many seconds a zone lets its absences be kept."""


@dataclass(slots=True)
class Sections:
    """What a message says behind its question."""

    answer: list[Record]
    authority: list[Record]
    rcode_high: int = 0
    """The upper eight bits of the code, from EDNS (RFC 6891 section 6.1.3)."""


def read_sections(wire: bytes, offset: int, counts: tuple[int, int, int]) -> Sections:
    """Read the records from ``offset`` on: so many answers, authorities and additional ones.

    Raises:
        ProtocolError: They are malformed, fewer than announced, or followed by something.
    """
    sections = Sections([], [])
    additional: list[Record] = []
    places = (sections.answer, sections.authority, additional)
    try:
        for place, count in zip(places, counts, strict=True):
            for _ in range(count):
                offset = _read_record(wire, offset, place, sections)
    except (struct.error, dns.exception.DNSException) as error:
        raise ProtocolError(f"a record is malformed: {error!r}", Side.SERVER) from error
    if offset != len(wire):
        raise ProtocolError("there is something behind the last record", Side.SERVER)
    return sections


def _read_record(wire: bytes, offset: int, place: list[Record], sections: Sections) -> int:
    """Read one record and return where the next one begins."""
    name, used = dns.name.from_wire(wire, offset)
    fixed: tuple[int, int, int, int] = _FIXED.unpack_from(wire, offset + used)
    kind, record_class, ttl_s, length = fixed
    start = offset + used + _FIXED.size
    end = start + length
    if end > len(wire):
        raise ProtocolError("a record's content is longer than the message", Side.SERVER)
    if kind == RecordType.OPT:
        sections.rcode_high = ttl_s >> 24
    elif record_class == _INTERNET and kind in _READ:
        value = _read_value(RecordType(kind), wire, start, end)
        # RFC 2181 section 8: with the highest bit set it counts as none.
        ttl_s = 0 if ttl_s >> 31 else ttl_s
        place.append(Record(name, RecordType(kind), ttl_s, value))
    return end


def _read_value(
    kind: RecordType, wire: bytes, start: int, end: int
) -> IpAddress | dns.name.Name | int:
    if kind in _ADDRESS_BYTES:
        if end - start != _ADDRESS_BYTES[kind]:
            raise ProtocolError(f"an address of {end - start} bytes", Side.SERVER)
        return ipaddress.ip_address(wire[start:end])
    target, used = dns.name.from_wire(wire, start)
    start += used
    if kind is RecordType.SOA:
        _, used = dns.name.from_wire(wire, start)
        numbers: tuple[int, ...] = _SOA_NUMBERS.unpack_from(wire, start + used)
        start += used + _SOA_NUMBERS.size
    else:
        numbers = ()
    if start != end:
        raise ProtocolError("a record's content has another length than it says", Side.SERVER)
    return numbers[-1] if numbers else target


_INTERNET: Final = 1
_READ: Final = frozenset(set(RecordType) - {RecordType.OPT})
_ADDRESS_BYTES: Final = {RecordType.A: 4, RecordType.AAAA: 16}
_FIXED: Final = struct.Struct(">HHIH")  # RFC 1035 section 4.1.3, behind the name
_SOA_NUMBERS: Final = struct.Struct(">IIIII")  # RFC 1035 section 3.3.13, behind two names
