"""The extensions of a ClientHello that somebody judges by, one function each.

``message`` finds the function by the extension's type; what has none is only named. The invariant:
an extension that is read is read to its last byte, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from .cursor import Cursor
from .fault import TlsFault, TlsRefused
from .hello import ClientHello, EchKind

__all__ = ["PRE_SHARED_KEY", "READERS"]


def _read_server_name(content: bytes, hello: ClientHello) -> None:
    """Read one host name (RFC 6066 section 3)."""
    whole = Cursor(content, TlsFault.SNI_MALFORMED)
    names = Cursor(whole.vector(2), TlsFault.SNI_MALFORMED)
    whole.end()
    kind = names.number(1)
    name = names.vector(2)
    if kind != _HOST_NAME or names.has_more:
        # Two of one type are forbidden, other types do not exist, and servers differ in which
        # one they take.
        raise TlsRefused(TlsFault.SNI_NAMES)
    if not name or len(name) > _NAME_BYTES_MAX:
        raise TlsRefused(TlsFault.SNI_MALFORMED)
    if not (name.isascii() and name.translate(None, _CONTROLS) == name):
        raise TlsRefused(TlsFault.SNI_FORM)
    hello.server_name = name.decode("ascii")


def _read_alpn(content: bytes, hello: ClientHello) -> None:
    """Read the names of application protocols (RFC 7301 section 3.1)."""
    whole = Cursor(content, TlsFault.EXTENSION_MALFORMED)
    names = Cursor(whole.vector(2), TlsFault.EXTENSION_MALFORMED)
    whole.end()
    found: list[bytes] = []
    while names.has_more:
        found.append(names.vector(1))
    if not found or not all(found):
        raise TlsRefused(TlsFault.EXTENSION_MALFORMED)
    hello.alpn = tuple(found)


def _read_versions(content: bytes, hello: ClientHello) -> None:
    """Read supported_versions (RFC 8446 section 4.2.1)."""
    hello.supported_versions = _numbers_in(content, 1)


def _read_groups(content: bytes, hello: ClientHello) -> None:
    """Read supported_groups (RFC 8446 section 4.2.7)."""
    hello.groups = _numbers_in(content, 2)


def _read_signatures(content: bytes, hello: ClientHello) -> None:
    """Read signature_algorithms (RFC 8446 section 4.2.3)."""
    hello.signature_algorithms = _numbers_in(content, 2)


def _read_key_shares(content: bytes, hello: ClientHello) -> None:
    """Read key_share (RFC 8446 section 4.2.8); an empty list asks for a retry."""
    whole = Cursor(content, TlsFault.EXTENSION_MALFORMED)
    shares = Cursor(whole.vector(2), TlsFault.EXTENSION_MALFORMED)
    whole.end()
    groups: dict[int, None] = {}
    while shares.has_more:
        group = shares.number(2)
        if not shares.vector(2):
            raise TlsRefused(TlsFault.EXTENSION_MALFORMED)
        if group in groups:
            raise TlsRefused(TlsFault.KEY_SHARE_REPEATED)
        groups[group] = None
    hello.key_shares = tuple(groups)


def _read_early_data(content: bytes, hello: ClientHello) -> None:
    """Read early_data, which is empty (RFC 8446 section 4.2.10)."""
    if content:
        raise TlsRefused(TlsFault.EXTENSION_MALFORMED)
    hello.has_early_data = True


def _read_pre_shared_key(_content: bytes, hello: ClientHello) -> None:
    """Note pre_shared_key; its tickets are the server's business."""
    hello.resumes = True


def _read_ech(content: bytes, hello: ClientHello) -> None:
    """Read encrypted_client_hello (RFC 9849 section 5)."""
    cursor = Cursor(content, TlsFault.EXTENSION_MALFORMED)
    kind = cursor.number(1)
    if kind == _ECH_INNER:
        cursor.end()
        hello.ech = EchKind.INNER
        return
    if kind != _ECH_OUTER:
        raise TlsRefused(TlsFault.EXTENSION_MALFORMED)
    cursor.take(_ECH_SUITE_SIZE)
    cursor.vector(2)  # the client's key; empty after a retry
    payload = cursor.vector(2)
    cursor.end()
    if not payload:
        raise TlsRefused(TlsFault.EXTENSION_MALFORMED)
    hello.ech = EchKind.OUTER


def _note_draft(_content: bytes, hello: ClientHello) -> None:
    """Note what hides a name in the way of a draft, whatever is in it."""
    if hello.ech is None:
        hello.ech = EchKind.DRAFT


def _numbers_in(content: bytes, size: int) -> tuple[int, ...]:
    cursor = Cursor(content, TlsFault.EXTENSION_MALFORMED)
    found = cursor.numbers(size)
    cursor.end()
    return found


PRE_SHARED_KEY: Final = 41

READERS: Final[Mapping[int, Callable[[bytes, ClientHello], None]]] = MappingProxyType(
    {
        0: _read_server_name,
        10: _read_groups,
        13: _read_signatures,
        16: _read_alpn,
        PRE_SHARED_KEY: _read_pre_shared_key,
        42: _read_early_data,
        43: _read_versions,
        51: _read_key_shares,
        0xFE0D: _read_ech,
        # encrypted_server_name, and encrypted_client_hello of drafts 8 to 12; ech_outer_extensions
        # only stands in what is encrypted.
        0xFFCE: _note_draft,
        0xFE08: _note_draft,
        0xFE09: _note_draft,
        0xFE0A: _note_draft,
        0xFE0B: _note_draft,
        0xFE0C: _note_draft,
        0xFD00: _note_draft,
    }
)
"""By the extension's type (IANA, TLS ExtensionType Values)."""

_HOST_NAME: Final = 0
#: What OpenSSL takes; a name in DNS has at most 253 bytes.
_NAME_BYTES_MAX: Final = 255
_CONTROLS: Final = bytes((*range(0x21), 0x7F))
_ECH_OUTER: Final = 0
_ECH_INNER: Final = 1
#: Two numbers for the suite, one byte for the configuration.
_ECH_SUITE_SIZE: Final = 5
