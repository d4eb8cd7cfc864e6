"""Opening: why a connection is let in, what filters it gets, and how it goes to the pump.

``connection`` calls it when both ends are there. The invariant: both directions begin together, and
the directions belong to the connection until it gives them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.errors import FILTER_ERRORS, FilterFailed, Side
from sluicegate.port.backend import RawSocket
from sluicegate.port.layer import LayeredSocket, driver_of

from .stages import StageGroup, Stages

if TYPE_CHECKING:
    from .attached import Attached
    from .connection import GateConnection
    from .service import FirewallService

__all__ = [
    "EXPECTED",
    "admitted_by",
    "attach_rule_filters",
    "open_directions",
    "open_stages",
    "tell_other_direction",
]

EXPECTED: Final = "expected"
"""The reason code of a secondary connection that came as announced."""


# Globals are found faster than attributes of a class.
_CLIENT: Final = Side.CLIENT
_SERVER: Final = Side.SERVER


def admitted_by(connection: GateConnection) -> str:
    """Return the reason code of a connection that is let in."""
    if connection.expected is not None:
        return EXPECTED
    return connection.allowed_by


def attach_rule_filters(connection: GateConnection, service: FirewallService) -> bool:
    """Attach what the rule has made for each connection; False when that ended it."""
    for step in connection.plan.connection:
        installed = step.installed
        installed.calls += 1
        try:
            connection.attach(step.make(), None, None, installed.name)
        except FILTER_ERRORS as error:
            if not step.is_bypassed_on_failure:
                cause = f"{type(error).__name__}: {error}"
                connection.on_filter_failure(FilterFailed(installed.name, cause))
                return False
            service.on_filter_error(installed, error)
    return True


def open_directions(
    connection: GateConnection,
    service: FirewallService,
    client: RawSocket,
    server: RawSocket,
    group: StageGroup | None,
) -> None:
    """Begin to pump both directions, each through its side of the stream filters."""
    stages: tuple[Stages | None, Stages | None] = None, None
    if group is not None:
        bound, clock = service.limits.stream_hold_bytes_max, service.clock
        stages = (
            group.for_side(Side.CLIENT, bound, clock),
            group.for_side(Side.SERVER, bound, clock),
        )
    take = service.directions.take
    connection.from_client = first = take()
    connection.from_server = second = take()
    first.open(connection, _CLIENT, client, server, stages[0])
    second.open(connection, _SERVER, server, client, stages[1])
    if isinstance(client, LayeredSocket) or isinstance(server, LayeredSocket):
        backend = service.port.backend
        drivers = driver_of(client, backend), driver_of(server, backend)
        first.run_on(*drivers)
        second.run_on(drivers[1], drivers[0])
    given, connection.client_given = connection.client_given, None
    if given is None:
        first.start()
    else:
        first.take_operation(given.receive_op)
        if given.ahead or given.ended or given.shut:
            first.adopt(given.ahead, ended=given.ended, shut=given.shut)
        elif not given.receive_op.in_flight:
            first.start()
    if connection.is_closing:
        return
    if (server_given := connection.take_server_given()) is None:
        second.start()
        return
    second.take_operation(server_given.receive_op)
    second.adopt(server_given.ahead, ended=server_given.ended, shut=server_given.shut)


def open_stages(
    connection: GateConnection,
    service: FirewallService,
    client: RawSocket,
    server: RawSocket,
    attached: list[Attached],
) -> None:
    """Begin to pump through filters all of which are stream filters, in their order."""
    group = StageGroup.of(attached)
    try:
        group.start(connection)
    except FILTER_ERRORS as error:
        connection.on_filter_failure(error)
        return
    if not connection.is_closing:
        open_directions(connection, service, client, server, group)


def tell_other_direction(connection: GateConnection, side: Side) -> None:
    """Let the other direction give out what a stream filter holds that has left."""
    other = connection.from_server if side is Side.CLIENT else connection.from_client
    if other is not None:
        other.on_stage_left()
