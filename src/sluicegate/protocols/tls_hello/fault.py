"""Why the beginning of a TLS connection is refused: one code per cause.

Every module of the package raises ``TlsRefused`` with one of these; tests, the reference and the
records name them. The invariant: a fault is final: where two readers could differ, nobody's reading
is taken.
"""

from __future__ import annotations

import enum

from sluicegate.errors import ProtocolError, Side

__all__ = ["SniFault", "TlsFault", "TlsRefused"]


class TlsFault(enum.Enum):
    """A cause: its code, and the hint for records."""

    # Records (RFC 8446 section 5.1).
    NOT_TLS = "tls-not-tls", "the first bytes are no record of TLS"
    SSL2_HELLO = "tls-ssl2-hello", "the first bytes are a hello of SSL 2 (RFC 6176 forbids it)"
    RECORD_TYPE = "tls-record-type", "a record is there that has no place before the answer"
    RECORD_VERSION = "tls-record-version", "a record is not of version 3.0 to 3.4"
    RECORD_EMPTY = "tls-record-empty", "a record is empty"
    RECORD_TOO_LONG = "tls-record-too-long", "a record is longer than 2^14 bytes"

    # The message (RFC 8446 section 4.1.2).
    NOT_A_HELLO = "tls-not-a-hello", "the first message is no ClientHello"
    HELLO_TOO_LONG = "tls-hello-too-long", "the ClientHello is longer than the bound"
    HELLO_TRAILING = "tls-hello-trailing", "more follows the ClientHello in its record"
    HELLO_LENGTHS = "tls-hello-lengths", "lengths inside the ClientHello contradict each other"
    HELLO_VERSION = "tls-hello-version", "the ClientHello is not of TLS 1.0 to 1.3"
    SESSION_ID = "tls-session-id", "the session identifier is longer than 32 bytes"
    CIPHER_SUITES = "tls-cipher-suites", "the cipher suites are not a list of at least one"
    COMPRESSION = "tls-compression", "the compression methods do not have the null method"
    HELLO_AGAIN = "tls-hello-again", "a second handshake message comes before an answer"
    HELLO_DIFFERS = "tls-hello-differs", "the second ClientHello names another server"

    # Extensions (RFC 8446 section 4.2).
    EXTENSION_REPEATED = "tls-extension-repeated", "an extension is there twice"
    EXTENSION_MALFORMED = "tls-extension-malformed", "an extension is not as its RFC says"
    PSK_NOT_LAST = "tls-psk-not-last", "pre_shared_key is not the last extension"
    KEY_SHARE_REPEATED = "tls-key-share-repeated", "a group has two key shares"
    SNI_MALFORMED = "tls-sni-malformed", "server_name is no list of one name (RFC 6066)"
    SNI_NAMES = "tls-sni-names", "server_name has more than one name, or one of another type"
    SNI_FORM = "tls-sni-form", "the name in server_name has a byte that no host name has"

    def __init__(self, code: str, hint: str) -> None:
        self.code = code
        self.hint = hint


class SniFault(enum.Enum):
    """What is wrong with the name in a hello that can be read: its code, and what it means."""

    MISSING = "tls-sni-missing", "the ClientHello names no server"
    ADDRESS = (
        "tls-sni-address",
        "the ClientHello has an address where a name belongs (RFC 6066)",
    )
    UNKNOWN = "tls-sni-unknown", "the ClientHello names a server that no certificate here is for"

    def __init__(self, code: str, hint: str) -> None:
        self.code = code
        self.hint = hint


class TlsRefused(ProtocolError):
    """The beginning of a connection has no reading: ``fault`` says why, ``str`` is for records."""

    def __init__(self, fault: TlsFault, side: Side = Side.CLIENT) -> None:
        super().__init__(fault.hint, side)
        self.fault = fault
