"""An extended CONNECT of HTTP/2 (RFC 8441) as the upgrade of HTTP/1.1 that it stands for, and back.

The gate's ends of HTTP/2 call it, so that an exchange that switches protocols is the same one for
policy, filters and records, whatever version either side speaks. The invariant: what stands for a
request of one version says what that said, and nothing besides; the key by which HTTP/1.1 proves
that a handshake was read is the gate's own where a client has none.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Final

from sluicegate.protocols.http1 import NO_BODY, Request, Response

from .handshake import WEBSOCKET, accept_of

__all__ = ["as_extended_connect", "as_stream_answer", "as_switched", "as_upgrade"]


def as_upgrade(request: Request, protocol: bytes, nonce: bytes) -> Request:
    """Return the request of HTTP/1.1 that an extended CONNECT stands for (section 5).

    Args:
        request: As it came on a stream, its method CONNECT.
        protocol: What it asks for.
        nonce: 16 bytes that nobody could foresee, for the key of a WebSocket.
    """
    fields = request.fields.copy()
    fields.remove(*_PROOFS)
    if protocol.lower() == WEBSOCKET:
        fields.add(b"Sec-WebSocket-Key", base64.b64encode(nonce))
    return replace(request, method=b"GET", fields=fields, framing=NO_BODY, upgrade=(protocol,))


def as_stream_answer(switched: Response) -> Response:
    """Return what a stream's client is told in the place of a 101: 200."""
    fields = switched.fields.copy()
    fields.remove(*_PROOFS)
    return replace(switched, status=_OK, reason=b"OK", fields=fields, framing=NO_BODY, upgrade=())


def as_extended_connect(request: Request) -> tuple[Request, bytes]:
    """Return what an upgrade is on a stream, its method CONNECT; and the protocol of it."""
    fields = request.fields.copy()
    fields.remove(*_PROOFS)
    going = replace(request, method=b"CONNECT", fields=fields, framing=NO_BODY, upgrade=())
    return going, request.upgrade[0]


def as_switched(response: Response, request: Request) -> Response:
    """Return the 101 that a server's answer to an extended CONNECT stands for.

    An answer that is no success stays what it is. A 200 on a stream is as good as the proof that
    HTTP/1.1 asks for: what a server of HTTP/1.1 would have to prove is that it is one of
    WebSockets, and a stream's has understood ``:protocol``.
    """
    if not _OK <= response.status < _REDIRECTED:
        return response
    fields = response.fields.copy()
    fields.remove(*_PROOFS)
    key = request.fields.first(_KEY)
    if key is not None:
        fields.add(b"Sec-WebSocket-Accept", accept_of(key.strip(b" \t")))
    return replace(
        response,
        status=_SWITCHING_PROTOCOLS,
        reason=b"Switching Protocols",
        fields=fields,
        framing=NO_BODY,
        upgrade=request.upgrade[:1],
    )


_KEY: Final = b"sec-websocket-key"
_PROOFS: Final = (_KEY, b"sec-websocket-accept")
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200
_REDIRECTED: Final = 300
