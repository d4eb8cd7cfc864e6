r"""The addresses inside FTP commands and replies: PORT, EPRT, PASV, EPSV (RFC 959, RFC 2428).

``ftp_dialogue`` decodes what clients and servers announce with it, filters encode what they
announce instead. The invariant: a text is either one address for every reader, or a
``ProtocolError``.

Decided, because peers differ:

- Numbers are plain decimal; a leading zero is refused (octal to some C libraries), and so are
  signs, spaces, and values above 255 or 65535.
- ``|1|`` carries IPv4 only, ``|2|`` IPv6 only, without zone and without an IPv4 address inside it
  (``::ffff:10.0.0.1`` in either spelling): who means IPv4 says ``|1|``.
- Ports 0 to 1023 decode; ``port_hazard`` names the danger and the filter refuses.
- A 227 may have its numbers with or without parentheses (RFC 1123 section 4.1.2.6), but there must
  be exactly one group of six; a 229 must have exactly one ``(|||port|)``.
"""

from __future__ import annotations

import enum
import ipaddress
import re

from sluicegate.address import SocketAddress
from sluicegate.errors import ProtocolError, Side

__all__ = [
    "EpsvRequest",
    "bounce_hazard",
    "decode_eprt_argument",
    "decode_epsv_argument",
    "decode_epsv_reply",
    "decode_pasv_reply",
    "decode_port_argument",
    "encode_eprt_argument",
    "encode_epsv_reply",
    "encode_pasv_reply",
    "encode_port_argument",
    "port_hazard",
]


class EpsvRequest(enum.Enum):
    """What the argument of EPSV asks for."""

    ANY = ""
    IPV4 = "1"
    IPV6 = "2"
    ALL = "ALL"
    """From now on only EPSV; PASV, PORT and EPRT must be refused (RFC 2428 section 4)."""


def decode_port_argument(argument: bytes) -> SocketAddress:
    """Read ``h1,h2,h3,h4,p1,p2``, the argument of PORT.

    Raises:
        ProtocolError: It is anything else.
    """
    if _SIX_NUMBERS.fullmatch(argument) is None:
        raise ProtocolError("PORT does not carry six decimal numbers", Side.CLIENT)
    return _address_of_six(argument, Side.CLIENT)


def decode_eprt_argument(argument: bytes) -> SocketAddress:
    """Read ``|1|10.0.0.1|1025|`` or ``|2|2001:db8::1|1025|``, the argument of EPRT.

    Raises:
        ProtocolError: It is anything else, also an unknown family or another family's address.
    """
    delimiter = argument[:1]
    if not b"!" <= delimiter <= b"~":  # 33 to 126, RFC 2428 section 2
        raise ProtocolError("EPRT does not begin with a delimiter", Side.CLIENT)
    parts = argument.split(delimiter)
    if len(parts) != 5 or parts[0] or parts[4]:  # noqa: PLR2004 - |family|address|port|
        raise ProtocolError("EPRT does not carry family, address and port", Side.CLIENT)
    _, family, host, port_text, _ = parts
    port = _number(port_text, _PORT_MAX, Side.CLIENT)
    if family == b"1":
        octets = [_number(octet, _OCTET_MAX, Side.CLIENT) for octet in host.split(b".")]
        if len(octets) != 4:  # noqa: PLR2004 - IPv4
            raise ProtocolError("EPRT |1| does not carry an IPv4 address", Side.CLIENT)
        return SocketAddress(".".join(map(str, octets)), port)
    if family == b"2":
        return SocketAddress(_ipv6(host), port)
    raise ProtocolError("EPRT names a family other than 1 and 2", Side.CLIENT)


def decode_epsv_argument(argument: bytes) -> EpsvRequest:
    """Read the argument of EPSV, which may be missing.

    Raises:
        ProtocolError: It is neither 1, 2 nor ALL.
    """
    try:
        return EpsvRequest(argument.decode("ascii").upper())
    except ValueError as error:
        raise ProtocolError("EPSV asks for a family other than 1 and 2", Side.CLIENT) from error


def decode_pasv_reply(text: bytes) -> SocketAddress:
    """Read the text of a 227 reply.

    Raises:
        ProtocolError: It does not hold exactly one group of six numbers.
    """
    groups = _SIX_NUMBERS_WITHIN.findall(text)
    if len(groups) != 1:
        raise ProtocolError("a 227 reply does not carry one address", Side.SERVER)
    return _address_of_six(groups[0], Side.SERVER)


