"""Private sessions: what filters connect to in a client's name, by its rules and on its record.

``service`` makes them for filters and ends them when it stops. The invariant: nothing is dialled
that the listener's rules do not allow that client, judged again right before, and every decision
and every end is recorded.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord
from sluicegate.errors import BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import EntryMode, Outcome, User
from sluicegate.names import CanonicalHost, Destination, HostRefused, Unresolved, canonical_host
from sluicegate.policy import DestinationDecision, DestinationRequest, decide_destination
from sluicegate.port import StreamSocket

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["PrivateSessions"]

_MODE: Final = EntryMode.PRIVATE.value


class PrivateSessions:
    """All private sessions of one service."""

    __slots__ = ("_service", "_sessions")

    def __init__(self, service: FirewallService) -> None:
        self._service = service
        self._sessions: set[_PrivateSession] = set()

    def create(
        self, identifier: str, client: SocketAddress, listener: str, user: User | None
    ) -> _PrivateSession:
        """Make one; the listener's rules are those of the moment at which something is asked."""
        session = _PrivateSession(self._service, identifier, client, listener, user)
        self._sessions.add(session)
        session.on_closed = self._sessions.discard
        return session

    def close(self) -> None:
        """End all of them: the service stops."""
        for session in list(self._sessions):
            session.close()


