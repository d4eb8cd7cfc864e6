"""ClientDialler: what filters connect in a client's name, by its rules and on its record.

Sessions and private sessions have one each; network sockets connect and accept through it. The
invariant: nothing is dialled or let in that the rules do not allow that client, judged again right
before, and every decision and every end is recorded.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord
from sluicegate.errors import BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import EntryMode, User
from sluicegate.names import CanonicalHost, Destination, HostRefused, Unresolved, canonical_host
from sluicegate.policy import DestinationDecision
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.port import Listener, StreamSocket

from .asker import Asker
from .network_source import NoSource, find_source, is_unrelated
from .readmission import Readmission
from .registry import RulePlan
from .state import State

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["ClientDialler"]

_MODE: Final = EntryMode.PRIVATE.value
_NO_LISTENER: Final = ""


class ClientDialler:
    """Connects as one client; ends with its session."""

    __slots__ = (
        "_client_address",
        "_dialling",
        "_elsewhere",
        "_is_over",
        "_listeners",
        "_listening",
        "_rules_user",
        "_service",
        "_session",
        "_user",
        "ends",
    )

    def __init__(
        self,
        service: FirewallService,
        session: str,
        client: SocketAddress,
        user: User | None,
        listeners: Callable[[], Iterable[str]],
        *,
        rules_user: Callable[[], User | None],
        elsewhere: Callable[[], int] = lambda: 0,
    ) -> None:
        """Prepare.

        Args:
            service: The gate.
            session: The identifier in records.
            client: In whose name.
            user: Who, for records.
            listeners: Whose rules count: the first that allows something decides.
            rules_user: The same user, as rules see it at the moment.
            elsewhere: Connections that the client has beside these.
        """
        self._service = service
        self._session = session
        self._client_address = client.with_port(0)
        self._user = user
        self._rules_user = rules_user
        self._listeners = listeners
        self._elsewhere = elsewhere
        self.ends: dict[_End, StreamSocket] = {}
        #: What is connected.
        self._listening: set[Listener] = set()
        self._dialling = 0
        self._is_over = False

    @property
    def is_busy(self) -> bool:
        """Whether it has a connection, or waits for one."""
        return bool(self.ends or self._listening or self._dialling)

    def can_reach(self, host: str, port: int) -> bool:
        """Tell whether the rules let the client reach a host; nothing is looked up or recorded."""
        try:
            name = self._host_of(host)
        except HostRefused:
            return False
        _, decision = self._decide(name, port)
        if not decision.is_allowed or name.address is None:
            return decision.is_allowed
        resolver = self._service.entries.resolver
        return isinstance(resolver.resolve_now(name, port, decision), Destination)

    def decide(self, host: str, port: int) -> tuple[CanonicalHost, DestinationDecision]:
        """Decide as for a connection; what is found is judged by the decision.

        Raises:
            TransportError: ``EACCES``: the rules refuse it, or it is no host.
        """
        try:
            name = self._host_of(host)
        except HostRefused as refused:
            raise TransportError(
                errno.EACCES, Side.SERVER, f"{host}: {refused.reason}"
            ) from refused
        _, decision = self._decide(name, port)
        if not decision.is_allowed:
            raise TransportError(errno.EACCES, Side.SERVER, f"{host}: {decision.reason}")
        return name, decision

    async def connect(
        self, host: str, port: int, *, timeout_s: float | None = None
    ) -> StreamSocket:
        """As ``filterapi.PrivateSession.connect``."""
        self._check_room()
        identifier = self._service.connection_ids.next()
        target = f"{host}:{port}"
        self._dialling += 1
        try:
            return await self._dial(identifier, target, host, port, timeout_s)
        finally:
            self._dialling -= 1

    def listen(self, address: SocketAddress, backlog: int) -> Listener:
        """Listen for peers, which ``admit`` judges.

        Raises:
            BadContext: The session is over.
            TransportError: The address cannot be bound.
        """
        self._check_room()
        listener = self._service.port.listen(address, backlog=backlog)
        self._listening.add(listener)
        return listener

    def stop_listening(self, listener: Listener) -> None:
        """Listen no more; a pending accept completes with ``ECANCELED``."""
        self._listening.discard(listener)
        listener.close()

    def admit(self, socket: StreamSocket, remote: SocketAddress, *, is_expected: bool) -> bool:
        """Judge a peer that came, as rules with the protocol ``bind`` say; False: it was reset."""
        identifier, target = self._service.connection_ids.next(), str(remote)
        host = CanonicalHost.from_address(remote.ip)
        listener, decision = self._decide(host, remote.port, "bind")
        rule = "" if decision.rule is None else decision.rule.name
        reason = decision.reason
        if is_expected and decision.is_allowed:
            found = self._service.entries.resolver.resolve_now(host, remote.port, decision)
            if isinstance(found, Unresolved):
                reason = str(found.reason)
            relations = self._service.policy.network_relations
            if is_unrelated(relations, self._client_address, remote):
                reason = NO_NETWORK_RULE
            try:
                self._check_room()
            except LimitExceeded as error:
                reason = f"limit {error.limit}"
            except (BadContext, TransportError) as error:
                reason = str(error)
            if reason == decision.reason:
                self._record(
                    identifier, target, "allowed", (reason, rule, listener), protocol="bind"
                )
                end = self._end_of(identifier, target, (decision, listener))
                end.asked, end.remote = (host, remote.port, "bind"), remote
                self._keep(socket, end, target)
                return True
        elif not is_expected:
            reason = "not an expected peer"
        self._refused(identifier, target, (reason, rule, listener), protocol="bind")
        socket.close(abortive=True)
        return False

    def close(self) -> None:
        """End every connection, and make no more."""
        self._is_over = True
        for listener in list(self._listening):
            self.stop_listening(listener)
        for socket in list(self.ends.values()):
            socket.close(abortive=True)

    # -- private -------------------------------------------------------------------------------

    def _check_room(self) -> None:
        if self._is_over:
            raise BadContext(_OVER)
        if not self._service.recorder.is_accepting:
            raise TransportError(errno.EACCES, Side.INTERNAL, "records cannot be written")
        flood = self._service.flood.client_of(self._client_address)
        bound = flood.bounds.connections_max if flood is not None else 0
        if len(self.ends) + self._dialling + self._elsewhere() >= bound:
            raise LimitExceeded("connections_max", bound)

    def _host_of(self, host: str) -> CanonicalHost:
        allowed = self._service.policy.policy.allows_underscores
        return canonical_host(host.encode(), allow_underscore=allowed)

    def _decide(
        self, host: CanonicalHost, port: int, protocol: str = "tcp"
    ) -> tuple[str, DestinationDecision]:
        """Decide as an entry would; return by which listener's rules."""
        desk, user = self._service.entries, self._rules_user()
        first: tuple[str, DestinationDecision] | None = None
        for name in self._listeners():
            asker = Asker(name, self._client_address, user)
            decision = desk.decide_on(asker, host, port, protocol)
            if decision.is_allowed:
                return name, decision
            first = first or (name, decision)
        nowhere = Asker(_NO_LISTENER, self._client_address, user)
        return first or (_NO_LISTENER, desk.decide_on(nowhere, host, port, protocol))

    def judge_anew(self, end: _End) -> Readmission:
        """Say by which rule a connection would be let in now."""
        host, port, protocol = end.asked
        listener, decision = self._decide(host, port, protocol)
        rule = decision.rule
        if not decision.is_allowed or rule is None:
            return Readmission(None, decision.reason, rule)
        if end.remote is not None:
            judgement = self._service.entries.resolver.classifier.classify(end.remote.ip)
            denial = decision.judge_address(host, judgement, port)
            if denial is not None:
                return Readmission(None, denial.reason)
            relations = self._service.policy.network_relations
            if is_unrelated(relations, self._client_address, end.remote):
                return Readmission(None, NO_NETWORK_RULE)
        end.listener = listener
        # The filters of the rule do not run for what a filter connects.
        return Readmission(RulePlan(rule, self._service.policy.hash))

    async def _dial(
        self, identifier: str, target: str, text: str, port: int, timeout_s: float | None
    ) -> StreamSocket:
        """Decide, look up, judge, dial; whichever ends it is recorded."""
        service = self._service
        try:
            host = self._host_of(text)
        except HostRefused as refused:
            raise self._refused(identifier, target, (refused.reason, "", _NO_LISTENER)) from refused
        epoch = service.revocation.epoch
        listener, decision = self._decide(host, port)
        rule = "" if decision.rule is None else decision.rule.name
        if not decision.is_allowed:
            raise self._refused(identifier, target, (decision.reason, rule, listener))
        found = await service.entries.resolver.resolve(host, port, decision)
        if isinstance(found, Unresolved):
            why = (str(found.reason), rule, listener)
            unreachable = errno.EHOSTUNREACH
            raise self._refused(identifier, target, why, unreachable, found=found.found)
        if self._is_over:
            raise self._refused(identifier, target, (_OVER, rule, listener))
        why = (decision.reason, rule, listener)
        self._record(identifier, target, "allowed", why, found=found.found)
        end = self._end_of(identifier, target, (decision, listener))
        end.asked, end.judged = (host, port, "tcp"), epoch
        try:
            socket = await self._try_each(found, decision, end, timeout_s)
        except BaseException as error:
            end.record(None, str(error) or "given up")
            raise
        self._keep(socket, end, end.server)
        if not service.revocation.admits(end):
            raise TransportError(errno.EACCES, Side.SERVER, f"{end.server}: {end.refused}")
        return socket

    def _end_of(self, identifier: str, server: str, by: tuple[DestinationDecision, str]) -> _End:
        service = self._service
        decision, listener = by
        assert decision.rule is not None, "it was let in"
        plan = RulePlan(decision.rule, service.policy.hash)
        end = _End(self, identifier, plan, server, service.port.now, service.clock.wall())
        end.listener, end.judged = listener, service.revocation.epoch
        return end

    def _keep(self, socket: StreamSocket, end: _End, server: str) -> None:
        end.server = server
        self.ends[end] = socket
        socket.on_closed = partial(end.record, socket)

    def end_now(self, end: _End) -> None:
        """Reset a connection that policy refuses."""
        socket = self.ends.get(end)
        if socket is not None:
            socket.close(abortive=True)

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
            source = find_source(service.policy.network_relations, self._client_address, address)
            if isinstance(source, NoSource):
                failure = TransportError(errno.EACCES, Side.SERVER, f"{address}: {source.reason}")
                continue
            try:
                socket = await service.port.connect(address, timeout_s=timeout_s, source=source)
            except TransportError as error:
                failure = error
                continue
            if self._is_over:
                socket.close(abortive=True)
                raise BadContext(_OVER)
            end.server, end.remote = str(address), address
            return socket
        raise failure

    def _refused(
        self,
        identifier: str,
        target: str,
        why: tuple[str, str, str],
        error: int = errno.EACCES,
        *,
        protocol: str = "",
        found: tuple[str, ...] = (),
    ) -> TransportError:
        """Record a refusal, and return what is raised for it."""
        self._service.denied += 1
        self._record(identifier, target, "denied", why, protocol=protocol, found=found)
        return TransportError(error, Side.SERVER, f"connect to {target}: {why[0]}")

    def _record(
        self,
        identifier: str,
        target: str,
        verdict: str,
        why: tuple[str, str, str],
        *,
        protocol: str = "",
        found: tuple[str, ...] = (),
    ) -> None:
        """Record a decision: its reason, its rule, and the listener whose rule it is."""
        service = self._service
        reason, rule, listener = why
        record = DecisionRecord(
            time=service.clock.wall(),
            connection=identifier,
            session=self._session,
            client=str(self._client_address),
            listener=listener,
            verdict="allowed" if verdict == "allowed" else "denied",
            reason=reason,
            policy=service.policy.hash,
            rule=rule,
            target=target,
            entry=_MODE,
            user=self._user.name if self._user is not None else "",
            protocol=protocol,
            addresses=found,
        )
        if verdict == "allowed":
            service.allowed += 1
        service.recorder.write(record)

    def write_end(self, record: ConnectionRecord, end: _End) -> None:
        """Record a connection's end."""
        self.ends.pop(end, None)
        self._service.recorder.write(record)

    def new_end(self, end: _End, failure: str) -> ConnectionRecord:
        """Return a record of an end, with what the session knows."""
        service = self._service
        record = ConnectionRecord(
            time=service.clock.wall(),
            connection=end.id,
            session=self._session,
            client=str(self._client_address),
            listener=end.listener,
            rule=end.plan.rule.name,
            server=end.server,
            started=end.wall,
            duration_s=service.port.now - end.began,
            outcome="refused" if end.refused else "failed" if failure else "released",
            reason=end.refused or failure,
        )
        record.entry = _MODE
        if self._user is not None:
            record.user = self._user.name
        return record


