"""OriginPool: connections to servers that wait for their next exchange.

One per worker; exchanges take from it and origin ends give themselves back. The invariant: what is
given out leads to an address that the exchange's decision allows, was left whole by whoever used it
before, and is for nobody else when it was logged in for one client.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.tls import TlsSocket

from .shared_servers import proof_of

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService
    from sluicegate.tls import ServerProof

    from .origin_carrier import OriginCarrier
    from .origin_end import OriginEnd
    from .server_side import ServerSide

__all__ = ["OriginPool", "PoolKey"]

PoolKey: TypeAlias = tuple[str, int, Hashable]
"""Host (canonical) and port that are asked for, and the way there: the parent proxy, or the client
on whose behalf it is dialled where network rules may tell clients apart."""


class OriginPool:
    """The connections of one worker that no exchange uses, and all others while they live."""

    __slots__ = (
        "_bound",
        "_carriers",
        "_everything",
        "_idle",
        "_on_empty",
        "_service",
        "idle_count",
        "wheel_slot",
    )

    def __init__(self, service: FirewallService) -> None:
        self.wheel_slot = -1
        self.idle_count = 0
        self._service = service
        self._idle: dict[PoolKey, list[OriginEnd]] = {}
        #: The last one used is at the end, and is used first: the others may come of age.
        self._carriers: dict[PoolKey, list[OriginCarrier]] = {}
        #: Connections of HTTP/2, whether or not they are used just now.
        self._everything: set[OriginEnd | OriginCarrier] = set()
        #: Whose descriptors are open.
        self._bound: set[OriginEnd | OriginCarrier] = set()
        #: Those of them that are for one client's connection alone: few, most often none.
        self._on_empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._everything)

    def add(self, origin: OriginEnd) -> None:
        """Take note of a new connection, which is in use."""
        self._everything.add(origin)

    def add_carrier(self, carrier: OriginCarrier) -> None:
        """Take note of a new connection of HTTP/2, whose streams may be given out."""
        self._everything.add(carrier)
        self._carriers.setdefault(carrier.key, []).append(carrier)

    def forget_carrier(self, carrier: OriginCarrier) -> None:
        """Give no streams of a connection out any more: it is closing."""
        carriers = self._carriers.get(carrier.key, [])
        if carrier in carriers:
            carriers.remove(carrier)
            if not carriers:
                del self._carriers[carrier.key]

    def take(
        self,
        key: PoolKey,
        addresses: Collection[SocketAddress],
        client: object,
        *,
        switches: bool = False,
    ) -> ServerSide | None:
        """Return a connection for an exchange, or a stream of one; None when there is none.

        Args:
            key: Where it must lead, and by which way.
            addresses: Those that the exchange's decision allows; not to be changed later.
            client: Who asks: what is bound to another one is not for it.
            switches: Whether it offers to switch protocols, which not every stream can.
        """
        carriers = self._carriers.get(key) if self._carriers else None
        for carrier in carriers or ():
            is_free = carrier.bound_to is None or carrier.bound_to is client
            is_let = carrier.allowed_by is addresses or carrier.address in addresses
            can_switch = not switches or carrier.may_take_protocols
            if is_free and is_let and can_switch and carrier.has_room:
                carrier.allowed_by = addresses
                return carrier.open()
        waiting = self._idle.get(key)
        if not waiting:
            return None
        for place in range(len(waiting) - 1, -1, -1):
            origin = waiting[place]
            if origin.bound_to is not None and origin.bound_to is not client:
                continue
            if origin.allowed_by is addresses or origin.address in addresses:
                origin.allowed_by = addresses
                del waiting[place]
                self.idle_count -= 1
                return origin
        return None

    def find_proof(
        self,
        key: PoolKey,
        protocols: tuple[str, ...] | None,
        is_let: Callable[[SocketAddress], bool],
    ) -> tuple[ServerProof, SocketAddress] | None:
        """Return who a server is to which a connection waits, and where it is; None: none waits.

        Args:
            key: Where it must lead, and by which way.
            protocols: What it was offered by ALPN; None: whatever.
            is_let: Whether an address is allowed.
        """
        wall = self._service.port.wall
        waiting: Iterable[OriginEnd | OriginCarrier] = reversed(self._idle.get(key, ()))
        if self._carriers:
            streams = [one for one in self._carriers.get(key, ()) if one.has_room]
            waiting = itertools.chain(streams, waiting)
        for one in waiting:
            proof = proof_of(one.wire.raw)
            if proof is None or one.bound_to is not None or not is_let(one.address):
                continue
            is_meant = protocols is None or proof.offered == protocols
            if is_meant and wall < proof.good_until and not proof.identity.wants_certificate:
                return proof, one.address
        return None

    def give(self, origin: OriginEnd) -> None:
        """Keep a connection that was left whole, if there is room."""
        service = self._service
        limits, waiting = service.limits, self._idle.get(origin.key)
        if waiting is None:
            waiting = self._idle[origin.key] = []
        is_full = (
            len(waiting) >= limits.web_servers_idle_per_server_max
            or self.idle_count >= limits.web_servers_idle_max
        )
        if is_full or not service.web.keeps_servers:
            origin.close()
            return
        waiting.append(origin)
        self.idle_count += 1
        self._service.dials.on_ended()  # whoever waits for a descriptor may use this one
        origin.is_idle = True
        origin.idle_since = service.port.now
        if self.wheel_slot < 0:
            service.wheel.add(self, self.due())

    def forget(self, origin: OriginEnd) -> None:
        """Give a connection out no more: it is closing."""
        if origin.is_idle:
            origin.is_idle = False
            waiting = self._idle.get(origin.key, [])
            if origin in waiting:
                waiting.remove(origin)
                self.idle_count -= 1
                if not waiting:
                    del self._idle[origin.key]

    def on_given_away(self, origin: OriginEnd) -> None:
        """Take that a connection goes on as another one's: a tunnel's."""
        self._everything.discard(origin)
        self._bound.discard(origin)

    def on_closed(self, origin: OriginEnd | OriginCarrier) -> None:
        """Take that a connection's descriptor is free."""
        self._everything.discard(origin)
        self._bound.discard(origin)
        if not self._everything and self._on_empty is not None:
            self._on_empty.set()
        self._service.dials.on_ended()

    def spare(self) -> bool:
        """Close the one that has waited longest: descriptors are out. False: none waits."""
        firsts = [waiting[0] for waiting in self._idle.values() if waiting]
        if not firsts:
            return False
        min(firsts, key=lambda one: one.idle_since).close()
        return True

    def bind(self, server: OriginEnd | OriginCarrier, client: object) -> None:
        """Give a connection to nobody but one client's from here on; None: to anybody."""
        server.bound_to = client
        if client is not None:
            self._bound.add(server)

    def release(self, client: object) -> None:
        """Close what is bound to a client that has gone, but for what is in use."""
        for one in [one for one in self._bound if one.bound_to is client]:
            if one.may_be_given_out:
                one.close()

    def retire_verified(self) -> None:
        """Let what was verified serve no further exchanges: servers are verified otherwise now."""
        for one in [one for one in self._everything if isinstance(one.wire.raw, TlsSocket)]:
            one.close_when_answered()

    def close(self) -> None:
        """Close everything that waits."""
        self._service.wheel.remove(self)
        for waiting in list(self._idle.values()):
            for origin in list(waiting):
                origin.close()
        for carriers in list(self._carriers.values()):
            for carrier in list(carriers):
                carrier.close_when_answered()

    async def close_all(self) -> None:
        """Close everything, and wait until the last descriptor is free."""
        self._service.wheel.remove(self)
        for origin in list(self._everything):
            origin.close()
        if self._everything:
            self._on_empty = asyncio.Event()
            await self._on_empty.wait()

    # -- deadlines -----------------------------------------------------------------------------

    def due(self) -> float:
        """Return when the first of them comes of age."""
        firsts = [waiting[0].idle_since for waiting in self._idle.values() if waiting]
        oldest = min(firsts, default=self._service.port.now)
        return oldest + self._service.limits.web_servers_idle_s

    def on_expired(self) -> None:
        """Close those that nobody has used for too long."""
        until = self._service.port.clock.monotonic() - self._service.limits.web_servers_idle_s
        for waiting in list(self._idle.values()):
            for origin in [one for one in waiting if one.idle_since <= until]:
                origin.close()
        if self.idle_count:
            self._service.wheel.add(self, self.due())
