"""Lookups as events: filters are told before and after a name is looked up for a client.

``entry_connection`` asks here around every lookup. The invariant: what a filter answers in the
resolver's place is judged by policy like what the resolver finds, and a name that policy refuses
reaches no filter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.address import IpAddress
from sluicegate.filterapi import Deny, EventVerdict, NameLookup

from .dispatch import dispatch

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService
    from .udp_connection import UdpConnection

__all__ = ["Addresses", "Lookup", "tell_of_lookup"]

Addresses: TypeAlias = tuple[IpAddress, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    """One name that is looked up for a connection."""

    connection: GateConnection | UdpConnection
    host: str
    """Canonical."""
    on_denied: Callable[[str], None]
    """Told why, when a filter denies it."""


def tell_of_lookup(
    service: FirewallService,
    lookup: Lookup,
    addresses: Addresses | None,
    go_on: Callable[[Addresses | None], None],
) -> None:
    """Tell the filters of a lookup, and go on with what one of them answered, or None.

    Args:
        service: The gate.
        lookup: Whose client wants to know, and what.
        addresses: What was found; None before anything was asked.
        go_on: Not called when a filter denied it, or the client has gone.
    """
    connection = lookup.connection
    event = NameLookup(
        connection.session, connection.entry_mode, lookup.host, addresses, connection
    )

    def on_verdict(verdict: EventVerdict) -> None:
        if connection.is_closing:
            return
        if isinstance(verdict, Deny):
            lookup.on_denied(verdict.reason)
        else:
            go_on(event.result)

    dispatch(service, connection, event, on_verdict)