class _End:
    """One connection, and what is recorded when it ends; satisfies ``revocation.Judged``."""

    __slots__ = (
        "_dialler",
        "asked",
        "began",
        "id",
        "is_closing",
        "judged",
        "listener",
        "plan",
        "refused",
        "remote",
        "server",
        "state",
        "wall",
    )

    asked: tuple[CanonicalHost, int, str]
    """Host, port and protocol, as rules see them."""

    def __init__(
        self,
        dialler: ClientDialler,
        identifier: str,
        plan: RulePlan,
        server: str,
        began: float,
        wall: float,
    ) -> None:
        self._dialler = dialler
        self.id = identifier
        self.plan = plan
        self.listener = _NO_LISTENER
        self.judged = 0
        self.state = State.OPEN
        self.is_closing = False
        self.refused = ""
        #: Why policy ended it.
        self.remote: SocketAddress | None = None
        self.server = server
        self.began = began
        self.wall = wall

    def judge_anew(self) -> Readmission:
        """As ``revocation.Judged``."""
        return self._dialler.judge_anew(self)

    def on_readmitted(self) -> None:
        """As ``revocation.Judged``; nothing hangs on it."""

    def refuse(self, reason: str) -> None:
        """As ``revocation.Judged``."""
        self.refused = reason
        self._dialler.end_now(self)

    def record(self, socket: StreamSocket | None, failure: str = "") -> None:
        """Record it, with what went through the socket."""
        self.is_closing = True
        if socket is not None and socket.was_aborted:
            failure = "aborted by a filter"
        record = self._dialler.new_end(self, failure)
        if socket is not None:
            record.bytes_to_server = socket.bytes_sent
            record.bytes_to_client = socket.bytes_received
        self._dialler.write_end(record, self)


_OVER: Final = "the session is over"
