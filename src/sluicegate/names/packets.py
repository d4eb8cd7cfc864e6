"""DNS packets: questions out, answers in, by the strictest reading that real servers satisfy.

The resolver calls it; dnspython is the codec of names and questions, and nothing else. A stub
believes its server, so what is left to check is that the packet is that server's answer to this
question, and what it says about the name asked for: the chain of aliases from there, and the
addresses at its end. All else in a packet is ignored. The invariant: bytes raise ``BadReply`` or
become an ``Answer`` to the very question, within the bounds of ``limits.py``.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from sluicegate.address import IpAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.limits import DNS_ALIASES_MAX, DNS_RECORDS_MAX, DNS_UDP_BYTES_MAX

from .destination import LookupReason
from .host import CanonicalHost, HostRefused, canonical_host
from .record_type import RecordType
from .records import Record, read_sections

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


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; ``name`` is a canonical host's text."""

    name: str
    record_type: RecordType
    """``A`` or ``AAAA``; ``PTR`` of a name below ``in-addr.arpa`` or ``ip6.arpa``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said about a question: addresses, or that there are none."""

    addresses: tuple[IpAddress, ...]
    aliases: tuple[CanonicalHost, ...]
    """The chain from the name asked for to the one with the addresses."""

    ttl_s: int
    exists: bool = True
    """False when the server says that there is no such name."""

    names: tuple[CanonicalHost, ...] = ()
    """What a question for ``PTR`` found, as far as it can be read as hosts."""


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

    @property
    def question_end(self) -> int:
        """Where the question ends: labels with lengths and root are the name's length plus two."""
        return _HEADER_BYTES + len(self.question.name) + 2 + _TYPE_AND_CLASS_BYTES

    def _question_bytes(self, wire: bytes) -> bytes:
        return wire[_HEADER_BYTES : self.question_end]


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
    counts: tuple[int, int, int] = struct.unpack_from(">HHH", wire, 6)
    if sum(counts) > DNS_RECORDS_MAX:
        # Judged by the header, before any of them costs something.
        raise BadReply(
            LookupReason.TOO_MANY_RECORDS, f"{sum(counts)} records; {DNS_RECORDS_MAX} are the most"
        )
    try:
        sections = read_sections(wire, query.question_end, counts)
    except ProtocolError as error:
        raise BadReply(LookupReason.MALFORMED, error.hint) from error
    rcode = sections.rcode_high << 4 | wire[3] & _RCODE_LOW
    if rcode in _EDNS_REFUSALS and query.has_edns:
        raise EdnsRefused(_rcode_text(rcode))
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        raise BadReply(LookupReason.SERVER_FAILED, _rcode_text(rcode))
    exists = rcode == dns.rcode.NOERROR
    is_reverse = query.question.record_type is RecordType.PTR
    name, links, ttls = _follow_aliases(dns.name.from_text(query.question.name), sections.answer)
    # A delegation of a part of a network (RFC 2317) has aliases that are no hosts.
    aliases = () if is_reverse else tuple(_alias(link) for link in links)
    addresses: dict[IpAddress, None] = {}
    names: dict[CanonicalHost, None] = {}
    for record in sections.answer if exists else ():
        if record.name == name and record.record_type == query.question.record_type:
            ttls.append(record.ttl_s)
            if isinstance(record.value, dns.name.Name):
                names.update(dict.fromkeys(_hosts_of(record.value)))
            else:
                assert not isinstance(record.value, int), "A and AAAA have addresses"
                addresses[record.value] = None
    if not (addresses or names):
        ttls.append(_negative_ttl_s(name, sections.authority))
    return Answer(tuple(addresses), aliases, min(ttls), exists, tuple(names))


def _rcode_text(rcode: int) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode(rcode))


def _follow_aliases(
    name: dns.name.Name, records: list[Record]
) -> tuple[dns.name.Name, list[dns.name.Name], list[int]]:
    """Follow CNAME records from a name, within one answer; other names' records are not looked at.

    Returns:
        The last name, the chain to it, and the TTL of each link in seconds.
    """
    links = [record for record in records if record.record_type is RecordType.CNAME]
    seen = {name}
    aliases: list[dns.name.Name] = []
    ttls: list[int] = []
    while found := [link for link in links if link.name == name]:
        if len(found) > 1:
            raise BadReply(LookupReason.MALFORMED, f"{name} has {len(found)} CNAME records")
        target = found[0].value
        assert isinstance(target, dns.name.Name), "a CNAME record has a name"
        name = target
        if name in seen or len(aliases) == DNS_ALIASES_MAX:
            raise BadReply(
                LookupReason.ALIAS_LOOP,
                f"a chain of aliases is a loop, or has more than {DNS_ALIASES_MAX}",
            )
        seen.add(name)
        aliases.append(name)
        ttls.append(found[0].ttl_s)
    return name, aliases, ttls


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


def _hosts_of(name: dns.name.Name) -> list[CanonicalHost]:
    """Read what a PTR record points to: anybody may write anything there; none if it is no host."""
    try:
        host = canonical_host(name.to_text(omit_final_dot=True))
    except HostRefused:
        return []
    return [] if host.is_address else [host]


def _negative_ttl_s(name: dns.name.Name, records: list[Record]) -> int:
    """Return how long the absence may be kept (RFC 2308 section 5); 0 without a fitting SOA."""
    for record in records:
        if record.record_type is RecordType.SOA and name.is_subdomain(record.name):
            assert isinstance(record.value, int), "of an SOA record the last number is read"
            return min(record.ttl_s, record.value)
    return 0


_HEADER_BYTES: Final = 12
_REPLY: Final = 0x80
_REPLY_AND_OPCODE: Final = 0xF8
_TRUNCATED: Final = 0x02
_RCODE_LOW: Final = 0x0F
_TYPE_AND_CLASS_BYTES: Final = 4
_EDNS_REFUSALS: Final = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})
