"""Offers: what an exchange says of the object in its response, before the first byte of it.

Policy is asked about it, and held bodies begin with it. The invariant: there is an offer for every
name under which a client may store the object, so that a rule about extensions sees the one that
the user gets; the first has the name that a browser would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.filterapi import Direction, TransferOffer
from sluicegate.protocols.http1.messages import FramingKind, Request, Response
from sluicegate.protocols.text import printable

from .named_object import names_of
from .targets import path_of

if TYPE_CHECKING:
    from .gate_exchange import GateExchange

__all__ = ["bytes_announced", "offers_of"]


def bytes_announced(message: Request | Response) -> int | None:
    """Return how long a body is to be; None: nobody says, or only of its coded form."""
    is_told = message.framing.kind is FramingKind.LENGTH
    return message.framing.length if is_told and b"content-encoding" not in message.fields else None


def offers_of(exchange: GateExchange) -> list[TransferOffer]:
    """Return what the response says of its object, once for each of its names."""
    response, user = exchange.response, exchange.user
    assert response is not None, "its head was read"
    content_type = printable((response.fields.first(b"content-type") or b"").strip())
    return [
        TransferOffer(
            name,
            Direction.DOWNLOAD,
            "http",
            user="" if user is None else user.name,
            content_type=content_type,
            facts={"exchange": exchange.id, "status": str(response.status)},
            bytes_announced=bytes_announced(response),
        )
        for name in names_of(path_of(exchange.request), response.fields)
    ]
