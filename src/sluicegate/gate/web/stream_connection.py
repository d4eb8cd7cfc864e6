"""StreamConnection: what one stream of HTTP/2 is to policy, filters and records.

A rule, a user, a server and deadlines belong to a request, and a connection of HTTP/2 has many at
once: so each of its exchanges runs on one of these, as if it had come on a connection of its own,
and is judged, shown and ended by itself. ``multiplexed`` makes them when they are needed and uses
them again. The invariant: it is in the service's table for as long as it has an exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.filterapi import ConnectionTerminating
from sluicegate.gate.dispatch import tell
from sluicegate.gate.state import State

from .connection import WebConnection
from .stream_end import StreamEnd

if TYPE_CHECKING:
    from sluicegate.gate.registry import RulePlan
    from sluicegate.port.backend import RawSocket
    from sluicegate.protocols.http1 import Response
    from sluicegate.protocols.websocket import Deflate

    from .client_side import ClientSide
    from .filtered_exchange import FilteredExchange
    from .gate_exchange import GateExchange
    from .multiplexed import MultiplexedConnection

__all__ = ["StreamConnection"]


class StreamConnection(WebConnection):
    """One place for an exchange on a client's connection."""

    __slots__ = ("carrier", "end")

    def __init__(self, carrier: MultiplexedConnection, number: int) -> None:
        self.carrier = carrier
        super().__init__(
            carrier.desk,
            carrier.session,
            carrier.wire.raw,
            carrier.client_address,
            carrier.listener_name,
            flood=carrier.flood,
            identifier=f"{carrier.id}.{number}",
            plan=carrier.plan,
            entry=carrier.entry,
        )
        self.announced = carrier.announced
        self.refusal = carrier.refusal
        if carrier.entry is None:
            self.server_address = self.published = carrier.published
            self.published_key = carrier.published_key
            self.published_name, self.own_tls = carrier.published_name, carrier.own_tls
        self.inside, self.opened = carrier.inside, carrier.opened
        self.entry_mode, self.asked = carrier.entry_mode, carrier.asked
        self.host_name, self.found = carrier.host_name, carrier.found
        if carrier.inside is not None:
            self.server_address = carrier.server_address
        self.is_counted = False
        #: It is its carrier that is counted as a client's connection.

    @override
    def _new_client(self, raw: RawSocket) -> ClientSide:
        del raw
        self.end = StreamEnd(self, self.carrier)
        return self.end

    @property
    @override
    def owner(self) -> object:
        return self.carrier

    @property
    @override
    def carrier_id(self) -> str:
        return self.carrier.id

    # -- exchanges -----------------------------------------------------------------------------

    @override
    def on_exchange_began(self, exchange: GateExchange) -> None:
        super().on_exchange_began(exchange)
        service = self._service
        service.add_connection(self)
        if self.wheel_slot < 0:
            service.wheel.add(self, self.due())

    @override
    def take_plan(self, plan: RulePlan) -> None:
        super().take_plan(plan)
        if self.entry is not None:
            self.carrier.plan = plan  # its record names the rule of the last request

    @override
    def end_half_open(self) -> None:
        self.carrier.end_half_open()

    @override
    def on_exchange_over(self, exchange: GateExchange) -> None:
        self.end_half_open()
        self.last_active = self.carrier.last_active = self.port.now
        self.carrier.bytes_to_servers += self.bytes_to_servers
        self.carrier.server_address = self.server_address
        self.bytes_to_servers = 0
        self.desk.record(exchange)
        if not self.is_counted:
            self._service.drop_connection(self)

    # -- what switches to another protocol (RFC 8441) --------------------------------------------

    def _counts_as_one(self, exchange: GateExchange) -> bool:
        """Count the stream as a connection of its client's from here on; False: it was refused."""
        limit = self._service.flood.admit_announced(self.flood)
        if limit is not None:
            exchange.on_limit(limit)
            return False
        self.end_half_open()
        self.is_counted = True
        self.started, self.started_wall = self.port.now, self.port.wall
        self.end.bytes_sent = 0
        return True

    @override
    def open_tunnel(self, exchange: GateExchange, response: Response) -> None:
        if self._counts_as_one(exchange):
            super().open_tunnel(exchange, response)

    @override
    def open_websocket(
        self,
        exchange: GateExchange,
        part: FilteredExchange,
        response: Response,
        deflate: Deflate | None,
    ) -> None:
        if self._counts_as_one(exchange):
            super().open_websocket(exchange, part, response, deflate)

    # -- the end -------------------------------------------------------------------------------

    @override
    def _finish(self) -> None:
        """Take that it is not used again; its carrier has the record and the socket."""
        if self._tunnelled is not None:
            # It was a connection of its own, whose end is recorded.
            super()._finish()
            self.carrier.on_place_closed(self)
            return
        if self._service.find_connection(self.id) is self:
            self._leave_table()
        if self._attached is not None:
            for item in self._attached:
                item.end(self._service, self.session)
            self._attached = None
        if self.plan.events:
            tell(self._service, self, ConnectionTerminating(self, is_secondary=False))
        self.carrier.on_place_closed(self)
        self._let_go()

    @override
    def _leave_table(self) -> None:
        if self._tunnelled is not None:
            super()._leave_table()
            return
        self._service.drop_connection(self)
        if self.is_counted:
            self._service.flood.end_connection(self.flood, is_half_open=False)

    def end_unused(self) -> None:
        """End it with its carrier."""
        if self.state is not State.CLOSED:
            self.close(abortive=True)
