r"""The authority ``host:port``: where a host's text ends, and what a port is.

The request line of CONNECT, the host of a URL and an operator's destination are read with it.
The invariant: an authority is split where every reader of RFC 3986 splits it, or it is refused;
``a@b``, ``a\b``, ``a#b`` and an IPv6 address without brackets are refused, not interpreted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from sluicegate.limits import HOST_TEXT_MAX

from .host import CanonicalHost, HostReason, HostRefused, canonical_host
from .literals import address_text, parse_ipv6

__all__ = ["Authority", "parse_authority", "parse_port"]

PORT_MAX: Final = 65535
AUTHORITY_TEXT_MAX: Final = HOST_TEXT_MAX + len("[]:65535")


@dataclass(frozen=True, slots=True)
class Authority:
    """Where a client wants to go, before anything was looked up."""

    host: CanonicalHost
    port: int

    @override
    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_authority(
    text: str | bytes, *, default_port: int | None = None, allow_underscore: bool = False
) -> Authority:
    """Read ``name:port``, ``192.0.2.1:port`` or ``[2001:db8::1]:port``.

    Args:
        text: The authority, without user information, which no entry mode has a use for.
        default_port: The port when the text has none (RFC 3986 section 3.2.3: also behind a bare
            colon); without it the port must be there, as CONNECT asks (RFC 9110 section 9.3.6).
        allow_underscore: As in ``canonical_host``.

    Raises:
        HostRefused: The text is no authority, or its host or port is refused.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise HostRefused(HostReason.NOT_UTF8, "the authority is not UTF-8") from error
    if len(text) > AUTHORITY_TEXT_MAX:
        raise HostRefused(HostReason.TEXT_TOO_LONG, f"the authority has {len(text)} characters")
    for character, reason in _NEVER.items():
        # Asked of the whole text: each of these ends the host for some reader and not for others.
        if character in text:
            raise HostRefused(reason, f"the authority {text!r} has {character!r} in it")
    if text.startswith("["):
        host, port_text = _split_bracketed(text)
    else:
        host_text, colon, rest = text.partition(":")
        if ":" in rest:
            raise HostRefused(
                HostReason.IPV6_UNBRACKETED,
                f"{text!r} has several colons; write an IPv6 address as [address]:port",
            )
        host = canonical_host(host_text, allow_underscore=allow_underscore)
        port_text = rest if colon else None
    if not port_text and default_port is not None:
        return Authority(host, default_port)
    return Authority(host, parse_port(port_text or ""))


def parse_port(text: str) -> int:
    """Read a port: decimal digits without sign, space or leading zero, from 1 to 65535.

    Raises:
        HostRefused: It is anything else.
    """
    if not text:
        raise HostRefused(HostReason.PORT_ABSENT, "there is no port")
    if not _PORT.fullmatch(text):
        raise HostRefused(HostReason.PORT_FORM, f"{text[:20]!r} is no port: digits, no more")
    if len(text) > len(str(PORT_MAX)) or not 0 < int(text) <= PORT_MAX:
        raise HostRefused(HostReason.PORT_RANGE, f"port {text[:20]} is not between 1 and 65535")
    return int(text)


def _split_bracketed(text: str) -> tuple[CanonicalHost, str | None]:
    literal, bracket, rest = text[1:].partition("]")
    if "%" in literal and ":" in literal.partition("%")[0]:
        raise HostRefused(
            HostReason.ZONE_ID, f"{text!r} has a zone, which means nothing on another host"
        )
    address = parse_ipv6(literal) if bracket else None
    if address is None:
        raise HostRefused(HostReason.BRACKETS, f"{text!r}: brackets are for IPv6 addresses")
    if rest and not rest.startswith(":"):
        raise HostRefused(HostReason.BRACKETS, f"{text!r} goes on behind its bracket")
    return CanonicalHost(address_text(address), address), rest[1:] if rest else None


_PORT: Final = re.compile(r"0|[1-9][0-9]*")

_NEVER: Final[dict[str, HostReason]] = {
    "@": HostReason.USERINFO,
    **dict.fromkeys("/\\?#,;", HostReason.DELIMITER),
}
