r"""The PROXY protocol, versions 1 and 2: who the client behind a named peer is (haproxy's text).

The gate reads a header only from peers that the operator named, and writes one to servers that ask
for it; it calls ``proxy_tlv`` for what a version 2 header may add. The invariant: a header is taken
whole and exact or refused: who would guess at it would believe in somebody else's address.

Decided, where haproxy's ``proxy-protocol.txt`` leaves room:

- Version 1: one space between fields, decimal numbers without leading zeros, addresses in their
  family's form; ``UNKNOWN`` says nothing, whatever follows it.
- ``LOCAL`` means the peer itself (a health check); its block is skipped unread, as the text asks.
- ``AF_UNSPEC`` with ``PROXY`` gives no addresses, and what follows are TLVs, as haproxy writes it.
- Families and transports that the text does not list are refused, as it asks.
- IPv4 in IPv6 (``::ffff:192.0.2.1``) is IPv4: haproxy writes that when the two ends differ.

>>> parser = ProxyHeaderParser()
>>> parser.receive_data(b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\nCONNECT")
>>> header = parser.next_event()
>>> str(header.source), parser.take_early_data()
('192.0.2.7:50000', b'CONNECT')
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, ProtocolError
from sluicegate.protocol_limits import ENTRY_EARLY_BYTES_MAX, PROXY_HEADER_BYTES_MAX
from sluicegate.protocols.entry import EntryBuffer
from sluicegate.protocols.proxy_tlv import ProxyTlv, append_checksum, decode_tlvs, encode_tlvs

__all__ = [
    "ProxyHeader",
    "ProxyHeaderParser",
    "ProxyTransport",
    "UnixAddress",
    "encode_proxy_local",
    "encode_proxy_v1",
    "encode_proxy_v2",
    "source_hazard",
]


class ProxyTransport(enum.IntEnum):
    """How the client spoke to the peer."""

    UNSPECIFIED = 0
    STREAM = 1
    DATAGRAM = 2


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A path of a Unix socket, without the zeros behind it; abstract ones begin with a zero."""

    path: bytes


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a peer says of the connection that it carries on."""

    version: int
    #: 1 or 2.
    is_local: bool = False
    #: The peer speaks for itself; use the connection's own addresses.
    transport: ProxyTransport = ProxyTransport.UNSPECIFIED
    source: SocketAddress | UnixAddress | None = None
    #: The client; None when the peer does not say (then the connection's own, or a refusal).
    target: SocketAddress | UnixAddress | None = None
    #: Where the client connected to, at the peer.
    tlvs: tuple[ProxyTlv, ...] = ()
    #: As they came; padding and a checksum that was right are left out.


class ProxyHeaderParser:
    """A peer's bytes in, its header out; lives until the protocol behind it begins.

    After each ``receive_data`` take ``next_event`` until it is None. There is no answer to a bad
    header: end the connection.
    """

    __slots__ = ("_buffer", "needs_data")

    def __init__(self, *, early_bytes_max: int = ENTRY_EARLY_BYTES_MAX) -> None:
        self._buffer = EntryBuffer(early_bytes_max)
        self.needs_data = True
        #: Whether the header is still to come.

    def receive_data(self, data: bytes) -> None:
        """Add what the peer sent."""
        self._buffer.receive_data(data)

    def next_event(self) -> ProxyHeader | None:
        """Return the header, once; None until more bytes come, and afterwards.

        Raises:
            ProtocolError: It is no header, or too long; the error is final.
        """
        if self._buffer.error is not None:
            raise self._buffer.error
        if not self.needs_data:
            self._buffer.check_early()
            return None
        data = self._buffer.data
        if not data:
            return None
        header = self._read_v1() if data[0] == _V1_SIGNATURE[0] else self._read_v2(data)
        if header is not None:
            self.needs_data = False
        return header

    def take_early_data(self) -> bytes:
        """Return, once, what came behind the header: the client's first bytes.

        Raises:
            BadContext: The header has not come yet.
        """
        if self.needs_data:
            raise BadContext("take_early_data belongs behind the header")
        return self._buffer.take_all()

    def _read_v1(self) -> ProxyHeader | None:
        data = self._buffer.data
        if not _is_begun(data, _V1_SIGNATURE):
            raise self._buffer.fail("a PROXY header does not begin with its signature")
        end = data.find(b"\n")
        if (end if end >= 0 else len(data)) > _V1_BYTES_MAX - 1:
            raise self._buffer.fail(f"a PROXY header is longer than {_V1_BYTES_MAX} bytes")
        if end < 0:
            return None
        line = self._buffer.take(end + 1)
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise self._buffer.fail("a PROXY header does not end in CR LF")
        return self._read_v1_line(line[len(_V1_SIGNATURE) : -2])

    def _read_v1_line(self, line: bytes) -> ProxyHeader:
        family, *fields = line.split(b" ")
        if family == b"UNKNOWN":
            return ProxyHeader(1)
        if family not in _V1_FAMILIES or len(fields) != 4:  # noqa: PLR2004 - two addresses, two ports
            raise self._buffer.fail("a PROXY header is not family, addresses and ports")
        source_host, target_host, source_port, target_port = fields
        source = self._v1_address(family, source_host, source_port)
        target = self._v1_address(family, target_host, target_port)
        return ProxyHeader(1, False, ProxyTransport.STREAM, source, target)

    def _v1_address(self, family: bytes, host: bytes, digits: bytes) -> SocketAddress:
        if _V1_FAMILIES[family].fullmatch(host) is None or _PORT.fullmatch(digits) is None:
            raise self._buffer.fail("an address of a PROXY header is malformed")
        try:
            ip = ipaddress.ip_address(host.decode("ascii"))
        except ValueError as error:
            raise self._buffer.fail("an address of a PROXY header is malformed") from error
        if int(digits) > _PORT_MAX:
            raise self._buffer.fail(f"a port of a PROXY header is above {_PORT_MAX}")
        return _address_of(ip.packed, int(digits))

    def _read_v2(self, data: bytearray) -> ProxyHeader | None:
        # In the order of the bytes, so that every cut of them finds the same fault.
        if not _is_begun(data, _V2_SIGNATURE):
            raise self._buffer.fail("a PROXY header does not begin with its signature")
        if data[12:13] and data[12] not in _V2_COMMANDS:
            raise self._buffer.fail("a PROXY header has an unknown version or command")
        if data[13:14] and data[13] not in _V2_FAMILIES:
            raise self._buffer.fail("a PROXY header has an unknown family or transport")
        if len(data) < _V2_HEAD:
            return None
        length = int.from_bytes(data[14:_V2_HEAD], "big")
        if _V2_HEAD + length > PROXY_HEADER_BYTES_MAX:
            raise self._buffer.fail(f"a PROXY header is longer than {PROXY_HEADER_BYTES_MAX} bytes")
        address_bytes = _ADDRESS_BYTES[data[13] >> 4]
        is_local = data[12] == _V2_LOCAL
        if length < address_bytes and not is_local:
            raise self._buffer.fail("a PROXY header is shorter than its addresses")
        if len(data) < _V2_HEAD + length:
            return None
        header = self._buffer.take(_V2_HEAD + length)
        if is_local:
            return ProxyHeader(2, True)
        source, target = _read_addresses(header)
        try:
            tlvs = decode_tlvs(header, _V2_HEAD + address_bytes)
        except ProtocolError as error:
            raise self._buffer.fail(error.hint) from error
        return ProxyHeader(2, False, ProxyTransport(header[13] & 15), source, target, tlvs)


def source_hazard(header: ProxyHeader) -> str | None:
    """Say why the announced client cannot be one that came over a network; None if it can.

    A peer that lets clients choose would make them local: rules for 127.0.0.1 are not for them.
    """
    source = header.source
    if not isinstance(source, SocketAddress):
        return None
    ip = source.ip
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast:
        return f"{ip} is not the address of a client"
    return "port 0" if source.port == 0 else None


def encode_proxy_v1(source: SocketAddress, target: SocketAddress) -> bytes:
    """Return a version 1 header for TCP; IPv4 is written as IPv6 if one end needs it."""
    is_ipv4 = ":" not in source.host and ":" not in target.host
    family, hosts = "TCP4", (source.host, target.host)
    if not is_ipv4:
        family = "TCP6"
        hosts = (_host_in_ipv6(source.host), _host_in_ipv6(target.host))
    return f"PROXY {family} {hosts[0]} {hosts[1]} {source.port} {target.port}\r\n".encode("ascii")


def encode_proxy_v2(
    source: SocketAddress,
    target: SocketAddress,
    tlvs: Sequence[ProxyTlv] = (),
    *,
    transport: ProxyTransport = ProxyTransport.STREAM,
    has_checksum: bool = False,
) -> bytes:
    """Return a version 2 header; IPv4 is written as IPv6 if one end needs it.

    Raises:
        ValueError: The transport is unspecified, or the TLVs are more than a reader would take.
    """
    if transport is ProxyTransport.UNSPECIFIED:
        raise ValueError("addresses need a transport: STREAM or DATAGRAM")
    is_ipv4 = ":" not in source.host and ":" not in target.host
    family = _INET if is_ipv4 else _INET6
    addresses = b"".join(
        (one.ip.packed if is_ipv4 else _packed_in_ipv6(one.host)) for one in (source, target)
    )
    ports = source.port.to_bytes(2, "big") + target.port.to_bytes(2, "big")
    return _encode_v2(_V2_PROXY, family << 4 | transport, addresses + ports, tlvs, has_checksum)


def encode_proxy_local(tlvs: Sequence[ProxyTlv] = (), *, has_checksum: bool = False) -> bytes:
    """Return a version 2 header of the gate's own connection, for its health checks.

    Raises:
        ValueError: The TLVs are more than a reader would take.
    """
    return _encode_v2(_V2_LOCAL, 0, b"", tlvs, has_checksum)


def _encode_v2(
    command: int, family: int, addresses: bytes, tlvs: Sequence[ProxyTlv], has_checksum: bool
) -> bytes:
    block = addresses + encode_tlvs(tlvs)
    head = _V2_SIGNATURE + bytes((command, family))
    if _V2_HEAD + len(block) + (7 if has_checksum else 0) > PROXY_HEADER_BYTES_MAX:
        raise ValueError(f"a PROXY header is longer than {PROXY_HEADER_BYTES_MAX} bytes")
    return append_checksum(head, block) if has_checksum else head + _length(block) + block


def _length(block: bytes) -> bytes:
    return len(block).to_bytes(2, "big")


def _read_addresses(
    header: bytes,
) -> tuple[SocketAddress | UnixAddress | None, SocketAddress | UnixAddress | None]:
    family = header[13] >> 4
    if family == _UNSPEC:
        return None, None
    if family == _UNIX:
        paths = header[_V2_HEAD : _V2_HEAD + 108], header[_V2_HEAD + 108 : _V2_HEAD + 216]
        source_path, target_path = (UnixAddress(path.rstrip(b"\0")) for path in paths)
        return source_path, target_path
    size = 4 if family == _INET else 16
    hosts = header[_V2_HEAD : _V2_HEAD + 2 * size]
    ports = header[_V2_HEAD + 2 * size : _V2_HEAD + 2 * size + 4]
    source = _address_of(hosts[:size], int.from_bytes(ports[:2], "big"))
    target = _address_of(hosts[size:], int.from_bytes(ports[2:], "big"))
    return source, target


def _address_of(packed: bytes, port: int) -> SocketAddress:
    if packed.startswith(_MAPPED) and len(packed) == 16:  # noqa: PLR2004 - IPv6
        packed = packed[len(_MAPPED) :]
    return SocketAddress(str(ipaddress.ip_address(packed)), port)


def _packed_in_ipv6(host: str) -> bytes:
    packed = ipaddress.ip_address(host).packed
    return packed if len(packed) == 16 else _MAPPED + packed  # noqa: PLR2004 - IPv6


def _host_in_ipv6(host: str) -> str:
    return host if ":" in host else f"::ffff:{host}"


def _is_begun(data: bytearray, signature: bytes) -> bool:
    return signature.startswith(data[: len(signature)])


_V1_SIGNATURE: Final = b"PROXY "
#: With CR LF: the longest line that the text describes.
_V1_BYTES_MAX: Final = 107
_NUMBER: Final = rb"(?:0|[1-9][0-9]{0,2})"
_V1_FAMILIES: Final = {
    b"TCP4": re.compile(_NUMBER + rb"(?:\." + _NUMBER + rb"){3}"),
    # The pattern keeps out zones, which ``ipaddress`` would take, and IPv4 by asking for a colon.
    b"TCP6": re.compile(rb"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40}"),
}
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_PORT_MAX: Final = 65535
_MAPPED: Final = bytes(10) + b"\xff\xff"

_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
#: Signature, version and command, family and transport, length.
_V2_HEAD: Final = 16
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_V2_COMMANDS: Final = frozenset({_V2_LOCAL, _V2_PROXY})
_V2_FAMILIES: Final = frozenset({0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32})
_UNSPEC: Final = 0
_INET: Final = 1
_INET6: Final = 2
_UNIX: Final = 3
_ADDRESS_BYTES: Final = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
