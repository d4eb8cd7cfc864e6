"""Why an HTTP/2 connection, or one stream of it, is refused: a code each, with the error code sent.

Every module of the package raises ``Http2ProtocolError`` (the connection ends) or ``StreamFault``
(one stream does). The invariant: what is wrong with a head or a body is one stream's; what is wrong
with frames, with header compression or with the order of things is everybody's, for behind it no
byte is anybody's (RFC 9113 section 5.4).
"""

from __future__ import annotations

import enum

from sluicegate.errors import ProtocolError, Side

__all__ = ["ErrorCode", "Http2Fault", "Http2ProtocolError", "StreamFault"]


class ErrorCode(enum.IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Http2Fault(enum.Enum):
    """A cause: its code, the error code that the peer is sent, and the hint for records."""

    # The connection's beginning, frames, and their order.
    PREFACE = "preface", ErrorCode.PROTOCOL_ERROR, "it does not begin as HTTP/2 does"
    FRAME_TOO_LONG = "frame-too-long", ErrorCode.FRAME_SIZE_ERROR, "a frame is too long"
    FRAME_SIZE = "frame-size", ErrorCode.FRAME_SIZE_ERROR, "a frame has not its type's length"
    FRAME_STREAM = "frame-stream", ErrorCode.PROTOCOL_ERROR, "a frame of the wrong kind of stream"
    FRAME_ORDER = "frame-order", ErrorCode.PROTOCOL_ERROR, "a frame where none of its type may be"
    PADDING = "padding", ErrorCode.PROTOCOL_ERROR, "more padding than there is frame"
    STREAM_ID = "stream-id", ErrorCode.PROTOCOL_ERROR, "a stream's number that cannot be"
    STREAM_IDLE = "stream-idle", ErrorCode.PROTOCOL_ERROR, "a frame on a stream that never began"
    STREAM_CLOSED = "stream-closed", ErrorCode.STREAM_CLOSED, "a frame on a stream that has ended"
    PUSH = "push", ErrorCode.PROTOCOL_ERROR, "a push that was switched off"
    SETTING = "setting", ErrorCode.PROTOCOL_ERROR, "a setting has a value that it cannot have"
    WINDOW_ZERO = "window-zero", ErrorCode.PROTOCOL_ERROR, "a window is to grow by nothing"
    WINDOW_OVERFLOW = "window-overflow", ErrorCode.FLOW_CONTROL_ERROR, "a window without end"
    WINDOW_EXCEEDED = "window-exceeded", ErrorCode.FLOW_CONTROL_ERROR, "more than the window lets"
    COMPRESSION = "compression", ErrorCode.COMPRESSION_ERROR, "header compression is broken"
    DEPENDENCY = "dependency", ErrorCode.PROTOCOL_ERROR, "a stream depends on itself"
    TRUNCATED = "truncated", ErrorCode.PROTOCOL_ERROR, "the peer ended in the middle of a frame"

    # Floods (hostile group I3).
    BLOCK_TOO_LARGE = "block-too-large", ErrorCode.ENHANCE_YOUR_CALM, "a head without end"
    TOO_MANY_CONTINUATIONS = (
        "too-many-continuations", ErrorCode.ENHANCE_YOUR_CALM, "a head in too many frames"
    )  # fmt: skip
    CONTROL_FLOOD = "control-flood", ErrorCode.ENHANCE_YOUR_CALM, "too many frames of control"
    RESET_FLOOD = "reset-flood", ErrorCode.ENHANCE_YOUR_CALM, "too many streams that were reset"
    EMPTY_FLOOD = "empty-flood", ErrorCode.ENHANCE_YOUR_CALM, "too many frames with nothing in them"
    TINY_WINDOW = "tiny-window", ErrorCode.ENHANCE_YOUR_CALM, "windows of a few bytes, too often"
    TOO_MANY_SETTINGS = (
        "too-many-settings", ErrorCode.ENHANCE_YOUR_CALM, "too many settings at once"
    )  # fmt: skip
    TOO_MANY_STREAMS = "too-many-streams", ErrorCode.REFUSED_STREAM, "too many streams at once"

    # Heads (RFC 9113 sections 8.2 and 8.3).
    FIELD_NAME = "field-name", ErrorCode.PROTOCOL_ERROR, "a field's name is not lower case, a token"
    FIELD_VALUE = "field-value", ErrorCode.PROTOCOL_ERROR, "a field's value has what none may have"
    FIELD_OF_CONNECTION = (
        "field-of-connection", ErrorCode.PROTOCOL_ERROR, "a field that HTTP/2 has not"
    )  # fmt: skip
    FIELD_TE = "field-te", ErrorCode.PROTOCOL_ERROR, "TE is not trailers"
    FIELD_TOO_LARGE = "field-too-large", ErrorCode.PROTOCOL_ERROR, "a field is too large"
    TOO_MANY_FIELDS = "too-many-fields", ErrorCode.PROTOCOL_ERROR, "there are too many fields"
    PSEUDO_LATE = "pseudo-late", ErrorCode.PROTOCOL_ERROR, "a pseudo-field behind a field"
    PSEUDO_UNKNOWN = "pseudo-unknown", ErrorCode.PROTOCOL_ERROR, "a pseudo-field that is none"
    PSEUDO_REPEATED = "pseudo-repeated", ErrorCode.PROTOCOL_ERROR, "a pseudo-field stands twice"
    PSEUDO_MISSING = "pseudo-missing", ErrorCode.PROTOCOL_ERROR, "a pseudo-field is missing"
    METHOD = "method", ErrorCode.PROTOCOL_ERROR, "the method is not a token of upper case letters"
    SCHEME = "scheme", ErrorCode.PROTOCOL_ERROR, "the scheme is not http or https"
    PATH = "path", ErrorCode.PROTOCOL_ERROR, "the path has a byte or a form that no URL has"
    PATH_TOO_LONG = "path-too-long", ErrorCode.PROTOCOL_ERROR, "the path is too long"
    AUTHORITY = "authority", ErrorCode.PROTOCOL_ERROR, "the authority is not host or host:port"
    HOST_MISSING = "host-missing", ErrorCode.PROTOCOL_ERROR, "there is no authority and no host"
    HOST_REPEATED = "host-repeated", ErrorCode.PROTOCOL_ERROR, "there is more than one host"
    HOST_DISAGREES = "host-disagrees", ErrorCode.PROTOCOL_ERROR, "host is not the authority"
    CONNECT = "connect", ErrorCode.PROTOCOL_ERROR, "CONNECT with what only others have"
    PROTOCOL = "protocol", ErrorCode.PROTOCOL_ERROR, "a protocol where none may be asked for"
    PROTOCOL_NOT_SERVED = (
        "protocol-not-served", ErrorCode.PROTOCOL_ERROR, "a protocol that no rule lets pass"
    )  # fmt: skip
    EXPECTATION = "expectation", ErrorCode.PROTOCOL_ERROR, "Expect is not 100-continue"
    MAX_FORWARDS = "max-forwards", ErrorCode.PROTOCOL_ERROR, "Max-Forwards is not a small number"
    STATUS = "status", ErrorCode.PROTOCOL_ERROR, "the status is not three digits"
    STATUS_101 = "status-101", ErrorCode.PROTOCOL_ERROR, "101, which HTTP/2 has not"

    # Where the body ends.
    LENGTH_MALFORMED = "length-malformed", ErrorCode.PROTOCOL_ERROR, "the length is no plain number"
    LENGTH_REPEATED = "length-repeated", ErrorCode.PROTOCOL_ERROR, "there is more than one length"
    LENGTH_WITHOUT_BODY = (
        "length-without-body", ErrorCode.PROTOCOL_ERROR, "a length where no body can be"
    )  # fmt: skip
    LENGTH_WRONG = "length-wrong", ErrorCode.PROTOCOL_ERROR, "the body is not as long as was said"
    BODY_WITHOUT_HEAD = "body-without-head", ErrorCode.PROTOCOL_ERROR, "data before a final head"
    BODY_NOT_ALLOWED = (
        "body-not-allowed", ErrorCode.PROTOCOL_ERROR, "a body where none can be"
    )  # fmt: skip
    TRAILERS = "trailers", ErrorCode.PROTOCOL_ERROR, "a second head that does not end the message"
    TRAILER_FORBIDDEN = (
        "trailer-forbidden", ErrorCode.PROTOCOL_ERROR, "a trailer with a name that none may have"
    )  # fmt: skip
    INFORMATIONAL_FLOOD = (
        "informational-flood", ErrorCode.ENHANCE_YOUR_CALM, "too many 1xx responses"
    )  # fmt: skip
    INFORMATIONAL_END = (
        "informational-end", ErrorCode.PROTOCOL_ERROR, "a 1xx response that ends the message"
    )  # fmt: skip

    def __init__(self, code: str, error_code: ErrorCode, hint: str) -> None:
        self.code = code
        self.error_code = error_code
        self.hint = hint

    @property
    def status(self) -> int:
        """What a client is told of a head that is refused."""
        return _STATUSES.get(self.code, 400)


_STATUSES = {
    "field-too-large": 431,
    "too-many-fields": 431,
    "path-too-long": 414,
    "expectation": 417,
    "protocol-not-served": 501,
}


class Http2ProtocolError(ProtocolError):
    """A peer's connection is over: ``fault`` says why; the GOAWAY that says so is in the output."""

    def __init__(self, fault: Http2Fault, side: Side, detail: str = "") -> None:
        super().__init__(f"{fault.hint} ({detail})" if detail else fault.hint, side)
        self.fault = fault


class StreamFault(Exception):
    """One stream is refused."""

    def __init__(self, fault: Http2Fault, detail: str = "") -> None:
        super().__init__(fault.hint)
        self.fault = fault
        self.detail = detail

    @property
    def hint(self) -> str:
        """What records say of it."""
        return f"{self.fault.hint} ({self.detail})" if self.detail else self.fault.hint
