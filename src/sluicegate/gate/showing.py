"""Showing: what a connection is at one moment, for people.

``service`` makes the views of its table with it. The invariant: a view is a copy; looking changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .views import ConnectionView

if TYPE_CHECKING:
    from .connection import GateConnection
    from .udp_association import UdpAssociation
    from .udp_connection import UdpConnection

__all__ = ["view_of_connection", "view_of_datagrams"]


def view_of_connection(connection: GateConnection, now: float) -> ConnectionView:
    """Return a copy of a connection's moment, for people."""
    to_server, to_client, _ = connection.byte_counts()
    directions = (connection.from_client, connection.from_server)
    expected = connection.expected
    return ConnectionView(
        connection=connection.id,
        session=connection.session.id,
        client=str(connection.client_address),
        server=str(connection.server_address),
        listener=connection.listener_name,
        rule=connection.rule,
        state=connection.state.value,
        started=connection.started_wall,
        idle_s=now - connection.last_active,
        bytes_to_server=to_server,
        bytes_to_client=to_client,
        is_spliced=any(item is not None and item.is_spliced for item in directions),
        filters=list(connection.filter_names()),
        primary=expected.primary.id if expected is not None else "",
        asked=connection.asked,
    )


def view_of_datagrams(connection: UdpConnection | UdpAssociation, now: float) -> ConnectionView:
    """Return a copy of the moment of a UDP connection, or of an association."""
    return ConnectionView(
        connection=connection.id,
        session=connection.session.id,
        client=str(connection.client_address),
        server=str(connection.server_address),
        listener=connection.listener_name,
        rule=connection.rule,
        state=connection.state.value,
        started=connection.started_wall,
        idle_s=now - connection.last_active,
        bytes_to_server=connection.bytes_to_server,
        bytes_to_client=connection.bytes_to_client,
        filters=list(connection.filter_names()),
        transport="udp",
        primary=connection.primary_id,
        asked=connection.asked,
        datagrams_to_server=connection.datagrams_to_server,
        datagrams_to_client=connection.datagrams_to_client,
        dropped=sum(connection.dropped.values()),
    )
