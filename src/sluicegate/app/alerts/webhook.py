"""Tells an address of the web of an alert: one POST of JSON, signed if there is a key.

The signature is an HMAC-SHA256 (RFC 2104) over the time, a full stop and the body, so what was
overheard cannot be sent again much later. The invariant: it goes straight to the host of the
address, whatever the environment says of proxies; it follows no redirection, and the other side has
done its part only by an answer of 200 to 299.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from typing import Final

from sluicegate.alert_limits import ALERT_ANSWER_BYTES_MAX
from sluicegate.audit.alerts.action import WebhookSettings
from sluicegate.names import parse_authority
from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    Fields,
    Framing,
    Http1Client,
    HttpProtocolError,
    Request,
    Response,
    Target,
)
from sluicegate.version import VERSION

from .fault import ActionFailed
from .notice import Notice
from .secret import KEY, read_secret_line

__all__ = ["call_webhook", "sign"]

_PORTS: Final = {"http": 80, "https": 443}
_TRIED_AGAIN: Final = frozenset({408, 425, 429})
_READ_BYTES: Final = 16_384


def sign(key: str, time: int, body: bytes) -> str:
    """Return the value of ``Sluicegate-Signature``.

    Args:
        key: What both sides know.
        time: In seconds since the Unix epoch.
        body: What is sent.
    """
    signed = hmac.new(key.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time},v1={signed}"


async def call_webhook(settings: WebhookSettings, notice: Notice, now: float) -> None:
    """Tell it, and wait for its answer.

    Raises:
        ActionFailed: It was not told, or does not say that it was.
    """
    body = notice.to_json()
    request = _request(settings, notice, body, now)
    try:
        async with asyncio.timeout(settings.timeout_s):
            status = await _exchange(settings, request, body)
    except TimeoutError:
        raise ActionFailed(f"no answer within {settings.timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise ActionFailed(f"its certificate is not believed: {error.verify_message}") from error
    except (OSError, HttpProtocolError) as error:
        raise ActionFailed(f"{type(error).__name__}: {error}") from error
    if not _OK <= status < _REDIRECTED:
        # What it refuses once it refuses again; its own trouble may be over later.
        is_final = status < _ITS_TROUBLE and status not in _TRIED_AGAIN
        raise ActionFailed(f"it answers {status}", is_final=is_final)


_OK: Final = 200
_REDIRECTED: Final = 300
_ITS_TROUBLE: Final = 500


def _request(settings: WebhookSettings, notice: Notice, body: bytes, now: float) -> Request:
    rest = settings.url.partition("://")[2]
    place = rest.partition("/")[0].partition("?")[0]
    path = rest.removeprefix(place)
    fields = [
        (b"Host", place.encode()),
        (b"User-Agent", f"sluicegate/{VERSION}".encode()),
        (b"Accept", b"*/*"),
        (b"Content-Type", b"application/json"),
        (b"Sluicegate-Event", notice.event.encode()),
        (b"Sluicegate-Delivery", notice.identifier.encode()),
    ]
    if settings.key_file:
        key = read_secret_line(settings.key_file, KEY)
        fields.append((b"Sluicegate-Signature", sign(key, int(now), body).encode()))
    return Request(
        b"POST",
        Target.origin((path if path.startswith("/") else f"/{path}").encode()),
        Fields(fields),
        framing=Framing.of_length(len(body)),
        wants_close=True,
    )


async def _exchange(settings: WebhookSettings, request: Request, body: bytes) -> int:
    """Send a request, and return the status of its answer."""
    scheme, _, rest = settings.url.partition("://")
    place = rest.partition("/")[0].partition("?")[0]
    authority = parse_authority(place, default_port=_PORTS[scheme])
    context = None
    if scheme == "https":
        context = ssl.create_default_context(cafile=settings.ca or None)
    reader, writer = await asyncio.open_connection(
        authority.host.text, authority.port, ssl=context, limit=ALERT_ANSWER_BYTES_MAX
    )
    try:
        http = Http1Client()
        pieces = [*http.send(request), *http.send(Body(body)), *http.send(EndOfMessage())]
        writer.write(b"".join(bytes(piece) for piece in pieces))
        await writer.drain()
        return await _status(http, reader)
    finally:
        writer.transport.abort()


async def _status(http: Http1Client, reader: asyncio.StreamReader) -> int:
    """Read until the head of the answer is there; of its body nothing counts."""
    taken = 0
    while True:
        event = http.next_event()
        if isinstance(event, Response) and not event.is_informational:
            return event.status
        if event is not None:
            continue
        received = await reader.read(_READ_BYTES)
        taken += len(received)
        if not received:
            raise ConnectionResetError(0, "it ended the connection without an answer")
        if taken > ALERT_ANSWER_BYTES_MAX:
            raise ConnectionResetError(0, "its answer is too long")
        http.receive_data(received)
