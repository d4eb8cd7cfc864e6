"""DNS packets: questions out, answers in, by the strictest reading that real servers satisfy.

The resolver calls it; dnspython is the codec and nothing else. A stub believes its server, so what
is left to check is that the packet is that server's answer to this question, and what it says about
the name asked for: the chain of aliases from there, and the addresses at its end. All else in a
packet is ignored. The invariant: bytes raise ``BadReply`` or become an ``Answer`` to the very
question, within the bounds of ``limits.py``.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rrset

from sluicegate.address import IpAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.limits import (
    DNS_ALIASES_MAX,
    DNS_RECORDS_MAX,
    DNS_UDP_BYTES_MAX,
)

from .destination import LookupReason
from .host import CanonicalHost, HostRefused, canonical_host

__all__ = [
    "Answer",
    "BadReply",
    "EdnsRefused",
    "Match",
    "Query",
    "Question",
    "RecordType",
    "ReplySuspect",
    "encode_query",
    "read_reply",
]


class RecordType(enum.IntEnum):
    """The two kinds of records that are asked for."""

    A = 1
    AAAA = 28


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; ``name`` is a canonical host's text."""

    name: str
    record_type: RecordType


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said about a question: addresses, or that there are none."""

    addresses: tuple[IpAddress, ...]
    aliases: tuple[CanonicalHost, ...]
    """The chain from the name asked for to the one with the addresses."""

    ttl_s: int
    exists: bool = True
    """False when the server says that there is no such name."""


class Match(enum.Enum):
    """How a packet relates to a query that is waiting."""

    SAME = "same"
    NEAR = "near"
    """The identifier is right and the question is not: a server's fault, or somebody's guess."""

    OTHER = "other"


class BadReply(ProtocolError):
    """A server's reply cannot be used: ``reason`` says how."""

    def __init__(self, reason: LookupReason, hint: str) -> None:
        super().__init__(hint, Side.SERVER)
        self.reason = reason


class ReplySuspect(BadReply):
    """What came over UDP is truncated or may be forged: the question is to be asked over TCP."""

    def __init__(self, hint: str) -> None:
        super().__init__(LookupReason.MALFORMED, hint)


class EdnsRefused(BadReply):
    """The server does not know EDNS: the question is to be asked without (RFC 6891 section 7)."""

    def __init__(self, hint: str) -> None:
        super().__init__(LookupReason.SERVER_FAILED, hint)


@dataclass(frozen=True, slots=True)
class Query:
    """One packet that asks one question once."""

    question: Question
    wire: bytes
    has_edns: bool

    def match(self, wire: bytes, *, any_case: bool = False) -> Match:
        """Compare a packet's head with this query's: identifier, kind, and the question itself.

        Args:
            wire: What arrived from the server's address.
            any_case: Take other letter case in the question (over TCP: nobody forges that blindly).
        """
        if len(wire) < _HEADER_BYTES or wire[:2] != self.wire[:2]:
            return Match.OTHER
        is_reply = wire[2] & _REPLY_AND_OPCODE == _REPLY
        ours, theirs = self._question_bytes(self.wire), self._question_bytes(wire)
        if any_case:
            # Lengths of labels are below any letter, so lower() touches letters only.
            ours, theirs = ours.lower(), theirs.lower()
        has_one_question = wire[4:6] == b"\0\1"
        return Match.SAME if is_reply and has_one_question and ours == theirs else Match.NEAR

    def _question_bytes(self, wire: bytes) -> bytes:
        # Labels, their lengths and the root make the name's length plus two; type and class four.
        return wire[_HEADER_BYTES : _HEADER_BYTES + len(self.question.name) + 6]


def encode_query(
    question: Question, randbits: Callable[[int], int], *, mix_case: bool, with_edns: bool = True
) -> Query:
    """Make a packet with a random identifier and, if ``mix_case``, random letter case.

    The letters' case comes back in an honest answer (draft-vixie-dnsext-dns0x20), and a forger
    has to guess it.
    """
    name = question.name
    if mix_case:
        bits = randbits(len(name))
        name = "".join(c.upper() if bits >> i & 1 else c for i, c in enumerate(name))
    message = dns.message.make_query(
        dns.name.from_text(name), dns.rdatatype.RdataType(question.record_type)
    )
    if with_edns:
        message.use_edns(0, payload=DNS_UDP_BYTES_MAX)
    message.id = randbits(16)
    return Query(question, message.to_wire(), with_edns)


