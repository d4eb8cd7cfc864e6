"""Doors: the listening sockets of a gate with several workers, one for each address and slot.

The supervisor opens and holds them; a worker gets copies of those of its slot, and so does its
replacement, or that of another version of the program. The invariant: as long as the supervisor
lives, a client that the kernel has accepted for a slot waits there for whoever serves it next.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluicegate.address import SocketAddress
from sluicegate.app.passed_sockets import take_passed
from sluicegate.errors import Side, TransportError
from sluicegate.gate.settings import ListenerSettings, Place
from sluicegate.gate.views import ListenerView
from sluicegate.port.backend import RawSocket
from sluicegate.port.backends.sockets import (
    adopt_socket,
    create_tcp_socket,
    create_udp_socket,
)

from . import steering
from .handover import DoorLeft

__all__ = ["Door", "Doors"]

_BACKLOG = 4096
"""As ``port.listen`` has it; capped by ``net.core.somaxconn``."""


@dataclass(eq=False, slots=True)
class Door:
    """One configured address: its sockets, by slot."""

    place: Place
    """As configured: its port may be 0."""
    sockets: list[RawSocket]

    def close(self) -> None:
        """Close the supervisor's copies."""
        for one in self.sockets:
            one.close()


class Doors:
    """All addresses of one gate; made and closed by the supervisor."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots = slots
        self.seed = seed
        self.doors: list[Door] = []
        self.unsteered = ""
        #: Why the kernel does not steer; empty while it does.

    @property
    def steering(self) -> str:
        """How clients are spread over workers, for people."""
        if self.slots == 1:
            return "one worker has all clients"
        if self.unsteered:
            return (
                f"the kernel does not steer by client address ({self.unsteered}): a client "
                "may have a session on each worker"
            )
        return "all connections of a client address come to one worker"

    def leave(self) -> list[DoorLeft]:
        """Describe all of them for the next version of this program."""
        return [
            DoorLeft(str(door.place), [one.fileno() for one in door.sockets]) for door in self.doors
        ]

    def take(self, left: Sequence[DoorLeft], unsteered: str) -> None:
        """Go on with what the version before has opened."""
        self.unsteered = unsteered
        for one in left:
            place = Place.parse(one.address)
            family = place.address.family
            # One that the service manager has opened is every slot's.
            made = {number: adopt_socket(number, family) for number in set(one.descriptors)}
            self.doors.append(Door(place, [made[number] for number in one.descriptors]))

    def listeners(self, configured: Iterable[ListenerSettings]) -> list[ListenerView]:
        """Return where clients may come to, whether a worker serves them or they wait for one."""
        left = list(self.doors)
        found: list[ListenerView] = []
        for one in configured:
            door = next((it for it in left if it.place == one.place), None)
            if door is not None:
                left.remove(door)
                address = SocketAddress.from_kernel(door.sockets[0].getsockname())
                transport = "udp" if one.is_udp else "tcp"
                found.append(ListenerView(name=one.name, address=str(address), transport=transport))
        return found

    def missing(self, wanted: Iterable[Place]) -> list[Place]:
        """Return the places that are not there yet."""
        left = Counter(door.place for door in self.doors)
        found: list[Place] = []
        for place in wanted:
            if left[place]:
                left[place] -= 1
            else:
                found.append(place)
        return found

    def open(self, places: Sequence[Place]) -> list[Door]:
        """Open what is missing, all or nothing; ``keep`` makes it part of the gate.

        Raises:
            TransportError: An address cannot be listened on.
        """
        opened: list[Door] = []
        for place in places:
            try:
                opened.append(self._open(place))
            except OSError as error:
                for door in opened:
                    door.close()
                raise TransportError(
                    error.errno or errno.EIO, Side.INTERNAL, f"listen on {place.address}"
                ) from error
        return opened

    def keep(self, opened: Iterable[Door], wanted: Iterable[Place]) -> None:
        """Take what was opened into the gate, and close what is wanted no more."""
        self.doors += opened
        left = Counter(wanted)
        for door in list(self.doors):
            if left[door.place]:
                left[door.place] -= 1
            else:
                self.doors.remove(door)
                door.close()

    def of_slot(self, slot: int, doors: Sequence[Door] | None = None) -> list[int]:
        """Return the descriptors of one worker, in the order of the doors."""
        return [door.sockets[slot].fileno() for door in (self.doors if doors is None else doors)]

    def close(self) -> None:
        """Close everything; what workers hold stays open until they end."""
        while self.doors:
            self.doors.pop().close()

    def _open(self, place: Place) -> Door:
        # Streams alone: a passed UDP socket would be one that all workers read from.
        passed = None if place.is_udp else take_passed(place.address)
        if passed is not None:
            # One queue for all workers: the kernel gives each client to one that waits.
            self.unsteered = "the service manager has opened one socket for all"
            return Door(place, [adopt_socket(passed, place.address.family)] * self.slots)
        # With SO_REUSEPORT another gate of the same user could share our address unnoticed, and
        # get half of our clients: without it, the first bind tells.
        probe = _bound(place, is_shared=False)
        address = SocketAddress.from_kernel(probe.getsockname())
        bound = Place(address, place.is_udp)
        probe.close()
        door = Door(place, [])
        try:
            for _ in range(self.slots):
                door.sockets.append(_bound(bound, is_shared=True))
                if not place.is_udp:
                    door.sockets[-1].listen(_BACKLOG)
        except BaseException:
            door.close()
            raise
        if self.slots > 1:
            first = door.sockets[0]
            refused = steering.attach(first, address.family, self.slots, self.seed)
            self.unsteered = refused or self.unsteered
        return door


def _bound(place: Place, *, is_shared: bool) -> RawSocket:
    address = place.address
    make = create_udp_socket if place.is_udp else create_tcp_socket
    sock = make(address.family)
    try:
        if not place.is_udp:  # else it would let anybody take the address over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address.to_kernel())
    except BaseException:
        sock.close()
        raise
    return sock
