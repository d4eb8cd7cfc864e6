"""UdpConnection: one client address on one listener, its server, and what runs between.

``udp_listener`` brings the client's datagrams, the connection's own socket the server's. The
invariant: a datagram is passed on only when the filters have admitted its peer, replies come from
nobody but a peer that was sent to, and the end is one record that counts what was dropped.

Plain datagrams (no data filter, the peer admitted) never come here: the listener passes them on in
its own loop while ``is_plain`` says so.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    FilterFailed,
    LimitExceeded,
    Side,
    TransportError,
)
from sluicegate.filterapi import (
    AnyDataFilter,
    ConnectionTerminating,
    Deny,
    EntryMode,
    EventVerdict,
    Outcome,
    Position,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.policy import Publication
from sluicegate.port.backend import MORE, Operation, RawSocket
from sluicegate.port.tray import HEADROOM, NOBODY, DatagramOutlet, DatagramTarget, DatagramTray

from .attached import Attached
from .dispatch import dispatch, tell
from .network_source import open_datagrams
from .registry import RulePlan
from .rule_limits import has_bytes_left
from .stages import INSPECT_NEEDS_FILTER
from .state import State
from .udp_asked import AskedUdpConnection
from .udp_chain import UdpChain
from .udp_peers import GateUdpPeer, PeerCache, PeerState

if TYPE_CHECKING:
    from .flood_count import FloodClient
    from .service import FirewallService
    from .session import GateSession
    from .udp_association import UdpAssociation
    from .udp_listener import UdpListener

__all__ = ["UdpConnection"]

_SO_RCVBUF: Final = (1, 8)


class UdpConnection(AskedUdpConnection):
    """One UDP connection; satisfies ``filterapi.Connection``, ``port.FailureScope`` and more."""

    __slots__ = (
        "_awaiting",
        "_chain",
        "_client_side_address",
        "_events_open",
        "_last_turn",
        "_named",
        "_operation",
        "_peers",
        "_service",
        "bytes_to_client",
        "bytes_to_server",
        "client_address",
        "datagrams_to_client",
        "datagrams_to_server",
        "dropped",
        "entry_mode",
        "error",
        "error_side",
        "flood",
        "id",
        "is_closing",
        "is_plain",
        "judged",
        "key",
        "last_active",
        "listener",
        "outcome",
        "peers_known",
        "plan",
        "reason",
        "server_address",
        "server_outlet",
        "server_raw",
        "session",
        "started",
        "started_wall",
        "state",
        "to_client",
        "to_server",
        "wheel_slot",
    )

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        listener: UdpListener | UdpAssociation,
        key: bytes,
        name_size: int,
        *,
        flood: FloodClient,
    ) -> None:
        """Make one; ``begin`` starts it.

        Args:
            service: The gate.
            session: The client's.
            plan: What runs for it.
            listener: Where it came.
            key: The client's packed name, and the control message of a reply to it.
            name_size: Bytes of ``key`` that are the name.
            flood: On whose account it is.
        """
        port = service.port
        self.id = service.connection_ids.next()
        self.session = session
        self.plan = plan
        self.listener, self.flood, self.judged = listener, flood, service.revocation.epoch
        self.key = key
        #: What the listener knows it by.
        self.client_address = SocketAddress.from_packed(key[:name_size])
        self.server_address = self._server_of(plan)
        self.entry_mode = EntryMode.PUBLISHED
        self.started = self.last_active = port.now
        self.started_wall = port.wall
        self.state = State.ASKED
        self.is_closing = False
        self.is_plain = False
        #: Whether datagrams pass without a look: no filter, and the one peer admitted.
        self.outcome = Outcome.RELEASED
        self.reason = ""
        self.error = 0
        self.error_side: Side | None = None
        self.datagrams_to_server = self.datagrams_to_client = 0
        self.bytes_to_server = self.bytes_to_client = 0
        self.dropped: dict[str, int] = {}
        #: Datagrams that were not passed on, by reason.
        self.peers_known = 0
        #: Peers that it has had.
        self.wheel_slot = -1
        self.to_client = DatagramTarget(self, self.client_address, key[name_size:])
        self.to_server = DatagramTarget(self)
        self.server_raw: RawSocket | None = None
        self.server_outlet: DatagramOutlet | None = None
        self._service = service
        self._client_side_address: SocketAddress | None = None
        self._operation = Operation(self._on_server_ready)
        self._last_turn = -1
        self._peers = PeerCache(service.limits.udp_peers_max, service.limits.udp_peer_idle_s)
        self._chain: UdpChain | None = None
        #: None while no data filter was ever attached, as on most connections.
        self._named: tuple[str, ...] = ()
        #: The filters that were attached, once it is over.
        self._events_open = 0
        #: Events about it that are being handled: those about several peers overlap.
        self._awaiting: list[tuple[bytes, SocketAddress]] = []
        #: Datagrams of the client that wait for the first verdict, and where they are to go.

    # -- coming up -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask the filters; the client's datagrams wait meanwhile."""
        self._service.wheel.add(self, self.due())
        if self.plan.bytes_blocked:
            self.refuse(self.plan.bytes_blocked)
        elif limit := self._service.revocation.places.take(self.plan.rule, self.id):
            self.end_at(limit)
        elif self._is_told_of:
            self._events_open += 1
            event = UdpBindRequested(self, self.client_side_address)
            dispatch(self._service, self, event, self._on_bind_verdict)
        else:
            self._open()

    def _on_bind_verdict(self, verdict: EventVerdict) -> None:
        self._events_open -= 1
        if self.is_closing or not self._service.revocation.admits(self):
            return
        if isinstance(verdict, Deny):
            self.refuse(verdict.reason)
        else:
            self._open()

    def _open(self) -> None:
        """Attach what the rule names, make the socket towards the server, and let go."""
        service = self._service
        for step in self.plan.connection:
            step.installed.calls += 1
            try:
                self._attach(step.make(), None, None, step.installed.name, None)
            except FILTER_ERRORS as error:
                if not step.is_bypassed_on_failure:
                    cause = f"{type(error).__name__}: {error}"
                    self.on_filter_failure(FilterFailed(step.installed.name, cause))
                    return
                service.on_filter_error(step.installed, error)
        if self.is_closing:
            return
        try:
            self._open_server()
        except TransportError as error:
            self.fail(error.doing, error.error, error.side)
            return
        service.udp.record_decision(self, "allowed", self.allowed_by)
        self.state = State.OPEN
        waiting, self._awaiting = self._awaiting, []
        for data, to in waiting:
            self.take_from_client(data, to)
        self.on_chain_changed()

    @staticmethod
    def _server_of(plan: RulePlan) -> SocketAddress:
        assert isinstance(plan.rule, Publication), "this listener publishes"
        return plan.rule.server

    def _open_server(self) -> None:
        raw = self.server_raw = open_datagrams(self._service, self)
        raw.setsockopt(*_SO_RCVBUF, self._service.limits.udp_socket_buffer_bytes // 4)
        self.server_outlet = DatagramOutlet(raw, is_connected=True)
        self._service.port.backend.await_datagrams(self._operation, raw)

    # -- datagrams of the client ---------------------------------------------------------------

    def on_client_datagram(self, data: bytes, to: SocketAddress | None = None) -> None:
        """Take a datagram that the listener did not pass on itself, for a peer or the server."""
        self.last_active = self._service.port.now
        to = to or self.server_address
        if self.state is not State.ASKED:
            self.take_from_client(data, to)
        elif len(self._awaiting) < self._service.limits.udp_awaiting_max:
            self._awaiting.append((data, to))
        else:
            self.drop("awaiting")

    def take_from_client(self, data: bytes, to: SocketAddress) -> None:
        """Let a datagram of the client go to a peer, if that may be."""
        peer = self._peers.find(to) or self._add_peer(to)
        if peer is not None:
            self._take(Side.CLIENT, peer, data)

    def _take(self, side: Side, peer: GateUdpPeer, data: bytes) -> None:
        if self.is_closing or not has_bytes_left(self, len(data)):
            return
        if peer.state is PeerState.DENIED:
            self.drop("peer-denied")
            return
        if peer.state is PeerState.ASKING:
            if len(peer.awaiting) < self._service.limits.udp_awaiting_max:
                peer.awaiting.append((side, data))
            else:
                self.drop("awaiting")
            return
        peer.last_active = self._service.port.now
        if self._chain is not None and not self._chain.is_empty:
            self._chain.run(side, peer.address, data)
        elif self.plan.must_inspect:
            self.refuse(INSPECT_NEEDS_FILTER)
        else:
            self.send_out(side, peer.address, data)

    # -- peers ---------------------------------------------------------------------------------

    def _add_peer(self, address: SocketAddress) -> GateUdpPeer | None:
        service = self._service
        now = service.port.now
        peer = self._peers.add(address, now)
        if peer is None:
            self._forget_peers(now)
            peer = self._peers.add(address, now)
        if peer is None:
            self.drop("peers-full")
            service.udp.note_limit("udp_peers_max", service.limits.udp_peers_max, self)
            return None
        self.peers_known += 1
        service.wheel.hasten(self, now + service.limits.udp_peer_idle_s)
        if self._is_told_of:
            self._ask_about(peer)
        else:
            peer.state = PeerState.ADMITTED
            self.on_chain_changed()
        return peer

    def _ask_about(self, peer: GateUdpPeer) -> None:
        self._events_open += 1
        peer.is_event_open = True
        dispatch(
            self._service,
            self,
            UdpDestination(self, peer),
            lambda verdict: self._on_peer_verdict(peer, verdict),
        )

    def _on_peer_verdict(self, peer: GateUdpPeer, verdict: EventVerdict) -> None:
        self._events_open -= 1
        peer.is_event_open = False
        if self.is_closing:
            return
        if isinstance(verdict, Deny):
            peer.state = PeerState.DENIED
            peer.reason = verdict.reason
        if peer.is_denied:
            self._service.udp.record_peer_denied(self, peer)
        else:
            peer.state = PeerState.ADMITTED
        waiting, peer.awaiting = peer.awaiting, []
        for side, data in waiting:
            self._take(side, peer, data)
        self.on_chain_changed()

    def _forget_peers(self, now: float) -> None:
        if self.is_plain:
            # Plain datagrams are not noted with their peer, of which there is one.
            for peer in self._known_peers():
                peer.last_active = max(peer.last_active, self.last_active)
        for peer in self._peers.expire(now):
            self.is_plain = False
            if self._chain is not None:
                self._chain.on_peer_gone(peer.address)

    def _known_peers(self) -> list[GateUdpPeer]:
        peer = self._peers.find(self.server_address)
        return [] if peer is None else [peer]

    def on_chain_changed(self) -> None:
        """See whether datagrams may pass without a look from now on."""
        peer = self._peers.find(self.server_address)
        self.is_plain = (
            (self._chain is None or self._chain.is_empty)
            and not (self.plan.must_inspect or self.plan.bytes_max)
            and self.state is State.OPEN
            and peer is not None
            and peer.state is PeerState.ADMITTED
        )

    # -- datagrams of the server ---------------------------------------------------------------

    def _on_server_ready(self, _result: int, flags: int) -> None:
        if not flags & MORE:
            self._finish_close()
            return
        raw = self.server_raw
        if self.is_closing or raw is None:
            return
        backend = self._service.port.backend
        tray = backend.tray
        # Busy sockets have more than one; for the others a single receive costs half as much.
        turn = backend.turns
        is_busy = turn - self._last_turn <= 1
        self._last_turn = turn
        if is_busy:
            count = tray.receive(raw)
            if count > 0:
                self.last_active = self._service.port.now
                start = tray.first * tray.stride + HEADROOM
                for _, _, _, length in tray.heads:
                    self._pass_to_client(tray, start, length)
                    start += tray.stride
            elif count < 0:
                self._on_server_error(-count)
            return
        length = tray.receive_one(raw)
        if length >= 0:
            self.last_active = self._service.port.now
            self._pass_to_client(tray, tray.first * tray.stride + HEADROOM, length)
        elif length != -errno.EAGAIN:
            self._on_server_error(-length)

    def _pass_to_client(self, tray: DatagramTray, start: int, length: int) -> None:
        """Pass a datagram on as it lies in the tray, unless somebody wants to look."""
        if length > tray.bytes_max:
            self._service.udp.on_oversized(self.client_address, self)
            self.drop("oversized")
        elif self.is_plain:
            self.datagrams_to_client += 1
            self.bytes_to_client += length
            tray.pass_on(self.listener.outlet, start, length, self.to_client)
        else:
            self._take_one_from_server(bytes(tray.view[start : start + length]))

    def _take_one_from_server(self, data: bytes) -> None:
        peer = self._peers.find(self.server_address)
        if peer is None:
            # Its peer was forgotten: what comes is unasked for.
            self.drop("unsolicited")
        else:
            self._take(Side.SERVER, peer, data)

    def _on_server_error(self, error: int) -> None:
        """Note an ICMP answer; the server may be back for the next datagram."""
        self.error = error
        self.error_side = Side.SERVER
        self.drop("unreachable")

    def on_send_failed(self, error: int) -> None:
        """Count a datagram that the kernel did not take (``port.tray.SendFailed``)."""
        self.drop("no-room" if error in _NO_ROOM else "unreachable")
        if error not in _NO_ROOM:
            self.error = error

    def send_out(self, side: Side, peer: SocketAddress, data: bytes) -> None:
        """Send what came through all filters."""
        del peer
        outlet = self.server_outlet if side is Side.CLIENT else self.listener.outlet
        target = self.to_server if side is Side.CLIENT else self.to_client
        if outlet is None or self.is_closing:
            return
        if side is Side.CLIENT:
            self.datagrams_to_server += 1
            self.bytes_to_server += len(data)
        else:
            self.datagrams_to_client += 1
            self.bytes_to_client += len(data)
        self._service.port.backend.tray.send(outlet, data, target)

    def drop(self, reason: str) -> None:
        """Count a datagram that is not passed on."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    # -- filterapi.Connection --------------------------------------------------------------------

    @property
    def client_side_address(self) -> SocketAddress:
        """The gate's own address towards the client: where it sent its first datagram."""
        if self._client_side_address is None:
            self._client_side_address = self.listener.local_address(self.to_client.control)
        return self._client_side_address

    def attach_data_filter(
        self,
        data_filter: AnyDataFilter,
        position: Position | None = None,
        context: Any = None,
        *,
        peer: SocketAddress | None = None,
    ) -> None:
        """As ``filterapi.Connection.attach_data_filter``."""
        if not self._events_open or self.is_closing:
            raise BadContext("data filters are attached while an event is being handled")
        if peer is not None and self._peers.find(peer) is None:
            raise BadContext(f"{peer} is not a peer of this connection")
        self._attach(data_filter, position, context, "", peer)

    def _attach(
        self,
        data_filter: AnyDataFilter,
        position: Position | None,
        context: Any,
        name: str,
        peer: SocketAddress | None,
    ) -> None:
        attached = Attached.at(self, data_filter, position, context, name)
        if self._chain is None:
            self._chain = UdpChain(self, self._service)
        self._chain.attach(data_filter, context, attached, peer)
        self.is_plain = False

    def leave(self, data_filter: AnyDataFilter) -> None:
        """As ``filterapi.Connection.leave``."""
        if self.is_closing:
            return
        if self._chain is None:
            raise BadContext("no data filter is attached")
        self._chain.leave(data_filter)

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """As ``filterapi.Connection.refuse``; what is to be told leaves as one datagram each."""
        self._say(to_client, to_server)
        self._end(Outcome.REFUSED, reason)

    def _say(self, to_client: bytes, to_server: bytes) -> None:
        for side, data in ((Side.SERVER, to_client), (Side.CLIENT, to_server)):
            if data:
                self.send_out(side, self.server_address, data)

    def fail(
        self,
        reason: str,
        error: int = 0,
        side: Side = Side.INTERNAL,
        *,
        to_client: bytes = b"",
        to_server: bytes = b"",
    ) -> None:
        """As ``filterapi.Connection.fail``; what is to be told leaves as one datagram each."""
        self._say(to_client, to_server)
        self._end(Outcome.FAILED, reason, error, side)

    def on_filter_failure(self, error: BaseException) -> None:
        """End in the name of the filter that failed."""
        name = error.filter_name if isinstance(error, FilterFailed) else "?"
        if not self.is_closing:
            self._service.on_connection_filter_error(self, name, error)
            self.refuse(f"filter failure: {name}")

    def filter_names(self) -> tuple[str, ...]:
        """Return the names of the data filters that were attached."""
        return self._named if self._chain is None else self._chain.names

    # -- ending --------------------------------------------------------------------------------

    def on_expired(self) -> None:
        """Take the end of the time, the connection's own or a peer's."""
        service = self._service
        now, limits = service.port.clock.monotonic(), service.limits
        deadlines = self.plan.deadlines
        if deadlines and (limit := deadlines.reached_by(self, now)):
            self.end_at(limit)
        elif self.last_active + limits.udp_idle_timeout_s <= now:
            if self.state is State.ASKED:
                self.fail("no verdict", errno.ETIMEDOUT)
            else:
                self._end(Outcome.RELEASED, "idle")
        elif self.started + limits.connection_total_s <= now:
            self.refuse("connection_total_s reached")
        else:
            self._forget_peers(now)
            service.wheel.add(self, max(self.due(), now))

    def end_at(self, limit: LimitExceeded) -> None:
        """End at a limit of its rule."""
        self._service.note_limit(limit, self.client_address, self.id)
        self.refuse(f"limit {limit.limit}")

    def end_replaced(self) -> None:
        """Make room for another connection of the same client."""
        self._end(Outcome.RELEASED, "udp_sessions_max reached")

    @override
    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        service = self._service
        if self.state is State.ASKED:
            service.udp.record_decision(self, "denied", reason)
        self.is_closing, self.is_plain = True, False
        self.state = State.CLOSING
        self.outcome, self.reason = outcome, reason
        self.error, self.error_side = error or self.error, side or self.error_side
        service.wheel.remove(self)
        self._awaiting.clear()
        self._peers.clear()
        if self._chain is not None:
            self._chain.end()
        if self.plan.events:
            tell(service, self, ConnectionTerminating(self))
        service.udp.end_connection(self)
        self._close_server()

    def _close_server(self) -> None:
        if self._operation.in_flight:
            self._service.port.backend.cancel(self._operation)
        else:
            self._finish_close()

    def _finish_close(self) -> None:
        """Close the socket: nothing is in flight on it, and what was passed on has left."""
        if not self.is_closing:
            # The watch for datagrams ended by itself; the port is closing.
            self.fail("port closed", errno.ECANCELED)
            return
        raw, outlet = self.server_raw, self.server_outlet
        if raw is not None and raw.fileno() >= 0:
            if outlet is not None and outlet.entries:
                self._service.port.backend.tray.flush()
            raw.close()
        self._service.port.backend.forget(self._operation)
        self._let_go()

    def _let_go(self) -> None:
        """Be over, and leave no circle for the collector."""
        self.state = State.CLOSED
        self._named, self._chain = self.filter_names(), None
        self._client_side_address = self.client_side_address
        self.to_client = self.to_server = NOBODY


_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