def read_reply(query: Query, wire: bytes) -> Answer:
    """Read a packet that matches a query.

    Raises:
        ReplySuspect: It is truncated.
        EdnsRefused: The server does not know EDNS.
        BadReply: It is malformed, too large, no answer, or its aliases lead nowhere.
    """
    if wire[2] & _TRUNCATED:
        raise ReplySuspect("the answer does not fit into a datagram")
    counts = struct.unpack_from(">HHH", wire, 6)
    if sum(counts) > DNS_RECORDS_MAX:
        # Judged by the header, before any of them costs something.
        raise BadReply(
            LookupReason.TOO_MANY_RECORDS, f"{sum(counts)} records; {DNS_RECORDS_MAX} are the most"
        )
    try:
        message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    except Exception as error:  # the codec's own errors, and what hostile bytes find in it
        raise BadReply(
            LookupReason.MALFORMED, f"no DNS message: {type(error).__name__}: {error}"
        ) from error
    rcode = message.rcode()
    if rcode in _EDNS_REFUSALS and query.has_edns:
        raise EdnsRefused(dns.rcode.to_text(rcode))
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        raise BadReply(LookupReason.SERVER_FAILED, dns.rcode.to_text(rcode))
    return _read_answer(query.question, message, exists=rcode == dns.rcode.NOERROR)


def _read_answer(question: Question, message: dns.message.Message, *, exists: bool) -> Answer:
    asked = dns.name.from_text(question.name)
    name, aliases, ttls = _follow_aliases(asked, message.answer)
    addresses: dict[IpAddress, None] = {}
    for rrset in message.answer if exists else ():
        record = _record(rrset)
        # The codec has these classes for records of the Internet class only.
        if (
            rrset.name == name
            and isinstance(record, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA)
            and int(record.rdtype) == question.record_type
        ):
            ttls.append(rrset.ttl)
            addresses[ipaddress.ip_address(record.address)] = None
    if not addresses:
        ttls.append(_negative_ttl_s(name, message.authority))
    return Answer(tuple(addresses), aliases, min(ttls), exists)


def _follow_aliases(
    name: dns.name.Name, records: list[dns.rrset.RRset]
) -> tuple[dns.name.Name, tuple[CanonicalHost, ...], list[int]]:
    """Follow CNAME records from a name, within one answer; other names' records are not looked at.

    Returns:
        The last name, the chain to it, and the TTL of each link in seconds.
    """
    seen = {name}
    aliases: list[CanonicalHost] = []
    ttls: list[int] = []
    while links := [r for r in records if r.name == name and _is_alias(r)]:
        record = _record(links[0])
        if len(links) > 1 or not isinstance(record, dns.rdtypes.ANY.CNAME.CNAME):
            raise BadReply(LookupReason.MALFORMED, f"{name} has {len(links)} CNAME records")
        name = record.target
        if name in seen or len(aliases) == DNS_ALIASES_MAX:
            raise BadReply(
                LookupReason.ALIAS_LOOP,
                f"a chain of aliases is a loop, or has more than {DNS_ALIASES_MAX}",
            )
        seen.add(name)
        aliases.append(_alias(name))
        ttls.append(links[0].ttl)
    return name, tuple(aliases), ttls


def _is_alias(rrset: dns.rrset.RRset) -> bool:
    return rrset.rdtype == dns.rdatatype.CNAME and rrset.rdclass == dns.rdataclass.IN


def _record(rrset: dns.rrset.RRset) -> dns.rdata.Rdata:
    """Return the one record of a set, as messages are read here."""
    return cast("dns.rdata.Rdata", rrset[0])


def _alias(name: dns.name.Name) -> CanonicalHost:
    """Make a host of an alias; what the codec had to escape is refused there as a delimiter."""
    try:
        # Aliases like _acme.example are in use, and nobody dials them by this text.
        host = canonical_host(name.to_text(omit_final_dot=True), allow_underscore=True)
    except HostRefused as refusal:
        raise BadReply(LookupReason.ALIAS_INVALID, str(refusal)) from refusal
    if host.is_address:
        raise BadReply(LookupReason.ALIAS_INVALID, f"{host} is an address, as an alias's name")
    return host


def _negative_ttl_s(name: dns.name.Name, records: list[dns.rrset.RRset]) -> int:
    """Return how long the absence may be kept (RFC 2308 section 5); 0 without a fitting SOA."""
    for rrset in records:
        record = _record(rrset)
        if isinstance(record, dns.rdtypes.ANY.SOA.SOA) and name.is_subdomain(rrset.name):
            return min(rrset.ttl, record.minimum)
    return 0


_HEADER_BYTES: Final = 12
_REPLY: Final = 0x80
_REPLY_AND_OPCODE: Final = 0xF8
_TRUNCATED: Final = 0x02
_EDNS_REFUSALS: Final = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})
