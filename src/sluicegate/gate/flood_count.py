"""Flood counts: what each client does, in constant time and bounded memory.

``flood`` asks it about every client of one worker; ``census`` is how workers know of each other. No
I/O, and time is an argument. The invariant: a client that has used a sixteenth of a bound, or that
has anything open, is never forgotten to make room for others, and no client is refused before its
bound.

**Rates** are two counts, this minute's and that of the minute before; what counts is the first and
the share of the second that a sliding minute still covers. Counts of workers can be added, which
the state of a token bucket cannot. A minute may so see up to twice a bound, and no longer time
more than the bound a minute.

**Between workers** little is said. A client's counts are written to shared memory, and those of
other workers read, when it has used up its lease: a part of what was left of the bound at the last
look. Until the first look nobody knows of it, and one that never does much costs nothing. Together
workers pass a bound by an eighth of it, or by one each, at most; steered by the kernel, never.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from typing import Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded
from sluicegate.policy import CompiledFlood, FloodBounds, FloodLimits

__all__ = [
    "LEASES",
    "MINUTE_S",
    "Elsewhere",
    "FloodClient",
    "FloodCounts",
    "Key",
    "Rate",
    "SharedCounts",
]

MINUTE_S: Final = 60.0
LEASES: Final = 8
"""All workers' leases together are this part of what is left of a bound."""
_LIGHT: Final = 16
"""A client that has used less than this part of each bound may be forgotten for another one."""
_UNLIMITED: Final = FloodBounds(*[sys.maxsize] * 6)

Key = str | bytes
"""An IPv4 address as text, the first bytes of an IPv6 one, or what no address is: a rule."""


class Rate:
    """How often something happened within the minute before now."""

    __slots__ = ("credit", "current", "ends", "previous")

    def __init__(self) -> None:
        self.credit = 0
        #: As often it may happen again, in this minute, without another look.
        self.current = 0
        #: In this minute of the clock.
        self.previous = 0
        #: In the one before it.
        self.ends = 0.0
        #: When this minute is over.

    def roll(self, now: float) -> None:
        """Begin the minute of the clock that it is."""
        if now >= self.ends:
            begins = now // MINUTE_S * MINUTE_S
            self.previous = self.current if begins == self.ends else 0
            self.current = self.credit = 0
            self.ends = begins + MINUTE_S

    def used(self, now: float) -> float:
        """Return how often it happened of late; only when rolled."""
        return self.current + self.previous * (self.ends - now) / MINUTE_S

    def recent(self, now: float) -> int:
        """Return what ``used`` cannot be above, from now on; rolled or not."""
        if now < self.ends:
            return self.current + self.previous
        return self.current if now < self.ends + MINUTE_S else 0


class FloodClient:
    """What one client does here; held by whatever of it is open."""

    __slots__ = (
        "bounds",
        "cell",
        "connections",
        "connections_look",
        "connects",
        "denied",
        "group",
        "half_open",
        "half_open_look",
        "is_shown",
        "key",
        "mark",
        "policy",
        "requests",
        "udp_look",
        "udp_sessions",
    )

    def __init__(self, key: Key, bounds: FloodBounds, policy: CompiledFlood | None) -> None:
        self.key = key
        self.policy = policy
        #: Which said what its bounds are.
        self.bounds = bounds
        self.connects = Rate()
        self.requests: Rate | None = None
        self.denied: Rate | None = None
        self.connections = self.half_open = self.udp_sessions = 0
        self.connections_look = self.half_open_look = self.udp_look = 0
        #: Counts at which the other workers' are looked at again.
        self.cell, self.mark, self.group = -1, b"", 0
        #: Where other workers can read it (``census``).
        self.is_shown = False
        #: Whether they see something open there.

    def take_bounds(self, bounds: FloodBounds, policy: CompiledFlood) -> None:
        """Change the bounds; what was counted counts."""
        self.bounds, self.policy = bounds, policy
        self.connections_look = self.half_open_look = self.udp_look = 0
        for rate in self.rates():
            rate.credit = 0

    def rates(self) -> list[Rate]:
        """Return the rates that are counted."""
        return [one for one in (self.connects, self.requests, self.denied) if one is not None]

    def is_idle(self, now: float) -> bool:
        """Tell whether it has nothing open and did nothing of late."""
        return not self._is_open and not any(rate.recent(now) for rate in self.rates())

    def is_light(self, now: float) -> bool:
        """Tell whether it may be forgotten for another one."""
        bounds = self.bounds
        if self._is_open or self.connects.recent(now) > bounds.connects_per_minute // _LIGHT:
            return False
        requests, denied = self.requests, self.denied
        if requests is not None and requests.recent(now) > bounds.requests_per_minute // _LIGHT:
            return False
        return denied is None or denied.recent(now) <= bounds.denied_per_minute // _LIGHT

    @property
    def _is_open(self) -> bool:
        return bool(self.connections or self.half_open or self.udp_sessions)


