"""Why an HTTP/1.1 message is refused: one code per cause, with the status that answers it.

Every module of the package raises ``HttpProtocolError`` with one of these; tests, the reference
and the records name them. The invariant: a fault is final, and whoever caused it is disconnected:
behind a message that could be read in two ways, no byte is anybody's.
"""

from __future__ import annotations

import enum
from typing import Final

from sluicegate.errors import ProtocolError, Side

__all__ = ["HttpFault", "HttpProtocolError"]


class HttpFault(enum.Enum):
    """A cause: its code, the status a client is told, and the hint for records.

    A server's faults all become 502 towards the client: see ``HttpProtocolError.status``.
    """

    # Bytes of a head (RFC 9112 section 2.2, RFC 9110 section 5.5).
    BARE_LF = "bare-lf", 400, "a line ends in LF without CR"
    BARE_CR = "bare-cr", 400, "a CR stands inside a line"
    NUL = "nul", 400, "a NUL stands in the head"
    CONTROL_CHARACTER = "control-character", 400, "a control character stands in the head"

    # The first line.
    REQUEST_LINE = "request-line", 400, "the request line is not method, target and version"
    METHOD = "method", 400, "the method is not a token of upper case letters, or too long"
    VERSION = "version", 400, "the version is not HTTP/1.1 or HTTP/1.0, letter by letter"
    VERSION_UNSUPPORTED = "version-unsupported", 505, "the version is another than 1.1 and 1.0"
    STATUS_LINE = "status-line", 400, "the status line is not version, three digits and reason"

    # The target and Host (RFC 9112 section 3.2).
    TARGET = "target", 400, "the target has a byte or an escape that no URL has"
    TARGET_FORM = "target-form", 400, "the target has not the form that its method needs"
    TARGET_AUTHORITY = "target-authority", 400, "the target's authority is not host or host:port"
    HOST_MISSING = "host-missing", 400, "there is no Host"
    HOST_REPEATED = "host-repeated", 400, "there is more than one Host"
    HOST_MALFORMED = "host-malformed", 400, "Host is not host or host:port"
    HOST_DISAGREES = "host-disagrees", 400, "Host does not name the target"

    # Fields.
    FIELD_FOLDED = "field-folded", 400, "a field begins with white space, or continues a line"
    FIELD_NO_COLON = "field-no-colon", 400, "a field has no colon"
    FIELD_NAME = "field-name", 400, "a field's name is not a token"
    FIELD_EDGE = "field-edge", 400, "a value begins or ends with a byte that some read as a space"
    CONNECTION = "connection", 400, "Connection is not a list of tokens"
    CONNECTION_PROTECTED = "connection-protected", 400, "Connection names an end-to-end field"
    UPGRADE = "upgrade", 400, "Upgrade is not a list of protocols"
    EXPECTATION = "expectation", 417, "Expect is not 100-continue"
    MAX_FORWARDS = "max-forwards", 400, "Max-Forwards is not one small number"

    # Where the body ends (RFC 9112 section 6).
    LENGTH_MALFORMED = "length-malformed", 400, "Content-Length is not one plain number"
    LENGTH_REPEATED = "length-repeated", 400, "there is more than one Content-Length"
    LENGTH_AND_CODING = "length-and-coding", 400, "Content-Length beside Transfer-Encoding"
    LENGTH_WITHOUT_BODY = "length-without-body", 400, "a length where no body can be"
    CODING_MALFORMED = "coding-malformed", 400, "Transfer-Encoding is not exactly chunked"
    CODING_REPEATED = "coding-repeated", 400, "chunked is there twice, or not last"
    CODING_UNKNOWN = "coding-unknown", 501, "a transfer coding other than chunked"
    CODING_IN_1_0 = "coding-in-1.0", 400, "Transfer-Encoding in a message of HTTP/1.0"
    CODING_WITHOUT_BODY = "coding-without-body", 400, "Transfer-Encoding where no body can be"
    CHUNK_SIZE = "chunk-size", 400, "a chunk's size is not 1 to 16 hexadecimal digits"
    CHUNK_EXTENSION = "chunk-extension", 400, "a chunk's extension is malformed"
    CHUNK_EXTENSIONS_TOO_LARGE = "chunk-extensions-too-large", 400, "chunk extensions without end"
    CHUNK_LINE_END = "chunk-line-end", 400, "a chunk's line does not end in CR LF"
    CHUNK_END = "chunk-end", 400, "a chunk's data do not end in CR LF"
    TRAILER_FORBIDDEN = "trailer-forbidden", 400, "a trailer has a name that no trailer may have"
    TRAILERS_TOO_LARGE = "trailers-too-large", 431, "the trailers are too large, or too many"

    # Sizes.
    TARGET_TOO_LONG = "target-too-long", 414, "the target is too long"
    HEAD_TOO_LARGE = "head-too-large", 431, "the head is too large"
    FIELD_TOO_LARGE = "field-too-large", 431, "a field is too large"
    TOO_MANY_FIELDS = "too-many-fields", 431, "there are too many fields"
    PIPELINE_TOO_LARGE = "pipeline-too-large", 400, "too much came before it was asked for"

    # Dialogue.
    TRUNCATED = "truncated", 400, "the peer ended in the middle of a message"
    UNSOLICITED = "unsolicited", 400, "bytes came that answer no request"
    INFORMATIONAL_FLOOD = "informational-flood", 400, "too many 1xx responses to one request"
    UPGRADE_UNASKED = "upgrade-unasked", 400, "101 without a request for that protocol"
    READERS_DISAGREE = "readers-disagree", 400, "a second parser reads the head otherwise"

    def __init__(self, code: str, status: int, hint: str) -> None:
        self.code = code
        self.status = status
        self.hint = hint


class HttpProtocolError(ProtocolError):
    """A peer's message is refused: ``fault`` says why, ``side`` whose it was."""

    def __init__(self, fault: HttpFault, side: Side, detail: str = "") -> None:
        super().__init__(f"{fault.hint} ({detail})" if detail else fault.hint, side)
        self.fault = fault

    @property
    def status(self) -> int:
        """What the client is told: the fault's status, or 502 for what a server did."""
        return _BAD_GATEWAY if self.side is Side.SERVER else self.fault.status


_BAD_GATEWAY: Final = 502
