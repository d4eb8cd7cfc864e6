r"""Which protocol a client speaks, from its first bytes, for a listener that serves several.

The gate calls it with what has come so far, and hands the same bytes to the parser that it names.
The invariant: an answer never changes when more bytes come, and ``DETECT_BYTES_MAX`` bytes always
give one.

A client that is silent, or ends its stream, before there is an answer has spoken none of them.

>>> detect_protocol(b"CONN"), detect_protocol(b"CONNECT a:1")
(None, <EntryProtocol.HTTP_CONNECT: 'http-connect'>)
"""

from __future__ import annotations

import enum
import re
from typing import Final

__all__ = ["DETECT_BYTES_MAX", "EntryProtocol", "detect_protocol"]


class EntryProtocol(enum.Enum):
    """What a client may begin with."""

    SOCKS4 = "socks4"
    """4a included: they differ inside the request."""
    SOCKS5 = "socks5"
    HTTP_CONNECT = "http-connect"
    HTTP = "http"
    """A request with another method."""
    PROXY_V1 = "proxy-v1"
    PROXY_V2 = "proxy-v2"
    TLS = "tls"
    """A record with a client hello: HTTPS proxying, or a transparent client."""
    UNKNOWN = "unknown"


def detect_protocol(prefix: bytes | bytearray) -> EntryProtocol | None:
    """Name the protocol that begins with ``prefix``; None while several are possible."""
    if not prefix:
        return None
    prefix = bytes(prefix[:DETECT_BYTES_MAX])
    if prefix[0] == _TLS_HANDSHAKE:
        return _detect_tls(prefix)
    known = _BY_FIRST_BYTE.get(prefix[0])
    if known is not None:
        signature, protocol = known
        if prefix.startswith(signature):
            return protocol
        if signature.startswith(prefix):
            return None
    return _detect_http(prefix)


def _detect_http(prefix: bytes) -> EntryProtocol | None:
    """Look for a method, which is of capital letters and hyphens, and what stands behind it."""
    found = _METHOD.match(prefix)
    if found is None:
        return EntryProtocol.UNKNOWN
    if found.end() == len(prefix) < DETECT_BYTES_MAX:
        return None
    return EntryProtocol.HTTP if prefix[found.end() :][:1] in _BEHIND_METHOD else _UNKNOWN


def _detect_tls(prefix: bytes) -> EntryProtocol | None:
    """Look for a handshake record of TLS (RFC 8446, 5.1) that begins with a client hello."""
    fits = (
        prefix[1:2] in {b"", b"\x03"}
        and prefix[2:3] in _TLS_MINORS
        and (len(prefix) < _TLS_HEAD or prefix[3:5] <= _TLS_RECORD_MAX)
        and prefix[5:6] in {b"", b"\x01"}
    )
    if not fits:
        return EntryProtocol.UNKNOWN
    return EntryProtocol.TLS if len(prefix) > _TLS_HEAD else None


#: Their first bytes differ.
_SIGNATURES: Final = (
    (b"\x04", EntryProtocol.SOCKS4),
    (b"\x05", EntryProtocol.SOCKS5),
    (b"CONNECT ", EntryProtocol.HTTP_CONNECT),
    (b"PROXY ", EntryProtocol.PROXY_V1),
    (b"\r\n\r\n\0\r\nQUIT\n", EntryProtocol.PROXY_V2),
)
_METHOD: Final = re.compile(rb"[A-Z][A-Z-]*")
_BEHIND_METHOD: Final = frozenset({b"", b" "})
"""Nothing, where a method is longer than what is looked at."""
_UNKNOWN: Final = EntryProtocol.UNKNOWN
_BY_FIRST_BYTE: Final = {entry[0][0]: entry for entry in _SIGNATURES}
DETECT_BYTES_MAX: Final = max(len(signature) for signature, _ in _SIGNATURES)
"""How many bytes may be needed: the signature of PROXY v2, twelve."""

_TLS_HANDSHAKE: Final = 22
_TLS_HEAD: Final = 5
#: Records of a client hello say 3.1, SSL 3.0 to TLS 1.3 have been seen.
_TLS_MINORS: Final = frozenset({b"", b"\x00", b"\x01", b"\x02", b"\x03", b"\x04"})
#: 2^14, the longest plain record, in network order; bytes compare as numbers of one length do.
_TLS_RECORD_MAX: Final = (1 << 14).to_bytes(2, "big")
