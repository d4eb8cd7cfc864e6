"""Reassembly: the TCP connections of a capture, as conversations that can be replayed.

``test-filter`` uses it for captures. The invariant: the bytes of a stream come out once and in
order, whatever was retransmitted, overlapped or out of order in the capture; where some are
missing it is refused, for a filter would be shown what nobody sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from .capture import IpPacket, NotACapture, read_capture
from .conversation import Action, Conversation, Step, Who

__all__ = ["CapturedConnection", "captured_connections"]

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_TCP: Final = 6
_EXTENSIONS: Final = frozenset({0, 43, 60})
"""IPv6 headers before the transport's: hop-by-hop, routing, destination options (RFC 8200)."""
_FRAGMENT: Final = 44
_HALF: Final = 1 << 31
_WRAP: Final = 1 << 32

_End: TypeAlias = tuple[str, int]


class _Segment(NamedTuple):
    packet: int
    source: _End
    target: _End
    sequence: int
    flags: int
    data: bytes


class CapturedConnection(NamedTuple):
    """One TCP connection of a capture."""

    client: str
    server: str
    conversation: Conversation


@dataclass(slots=True)
class _Stream:
    """What one side sent: the next byte that is due, and what came before its time."""

    who: Who
    expected: int | None = None
    early: dict[int, bytes] = field(default_factory=dict[int, bytes])
    fin_at: int | None = None
    is_ended: bool = False

    def take(self, sequence: int, data: bytes) -> bytes:
        """Take a segment; return what is now in order."""
        if self.expected is None:
            self.expected = sequence  # the capture began in the middle
        if data:
            offset = _distance(self.expected, sequence)
            if offset > 0:
                known = self.early.get(sequence, b"")
                self.early[sequence] = max(known, data, key=len)
                return b""
            data = data[-offset:]
        came = data
        self.expected = (self.expected + len(data)) % _WRAP
        return came + self._now_due()

    def _now_due(self) -> bytes:
        due = b""
        assert self.expected is not None
        for sequence in sorted(self.early, key=lambda one: _distance(self.expected or 0, one)):
            offset = _distance(self.expected, sequence)
            if offset > 0:
                break
            piece = self.early.pop(sequence)[-offset:]
            due += piece
            self.expected = (self.expected + len(piece)) % _WRAP
        return due


@dataclass(slots=True)
class _Connection:
    client: _End
    server: _End
    streams: dict[_End, _Stream]
    steps: list[Step] = field(default_factory=list[Step])
    is_over: bool = False

    @classmethod
    def of(cls, segment: _Segment) -> _Connection:
        """Begin one: the client is who sent the SYN, or where none is, who has the higher port."""
        source, target = segment.source, segment.target
        is_client = not segment.flags & _ACK if segment.flags & _SYN else source[1] > target[1]
        client, server = (source, target) if is_client else (target, source)
        return cls(client, server, {client: _Stream("client"), server: _Stream("server")})

    def take(self, segment: _Segment) -> None:
        """Add what a segment brings to the steps."""
        stream = self.streams[segment.source]
        if self.is_over or stream.is_ended:
            return
        sequence = segment.sequence
        if segment.flags & _SYN:
            sequence = (sequence + 1) % _WRAP
            stream.expected = sequence if stream.expected is None else stream.expected
        if segment.flags & _RST:
            self.is_over = True
            self.steps.append(Step(stream.who, Action.RESETS))
            return
        if segment.flags & _FIN:
            stream.fin_at = (sequence + len(segment.data)) % _WRAP
        if data := stream.take(sequence, segment.data):
            self.steps.append(Step(stream.who, Action.SENDS, data))
        if stream.fin_at is not None and stream.expected == stream.fin_at:
            stream.is_ended = True
            self.steps.append(Step(stream.who, Action.ENDS))

    @property
    def has_bytes(self) -> bool:
        """Whether somebody sent something."""
        came_early = any(stream.early for stream in self.streams.values())
        return came_early or any(step.data for step in self.steps)

    def finished(self) -> CapturedConnection:
        """Return it; what the capture has no end of stays open.

        Raises:
            NotACapture: Bytes are missing.
        """
        name = f"{_shown(self.client)} to {_shown(self.server)}"
        for stream in self.streams.values():
            if stream.early and not self.is_over:
                raise NotACapture(f"{name}: bytes of the {stream.who} are missing in the capture")
        return CapturedConnection(
            _shown(self.client), _shown(self.server), Conversation(tuple(self.steps))
        )