class SharedCounts:
    """What other workers say of a client, together; rates as they are used up now."""

    __slots__ = ("connections", "connects", "denied", "half_open", "requests", "udp_sessions")

    def __init__(self) -> None:
        self.connections = self.half_open = self.udp_sessions = 0
        self.connects = self.requests = self.denied = 0.0


class Elsewhere(Protocol):
    """The counts of the other workers (``census``)."""

    @property
    def workers(self) -> int:
        """How many there may be."""
        ...

    def exchange(self, client: FloodClient, now: float) -> SharedCounts | None:
        """Write a client's counts, read those of the others; None when there is no room for it."""
        ...

    def write_open(self, client: FloodClient) -> None:
        """Write what a client that has a cell has open: some of it has ended."""
        ...

    def release(self, client: FloodClient) -> None:
        """Take a client's counts out."""
        ...


class FloodCounts:
    """All clients of one worker."""

    __slots__ = (
        "_anybody",
        "_clients",
        "_clients_max",
        "_elsewhere",
        "_full_until",
        "_prefix_bytes",
        "_queue",
        "_rules",
        "policy",
    )

    def __init__(self, clients_max: int, elsewhere: Elsewhere | None = None) -> None:
        self.policy = CompiledFlood(FloodLimits(enabled=False))
        self._prefix_bytes = 8
        self._clients_max = clients_max
        self._elsewhere = elsewhere
        self._clients: dict[Key, FloodClient] = {}
        self._queue: deque[FloodClient] = deque()
        #: The same clients, in the order in which it is asked whether they may be forgotten.
        self._full_until = 0.0
        #: Nobody can be forgotten before that.
        self._rules: dict[str, FloodClient] = {}
        self._anybody = FloodClient("", _UNLIMITED, None)
        #: Whoever is not counted.

    def __len__(self) -> int:
        return len(self._clients)

    def apply(self, policy: CompiledFlood) -> None:
        """Put other bounds in force, for each client when it is heard of next."""
        self.policy = policy
        self._prefix_bytes = policy.limits.ipv6_prefix // 8
        self._full_until = 0.0

    # -- clients -------------------------------------------------------------------------------

    def admit(self, address: SocketAddress, now: float) -> FloodClient | LimitExceeded:
        """Count a new TCP connection, open and half-open, unless that passes a bound."""
        host = address.host
        client = self._clients.get(host)  # IPv6 has another key
        if client is None or client.policy is not self.policy:
            found = self.find(address, now)
            if isinstance(found, LimitExceeded):
                return found
            client = found
        rate = client.connects
        if rate.credit > 0 and now < rate.ends:
            rate.credit -= 1
            rate.current += 1
        elif not self._take(client, "connects", client.bounds.connects_per_minute, now):
            return LimitExceeded("connects_per_minute", client.bounds.connects_per_minute)
        if client.connections >= client.connections_look and not self._look(
            client, "connections", client.bounds.connections_max, now
        ):
            return LimitExceeded("connections_max", client.bounds.connections_max)
        if client.half_open >= client.half_open_look and not self._look(
            client, "half_open", client.bounds.half_open_max, now
        ):
            return LimitExceeded("half_open_max", client.bounds.half_open_max)
        client.connections += 1
        client.half_open += 1
        return client

    def find(self, address: SocketAddress, now: float) -> FloodClient | LimitExceeded:
        """Return a client with the bounds in force; a new one if need be."""
        policy = self.policy
        if not policy.limits.enabled:
            return self._anybody
        key = self.key_of(address)
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= self._clients_max and not self._forget_one(now):
                return LimitExceeded("flood_clients_max", self._clients_max)
            client = self._clients[key] = FloodClient(key, _UNLIMITED, None)
            self._queue.append(client)
        if client.policy is not policy:
            client.take_bounds(policy.bounds_of(address.ip) or _UNLIMITED, policy)
        return client

    def key_of(self, address: SocketAddress) -> Key:
        """Return what a client is counted under."""
        host = address.host
        if ":" not in host:
            return host
        if self.policy.has_narrow_networks:
            network = self.policy.narrow_network_of(address.ip)
            if network:
                return network
        return socket.inet_pton(socket.AF_INET6, host)[: self._prefix_bytes]

    def _forget_one(self, now: float) -> bool:
        """Forget the client that may be forgotten and was asked about longest ago.

        Who may not is passed over and goes to the end. These are few enough: what is open has
        limits of its own, which add up to half of the clients, and the others have paid for it.
        """
        if now < self._full_until:
            return False
        queue = self._queue
        for _ in range(len(queue)):
            client = queue.popleft()
            if client.is_light(now):
                del self._clients[client.key]
                self._release(client)
                return True
            queue.append(client)
        self._full_until = now + 1.0
        return False

    def _release(self, client: FloodClient) -> None:
        if client.cell >= 0 and self._elsewhere is not None:
            self._elsewhere.release(client)

    # -- what opens and ends -------------------------------------------------------------------

    def add_connection(self, client: FloodClient, now: float) -> bool:
        """Count a connection that another one announced; False when that passes the bound."""
        if client.connections >= client.connections_look and not self._look(
            client, "connections", client.bounds.connections_max, now
        ):
            return False
        client.connections += 1
        return True

    def begin_half_open(self, client: FloodClient) -> None:
        """Count that a connection that is open has no server yet, again."""
        client.half_open += 1

    def end_half_open(self, client: FloodClient) -> None:
        """Count that a connection has its server."""
        client.half_open -= 1
        if client.is_shown:
            self._on_ended(client)

    def end_connection(self, client: FloodClient, *, is_half_open: bool) -> None:
        """Count that a connection has ended."""
        client.connections -= 1
        if is_half_open:
            client.half_open -= 1
        if client.is_shown:
            self._on_ended(client)

    def has_udp_room(self, client: FloodClient, now: float, spared: int = 0) -> bool:
        """Tell whether a client may have one more UDP connection, ``spared`` of it not counted."""
        return client.udp_sessions - spared < client.udp_look or self._look(
            client, "udp_sessions", client.bounds.udp_sessions_max, now, spared
        )

    def add_udp(self, client: FloodClient, change: int) -> None:
        """Count that UDP connections have begun or, negative, ended."""
        client.udp_sessions += change
        if client.is_shown and change < 0:
            self._on_ended(client)

    # -- what happens --------------------------------------------------------------------------

    def take_connect(self, client: FloodClient, now: float) -> bool:
        """Count what costs as much as a connection; False when that passes the bound."""
        return self._take(client, "connects", client.bounds.connects_per_minute, now)

    def take_request(self, client: FloodClient, now: float) -> bool:
        """Count an HTTP request; False when that passes the bound."""
        rate = client.requests
        if rate is None:
            client.requests = Rate()
        elif rate.credit > 0 and now < rate.ends:
            rate.credit -= 1
            rate.current += 1
            return True
        return self._take(client, "requests", client.bounds.requests_per_minute, now)

    def take_denial(self, client: FloodClient, now: float) -> bool:
        """Count a refusal; False when there were more than are recorded one by one."""
        rate = client.denied
        if rate is None:
            rate = client.denied = Rate()
        is_below = self._take(client, "denied", client.bounds.denied_per_minute, now)
        if not is_below:
            rate.current += 1  # it calms down when the client does
        return is_below

    def take_of_all(self, name: str, bound: int, now: float) -> bool:
        """Count what clients do together, under a name; False when that passes a bound."""
        if not self.policy.limits.enabled:
            return True
        rule = self._rules.get(name)
        if rule is None:
            rule = self._rules[name] = FloodClient(f"all {name}", _UNLIMITED, None)
        return self._take(rule, "connects", bound, now)

    def keep_rules(self, names: frozenset[str]) -> None:
        """Forget what was counted under names that a policy does not have."""
        for name in self._rules.keys() - names:
            self._release(self._rules.pop(name))

    # -- looking -------------------------------------------------------------------------------

    def _take(self, client: FloodClient, kind: str, bound: int, now: float) -> bool:
        rate: Rate = getattr(client, kind)
        rate.roll(now)
        if rate.credit <= 0:
            rate.credit = self._lease(client, kind, rate.used(now), bound, now)
            if rate.credit <= 0:
                return False
        rate.credit -= 1
        rate.current += 1
        return True

    def _look(
        self, client: FloodClient, kind: str, bound: int, now: float, spared: int = 0
    ) -> bool:
        count: int = getattr(client, kind) - spared
        lease = self._lease(client, kind, count, bound, now)
        setattr(client, _LOOKS[kind], count + lease)
        return lease > 0

    def _lease(self, client: FloodClient, kind: str, used: float, bound: int, now: float) -> int:
        """Return how much more a client may use until the next look; 0 when it may not."""
        elsewhere = self._elsewhere
        if elsewhere is None:
            return max(0, int(bound - used))
        workers = elsewhere.workers
        part = bound // (LEASES * workers)
        if used < part or (part == 0 and used < 1 and bound >= workers):
            return max(1, int(part - used))
        shared = elsewhere.exchange(client, now)
        # One whom the others cannot be told of has its share of the bound.
        others: float = used * (workers - 1) if shared is None else getattr(shared, kind)
        left = int(bound - used - others)
        return max(1, left // (LEASES * workers)) if left > 0 else 0

    def _on_ended(self, client: FloodClient) -> None:
        """Let other workers have what a client has given back, and give back its leases."""
        elsewhere = self._elsewhere
        assert elsewhere is not None, "it is shown only where there are other workers"
        elsewhere.write_open(client)
        bounds, parts = client.bounds, LEASES * elsewhere.workers
        client.connections_look = min(
            client.connections_look, client.connections + bounds.connections_max // parts
        )
        client.half_open_look = min(
            client.half_open_look, client.half_open + bounds.half_open_max // parts
        )
        client.udp_look = min(
            client.udp_look, client.udp_sessions + bounds.udp_sessions_max // parts
        )


_LOOKS: Final = {
    "connections": "connections_look",
    "half_open": "half_open_look",
    "udp_sessions": "udp_look",
}
