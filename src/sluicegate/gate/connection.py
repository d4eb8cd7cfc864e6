"""GateConnection: one client-side socket, one server-side socket, and what runs between.

A listener or an expectation makes it; it asks the filters, dials, pumps, and ends in one record.
The invariant: descriptors are closed only when no operation is in flight on either (``close``
joins), filters are detached exactly once, and the first reason to end is the one recorded.

States: ASKED -> DIALLING -> OPEN -> CLOSING -> CLOSED; any state may go to CLOSING.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    FilterFailed,
    LimitExceeded,
    Side,
    TransportError,
    errno_name,
)
from sluicegate.filterapi import (
    ConnectionTerminating,
    ConnectRequested,
    Deny,
    Emulate,
    EntryMode,
    Event,
    EventVerdict,
    Outcome,
    StreamFilter,
)
from sluicegate.policy.decision import PUBLISHED
from sluicegate.policy.tls_check import HELLO_LATE
from sluicegate.port.backend import Operation, RawSocket
from sluicegate.port.layer import driver_of

from .attached import Attached
from .chain import FilterChain
from .deadline import find_deadline, find_expiry
from .dispatch import dispatch, tell
from .emulation import begin_emulation
from .filtered import FilteredConnection
from .hello_check import HelloCheck, hold_hello, with_hello
from .internal_error import internal_error
from .last_words import Farewell
from .network_source import dial_from_source
from .opening import admitted_by, attach_rule_filters, open_directions, open_stages
from .proxy_header import send_proxy_header
from .pump import Direction
from .readmission import Readmission, readmit_stream
from .registry import RulePlan
from .rule_limits import ByteCount
from .stages import INSPECT_NEEDS_FILTER
from .state import State

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.port.given_away import GivenAway

    from .blockage import Blockage
    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .secondary import ExpectedConnection
    from .service import FirewallService
    from .session import GateSession

__all__ = ["GateConnection"]


class GateConnection(FilteredConnection):
    """One connection; satisfies ``filterapi.Connection`` and ``port.FailureScope``."""

    __slots__ = (
        "_abortive",
        "_chain",
        "_client_raw",
        "_connect_op",
        "_dial_began",
        "_dialled_side",
        "_farewell",
        "_server_raw",
        "_service",
        "announced",
        "asked",
        "blockage",
        "client_address",
        "client_given",
        "connect_s",
        "entry_mode",
        "error",
        "error_side",
        "expected",
        "flood",
        "from_client",
        "from_server",
        "hello",
        "host_name",
        "id",
        "is_asking",
        "is_closing",
        "is_counted",
        "is_emulated",
        "is_half_open",
        "judged",
        "last_active",
        "listener_name",
        "outcome",
        "plan",
        "port",
        "reason",
        "server_address",
        "session",
        "started",
        "started_wall",
        "state",
        "wheel_slot",
    )

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        listener_name: str,
        client_address: SocketAddress,
        server_address: SocketAddress,
        *,
        flood: FloodClient,
        identifier: str = "",
    ) -> None:
        port = service.port
        self.id = identifier or service.connection_ids.next()
        self.session = session
        self.plan, self.judged = plan, service.revocation.epoch
        #: What runs for it, as its rule said when it came; the change up to which it was judged.
        self.listener_name = listener_name
        self.client_address = client_address
        self.server_address = server_address
        self.client_given: GivenAway | None = None
        #: The client's socket as its handshake left it; none where nothing was read before.
        self.asked = self.host_name = ""
        #: What the client asked for, and the name in it; nothing on a published port.
        self.port: CompletionPort = port
        self.announced: Announced | None = None
        #: What a peer said of the client, by the PROXY protocol.
        self.blockage: Blockage = service.blockage
        self.started = self.last_active = port.now
        self.started_wall = port.wall
        self.entry_mode = _PUBLISHED
        self.connect_s = -1.0
        #: Seconds the dial took; negative before.
        self.state = _ASKED
        self.is_closing = False
        #: Whether it is closing or closed; the pump reads it on its slow paths.
        self.is_asking = False
        #: Whether an event about it is being handled.
        self.is_emulated = False
        #: Whether a filter is the server, so that nothing is dialled.
        self.flood = flood
        #: On whose account it is.
        self.is_counted, self.is_half_open = True, False
        #: Whether it is there as itself and not as its handshake, and as one without a server yet.
        self.outcome, self.reason = _RELEASED, ""
        self.error, self.wheel_slot = 0, -1
        self.error_side: Side | None = None
        self.from_client: Direction | None = None
        self.from_server: Direction | None = None
        self.dependents = None
        self.expected: ExpectedConnection | None = None
        #: The expectation it fulfils; None for a primary connection.
        self.hello: HelloCheck | None = None
        #: Looks at its ClientHello, where its rule wants that.
        self._service = service
        self._client_raw = self._server_raw = None
        self._client_side_address: SocketAddress | None = None
        self._connect_op: Operation | None = None
        self._dial_began = 0.0
        self._dialled_side = _SERVER
        self._attached: list[Attached] | None = None
        self._chain: FilterChain | None = None
        self._abortive = False
        self._farewell: Farewell | None = None

    # -- coming up -----------------------------------------------------------------------------

    def begin(self, client_raw: RawSocket | None, server_raw: RawSocket | None) -> None:
        """Start with the end that is there; the other is dialled when the filters agree."""
        self._client_raw, self._server_raw = client_raw, server_raw
        service = self._service
        service.add_connection(self)
        if self.plan.is_plain_for_bytes and self.expected is None and self.session.is_plain:
            service.record_decision(self, "allowed", PUBLISHED)
            self.state = _DIALLING
            self._dial(_SERVER)
            return
        if self.plan.bytes_blocked:
            self.refuse(self.plan.bytes_blocked)
            return
        if self.expected is None and not self._has_place():
            return
        self.is_asking = True
        event = self._opening_event()
        if self.expected is not None:
            try:
                self.expected.attach_filters(self)
            except FILTER_ERRORS as error:
                self.is_asking = False
                self.on_filter_failure(error)
                return
        dispatch(service, self, event, self._on_verdict)

    def _opening_event(self) -> Event:
        if self.expected is not None:
            return self.expected.opening_event(self)
        return ConnectRequested(self, self.server_address)

    def _on_verdict(self, verdict: EventVerdict) -> None:
        service = self._service
        self.is_asking = False
        if self.is_closing or not self._is_still_admitted():
            return
        if isinstance(verdict, Deny):
            self.refuse(verdict.reason)
            return
        if self.expected is None and not attach_rule_filters(self, service):
            return
        if isinstance(verdict, Emulate):
            begin_emulation(self, verdict)
        if self._must_be_seen and not self.has_attached:
            self.refuse(INSPECT_NEEDS_FILTER)
            return
        if self.plan.bytes_max is not None:
            self.attach(ByteCount(self), None, None, "")
        service.record_decision(self, "allowed", admitted_by(self))
        self.state = State.DIALLING
        self._come_up()

    def _come_up(self) -> None:
        """Dial the end that is missing, or open with the client alone if the server is to wait."""
        if self._client_raw is None:
            self._dial(Side.CLIENT)
        elif self.is_emulated or (self.expected is not None and self.expected.dial_later):
            self._open_without_server(self._client_raw)
        else:
            self._dial(Side.SERVER)

    def dial_server(self, address: SocketAddress) -> None:
        """As ``filterapi.Connection.dial_server``."""
        if self.state is not State.OPEN or self._server_raw is not None or self.is_emulated:
            raise BadContext("the server was dialled before, or the connection has ended")
        if address.host != self.server_address.host:
            raise ValueError(f"{address} is not on the host that was judged")
        self.server_address = address
        self._dial(Side.SERVER)

    def _dial(self, side: Side) -> None:
        service, port = self._service, self.port
        if not self._is_still_admitted():
            return
        self.state = _DIALLING
        self._dialled_side = side
        self._dial_began = port.now
        address = self.server_address if side is _SERVER else self.client_address
        backend = port.backend
        service.wheel.add(self, port.now + service.limits.connect_timeout_s)
        try:
            raw = backend.create_socket(address.family)
        except OSError as error:
            if not service.dials.add(self, service.connection_count):
                self.fail("no descriptor for the dial", error.errno or errno.EMFILE)
            return
        if side is _SERVER:
            self._server_raw = raw
            relations = service.policy.network_relations
            if relations.rules and not dial_from_source(self, relations, raw):
                return
        else:
            self._client_raw = raw
        operation = self._connect_op
        if operation is None:
            operation = self._connect_op = port.operations.take(self._on_connected)
        backend.connect(operation, raw, address)

    def dial_again(self) -> None:
        """Dial now that there may be a descriptor."""
        self._dial(self._dialled_side)

    def _on_connected(self, result: int, _flags: int) -> None:
        if self.is_closing:
            self.join()
            return
        if result < 0:
            self.on_transport_error(self._dialled_side, -result, "connect")
            return
        if not self._is_still_admitted():
            return
        now = self.last_active = self.port.now
        self.connect_s = self._service.records.steps.dialled(self.id, now - self._dial_began)
        self._open_both()

    def _open_both(self) -> None:
        self._on_open()
        client, server = self._client_raw, self._server_raw
        assert client is not None
        if server is None:
            self._open_without_server(client)
            return
        if self._announces_client and not send_proxy_header(self, server):
            return
        if self._chain is not None:
            self._chain.join_server(server)
            return
        if self._attached is not None:
            self._open_chain(client, server, self._attached)
        else:
            open_directions(self, self._service, client, server, None)
        if self.expected is not None:
            self.expected.on_established(self)

    def _on_open(self) -> None:
        self.state = _OPEN
        if self.plan.tls is not None:
            hold_hello(self)
        if self.plan.deadlines is not None:
            self._service.wheel.hasten(self, self.plan.deadlines.due_for(self))
        if self.is_half_open:
            self.is_half_open = False
            self._service.flood.end_half_open(self.flood)

    def _open_without_server(self, client: RawSocket) -> None:
        """Run the filters with the client's end alone; one of them asks for the server."""
        attached = self._attached or []
        if all(isinstance(item.filter, StreamFilter) for item in attached):
            self.fail("no filter is there that would dial the server")
            return
        self._on_open()
        attached.sort(key=lambda item: item.position)
        self._chain = FilterChain(self, self._service, client, None, attached)
        self._chain.start()
        self._service.wheel.add(self, self.due())
        if self.expected is not None and not self.is_closing:
            self.expected.on_established(self)

    def _open_chain(self, client: RawSocket, server: RawSocket, attached: list[Attached]) -> None:
        attached.sort(key=lambda item: item.position)
        if all(isinstance(item.filter, StreamFilter) for item in attached):
            open_stages(self, self._service, client, server, attached)
            return
        self._chain = FilterChain(self, self._service, client, server, attached)
        self._chain.start()

    # -- policy --------------------------------------------------------------------------------

    def _is_still_admitted(self) -> bool:
        """Before each step: another policy may have come since the last one; False ends it."""
        revocation = self._service.revocation
        return self.judged == revocation.epoch or revocation.admits(self)

    @property
    def allowed_by(self) -> str:
        """The reason code with which it is let in."""
        return PUBLISHED

    def judge_anew(self) -> Readmission:
        """Say by which rule it would be let in now."""
        return with_hello(self, readmit_stream(self._service, self))

    def on_readmitted(self) -> None:
        """Withdraw what was announced and leads where the rule does not lead any more."""
        self.session.withdraw_refused(self)

    # -- what filters ask (filterapi.Connection) -------------------------------------------------

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """As ``filterapi.Connection.refuse``."""
        self._say(to_client, to_server)
        self._end(Outcome.REFUSED, reason)

    def _say(self, to_client: bytes, to_server: bytes) -> None:
        if (to_client or to_server) and self.state is State.OPEN:
            ways = ((self._client_raw, to_client), (self._server_raw, to_server))
            self._farewell = Farewell(self, self._chain, ways)

    def fail(
        self,
        reason: str,
        error: int = 0,
        side: Side = Side.INTERNAL,
        *,
        to_client: bytes = b"",
        to_server: bytes = b"",
    ) -> None:
        """As ``filterapi.Connection.fail``."""
        self._say(to_client, to_server)
        self._end(Outcome.FAILED, reason, error, side)

    # -- what ends it --------------------------------------------------------------------------

    def on_direction_done(self) -> bool:
        """Take the end of one direction; True when that was the last and the end of all."""
        client, server, service = self.from_client, self.from_server, self._service
        assert client is not None
        assert server is not None
        if not (client.is_done and server.is_done):
            half_closed = self.port.now + service.limits.half_closed_timeout_s
            service.wheel.hasten(self, half_closed)
            return False
        if client.is_busy or server.is_busy:
            self.close(abortive=False)
        else:
            # Nothing is in flight and nothing waits, as at the end of nearly every connection.
            self.is_closing = True
            self.state = _CLOSED
            service.wheel.remove(self)
            if self.dependents:
                self._cancel_dependents()
            self._finish()
        return True

    def on_transport_error(self, side: Side, error: int, doing: str = "") -> None:
        """Take a failed socket: both sides are reset."""
        what = f"{doing} " if doing else ""
        self._end(Outcome.FAILED, f"{side} {what}{errno_name(error)}", error, side)

    def on_filter_failure(self, error: BaseException) -> None:
        """Take a filter's failure: this connection ends, no other."""
        if isinstance(error, TransportError):
            self.on_transport_error(error.side, error.error, error.doing)
        elif isinstance(error, LimitExceeded):
            self.on_limit(error)
        elif not (self.is_closing and isinstance(error, BadContext)):
            # (A filter that used what was closed meanwhile has not failed.)
            name = error.filter_name if isinstance(error, FilterFailed) else ""
            self._service.on_connection_filter_error(self, name, error)
            self._end(Outcome.FAILED, f"filter failure: {name or type(error).__name__}")

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work."""
        if not self.is_closing:
            self._end(Outcome.FAILED, internal_error(error))
        elif self.state is not _CLOSED:
            self.join()  # the last completion may have been the one that failed
        elif self._service.find_connection(self.id) is self:  # in the midst of its end
            self.outcome, self.reason = Outcome.FAILED, internal_error(error)
            self._abort(self._client_raw)
            self._abort(self._server_raw)
            self._leave_table()

    def _leave_table(self) -> None:
        self._service.end_connection(self)

    @override
    def on_limit(self, error: LimitExceeded) -> None:
        """Take a limit: both sides are reset, the record names it."""
        self._service.on_limit(error, self)
        self._end(Outcome.FAILED, f"limit {error.limit}")

    def due(self) -> float:
        """Return the next deadline as things stand."""
        limits = self._service.limits
        if self.state is State.DIALLING:
            return self._dial_began + limits.connect_timeout_s
        if self._chain is not None:
            self.last_active = max(self.last_active, self._chain.last_active)
        for dependent in self.dependents or ():
            self.last_active = max(self.last_active, dependent.last_active())
        due = find_deadline(limits, self.started, self.last_active, self._outlets)
        if self.hello is not None:
            due = min(due, self.hello.due)
        deadlines = self.plan.deadlines
        return due if deadlines is None else min(due, deadlines.due_for(self))

    def on_expired(self) -> None:
        """Take a deadline: say which, and end."""
        if self.state is State.DIALLING:
            doing = "connect" if self._connect_op is not None else "wait for a descriptor"
            self.on_transport_error(self._dialled_side, errno.ETIMEDOUT, doing)
            return
        now, deadlines = self.port.clock.monotonic(), self.plan.deadlines
        if deadlines is not None and (limit := deadlines.reached_by(self, now)) is not None:
            self.on_limit(limit)
            return
        if self.hello is not None and self.hello.due <= now:
            self._end(Outcome.REFUSED, HELLO_LATE)
            return
        self._end(*find_expiry(self._service.limits, now, self.started, self._outlets))

    def watch_stall(self) -> None:
        """See to it that a blocked direction is looked at in time."""
        self._service.wheel.hasten(self, self.port.now + self._service.limits.send_stall_s)

    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        if self.state is State.ASKED:
            self._service.record_decision(self, "denied", reason)
        self.outcome = outcome
        self.reason = reason
        self.error = error
        self.error_side = side
        self.close(abortive=True)

    # -- closing -------------------------------------------------------------------------------

    def close(self, *, abortive: bool) -> None:
        """End both sides; the descriptors go when nothing is in flight on them."""
        if self.is_closing:
            return
        self.is_closing = True
        self.state = State.CLOSING
        self._abortive = abortive
        self._service.wheel.remove(self)
        if self.dependents:
            self._cancel_dependents()
        connect_op = self._connect_op
        if connect_op is not None and connect_op.in_flight:
            self.port.backend.cancel(connect_op)
        for direction in (self.from_client, self.from_server):
            if direction is not None:
                direction.stop()
        if self._chain is not None:
            self._chain.stop(abortive=abortive)
        self.join()

    def join(self) -> None:
        """Finish when the last operation in flight has completed."""
        connect_op = self._connect_op
        if self.state is not State.CLOSING or (connect_op is not None and connect_op.in_flight):
            return
        if any(direction.is_busy for direction in self._directions or ()):
            return
        if self._farewell is not None and not self._farewell.is_over():
            return
        if self._chain is not None and self._chain.is_busy:
            return
        self.state = State.CLOSED
        self._finish()

    def _finish(self) -> None:
        service, client, server = self._service, self._client_raw, self._server_raw
        if self._connect_op is not None:
            self.port.operations.give(self._connect_op)
            self._connect_op = None
        if self._abortive:
            self._abort(client)
            self._abort(server)
        else:
            # A chain's sockets have closed their descriptors themselves; closing again is harmless.
            if client is not None:
                client.close()
            if server is not None:
                server.close()
        if self._attached is not None:
            for item in self._attached:
                item.end(service, self.session)
        if self.plan.events:
            tell(service, self, ConnectionTerminating(self, is_secondary=self.is_secondary))
        self._leave_table()
        # Without these circles nothing is left to the cycle collector.
        if self._chain is not None:
            self._chain.let_go()
        self._chain = self._attached = None
        first, second = self.from_client, self.from_server
        if first is not None and second is not None:
            self.from_client = self.from_server = None
            service.directions.give(first)
            service.directions.give(second)

    def _abort(self, raw: RawSocket | None) -> None:
        if raw is not None and raw.fileno() >= 0:
            driver_of(raw, self.port.backend).abort(raw)

    def adopt_directions(
        self, client: Direction, server: Direction, bytes_before: tuple[int, int]
    ) -> None:
        """Go on as a plain pump after the last filter left the chain."""
        self._chain = None
        self.from_client, self.from_server = client, server
        client.bytes, server.bytes = bytes_before


# Globals are found faster than attributes of a class.
_PUBLISHED: Final = EntryMode.PUBLISHED
_RELEASED: Final = Outcome.RELEASED
_SERVER: Final = Side.SERVER
_ASKED: Final = State.ASKED
_DIALLING: Final = State.DIALLING
_OPEN: Final = State.OPEN
_CLOSED: Final = State.CLOSED
