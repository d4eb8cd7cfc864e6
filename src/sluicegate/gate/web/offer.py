"""Offers: what an exchange says of the object in its response, before the first byte of it.

Policy is asked about it, and held bodies begin with it. The invariant: there is an offer for every
name under which a client may store the object, so that a rule about extensions sees the one that
the user gets; the first has the name that a browser would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.filterapi import Direction, TransferOffer
from sluicegate.protocols.text import printable

from .named_object import names_of
from .targets import path_of

if TYPE_CHECKING:
    from .gate_exchange import GateExchange

__all__ = ["offers_of"]


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
        )
        for name in names_of(path_of(exchange.request), response.fields)
    ]