def captured_connections(data: bytes) -> list[CapturedConnection]:
    """Return the TCP connections of a capture file that carried bytes, in their order.

    Raises:
        NotACapture: It cannot be read, or bytes of a connection are missing.
    """
    found: list[_Connection] = []
    current: dict[frozenset[_End], _Connection] = {}
    for segment in _segments(read_capture(data)):
        key = frozenset((segment.source, segment.target))
        connection = current.get(key)
        is_new = segment.flags & (_SYN | _ACK) == _SYN
        if connection is None or (is_new and _is_another(connection, segment)):
            connection = current[key] = _Connection.of(segment)
            found.append(connection)
        connection.take(segment)
    return [one.finished() for one in found if one.has_bytes]


def _is_another(connection: _Connection, segment: _Segment) -> bool:
    """Tell a new connection of the same ports from a SYN that was sent twice."""
    expected = connection.streams[segment.source].expected
    return bool(connection.steps) and expected != (segment.sequence + 1) % _WRAP


def _segments(packets: Iterable[IpPacket]) -> Iterator[_Segment]:
    for number, packet in packets:
        version = packet[0] >> 4 if packet else 0
        if version == 4:  # noqa: PLR2004 - RFC 791
            found = _in_ipv4(packet, number)
        elif version == 6:  # noqa: PLR2004 - RFC 8200
            found = _in_ipv6(packet, number)
        else:
            continue
        if found is not None:
            source, target, tcp = found
            segment = _in_tcp(number, (source, target), tcp)
            if segment is not None:
                yield segment


def _in_ipv4(packet: bytes, number: int) -> tuple[str, str, bytes] | None:
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if len(packet) < 20 or header < 20 or packet[9] != _TCP:  # noqa: PLR2004 - RFC 791 section 3.1
        return None
    if int.from_bytes(packet[6:8], "big") & 0x3FFF:
        raise NotACapture(f"packet {number}: a fragment (capture where packets are whole)")
    # 0 where the network card cuts segments itself, and the capture saw them before.
    payload = packet[header : total or len(packet)]
    source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return source, target, payload


def _in_ipv6(packet: bytes, number: int) -> tuple[str, str, bytes] | None:
    if len(packet) < 40:  # noqa: PLR2004 - RFC 8200 section 3
        return None
    length = int.from_bytes(packet[4:6], "big")
    following, at = packet[6], 40
    while following in _EXTENSIONS and at + 2 <= len(packet):
        following, at = packet[at], at + 8 + packet[at + 1] * 8
    if following == _FRAGMENT:
        raise NotACapture(f"packet {number}: a fragment (capture where packets are whole)")
    if following != _TCP:
        return None
    source, target = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
    return source, target, packet[at : 40 + length if length else len(packet)]


def _in_tcp(number: int, hosts: tuple[str, str], tcp: bytes) -> _Segment | None:
    if len(tcp) < 20 or (tcp[12] >> 4) * 4 > len(tcp):  # noqa: PLR2004 - RFC 9293 section 3.1
        return None
    ports = (int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big"))
    return _Segment(
        number,
        (hosts[0], ports[0]),
        (hosts[1], ports[1]),
        int.from_bytes(tcp[4:8], "big"),
        tcp[13],
        tcp[(tcp[12] >> 4) * 4 :],
    )


def _distance(start: int, end: int) -> int:
    """Return how far a sequence number is behind another one, negative if it is before it."""
    offset = (end - start) % _WRAP
    return offset - _WRAP if offset >= _HALF else offset


def _shown(end: _End) -> str:
    host, port = end
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
