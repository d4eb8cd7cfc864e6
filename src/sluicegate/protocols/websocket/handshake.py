"""The handshake of a WebSocket in HTTP/1.1 (RFC 6455 section 4), as a gate in between sees it.

``gate/web`` checks both heads where it is to read the messages. The invariant: what the two ends
agree on is what the gate reads by; an extension that it cannot read is not offered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from sluicegate.protocols.http1 import Fields, Request, Response

from .deflate import Deflate, DeflateOffer, choose_offer, read_offers
from .fault import WebSocketError, WebSocketFault

__all__ = ["WEBSOCKET", "Handshake", "accept_of", "is_proven", "is_websocket"]

WEBSOCKET: Final = b"websocket"
"""The protocol's name in ``Upgrade``."""


def is_websocket(request: Request) -> bool:
    """Tell whether a request offers to switch to WebSocket."""
    return any(one.lower() == WEBSOCKET for one in request.upgrade)


def accept_of(key: bytes) -> bytes:
    """Return what a server answers to a key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def is_proven(request: Request, response: Response) -> bool:
    """Tell whether a 101 proves that its server has read the key of a request (section 4.1)."""
    key = request.fields.first(_KEY)
    return key is None or response.fields.all(_ACCEPT) == [accept_of(key.strip(b" \t"))]


class Handshake:
    """What one client offers; then, what its server makes of it."""

    def __init__(self, request: Request) -> None:
        """Check a request.

        Raises:
            WebSocketError: It is none that a server would switch for.
        """
        fields = request.fields
        if request.method != b"GET" or not request.is_http_1_1:
            raise WebSocketError(WebSocketFault.HANDSHAKE, "not a GET of HTTP/1.1")
        if _single(fields, b"sec-websocket-version") != b"13":
            raise WebSocketError(WebSocketFault.HANDSHAKE, "Sec-WebSocket-Version is not 13")
        self._key = _key_of(fields)
        self._offers: tuple[DeflateOffer, ...] = read_offers(fields.all(_EXTENSIONS))
        self._protocols = {
            one.strip(b" \t")
            for value in fields.all(b"sec-websocket-protocol")
            for one in value.split(b",")
        }

    def narrow(self, request: Request) -> None:
        """Leave out of a request what the gate could not read behind it."""
        offers = ", ".join(one.text for one in self._offers)
        request.fields.remove(_EXTENSIONS)
        if offers:
            request.fields.add(b"Sec-WebSocket-Extensions", offers.encode("ascii"))

    def agree(self, response: Response) -> Deflate | None:
        """Check a 101, and return what was agreed on about compression.

        Raises:
            WebSocketError: The server does not answer this request.
        """
        fields = response.fields
        if _single(fields, _ACCEPT) != accept_of(self._key):
            raise WebSocketError(WebSocketFault.ACCEPT)
        chosen = _single(fields, b"sec-websocket-protocol")
        if chosen is not None and chosen not in self._protocols:
            raise WebSocketError(WebSocketFault.SUBPROTOCOL)
        return choose_offer(fields.all(_EXTENSIONS), self._offers)


def _single(fields: Fields, name: bytes) -> bytes | None:
    values = fields.all(name)
    if len(values) > 1:
        raise WebSocketError(WebSocketFault.HANDSHAKE, f"{name.decode()} twice")
    return values[0].strip(b" \t") if values else None


def _key_of(fields: Fields) -> bytes:
    key = _single(fields, _KEY) or b""
    try:
        is_one = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        is_one = False
    if not is_one:
        raise WebSocketError(WebSocketFault.HANDSHAKE, "Sec-WebSocket-Key is not 16 bytes")
    return key


_KEY: Final = b"sec-websocket-key"
_ACCEPT: Final = b"sec-websocket-accept"
_EXTENSIONS: Final = b"sec-websocket-extensions"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
