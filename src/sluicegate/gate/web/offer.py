"""Offers: what an exchange says of the object in its response, before the first byte of it.

Policy is asked about it, and held bodies begin with it. The invariant: the name is what a browser
would save the object as, so that a rule about extensions sees what the user gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.filterapi import Direction, TransferOffer
from sluicegate.protocols.text import printable

from .targets import path_of

if TYPE_CHECKING:
    from .gate_exchange import GateExchange

__all__ = ["offer_of"]


def offer_of(exchange: GateExchange) -> TransferOffer:
    """Return what the response says of its object."""
    response = exchange.response
    assert response is not None, "its head was read"
    content_type = response.fields.first(b"content-type") or b""
    name = path_of(exchange.request).rpartition(b"/")[2]
    return TransferOffer(
        printable(name),
        Direction.DOWNLOAD,
        "http",
        content_type=printable(content_type),
    )
