"""The message of a ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2), read strictly.

``reader`` hands it over whole. The invariant: every byte of it is accounted for; what contradicts
itself, or is there twice, is refused, because servers differ in which half they believe.
"""

from __future__ import annotations

from typing import Final

from .cursor import Cursor
from .extensions import PRE_SHARED_KEY, READERS
from .fault import TlsFault, TlsRefused
from .hello import ClientHello

__all__ = ["MESSAGE_HEAD_SIZE", "read_message"]

MESSAGE_HEAD_SIZE: Final = 4
"""Type and length of a handshake message."""


def read_message(message: bytes) -> ClientHello:
    """Read a whole ClientHello, its head included.

    Raises:
        TlsRefused: It has no reading, or more than one.
    """
    cursor = Cursor(message, TlsFault.HELLO_LENGTHS)
    cursor.take(MESSAGE_HEAD_SIZE)
    version = cursor.number(2)
    if not _TLS_1_0 <= version <= _TLS_1_2:
        raise TlsRefused(TlsFault.HELLO_VERSION)
    cursor.take(_RANDOM_SIZE)
    if len(cursor.vector(1)) > _SESSION_ID_MAX:
        raise TlsRefused(TlsFault.SESSION_ID)
    suites = cursor.vector(2)
    if not suites or len(suites) % 2:
        raise TlsRefused(TlsFault.CIPHER_SUITES)
    compressions = cursor.vector(1)
    if _NO_COMPRESSION not in compressions:
        raise TlsRefused(TlsFault.COMPRESSION)
    hello = ClientHello(
        version, tuple([suites[at] << 8 | suites[at + 1] for at in range(0, len(suites), 2)]), ()
    )
    if cursor.has_more:
        # (Clients of before RFC 3546 have none.)
        extensions = cursor.vector(2)
        cursor.end()
        hello.extensions = _read_extensions(extensions, hello)
    if hello.supported_versions and len(compressions) > 1:
        raise TlsRefused(TlsFault.COMPRESSION)
    return hello


def _read_extensions(raw: bytes, hello: ClientHello) -> tuple[int, ...]:
    found: dict[int, None] = {}
    at, whole = 0, len(raw)
    while at < whole:
        # By hand: every client has about fifteen of them.
        start = at + _EXTENSION_HEAD_SIZE
        kind, length = int.from_bytes(raw[at : at + 2], "big"), raw[at + 2 : start]
        at = start + int.from_bytes(length, "big")
        if at > whole:
            raise TlsRefused(TlsFault.HELLO_LENGTHS)
        if kind in found:
            raise TlsRefused(TlsFault.EXTENSION_REPEATED)
        if PRE_SHARED_KEY in found:
            raise TlsRefused(TlsFault.PSK_NOT_LAST)
        found[kind] = None
        read = READERS.get(kind)
        if read is not None:
            read(raw[start:at], hello)
    return tuple(found)


_EXTENSION_HEAD_SIZE: Final = 4
_TLS_1_0: Final = 0x0301
_TLS_1_2: Final = 0x0303
_RANDOM_SIZE: Final = 32
_SESSION_ID_MAX: Final = 32
_NO_COMPRESSION: Final = 0