def decode_epsv_reply(text: bytes) -> int:
    """Read the port in the text of a 229 reply; the host is the control connection's.

    Raises:
        ProtocolError: It does not hold exactly one ``(|||port|)``, or names an address.
    """
    groups = _EPSV_WITHIN.findall(text)
    if len(groups) != 1:
        raise ProtocolError("a 229 reply does not carry one (|||port|)", Side.SERVER)
    _, digits = groups[0]
    return _number(digits, _PORT_MAX, Side.SERVER)


def encode_port_argument(address: SocketAddress) -> bytes:
    """Return the argument of PORT for an IPv4 address.

    Raises:
        ValueError: The address is not IPv4.

    >>> encode_port_argument(SocketAddress("192.0.2.1", 1025))
    b'192,0,2,1,4,1'
    """
    octets = ipaddress.IPv4Address(address.host).packed
    return b"%d,%d,%d,%d,%d,%d" % (*octets, *divmod(address.port, 256))


def encode_eprt_argument(address: SocketAddress, delimiter: bytes = b"|") -> bytes:
    """Return the argument of EPRT.

    >>> encode_eprt_argument(SocketAddress("2001:db8::1", 1025))
    b'|2|2001:db8::1|1025|'
    """
    family = b"2" if ":" in address.host else b"1"
    fields = (b"", family, address.host.encode("ascii"), b"%d" % address.port, b"")
    return delimiter.join(fields)


def encode_pasv_reply(address: SocketAddress) -> bytes:
    """Return a whole 227 reply for an IPv4 address.

    Raises:
        ValueError: The address is not IPv4.
    """
    return b"227 Entering Passive Mode (%s).\r\n" % encode_port_argument(address)


def encode_epsv_reply(port: int) -> bytes:
    """Return a whole 229 reply."""
    return b"229 Entering Extended Passive Mode (|||%d|)\r\n" % port


def port_hazard(port: int) -> str | None:
    """Say why a data port must not be dialed or expected; None when nothing speaks against it.

    RFC 2577 section 3 asks that ports below 1024 be refused: bounced FTP reaches mail and shells.
    """
    if port == 0:
        return "port 0"
    if port < _UNPRIVILEGED_FROM:
        return f"port {port} is below {_UNPRIVILEGED_FROM}"
    return None


def bounce_hazard(announced: SocketAddress, peer: SocketAddress) -> str | None:
    """Say why an announced data address must not be used; None when it may be.

    ``peer`` is the far end of the control connection that announced it: an FTP bounce makes
    somebody else's address the target (RFC 2577 section 3).
    """
    if announced.ip != peer.ip:
        return f"{announced.host} is not the address of the peer ({peer.host})"
    return port_hazard(announced.port)


def _address_of_six(text: bytes, side: Side) -> SocketAddress:
    numbers = [_number(part, _OCTET_MAX, side) for part in text.split(b",")]
    host = ".".join(map(str, numbers[:4]))
    return SocketAddress(host, numbers[4] * 256 + numbers[5])


def _number(digits: bytes, maximum: int, side: Side) -> int:
    if _DECIMAL.fullmatch(digits) is None or int(digits) > maximum:
        raise ProtocolError("a number in a data address is not plain decimal in range", side)
    return int(digits)


def _ipv6(text: bytes) -> str:
    try:
        # The pattern keeps out zones, which ``ipaddress`` would take.
        if _IPV6_TEXT.fullmatch(text) is None:
            raise ipaddress.AddressValueError(text)
        address = ipaddress.IPv6Address(text.decode("ascii"))
    except ipaddress.AddressValueError as error:
        raise ProtocolError("EPRT |2| does not carry an IPv6 address", Side.CLIENT) from error
    if address.ipv4_mapped is not None:
        raise ProtocolError("EPRT |2| carries an IPv4 address", Side.CLIENT)
    return str(address)


_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,4}")
_SIX_NUMBERS = re.compile(rb"[0-9]{1,3}(?:,[0-9]{1,3}){5}")
_SIX_NUMBERS_WITHIN = re.compile(rb"(?<![0-9,])[0-9]{1,3}(?:,[0-9]{1,3}){5}(?![0-9,])")
_EPSV_WITHIN = re.compile(rb"\(([!-/:-~])\1\1([0-9]{1,5})\1\)")
_IPV6_TEXT = re.compile(rb"[0-9A-Fa-f:.]{2,45}")
_OCTET_MAX = 255
_PORT_MAX = 65535
_UNPRIVILEGED_FROM = 1024
