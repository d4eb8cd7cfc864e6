"""Why a WebSocket is refused: one code per cause, and what its peers are told.

Every module of the package raises ``WebSocketError`` with one of these; records and the reference
name them. The invariant: a fault is final, and it does not depend on how the input was cut.
"""

from __future__ import annotations

import enum

from sluicegate.errors import ProtocolError

__all__ = ["WebSocketError", "WebSocketFault"]


class WebSocketFault(enum.Enum):
    """A cause: its code, the close code (RFC 6455 section 7.4), and the hint for records."""

    HANDSHAKE = "websocket-handshake", 1002, "the handshake is not as RFC 6455 has it"
    ACCEPT = "websocket-accept", 1002, "the server does not prove that it has read the request"
    EXTENSION = "websocket-extension", 1002, "the server chose an extension that was not offered"
    SUBPROTOCOL = "websocket-subprotocol", 1002, "the server chose a protocol that was not offered"
    FRAME = "websocket-frame", 1002, "a frame is not as RFC 6455 has it"
    TEXT = "websocket-text", 1007, "a text is not UTF-8"
    DEFLATE = "websocket-deflate", 1007, "a compressed message cannot be read"
    TOO_LARGE = "websocket-message-too-large", 1009, "a message is larger than is let through"
    FRAGMENTS = "websocket-fragments-too-many", 1009, "a message has too many fragments"
    BOMB = "websocket-bomb", 1009, "a message grows too much when it is decompressed"

    def __init__(self, code: str, close_code: int, hint: str) -> None:
        self.code = code
        self.close_code = close_code
        self.hint = hint


class WebSocketError(ProtocolError):
    """A WebSocket is refused: ``fault`` says why."""

    def __init__(self, fault: WebSocketFault, detail: str = "") -> None:
        super().__init__(f"{fault.hint} ({detail})" if detail else fault.hint)
        self.fault = fault
