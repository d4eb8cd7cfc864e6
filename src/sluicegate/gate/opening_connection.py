"""OpeningConnection: a connection of a proxy listener whose TLS its rule may want opened.

``entry`` makes one in the place of an ``EntryConnection`` where the rule says so. Until its client
was told that its tunnel is there it is one; then ``opener`` brings TLS up on both sides, and what
is inside goes on as a web connection of the same name, or here, as a tunnel of plaintext. The
invariant: each socket has one owner at any time, and all of them end with the connection.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.errors import LimitExceeded, Side
from sluicegate.names import JudgedAddress, LookupReason
from sluicegate.names.eyeballs import interleave
from sluicegate.policy.tls_opening import OpeningReason, TlsMode
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.given_away import GivenAway
from sluicegate.port.layer import driver_of

from .dial_queue import NO_DESCRIPTOR
from .dial_race import DialRace
from .opener import Opener
from .parent_dial import ParentDial
from .read_connection import ReadConnection, may_read_clear
from .readmission import Readmission
from .stages import INSPECT_NEEDS_FILTER
from .state import State
from .web.parent_proxy import find_parent
from .web.shared_servers import shared_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluicegate.address import SocketAddress
    from sluicegate.names import CanonicalHost, Destination
    from sluicegate.policy.tls_check import TlsCheck
    from sluicegate.port.account import Kept
    from sluicegate.tls import ServerProof, ServerStream, TlsStream
    from sluicegate.tls.engine import EngineSource

    from .clear_reading import ClearReading
    from .entry_handshake import EntryHandshake
    from .opened_tls import OpenedTls
    from .registry import RulePlan
    from .service import FirewallService
    from .session import GateSession
    from .web.origin_pool import PoolKey
    from .web.parent_proxy import ParentProxy

__all__ = ["OpeningConnection", "may_open"]


def may_open(plan: RulePlan, port: int) -> bool:
    """Tell whether a rule wants TLS on a port opened, or servers verified, but for some hosts."""
    check = plan.tls
    return check is not None and check.covers(port) and check.opening.mode is not TlsMode.SPLICE


class OpeningConnection(ReadConnection):
    """One connection that is to be opened."""

    __slots__ = (
        "_anew",
        "_known_check",
        "_late_server_op",
        "_opener",
        "_parent_address",
        "_waited",
        "opened",
        "server_given",
    )

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        handshake: EntryHandshake,
        host: CanonicalHost,
        target_port: int,
        *,
        asked: str = "",
    ) -> None:
        super().__init__(service, session, plan, handshake, host, target_port, asked=asked)
        self.opened: OpenedTls | None = None
        self.server_given: GivenAway | None = None
        #: The server's socket as it was left when both sides were opened.
        self._opener: Opener | None = None
        #: While TLS is being brought up.
        self._anew: DialRace | ParentDial | None = None
        #: A second dial of the same server, or the way there through a parent.
        self._known_check: TlsCheck | None = None
        #: By which its mode was found to be what it was.
        self._parent_address: SocketAddress | None = None
        #: The parent that leads to its server.
        self._late_server_op: Operation | None = None
        self._waited: tuple[PoolKey | None, ServerProof] | None = None
        #: By what its tunnel was granted, where a server waited: as what, and who that was.

    @property
    def opener(self) -> Opener:
        """What brings its TLS up."""
        opener = self._opener
        assert opener is not None, "its TLS is being brought up"
        return opener

    # -- policy ----------------------------------------------------------------------------------

    def mode_for(self, host: CanonicalHost) -> TlsMode:
        """Return what the rule by which it goes on wants of the TLS with a host."""
        check = self.plan.tls
        return TlsMode.SPLICE if check is None else check.mode_for(host, self.target_port)

    def find_mode(self, host: CanonicalHost) -> TlsMode:
        """As ``mode_for``, when it begins: as long as the rule wants the same, the mode is that."""
        self._known_check = self.plan.tls
        return self.mode_for(host)

    def is_still_opened(self) -> bool:
        """Tell whether it is to go on as it began; False: another policy has ended it."""
        if not self._is_still_admitted():
            return False
        opened, check = self.opened, self.plan.tls
        if opened is None:
            if may_open(self.plan, self.target_port):
                return True
        elif check is not None and check is self._known_check:
            return True  # nothing that the mode depends on has changed
        elif self.mode_for(opened.host) is opened.mode:
            self._known_check = check
            return True
        self.refuse(OpeningReason.MODE_CHANGED)
        return False

    @override
    def judge_anew(self) -> Readmission:
        found, opened = super().judge_anew(), self.opened
        if found.plan is None or opened is None or self._opener is not None:
            return found
        check = found.plan.tls
        mode = TlsMode.SPLICE
        if check is not None:
            mode = check.mode_for(opened.host, self.target_port)
        return found if mode is opened.mode else Readmission(None, OpeningReason.MODE_CHANGED)

    @override
    def take_server_given(self) -> GivenAway | None:
        given, self.server_given = self.server_given, None
        return given

    @property
    @override
    def is_opened(self) -> bool:
        """Whether what passes is what was inside TLS."""
        return self.opened is not None and self.opened.leaf is not None

    @property
    def _is_excepted(self) -> bool:
        """Whether its TLS passes because the rule, which opens others, says so of this one.

        Filters of messages see nothing of it, and whoever wrote the exception has said that.
        """
        check = self.plan.tls
        is_passed_on = self.opened is not None and not self.is_opened
        return is_passed_on and check is not None and check.opening.mode is TlsMode.INSPECT

    def _tunnel_objection(self) -> str:
        """Say why no bytes may pass that are no requests; empty if they may."""
        decision = self._decision
        if self.plan.blocked or not self._is_excepted:
            objection = self.plan.bytes_blocked
            if objection:
                return objection
        if decision is not None and decision.asks_again:
            return OpeningReason.UNJUDGED
        if self.plan.must_inspect and not self.has_attached:
            return INSPECT_NEEDS_FILTER
        return ""

    # -- a server that waits -------------------------------------------------------------------

    @override
    def _dial(self, side: Side) -> None:
        if side is Side.SERVER and (self._is_served_already() or self._is_led_by_parent()):
            return
        super()._dial(side)

    @override
    def _dial_destination(self, destination: Destination) -> None:
        if len(destination.dialable) > 1 and (
            self._is_served_already() or self._is_led_by_parent()
        ):
            return
        super()._dial_destination(destination)

    def _is_served_already(self) -> bool:
        """Go on without a dial, where a connection to the server waits that it may use."""
        if self._handshake is None or self.mode_for(self.host) is not TlsMode.INSPECT:
            return False
        found = self._find_server(self.host, None)
        if found is None:
            return False
        if not self._is_still_admitted():
            return True
        proof, self.server_address = found
        self._waited = shared_key(self, self.host), proof
        self._grant(Side.SERVER, self._join_server)
        return True

    # -- a parent ------------------------------------------------------------------------------

    @property
    def dialled_address(self) -> SocketAddress:
        """Where its server, or the parent that leads to it, was dialled."""
        return self._parent_address or self.server_address

    def _find_parent(self) -> ParentProxy | None:
        """Return who leads to its server; None: nobody, as where it is not to be opened."""
        if self.mode_for(self.host) is not TlsMode.INSPECT:
            return None
        return find_parent(self._service.web.parents, self.host)

    def _is_led_by_parent(self) -> bool:
        """Go through a parent, where one serves the host; what was found for it is judged first."""
        parent, destination = self._find_parent(), self._destination
        if parent is None or destination is None:
            return False
        if not self._is_still_admitted():
            return True
        if all(self._judge_again(one) is not None for one in destination.dialable):
            self.refuse(f"{LookupReason.ADDRESS_DENIED}: refused at the dial")
            return True
        self.state = State.DIALLING
        self._dialled_side = Side.SERVER
        self._dial_began = now = self.port.now
        self._service.wheel.add(self, now + self._service.limits.connect_timeout_s)
        self._dial_by(parent, lambda: self._on_connected(0, 0))
        return True

    def _dial_by(self, parent: ParentProxy, then: Callable[[], None]) -> None:
        def on_over(raw: RawSocket | None, reason: str, error: int) -> None:
            self._anew = None
            if raw is not None:
                self._server_raw = raw
                then()
            elif reason:
                self.fail(reason, side=Side.SERVER)
            elif not self._waits_for_descriptor(error):
                self._on_anew_failed(error)

        self._parent_address = parent.address
        self._anew = dial = ParentDial(self._service, parent, self.host, self.target_port, on_over)
        dial.start(self._prepare_dial if self._service.policy.network_relations.rules else None)

    def _waits_for_descriptor(self, error: int) -> bool:
        """Wait for a descriptor, where there was none for the first dial."""
        service = self._service
        return (
            error in NO_DESCRIPTOR
            and self._handshake is not None
            and service.dials.add(self, service.connection_count)
        )

    # -- a server that is there already ----------------------------------------------------------

    def find_proof(self, host: CanonicalHost, protocols: tuple[str, ...]) -> ServerProof | None:
        """Return who its server is, by a connection that waits there; None: it is to be dialled.

        One that waited when the client was told that its tunnel is there has proved it, too.

        Args:
            host: Who it has to be.
            protocols: What it is to be offered by ALPN.
        """
        if self._server_raw is not None:
            return None
        found = self._find_server(host, protocols)
        if found is None:
            return self._waited_proof(host, protocols)
        proof, self.server_address = found
        return proof

    def _waited_proof(self, host: CanonicalHost, protocols: tuple[str, ...]) -> ServerProof | None:
        """Return who the server was by which the tunnel was granted, if it may have gone since.

        Its first request meets a new connection, verified as ever; where none comes about, it can
        be told in a page.
        """
        waited = self._waited
        if waited is None or self._epoch != self._service.entries.known.epoch:
            return None
        key, proof = waited
        is_same = key is not None and key == shared_key(self, host) and proof.offered == protocols
        return proof if is_same and self.port.wall < proof.good_until else None

    def _find_server(
        self, host: CanonicalHost, protocols: tuple[str, ...] | None
    ) -> tuple[ServerProof, SocketAddress] | None:
        found, epoch = self._destination, self._service.entries.known.epoch
        if host.address is not None or found is None or self._epoch != epoch:
            return None  # what was judged is to be judged again
        key = shared_key(self, host)
        if key is None:
            return None
        return self._service.web.pool.find_proof(key, protocols, self._is_let)

    def _is_let(self, address: SocketAddress) -> bool:
        """Whether the decision on it allows an address."""
        known = self.server_address
        if address is known or address == known:
            return True  # the usual case: what was found for the last client, and for this one
        destination = self._destination
        assert destination is not None, "it was judged"
        return address.port == destination.port and any(
            one.denial is None and one.judgement.address == address.ip
            for one in destination.dialable
        )

    @property
    def has_server(self) -> bool:
        """Whether it has a connection to the server of its own."""
        return self._server_raw is not None

    # -- coming up -------------------------------------------------------------------------------

    @override
    def _join_server(self) -> None:
        """Begin with the client's hello: the client has been told that the tunnel is there."""
        if not self._take_client_over():
            return
        now = self.last_active = self.port.now
        self.connect_s = self._service.records.steps.dialled(self.id, now - self._dial_began)
        self._opener = opener = Opener(self)
        opener.begin()

    def keep_ahead(self, data: bytes) -> deque[Kept]:
        """Put what was read on the account of whoever reads on.

        Raises:
            LimitExceeded: There is no room.
        """
        return deque([self.blockage.keep_bytes(self.session, data)]) if data else deque()

    def take_server(self) -> RawSocket:
        """Give the server's socket away, for TLS with it."""
        raw, self._server_raw = self._server_raw, None
        assert raw is not None, "it was dialled"
        return raw

    @property
    def server_raw(self) -> RawSocket:
        """The server's socket, which stays this connection's."""
        raw = self._server_raw
        assert raw is not None, "the server was met"
        return raw

    def take_server_stream(self, stream: ServerStream) -> None:
        """Take the server back, inside TLS."""
        self._server_raw = stream.socket

    def meet_client(
        self, source: EngineSource, held: bytes, failed: Callable[[int], None]
    ) -> TlsStream:
        """Begin TLS with the client, from the bytes that were held.

        Args:
            source: What the client is shown.
            held: Everything that it has sent.
            failed: Told, with an errno or 0, when there will be nothing inside.
        """
        given, self.client_given = self.client_given, None
        assert given is not None, "the client was taken over"
        stream = self._service.entries.tls.accept(given.raw, source, given.receive_op)
        stream.adopt(held, has_ended=given.ended)
        self._client_raw = stream.socket

        def on_received(result: int, flags: int) -> None:
            del flags
            if not self.is_closing:
                failed(max(-result, 0))
            else:
                self.join()

        operation = self.port.operations.take(on_received)
        self.client_given = GivenAway(
            stream.socket, operation, deque(), ended=False, error=0, shut=False
        )
        stream.receive(operation, stream.socket)
        return stream

    def dial_anew(self, then: Callable[[], None]) -> None:
        """Dial the same address once more; the connection before was for the gate alone."""
        raw, self._server_raw = self._server_raw, None
        if raw is not None:
            driver_of(raw, self.port.backend).abort(raw)
        address = self.server_address
        classifier = self._service.entries.resolver.classifier
        judged = self._judged_address(address) or JudgedAddress(classifier.classify(address.ip))
        self._race_anew([judged], address.port, then)

    def dial_at_last(self, then: Callable[[], None]) -> None:
        """Dial what was judged: there was a server that needed no dial, and there is none now."""
        destination = self._destination
        assert destination is not None, "it was judged"
        self._race_anew(interleave(destination.dialable), destination.port, then)

    def _race_anew(
        self, addresses: list[JudgedAddress], port: int, then: Callable[[], None]
    ) -> None:
        parent = self._find_parent()
        if parent is not None:
            self._dial_by(parent, then)
            return

        def on_over(raw: RawSocket | None, address: SocketAddress, error: int) -> None:
            self._anew = None
            self.server_address = address
            if raw is None:
                self._on_anew_failed(error)
            else:
                self._server_raw = raw
                then()

        self._anew = DialRace(
            self.port,
            addresses,
            port,
            self._judge_again,
            on_over,
            self._prepare_dial if self._service.policy.network_relations.rules else None,
        )
        self._anew.start()

    def _judged_address(self, address: SocketAddress) -> JudgedAddress | None:
        destination = self._destination
        found = () if destination is None else destination.dialable
        return next((one for one in found if one.judgement.address == address.ip), None)

    def _on_anew_failed(self, error: int) -> None:
        if error == errno.EACCES:
            self.refuse(f"{LookupReason.ADDRESS_DENIED}: refused at the dial")
        else:
            self.on_transport_error(Side.SERVER, error, "connect")

    # -- going on --------------------------------------------------------------------------------

    def pass_on(self, held: bytes) -> None:
        """Go on as a connection that is not opened, from its first byte."""
        self._opener = None
        given = self.client_given
        assert given is not None, "the client's TLS has not begun"
        objection = self._tunnel_objection()
        if objection:
            self.refuse(objection)
            return
        try:
            given.ahead = self.keep_ahead(held)
        except LimitExceeded as error:
            self.on_limit(error)
            return
        self._open_both()

    def go_on_without_tls(self, held: bytes) -> None:
        """Go on with a client that speaks no TLS, which the rule allows: as HTTP, or as it is."""
        if not (self._tunnel_objection() and may_read_clear(self.plan, self.target_port)):
            self.pass_on(held)
            return
        self._opener = None
        raw, self._server_raw = self._server_raw, None
        if raw is not None:
            driver_of(raw, self.port.backend).abort(raw)  # each request finds its own
        self.read_in_clear(held)

    def open_tunnel(self, client: bytes) -> None:
        """Go on as a tunnel of what is inside, which begins with what the client has sent."""
        self._opener = None
        given = self.client_given
        assert given is not None, "the client was met"
        objection = self._tunnel_objection()
        if objection:
            self.refuse(objection)
            return
        try:
            given.ahead = self.keep_ahead(client)
        except LimitExceeded as error:
            self.on_limit(error)
            return
        self._open_both()

    def give_all(self) -> tuple[GivenAway, GivenAway | None]:
        """Give its sockets to another connection of the same name, which this one is no longer."""
        server, self.server_given = self.server_given, None
        self._server_raw = None
        self._opener = None
        return self.give_client(), server

    # -- the end ---------------------------------------------------------------------------------

    @override
    def close(self, *, abortive: bool) -> None:
        if self.is_closing:
            return
        opener, self._opener = self._opener, None
        if opener is not None:
            opener.stop()
        anew, self._anew = self._anew, None
        if anew is not None:
            anew.stop()
        super().close(abortive=abortive)

    @override
    def _drop_given(self) -> None:
        super()._drop_given()
        given, self.server_given = self.server_given, None
        if given is None:
            return
        for waiting in given.ahead:
            self.blockage.give_up(self.session, waiting[0])
            waiting[0].release()
        self._late_server_op = given.receive_op
        driver = driver_of(given.raw, self.port.backend)
        pool = driver.pool

        def on_late(result: int, flags: int) -> None:
            if result > 0 and flags & BUFFER:
                pool.give_back(pool.slots[flags >> SLOT_SHIFT])
            if not flags & MORE:
                self.join()

        self.port.backend.redirect(given.receive_op, on_late)
        driver.cancel(given.receive_op)

    @override
    def join(self) -> None:
        late = self._late_server_op
        if late is None or not late.in_flight:
            super().join()

    @override
    def _finish(self) -> None:
        self._late_server_op = None
        super()._finish()

    # -- deadlines -------------------------------------------------------------------------------

    @property
    @override
    def _step(self) -> Opener | ClearReading | None:
        return self._reading if self._opener is None else self._opener