class _PrivateSession:
    """One; satisfies ``filterapi.PrivateSession``."""

    def __init__(
        self,
        service: FirewallService,
        identifier: str,
        client: SocketAddress,
        listener: str,
        user: User | None,
    ) -> None:
        self.id = identifier
        self.client_address = client.with_port(0)
        self.user = user
        self.on_closed: Callable[[_PrivateSession], None] | None = None
        self._service = service
        self._listener = listener
        self._sockets: set[StreamSocket] = set()
        self._dialling = 0
        self._is_over = False

    def can_reach(self, host: str, port: int) -> bool:
        """As ``filterapi.PrivateSession.can_reach``."""
        try:
            return self._decide(self._host_of(host), port).is_allowed
        except HostRefused:
            return False

    async def connect(
        self, host: str, port: int, *, timeout_s: float | None = None
    ) -> StreamSocket:
        """As ``filterapi.PrivateSession.connect``."""
        if self._is_over:
            raise BadContext("the private session is over")
        bound = self._service.limits.connections_per_client_max
        if len(self._sockets) + self._dialling >= bound:
            raise LimitExceeded("connections_per_client_max", bound)
        identifier = self._service.connection_ids.next()
        target = f"{host}:{port}"
        self._dialling += 1
        try:
            return await self._dial(identifier, target, host, port, timeout_s)
        finally:
            self._dialling -= 1

    def close(self) -> None:
        """As ``filterapi.PrivateSession.close``."""
        self._is_over = True
        for socket in list(self._sockets):
            socket.close(abortive=True)
        if self.on_closed is not None:
            self.on_closed(self)

    # -- private -------------------------------------------------------------------------------

    def _host_of(self, host: str) -> CanonicalHost:
        allowed = self._service.policy.policy.allows_underscores
        return canonical_host(host.encode(), allow_underscore=allowed)

    def _decide(self, host: CanonicalHost, port: int) -> DestinationDecision:
        service = self._service
        return decide_destination(
            service.policy.rules_by_listener.get(self._listener),
            DestinationRequest(self.client_address.ip, host, port, self.user, "tcp"),
            service.entries.is_own_listener,
        )

    async def _dial(
        self, identifier: str, target: str, text: str, port: int, timeout_s: float | None
    ) -> StreamSocket:
        """Decide, look up, judge, dial; whichever ends it is recorded."""
        service = self._service
        try:
            host = self._host_of(text)
        except HostRefused as refused:
            raise self._refused(identifier, target, refused.reason) from refused
        decision = self._decide(host, port)
        rule = "" if decision.rule is None else decision.rule.name
        if not decision.is_allowed:
            raise self._refused(identifier, target, decision.reason, rule)
        found = await service.entries.resolver.resolve(host, port, decision)
        if isinstance(found, Unresolved):
            raise self._refused(identifier, target, str(found.reason), rule, errno.EHOSTUNREACH)
        if self._is_over:
            raise self._refused(identifier, target, "the private session is over", rule)
        self._record(identifier, target, "allowed", decision.reason, rule)
        end = _End(self, identifier, rule, target, service.port.now, service.clock.wall())
        try:
            socket = await self._try_each(found, decision, end, timeout_s)
        except BaseException as error:
            end.record(None, str(error) or "given up")
            raise
        self._sockets.add(socket)
        socket.on_closed = partial(end.record, socket)
        return socket

    async def _try_each(
        self, found: Destination, decision: DestinationDecision, end: _End, timeout_s: float | None
    ) -> StreamSocket:
        """Connect to the first address that takes it, each judged again right before."""
        service = self._service
        failure = TransportError(errno.EACCES, Side.SERVER, f"connect to {end.server}")
        for judged in found.dialable:
            if service.entries.resolver.judge_again(found, decision, judged) is not None:
                continue
            address = judged.socket_address(found.port)
            try:
                socket = await service.port.connect(address, timeout_s=timeout_s)
            except TransportError as error:
                failure = error
                continue
            if self._is_over:
                socket.close(abortive=True)
                raise BadContext("the private session is over")
            end.server = str(address)
            return socket
        raise failure

    def _refused(
        self, identifier: str, target: str, reason: str, rule: str = "", error: int = errno.EACCES
    ) -> TransportError:
        """Record a refusal, and return what is raised for it."""
        self._service.denied += 1
        self._record(identifier, target, "denied", reason, rule)
        return TransportError(error, Side.SERVER, f"connect to {target}: {reason}")

    def _record(self, identifier: str, target: str, verdict: str, reason: str, rule: str) -> None:
        service = self._service
        record = DecisionRecord(
            time=service.clock.wall(),
            connection=identifier,
            session=self.id,
            client=str(self.client_address),
            listener=self._listener,
            verdict="allowed" if verdict == "allowed" else "denied",
            reason=reason,
            policy=service.policy.hash,
            rule=rule,
            target=target,
            entry=_MODE,
            user=self.user.name if self.user is not None else "",
        )
        if verdict == "allowed":
            service.allowed += 1
        service.recorder.write(record)

    def write_end(self, record: ConnectionRecord, socket: StreamSocket | None) -> None:
        """Record a connection's end."""
        if socket is not None:
            self._sockets.discard(socket)
        self._service.recorder.write(record)

    def new_end(self, end: _End, failure: str) -> ConnectionRecord:
        """Return a record of an end, with what the session knows."""
        service = self._service
        record = ConnectionRecord(
            time=service.clock.wall(),
            connection=end.connection,
            session=self.id,
            client=str(self.client_address),
            listener=self._listener,
            rule=end.rule,
            server=end.server,
            started=end.wall,
            duration_s=service.port.now - end.began,
            outcome=Outcome.FAILED.value if failure else "released",
            reason=failure,
        )
        record.entry = _MODE
        if self.user is not None:
            record.user = self.user.name
        return record


class _End:
    """What is recorded when a connection ends."""

    __slots__ = ("_session", "began", "connection", "rule", "server", "wall")

    def __init__(
        self,
        session: _PrivateSession,
        connection: str,
        rule: str,
        server: str,
        began: float,
        wall: float,
    ) -> None:
        self._session = session
        self.connection = connection
        self.rule = rule
        self.server = server
        self.began = began
        self.wall = wall

    def record(self, socket: StreamSocket | None, failure: str = "") -> None:
        """Record it, with what went through the socket."""
        if socket is not None and socket.was_aborted:
            failure = "aborted by a filter"
        record = self._session.new_end(self, failure)
        if socket is not None:
            record.bytes_to_server = socket.bytes_sent
            record.bytes_to_client = socket.bytes_received
        self._session.write_end(record, socket)
