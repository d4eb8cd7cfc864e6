"""SOCKS BIND: a client has the gate listen, and gets what the announced peer connects.

``entry`` begins one for a request that a rule with the protocol ``bind`` allows. The client is
answered twice: when the gate listens, and when the peer has come (RFC 1928 section 4, SOCKS 4
alike). The invariant: only the peer that the client announced and policy allowed gets in, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import LimitExceeded, Side, TransportError
from sluicegate.filterapi import CallbackDataFilter, ConnectionAccepted, DataFilter, Emulate
from sluicegate.names import Destination, Unresolved
from sluicegate.port.backend import RawSocket

from .binds import begin_bind
from .connection import GateConnection
from .dispatch import dispatch
from .emulation import begin_emulation
from .entry_answers import EntryAnswer
from .entry_connection import EntryConnection
from .secondary import ExpectedConnection, listen_for

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["BindConnection"]


class BindConnection(EntryConnection):
    """One client that waits for a peer, and then their connection."""

    __slots__ = ("_expected_peer",)

    entry_protocol: ClassVar[str] = "bind"
    _expected_peer: _ExpectedPeer | None

    @override
    def _on_resolved(self, found: Destination | Unresolved) -> None:
        """Bind for the peers that were found, instead of dialling them."""
        self._expected_peer = None
        if isinstance(found, Unresolved):
            super()._on_resolved(found)
            return
        if self.is_closing:
            return
        first = found.dialable[0].socket_address(found.port)
        self.server_address = first
        here = self.client_side_address
        if here.family != first.family:
            self.fail("the gate has no address of the peer's family where the client came")
            return
        peers = AddressFilter.only(*(str(one.judgement.address) for one in found.dialable))
        try:
            self.session.check_room()
            expected = _ExpectedPeer(self._service, self, first, peers)
            self.session.expect(expected)
            state = begin_bind(
                self._service,
                expected,
                here.with_port(0),
                lambda: listen_for(self._service, here, None),
                is_secondary=False,
            )
        except LimitExceeded as error:
            self._answer = EntryAnswer.GATE_BUSY
            self.on_limit(error)
        except TransportError as error:
            self.on_transport_error(Side.INTERNAL, error.error, "listen")
        else:
            state.on_denied = self._on_denied
            if state.denial:
                self._on_denied(state.denial)

    def _on_denied(self, reason: str) -> None:
        self._answer = EntryAnswer.NOT_ALLOWED
        self.refuse(reason)

    def on_listening(self, expected: _ExpectedPeer) -> None:
        """Give the first answer: where the peer is to connect."""
        handshake = self._handshake
        if handshake is not None and not self.is_closing:
            self._expected_peer = expected
            answer = handshake.dialogue.encode_answer(EntryAnswer.GRANTED, expected.address)
            handshake.send(answer, expected.on_answered)

    def on_peer(self, raw: RawSocket | None, remote: SocketAddress, local: SocketAddress) -> None:
        """Take the peer that came, or that a filter plays: ask the filters about it."""
        service = self._service
        self._server_raw = raw
        self.server_address = remote
        self._dial_began = self.port.now
        service.wheel.add(self, self.port.now + service.limits.connect_timeout_s)
        self.is_asking = True
        event = ConnectionAccepted(self, remote, local=local, is_secondary=False)
        dispatch(service, self, event, self._on_verdict)

    def on_nobody(self) -> None:
        """Take that the time for the peer is over, or that the bind was cancelled."""
        if not self.is_closing:
            self._answer = EntryAnswer.SERVER_TIMED_OUT
            self.fail("the announced peer did not come")

    @override
    def _come_up(self) -> None:
        """Give the second answer: who came."""
        handshake = self._handshake
        assert handshake is not None, "the client waits for its second answer"
        answer = handshake.dialogue.encode_answer(EntryAnswer.GRANTED, self.server_address)
        go_on = self._open_emulated if self.is_emulated else self._join_server
        handshake.send(answer, go_on)


class _ExpectedPeer(ExpectedConnection):
    """The peer of one bind: it becomes the server side of the client's own connection."""

    def __init__(
        self,
        service: FirewallService,
        client: BindConnection,
        target: SocketAddress,
        peers: AddressFilter,
    ) -> None:
        self._client = client
        self._has_peer = False
        super().__init__(
            service,
            client,
            None,
            dialled_side=Side.CLIENT,
            target=target.with_port(target.port or 1),
            peers=peers,
            told=(None, None),
        )

    @override
    def begin_accepting(self) -> None:
        """Answer the client first: nobody gets in before it knows."""
        self._client.on_listening(self)

    def on_answered(self) -> None:
        """Let the peer in: the client knows where it is to connect."""
        super().begin_accepting()

    @override
    def cancel(self) -> None:
        """As every expectation; without a peer the client is told so."""
        was_pending, bind = self.is_pending, self.bind
        super().cancel()
        # Of a denial, or a bind that failed, the client is told by who found out.
        is_told = bind is None or bind.is_asking or bind.denial
        if was_pending and not self._has_peer and not is_told:
            self._client.on_nobody()

    @override
    def take_peer(self, raw: RawSocket) -> None:
        """Go on with the client's own connection."""
        self._has_peer = True
        self.cancel()
        self._client.on_peer(raw, self.remote, self.address)

    @override
    def emulate_connection(
        self,
        data_filter: DataFilter | CallbackDataFilter,
        remote: SocketAddress,
        local: SocketAddress | None = None,
        context: Any = None,
    ) -> GateConnection:
        """As ``filterapi.Bind.emulate_connection``: the client's own connection comes up."""
        self.check_emulated()
        self._has_peer = True
        self.cancel()
        begin_emulation(self._client, Emulate(data_filter, context))
        self._client.on_peer(None, remote, local or self.address)
        return self._client
