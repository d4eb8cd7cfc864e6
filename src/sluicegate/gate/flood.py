"""FloodGuard: no client address may ask more of the gate than its bounds.

``service`` has one; listeners ask it before anything else is done for a client, whatever way it
came by. It counts with ``flood_count`` and records what was refused. The invariant: what a flood
brings on is counted and never recorded one by one: a record per client and limit within
``FLOOD_RECORD_S`` says how much it was.
"""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.errors import LimitExceeded
from sluicegate.limits import FLOOD_RECORD_S
from sluicegate.policy import PolicySnapshot
from sluicegate.port import CompletionPort

from .census import Census
from .flood_count import FloodClient, FloodCounts, Key
from .throttle import Throttle
from .views import FloodView

__all__ = ["FloodGuard"]

_DENIED = "denied_per_minute"
_RULE = "rule_udp_sessions_per_minute"


class FloodGuard:
    """The flood limits of one worker."""

    __slots__ = ("_clock", "_port", "_recorder", "_throttle", "counts", "reached")

    def __init__(
        self,
        port: CompletionPort,
        clock: Clock,
        recorder: Recorder,
        clients_max: int,
        census: Census | None,
    ) -> None:
        self.counts = FloodCounts(clients_max, census)
        self.reached: dict[str, int] = {}
        #: How often each limit was, since the start.
        self._port = port
        self._clock = clock
        self._recorder = recorder
        self._throttle: Throttle[tuple[LimitExceeded, str]] = Throttle(
            port.call_after, self._write, FLOOD_RECORD_S
        )

    def apply(self, snapshot: PolicySnapshot, listeners: Iterable[str]) -> None:
        """Put the bounds of a policy in force, for what is open too."""
        self.counts.apply(snapshot.flood)
        rules = (_of_rule(rule.name) for rule in snapshot.policy.planned_rules)
        self.counts.keep_rules(frozenset([*rules, *map(_of_listener, listeners)]))

    # -- streams -------------------------------------------------------------------------------

    def admit(self, client: SocketAddress) -> FloodClient | None:
        """Count a client's new connection, open and half-open; None when it is refused."""
        found = self.counts.admit(client, self._port.now)
        if isinstance(found, FloodClient):
            return found
        self._note(found, client)
        return None

    def client_of(self, client: SocketAddress) -> FloodClient | None:
        """Return what is counted of a client; None when it is refused, because it cannot be."""
        found = self.counts.find(client, self._port.now)
        if isinstance(found, FloodClient):
            return found
        self._note(found, client)
        return None

    def admit_announced(self, counted: FloodClient) -> LimitExceeded | None:
        """Count a connection that another one announced, or return why not.

        It is no new request: the connection that announced it was one.
        """
        if self.counts.add_connection(counted, self._port.now):
            return None
        return LimitExceeded("connections_max", counted.bounds.connections_max)

    def begin_half_open(self, counted: FloodClient) -> None:
        """Take that a connection has no server yet, again."""
        self.counts.begin_half_open(counted)

    def end_half_open(self, counted: FloodClient) -> None:
        """Take that a connection has its server."""
        self.counts.end_half_open(counted)

    def end_connection(self, counted: FloodClient, *, is_half_open: bool) -> None:
        """Take that a connection has ended."""
        self.counts.end_connection(counted, is_half_open=is_half_open)

    def admit_request(self, counted: FloodClient, client: SocketAddress) -> bool:
        """Count an HTTP request of a client; False when it is to be refused."""
        if self.counts.take_request(counted, self._port.now):
            return True
        bound = counted.bounds.requests_per_minute
        self._note(LimitExceeded("requests_per_minute", bound), client)
        return False

    # -- datagrams -----------------------------------------------------------------------------

    def admit_destination(self, counted: FloodClient, client: SocketAddress) -> bool:
        """Count a destination that a client names in a datagram, as a connect request."""
        if self.counts.take_connect(counted, self._port.now):
            return True
        bound = counted.bounds.connects_per_minute
        self._note(LimitExceeded("connects_per_minute", bound), client)
        return False

    def admit_under(self, rule: str, client: SocketAddress) -> bool:
        """Count a new UDP connection under a rule; False when there are too many of late."""
        bound = self.counts.policy.limits.rule_udp_sessions_per_minute
        if self.counts.take_of_all(_of_rule(rule), bound, self._port.now):
            return True
        self._note(LimitExceeded(_RULE, bound), client, f"{_RULE} {rule}")
        return False

    def has_udp_room(self, counted: FloodClient, client: SocketAddress, spared: int) -> bool:
        """Tell whether a client may have one more UDP connection.

        Args:
            counted: What is counted of it.
            client: Its address.
            spared: How many of what it has are not to count.
        """
        if self.counts.has_udp_room(counted, self._port.now, spared):
            return True
        self._note(LimitExceeded("udp_sessions_max", counted.bounds.udp_sessions_max), client)
        return False

    # -- refusals ------------------------------------------------------------------------------

    def note_denied(self, client: SocketAddress) -> bool:
        """Count a refusal of a client; False when it is not to be recorded, but counted."""
        counted = self.client_of(client)
        if counted is None:
            return False
        if self.counts.take_denial(counted, self._port.now):
            return True
        self._note(LimitExceeded(_DENIED, counted.bounds.denied_per_minute), client)
        return False

    def note_datagram_denied(self, listener: str, client: SocketAddress) -> bool:
        """Count that a client's datagram was refused; False when it is not to be recorded.

        Anybody can forge addresses, so those of all clients of a listener are bounded too.
        """
        bound = self.counts.policy.limits.rule_udp_sessions_per_minute
        if self.counts.take_of_all(_of_listener(listener), bound, self._port.now):
            return self.note_denied(client)
        self._note(LimitExceeded(_DENIED, bound), client, f"{_DENIED} {listener}")
        return False

    # -- records -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        self._throttle.flush()

    def view(self) -> FloodView:
        """Return a copy of this moment, for people."""
        return FloodView(
            enabled=self.counts.policy.limits.enabled,
            clients=len(self.counts),
            reached=dict(self.reached),
        )

    def _note(self, limit: LimitExceeded, client: SocketAddress, key: Key = "") -> None:
        name = limit.limit
        self.reached[name] = self.reached.get(name, 0) + 1
        key = key or self.counts.key_of(client)
        self._throttle.note((name, key), (limit, str(client)))

    def _write(self, fact: tuple[LimitExceeded, str], count: int) -> None:
        limit, client = fact
        self._recorder.write(
            LimitRecord(
                time=self._clock.wall(),
                limit=limit.limit,
                bound=limit.bound,
                count=count,
                client=client,
            )
        )


def _of_rule(name: str) -> str:
    return f"rule {name}"


def _of_listener(name: str) -> str:
    return f"listener {name}"
