"""AssociatedConnection: what an association's client sends and hears under one rule.

``udp_association`` brings the client's datagrams for judged destinations; the connection's own
sockets, one per address family, bring what the peers answer. The invariant: it sends to peers that
its association was allowed, and passes on nothing from anybody else; the client hears each peer
under the peer's own address (RFC 1928, section 7).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.address import NOWHERE, SocketAddress
from sluicegate.errors import BadContext, Side, TransportError
from sluicegate.filterapi import Outcome
from sluicegate.port.backend import MORE, Operation, RawSocket, Source
from sluicegate.port.tray import HEADROOM, DatagramOutlet, DatagramTarget
from sluicegate.protocols.socks_udp import encode_socks_udp_header

from .network_source import datagram_source
from .readmission import reason_of
from .udp_connection import UdpConnection
from .udp_peers import PeerState

if TYPE_CHECKING:
    from .registry import RulePlan
    from .service import FirewallService
    from .udp_association import UdpAssociation

__all__ = ["AssociatedConnection"]

_SO_RCVBUF: Final = (socket.SOL_SOCKET, socket.SO_RCVBUF)


class AssociatedConnection(UdpConnection):
    """The UDP connection of one association and one rule."""

    __slots__ = ("_sockets", "_targets", "asked", "association", "found")

    def __init__(
        self,
        service: FirewallService,
        association: UdpAssociation,
        plan: RulePlan,
        asked: str,
        address: SocketAddress | None,
        found: tuple[str, ...],
    ) -> None:
        """Make one; ``begin`` starts it.

        Args:
            service: The gate.
            association: Whose client's datagrams it carries.
            plan: What runs for it.
            asked: What the client asked for first.
            address: Where that is, if it is known yet.
            found: The addresses of the name that it asked for.
        """
        name = association.client_name
        session, flood = association.session, association.flood
        super().__init__(service, session, plan, association, name, len(name), flood=flood)
        self.association = association
        self.key = plan.rule.name.encode()
        self.entry_mode = association.entry_mode
        self.asked, self.found = asked, found
        if address is not None:
            self.server_address = address
        self._sockets: dict[Source | int, _PeerSocket] = {}
        #: By what peers see (a family: what the system chooses); made when one is sent to.
        self._targets: dict[SocketAddress, DatagramTarget] = {}

    @staticmethod
    @override
    def _server_of(plan: RulePlan) -> SocketAddress:
        del plan
        return NOWHERE

    @override
    def _open_server(self) -> None:
        """Open nothing yet: which family is needed is known with the first peer."""

    # -- datagrams -----------------------------------------------------------------------------

    @override
    def on_client_datagram(self, data: bytes, to: SocketAddress | None = None) -> None:
        """Take a datagram for a judged destination."""
        if to is not None and self.server_address is NOWHERE:
            self.server_address = to
        super().on_client_datagram(data, to)

    @override
    def on_chain_changed(self) -> None:
        """Stay with the look at every datagram: each has a header to be taken off or put on."""

    def on_peers_ready(self, source: _PeerSocket) -> None:
        """Take what peers have answered."""
        tray = self._service.port.backend.tray
        if self.is_closing or tray.receive(source.raw) <= 0:
            return
        is_heard = False
        start, index = tray.first * tray.stride + HEADROOM, tray.first
        for name_size, _, _, length in tray.heads:
            sender = tray.address_of(index, name_size)
            peer = self._peers.find(sender)
            if peer is None:
                self.drop("unsolicited")
            elif length > tray.bytes_max:
                self._service.udp.on_oversized(self.client_address, self)
                self.drop("oversized")
            else:
                is_heard = True
                self._take(Side.SERVER, peer, bytes(tray.view[start : start + length]))
            index += 1
            start += tray.stride
        if is_heard:
            self.last_active = self._service.port.now

    @override
    def send_out(self, side: Side, peer: SocketAddress, data: bytes) -> None:
        """Send what came through all filters."""
        if self.is_closing:
            return
        tray = self._service.port.backend.tray
        if side is Side.SERVER:
            self.datagrams_to_client += 1
            self.bytes_to_client += len(data)
            framed = encode_socks_udp_header(peer) + data
            tray.send(self.association.outlet, framed, self.to_client)
            return
        known = self._peers.find(peer)
        if known is None or known.state is not PeerState.ADMITTED:
            # A filter names the peer of what it sends; no rule has judged this one.
            self.drop("peer-unknown")
            return
        try:
            outlet = self._socket_of(peer).outlet
        except TransportError as error:
            self.on_send_failed(error.error)
            return
        self.datagrams_to_server += 1
        self.bytes_to_server += len(data)
        tray.send(outlet, data, self._target_of(peer))

    def _socket_of(self, peer: SocketAddress) -> _PeerSocket:
        relations = self._service.policy.network_relations
        source = datagram_source(relations, self.client_address, peer)
        key = source or peer.family
        found = self._sockets.get(key)
        if found is None:
            found = self._sockets[key] = _PeerSocket(self, self._service, peer.family, source)
        return found

    def _target_of(self, peer: SocketAddress) -> DatagramTarget:
        target = self._targets.get(peer)
        if target is None:
            if len(self._targets) >= self._service.limits.udp_peers_max:
                self._targets.clear()
            target = self._targets[peer] = DatagramTarget(self, peer)
        return target

    @property
    @override
    def allowed_by(self) -> str:
        """Why it is let in: a rule allows it, or it passes to be learned from."""
        return reason_of(self.plan)

    # -- policy --------------------------------------------------------------------------------

    def keep_peers(self, addresses: set[SocketAddress]) -> None:
        """Hear and send to nobody but these: policy refuses the others now."""
        for peer in self._peers.keep(addresses):
            if self._chain is not None:
                self._chain.on_peer_gone(peer.address)

    def go_on_by(self, plan: RulePlan) -> None:
        """Go on in the name of another rule, which runs the same."""
        self.plan = plan
        self.key = plan.rule.name.encode()

    # -- ending --------------------------------------------------------------------------------

    def supersede(self) -> None:
        """End: other filters, or other settings of them, stand in the rule that it came by."""
        self._end(Outcome.RELEASED, "rule changed")

    def end_with(self, outcome: Outcome, reason: str) -> None:
        """End with its association."""
        self._end(outcome, reason)

    @override
    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if not self.is_closing:
            super()._end(outcome, reason, error, side)
            self.association.on_connection_ended(self)

    @override
    def _close_server(self) -> None:
        for one in self._sockets.values():
            one.close()
        self.on_socket_closed()

    def on_socket_closed(self) -> None:
        """Note that a socket is closed; with the last one it is over."""
        if all(one.raw.fileno() < 0 for one in self._sockets.values()):
            self._let_go()
            self._sockets.clear()
            self._targets.clear()

    # -- asking --------------------------------------------------------------------------------

    @property
    @override
    def primary_id(self) -> str:
        """The association that it belongs to."""
        return self.association.id

    @property
    @override
    def server_side_address(self) -> SocketAddress:
        """The gate's own address towards the peers; its host is any of the gate's.

        Raises:
            BadContext: Nothing was sent yet.
        """
        for one in self._sockets.values():
            if one.raw.fileno() >= 0:
                return SocketAddress.from_kernel(one.raw.getsockname())
        raise BadContext("the server side is not open")


class _PeerSocket:
    """A socket towards the peers that see one source."""

    __slots__ = ("_connection", "_operation", "_service", "outlet", "raw")

    def __init__(
        self,
        connection: AssociatedConnection,
        service: FirewallService,
        family: int,
        source: Source | None,
    ) -> None:
        self._connection = connection
        self._service = service
        self._operation = Operation(self._on_ready)
        anywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - the kernel chooses by the way to each peer
        self.raw: RawSocket = service.port.create_datagram_raw(
            bind=SocketAddress(anywhere, 0) if source is None else None, source=source
        )
        self.raw.setsockopt(*_SO_RCVBUF, service.limits.udp_socket_buffer_bytes // 4)
        self.outlet = DatagramOutlet(self.raw)
        service.port.backend.await_datagrams(self._operation, self.raw)

    def _on_ready(self, _result: int, flags: int) -> None:
        if flags & MORE:
            self._connection.on_peers_ready(self)
            return
        if not self._connection.is_closing:
            # The watch for datagrams ended by itself; the port is closing.
            self._connection.end_with(Outcome.FAILED, "port closed")
        self._finish_close()

    def close(self) -> None:
        """Close, once nothing is in flight on it."""
        if self._operation.in_flight:
            self._service.port.backend.cancel(self._operation)
        else:
            self._finish_close()

    def _finish_close(self) -> None:
        if self.raw.fileno() >= 0:
            if self.outlet.entries:
                self._service.port.backend.tray.flush()
            self.raw.close()
            self._service.port.backend.forget(self._operation)
        self._connection.on_socket_closed()
