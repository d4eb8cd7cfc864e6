"""Opening: a connection without data filters goes to the pump, with its stream filters inline.

``connection`` calls it when both ends are there. The invariant: both directions begin together, and
the directions belong to the connection until it gives them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.errors import Side
from sluicegate.port.backend import RawSocket

from .stages import StageGroup

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["open_directions", "tell_other_direction"]


def open_directions(
    connection: GateConnection,
    service: FirewallService,
    client: RawSocket,
    server: RawSocket,
    group: StageGroup | None,
) -> None:
    """Begin to pump both directions, each through its side of the stream filters."""
    bound, clock = service.limits.stream_hold_bytes_max, service.clock
    stages = (
        (group.for_side(Side.CLIENT, bound, clock), group.for_side(Side.SERVER, bound, clock))
        if group
        else (None, None)
    )
    connection.from_client = first = service.directions.take()
    connection.from_server = second = service.directions.take()
    first.open(connection, Side.CLIENT, client, server, stages[0])
    second.open(connection, Side.SERVER, server, client, stages[1])
    first.start()
    second.start()


def tell_other_direction(connection: GateConnection, side: Side) -> None:
    """Let the other direction give out what a stream filter holds that has left."""
    other = connection.from_server if side is Side.CLIENT else connection.from_client
    if other is not None:
        other.on_stage_left()
