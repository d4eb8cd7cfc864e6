"""FirewallService: the running gate of one worker.

``app`` makes it with a port, a recorder and a spool, and applies settings to it; listeners hand it
clients, filters see it as ``filterapi.Firewall``. The invariant: every connection it admits is in
its table until it has ended in exactly one record, and nothing is admitted that cannot be recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar

from sluicegate.address import SocketAddress
from sluicegate.audit import Recorder
from sluicegate.buffer import Buffer
from sluicegate.clock import Clock
from sluicegate.errors import LimitExceeded, errno_name
from sluicegate.filterapi import PrivateSession, Scanner, Shortage, TaskCompletion, User
from sluicegate.identifiers import IdentifierSource
from sluicegate.limits import Limits
from sluicegate.names.exchange import Exchange
from sluicegate.policy import AnyRule, Policy, PolicySnapshot
from sluicegate.policy.learn import LEARNING
from sluicegate.port import CompletionPort, Listener
from sluicegate.port.backend import RawSocket
from sluicegate.port.timers import DeadlineWheel
from sluicegate.spool import SpoolStore
from sluicegate.tls.leaf_source import LeafSource, NoLeaves

from .admission import Admission
from .asked import AskedConnection
from .blockage import Blockage
from .census import Census
from .connection import GateConnection
from .dial_queue import DialQueue
from .direction_pool import DirectionPool
from .entry import EntryDesk
from .flood import FloodGuard
from .kept_log import KeptLog
from .limit_log import LimitLog
from .listener import EntryListener
from .listening import AnyListener, bound_addresses, kept_listeners, open_listeners
from .network_watch import NetworkWatcher
from .policy_clock import PolicyClock
from .private_session import PrivateSessions
from .proxy_header import Announced, ProxyHeaders
from .recording import GateRecords
from .recovery import Recovery, shares_of
from .registry import ContentStep, EventStep, Installed, Registry, RulePlan
from .revocation import Judged, Revocation
from .scanners import Scanners
from .server_tls import ServerTls
from .session import GateSession, session_key
from .settings import ListenerSettings, ServiceSettings
from .showing import view_of_connection
from .slow import SlowFilters
from .system_traffic import PermittedExchange
from .tasks import Tasks
from .traced_scanner import traced_scanner
from .transfer import TransferService
from .udp_asked import AskedUdpConnection
from .udp_service import UdpService
from .views import ConnectionView, FilterView, ListenerView, Phase, SessionView
from .web.desk import WebDesk

__all__ = ["FirewallService"]

ResultT = TypeVar("ResultT")

_ASK_AGAIN_S: Final = 0.05
"""How often slow filters are asked whether they have finished."""


class FirewallService:
    """One worker's gate; satisfies ``filterapi.Firewall``."""

    def __init__(
        self,
        port: CompletionPort,
        *,
        limits: Limits,
        recorder: Recorder,
        clock: Clock,
        spool: SpoolStore,
        boot_mark: str,
        listen: Callable[[SocketAddress], Listener] | None = None,
        exchange: Exchange | None = None,
        census: Census | None = None,
        bind_datagrams: Callable[[SocketAddress], RawSocket] | None = None,
        leaves: LeafSource | None = None,
    ) -> None:
        self.port, self.limits = port, limits
        self.clock, self.recorder, self.boot_mark = clock, recorder, boot_mark
        self._listen = listen or port.listen
        self.leaves = leaves or NoLeaves()
        self.connection_ids = IdentifierSource("c", boot_mark)
        self.flood = FloodGuard(port, clock, recorder, limits.flood_clients_max, census)
        self.revocation = Revocation(
            port, recorder, limits.revoke_grace_s, self._everything_open, self._policy_hash, census
        )
        self._policy_clock = PolicyClock(port, self._judge_anew)
        self.records = GateRecords(recorder, port, clock, self.connection_ids)
        self.blockage = Blockage(limits)
        self.slow = SlowFilters(clock.monotonic, limits.drain_timeout_s)
        self.directions = DirectionPool(port)
        self.dials = DialQueue(self._stream_listeners, port.post, self._spare_descriptor)
        self.wheel = DeadlineWheel(port.timers, clock)
        self.proxy_headers = ProxyHeaders(self)
        self.private = PrivateSessions(self)
        self.admission = Admission(self)
        self.network = NetworkWatcher(self.on_notice_failure)
        self.entries = EntryDesk(self, PermittedExchange(exchange, self))
        self.network.subscribe(self.entries.on_network_changed)
        self.server_tls, self.web = ServerTls(self), WebDesk(self)
        self.transfers = TransferService(
            port,
            spool,
            limits,
            clock,
            self._content_steps,
            recorder,
            objection=lambda connection, offer: connection.objection_to(offer),
            steps=self.records.steps,
        )
        self.phase = Phase.STARTING
        self.allowed = self.denied = self.bytes_from_clients = self.bytes_from_servers = 0
        self._session_ids = IdentifierSource("s", boot_mark)
        self._registry = Registry(self, self.on_filter_error)
        self._limit_log = LimitLog(recorder, clock, port.call_after)
        self.recovery = Recovery(
            port, limits, shares_of(spool), self._limit_log.note, self.on_notice_failure
        )
        self._kept_log = KeptLog(recorder, clock, port.call_after)
        port.pool.on_kept = self._kept_log.note
        self.udp = UdpService(self, bind_datagrams or port.bind_datagram_raw)
        self._listeners: list[AnyListener] = []
        self._sessions: dict[str, GateSession] = {}
        self._connections: dict[str, GateConnection] = {}
        self._plans: dict[str, RulePlan] = {}
        self._tasks = Tasks(port)
        self._policy = PolicySnapshot(Policy())
        #: Before settings are applied nothing is allowed.
        self.scanners = Scanners(port, lambda name, cause: self.note(name, cause, {}))
        self._on_empty: asyncio.Event | None = None
        self._next_passive, self._drained_until = 0, 0.0

    # -- life ----------------------------------------------------------------------------------

    async def start(self, settings: ServiceSettings) -> None:
        """Start the filters, then listen.

        Raises:
            TransportError: An address cannot be listened on.
        """
        await self.apply(settings)
        self.phase = Phase.READY

    async def apply(self, settings: ServiceSettings) -> None:
        """Put settings in force, whole: what is open is judged again, and ends if it is refused.

        Raises:
            TransportError: A new address cannot be listened on; the old settings stay in force.
        """
        kept = kept_listeners(self._listeners, settings)
        opened = (
            []
            if self.phase is Phase.DRAINING
            else open_listeners(self, self._listen, settings, kept)
        )
        self._registry.apply(settings.filters)
        before = self._policy
        self._put_policy_in_force(settings.policy)
        self.scanners.apply(settings.scanners)
        self._plans = {
            rule.name: self._registry.plan(rule, settings.policy.hash)
            for rule in settings.policy.policy.planned_rules
        }
        self.web.apply(self._plans, settings)
        verified_by = self.server_tls.epoch
        self.server_tls.apply(settings)
        if self.server_tls.epoch != verified_by:
            self.web.pool.retire_verified()
        self.entries.apply(settings)
        self.flood.apply(settings.policy, (one.name for one in settings.listeners))
        for gone in self._listeners:
            if gone not in kept:
                gone.close()
        for entry, renamed in kept.items():
            entry.settings = renamed
        self._listeners = [*kept, *opened]
        self.entries.note_listeners([*bound_addresses(self._listeners), *settings.own_services])
        for entry in opened:
            entry.open()
        self._judge_anew()
        self._stop_retired()
        if self.phase is not Phase.STARTING and before.hash != self._policy.hash:
            self._registry.tell_policy_changed(before.hash, settings.policy)

    def _judge_anew(self) -> None:
        """Let nothing that was decided before count any more."""
        self.udp.forget_refused()
        self.entries.known.forget()
        self.revocation.begin()

    def _put_policy_in_force(self, policy: PolicySnapshot) -> None:
        self._policy = policy
        self._policy_clock.set(policy)

    def _policy_hash(self) -> str:
        return self._policy.hash

    def _everything_open(self) -> list[Judged]:
        diallers = [it.open_dialler for it in self._sessions.values()] + self.private.diallers()
        return [
            *self._connections.values(),
            *self.udp.everything(),
            *(end for one in diallers if one is not None for end in one.ends),
        ]

    async def drain(self, timeout_s: float) -> None:
        """Stop listening; wait for connections and slow filters, at most ``timeout_s``."""
        self._stop_listening(takes_late=True)
        self._drained_until = self.port.clock.monotonic() + timeout_s
        try:
            await self._wait_empty(timeout_s)
            await self._wait_drained()
        except asyncio.CancelledError:
            self._drained_until = 0.0
            raise

    async def stop(self) -> None:
        """End every connection, session and filter; returns when all of it is recorded.

        Slow filters are waited for as long as ``drain`` has left.
        """
        self._stop_listening()
        for connection in list(self._connections.values()):
            connection.refuse("service stopping")
        self._policy_clock.stop()
        self.revocation.close()
        await self.entries.close()
        self.udp.end_all("service stopping")
        await self._wait_empty(None)
        await self._wait_drained()
        await self.web.close()
        await self.entries.close_layers()
        self.server_tls.close()
        await self._tasks.end()
        self.private.close()
        for session in list(self._sessions.values()):
            self.forget_session(session)
        self._registry.stop()
        await self._registry.wait_ended()
        await self.scanners.stop()
        self._limit_log.flush()
        self.flood.flush()
        self._kept_log.flush()
        self.dials.close()
        self.phase = Phase.STOPPED

    async def _wait_drained(self) -> None:
        """Ask slow filters until they have finished, or the time is over."""
        while self.slow.ask() and self.port.clock.monotonic() < self._drained_until:  # noqa: ASYNC110 - filters answer, they do not tell
            await asyncio.sleep(_ASK_AGAIN_S)

    def _stop_listening(self, *, takes_late: bool = False) -> None:
        self.phase = Phase.DRAINING
        entries, self._listeners = self._listeners, []
        for entry in entries:
            entry.close(takes_late=takes_late)
        self.web.drain()
        if not takes_late:
            self.proxy_headers.close()

    async def _wait_empty(self, timeout_s: float | None) -> None:
        """Wait until the last connection has ended, or the time is over."""
        if self._connections:
            self._on_empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._on_empty.wait()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as the service's own; a failure of it is the port's to report."""
        return self._tasks.spawn(work)

    # -- admitting -----------------------------------------------------------------------------

    @property
    def policy(self) -> PolicySnapshot:
        """The policy in force."""
        return self._policy

    def refuse_client(
        self,
        listener_name: str,
        raw: RawSocket,
        client: SocketAddress,
        reason: str,
        announced: Announced | None = None,
        rule: str = "",
    ) -> None:
        """Turn a client away before it has a connection, and record it if that can be."""
        if self.recorder.is_accepting and self.flood.note_denied(client):
            peer = announced.peer if announced is not None else None
            self.records.refusal(
                listener_name, client, reason, rule=rule, policy=self._policy.hash, peer=peer
            )
        self.turn_away(raw)

    def note_limit(self, bound: LimitExceeded, client: SocketAddress, connection: str = "") -> None:
        """Record that a client reached a limit, perhaps before it had a connection."""
        self._limit_log.note(bound, client=str(client), connection=connection)

    def limit_reached(self) -> LimitExceeded | None:
        """Return the limit that one more connection would pass; a client's own are ``flood``'s."""
        bound = self.limits.connections_max
        return LimitExceeded("connections_max", bound) if len(self._connections) >= bound else None

    def turn_away(self, raw: RawSocket) -> None:
        """Reset a client that is not heard."""
        self.denied += 1
        self.port.backend.abort(raw)

    def find_session(self, client: SocketAddress) -> GateSession | None:
        """Return the session of a client who is no known user, if there is one."""
        return self._sessions.get(client.host)

    def session_of(self, client: SocketAddress, user: User | None) -> GateSession:
        """Return the session of a client, or of a user at that client; a new one if need be."""
        return self._sessions.get(session_key(client, user)) or self._open_session(client, user)

    def note_user(self, client: SocketAddress, user: User) -> None:
        """Take what was said of a user last: a directory may say other groups than before."""
        session = self._sessions.get(session_key(client, user))
        if session is not None and session.rules_user is not user:
            session.user = session.rules_user = user

    @property
    def known_sessions(self) -> list[GateSession]:
        """Every session."""
        return list(self._sessions.values())

    def plan_of(self, rule: AnyRule) -> RulePlan:
        """Return what runs for a rule of the policy in force."""
        return self._plans[rule.name]

    def _open_session(self, client: SocketAddress, user: User | None = None) -> GateSession:
        address, now = client.with_port(0), self.port.now
        session = GateSession(self, self._session_ids.next(), address, now, user)
        self._sessions[session.key] = session
        self.wheel.add(session, session.due())
        self.records.session_began(session)
        return session

    def find_event_step(self, name: str) -> EventStep:
        """Return an installed filter, to attach to one session."""
        return self._registry.find_event_step(name)

    # -- the table -----------------------------------------------------------------------------

    def add_connection(self, connection: GateConnection) -> None:
        """Take a connection into the table."""
        self._connections[connection.id] = connection
        connection.session.connections += 1

    def open_connections(self) -> list[GateConnection]:
        """Return every connection that has not ended, those of datagrams excepted."""
        return list(self._connections.values())

    def find_connection(self, identifier: str) -> GateConnection | None:
        """Return a connection that has not ended."""
        return self._connections.get(identifier)

    def kill(self, identifier: str, reason: str) -> bool:
        """End a connection, or a session with all its connections; False when there is none."""
        connection = self._connections.get(identifier) or self.udp.find(identifier)
        if connection is not None:
            connection.refuse(reason)
            return True
        for session in self._sessions.values():
            if session.id == identifier:
                for one in [it for it in self._connections.values() if it.session is session]:
                    one.refuse(reason)
                self.udp.end_session(session, reason)
                session.close_sockets()
                return True
        return False

    def drop_connection(self, connection: GateConnection) -> None:
        """Take a connection out of the table, or one stream of a connection that goes on."""
        if self._connections.pop(connection.id, None) is None:
            return  # an error of ours has ended it before it was there
        if not self._connections and self._on_empty is not None:
            self._on_empty.set()
        if self.revocation.places.rule_of:
            self.revocation.places.leave(connection.id)
        session, now = connection.session, self.port.now
        session.connections -= 1
        session.last_active = now
        if self._registry.retired:
            self._stop_retired()

    def end_connection(self, connection: GateConnection) -> None:
        """Take a connection out of the table and record its end."""
        self.drop_connection(connection)
        if connection.is_counted:
            self.flood.end_connection(connection.flood, is_half_open=connection.is_half_open)
        if connection.expected is not None:
            connection.expected.on_ended(connection)
        to_server, to_client, _ = counts = connection.byte_counts()
        self.bytes_from_clients += to_server
        self.bytes_from_servers += to_client
        self.records.end(connection, counts)
        self.dials.on_ended()

    def _stop_retired(self) -> None:
        """Stop filters that a reload replaced, once no connection is left that came by them."""
        for installed in list(self._registry.retired):
            if not (
                any(one.plan.has(installed) for one in self._connections.values())
                or self.udp.has(installed)
            ):
                for session in self._sessions.values():
                    session.detach_filter(installed)
                self._registry.stop_retired(installed)

    def on_udp_ended(self) -> None:
        """Take note that a UDP connection has ended, whose descriptor is free."""
        if self._registry.retired:
            self._stop_retired()
        self.dials.on_ended()

    def _spare_descriptor(self) -> bool:
        return self.web.pool.spare()

    def _stream_listeners(self) -> list[EntryListener]:
        return [entry for entry in self._listeners if isinstance(entry, EntryListener)]

    def forget_session(self, session: GateSession) -> None:
        """End an idle session."""
        self.wheel.remove(session)
        if self._sessions.pop(session.key, None) is not None:
            session.end()

    # -- what happened -------------------------------------------------------------------------

    def record_decision(
        self, connection: GateConnection, verdict: Literal["allowed", "denied"], reason: str
    ) -> None:
        """Record what was decided about a connection before it is dialled."""
        if verdict == "allowed":
            self.allowed += 1
            if reason == LEARNING:
                self.records.learned[connection.plan.rule.name] += 1
        else:
            self.denied += 1
        self.records.decision(connection, verdict, reason)

    @property
    def learned(self) -> Counter[str]:
        """Connections that passed to be learned from, by the name of their rule."""
        return self.records.learned

    def on_filter_error(
        self, installed: Installed, error: BaseException, *, is_refused: bool = False
    ) -> None:
        """Record a filter's failure outside a data path; its rule may refuse what it bypasses."""
        installed.failures += 1
        self.records.filter_failure(installed, error, is_refused=is_refused)

    def on_notice_failure(self, name: str, error: BaseException) -> None:
        """Record that somebody failed who was told of something that concerns no client."""
        self.records.notice_failure(name, error)

    def on_connection_filter_error(
        self, connection: AskedConnection | AskedUdpConnection, name: str, error: BaseException
    ) -> None:
        """Record a data filter's failure; its connection ends."""
        for installed in self._registry.installed:
            if installed.name == name:
                installed.failures += 1
        self.records.connection_filter_failure(connection, name, error)

    def on_limit(self, error: LimitExceeded, connection: GateConnection) -> None:
        """Record that a connection reached a limit."""
        self._limit_log.note(error, client=str(connection.client_address), connection=connection.id)

    def on_accept_paused(self, settings: ListenerSettings, error: int) -> None:
        """Record that accepting waits for descriptors or memory."""
        del settings
        self._limit_log.note(LimitExceeded(f"accept paused: {errno_name(error)}", 0))
        self.recovery.note(Shortage.DESCRIPTORS)

    def on_unexpected_peer(
        self, primary: GateConnection, remote: SocketAddress, address: SocketAddress
    ) -> None:
        """Record that somebody else knocked where a peer was expected."""
        self.denied += 1
        if not self.flood.note_denied(remote):
            return
        self.records.refusal(
            primary.listener_name,
            remote,
            f"not the expected peer at {address}",
            rule=primary.rule,
            policy=self._policy.hash,
        )

    def rotate_ports(self, ports: range) -> Iterator[int]:
        """Yield each port of a range once, beginning behind the one that was given out last."""
        first = self._next_passive
        for step in range(len(ports)):
            index = (first + step) % len(ports)
            self._next_passive = index + 1
            yield ports[index]

    # -- filterapi.Firewall ----------------------------------------------------------------------

    def create_private_session(
        self, client: SocketAddress, *, listener: str, user: User | None = None
    ) -> PrivateSession:
        """As ``filterapi.Firewall.create_private_session``."""
        return self.private.create(self._session_ids.next(), client, listener, user)

    def create_buffer(self, size: int) -> Buffer:
        """Allocate an empty buffer."""
        return self.port.create_buffer(size)

    def post_task(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """Run a task once, soon, on the port."""
        self.port.post_task(completion, user_data)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a blocking call on the pool."""
        return await self.port.run_blocking(function, *args)

    def scanner(self, name: str) -> Scanner:
        """As ``filterapi.Firewall.scanner``."""
        return traced_scanner(self.scanners.find(name), self.records.steps)

    def note(self, filter_name: str, message: str, facts: Mapping[str, str | int]) -> None:
        """Write a record in a filter's name."""
        self.records.note(filter_name, message, facts)

    # -- asking --------------------------------------------------------------------------------

    @property
    def connection_count(self) -> int:
        """Connections that have not ended."""
        return len(self._connections) + len(self.udp)

    @property
    def session_count(self) -> int:
        """Sessions that are known."""
        return len(self._sessions)

    def listeners(self) -> list[ListenerView]:
        """Return every address that is listened on."""
        return [entry.view() for entry in self._listeners]

    def sessions(self) -> list[SessionView]:
        """Return every session."""
        return [session.view() for session in self._sessions.values()]

    def connections(self) -> list[ConnectionView]:
        """Return every connection that has not ended."""
        now, streams = self.port.now, self._connections.values()
        return [*(view_of_connection(one, now) for one in streams), *self.udp.views()]

    def filters(self) -> list[FilterView]:
        """Return every installed filter, in the operator's order."""
        rules: dict[str, list[str]] = {}
        for plan in self._plans.values():
            for name in plan.rule.filters:
                rules.setdefault(name, []).append(plan.rule.name)
        return [item.view(rules.get(item.name, [])) for item in self._registry.installed]

    def _content_steps(self, connection: GateConnection) -> tuple[ContentStep, ...]:
        return connection.plan.content
