"""Filters for simulated worlds: they pass, hold, refuse, leave, raise and never answer.

``simulator`` publishes one service for each mix of them and compares the ``Ledger`` with the
records. The invariant: a filter enters what it releases before it releases it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    AnyDataFilter,
    CallbackDataFilter,
    Connection,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    Cut,
    DataFilter,
    DataSocket,
    Deny,
    Direction,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Forward,
    Pass,
    Refuse,
    Release,
    Rewrite,
    Session,
    SessionFilter,
    Side,
    SocketAddress,
    StreamFilter,
    StreamVerdict,
    Transfer,
    TransferOffer,
    Wait,
    Window,
)
from sluicegate.gate.settings import Installation, OnFailure, PerConnection

__all__ = ["FILTERS", "LAST_WORDS", "Ledger", "Released", "install_filters"]

FILTERS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "stream": ("stream",),
    "data": ("data",),
    "callback": ("callback",),
    "leaver": ("leaver",),
    "mixed": ("stream", "leaver", "data"),
    "raising": ("raising",),
    "silent": ("silent",),
    "asking": ("asking", "stream"),
    "hold": ("hold", "judge"),
}
"""Publications of a simulated world and the filters of each."""


LAST_WORDS = b"<the seed says so>"
"""What a client may be told before it is refused: once, whole, behind all else."""


@dataclass(slots=True)
class Released:
    """What a filter let go on one connection."""

    to_server: int = 0
    to_client: int = 0
    is_refused: bool = False


@dataclass(slots=True)
class Ledger:
    """What the filters of one world did."""

    released: dict[str, Released] = field(default_factory=dict[str, Released])
    attached: Counter[int] = field(default_factory=Counter[int])
    detached: Counter[int] = field(default_factory=Counter[int])

    def of(self, connection: Connection) -> Released:
        """Return a connection's entry."""
        return self.released.setdefault(connection.id, Released())


class _Counted:
    """Makes filters and numbers them, so that each one's end can be counted."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self._made = 0

    def maker(self, kind: Callable[[_Counted, int], AnyDataFilter]) -> Callable[[], AnyDataFilter]:
        def make() -> AnyDataFilter:
            self._made += 1
            self.ledger.attached[self._made] += 1
            return kind(self, self._made)

        return make


class _Stream(StreamFilter):
    """Releases everything, in pieces; now and then refuses the connection."""

    name: ClassVar[str] = "stream"

    def __init__(self, world: _Counted, number: int) -> None:
        self._world = world
        self._number = number
        self._entry = Released()

    @override
    def on_start(self, connection: Connection) -> None:
        self._entry = self._world.ledger.of(connection)

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        dice = self._world.random
        if dice.random() < 0.002:  # noqa: PLR2004 - a world in a few sees it
            self._entry.is_refused = True
            words = dice.choice((b"", LAST_WORDS))
            self._note(Side.SERVER, len(words))
            return Cut("the seed says so", to_client=words)
        count = len(window) if dice.random() < 0.7 else dice.randint(0, len(window))  # noqa: PLR2004 - mostly all
        self._note(side, count)
        if count == len(window):
            return FORWARD
        answer = dice.randrange(3)
        if answer == 0:
            return Wait(dice.uniform(0.001, 0.2), count)
        return Forward(count) if answer == 1 else Rewrite(bytes(window)[:count], count)

    @override
    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        self._note(side, len(held))
        return FORWARD

    def _note(self, side: Side, count: int) -> None:
        if side is Side.CLIENT:
            self._entry.to_server += count
        else:
            self._entry.to_client += count

    @override
    def detach(self) -> None:
        self._world.ledger.detached[self._number] += 1


class _Data(DataFilter):
    """Passes both directions on by ``await``; ``_Leaver`` stops after a few chunks."""

    name: ClassVar[str] = "data"

    def __init__(self, world: _Counted, number: int) -> None:
        self._world = world
        self._number = number

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "a published port has a server"
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass_on(client, server))
            both.create_task(self._pass_on(server, client))

    async def _pass_on(self, source: DataSocket, target: DataSocket) -> None:
        while window := await source.receive():
            await target.send(window)
        target.shutdown()

    @override
    def detach(self) -> None:
        self._world.ledger.detached[self._number] += 1


class _Leaver(_Data):
    name: ClassVar[str] = "leaver"

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "a published port has a server"
        for _ in range(self._world.random.randint(0, 4)):
            window = await server.receive()
            if not window:
                client.shutdown()
                return
            await client.send(window)


class _Raising(_Data):
    name: ClassVar[str] = "raising"

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        entry = self._world.ledger.of(connection)
        entry.is_refused = True
        if self._world.random.random() < 0.5:  # noqa: PLR2004 - at once, or after the first bytes
            await client.receive()
        raise RuntimeError("the seed says so")


class _Silent(_Data):
    name: ClassVar[str] = "silent"

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        self._world.ledger.of(connection).is_refused = True
        await asyncio.get_running_loop().create_future()


class _Callback(CallbackDataFilter):
    """Passes both directions on by completions."""

    name: ClassVar[str] = "callback"

    def __init__(self, world: _Counted, number: int) -> None:
        self._world = world
        self._number = number
        self._sockets: tuple[DataSocket, DataSocket] | None = None
        self._ended = 0

    @override
    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        assert server is not None, "a published port has a server"
        self._sockets = (client, server)
        client.start_receive(None, self, 0)
        server.start_receive(None, self, 1)

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Send what came to the other side, and receive when that was taken."""
        del error, address
        if self._sockets is None:
            return
        if not success:
            for socket in self._sockets:
                socket.close(abortive=True)
        elif user_data in {0, 1}:
            target = self._sockets[1] if user_data == 0 else self._sockets[0]
            if len(buffer):
                target.start_send(buffer, self, 2 + user_data)
            else:
                self._end(target)
        else:
            source = 0 if user_data == 2 else 1  # noqa: PLR2004 - 2 and 3 are the sends of 0 and 1
            self._sockets[source].start_receive(None, self, source)

    def _end(self, target: DataSocket) -> None:
        self._ended += 1
        target.shutdown()
        if self._ended == 2 and self._sockets is not None:  # noqa: PLR2004 - both directions
            for socket in self._sockets:
                socket.close()

    @override
    def detach(self) -> None:
        self._sockets = None
        self._world.ledger.detached[self._number] += 1


class _Asking(Filter):
    """Answers events at once, late, never, or by raising; sometimes denies."""

    name: ClassVar[str] = "asking"

    def __init__(self, world: _Counted) -> None:
        self.world = world

    @override
    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter | None:
        return _AskingSession(session, self.world)


class _AskingSession(SessionFilter):
    def __init__(self, session: Session, world: _Counted) -> None:
        super().__init__(session)
        self._world = world

    @override
    async def on_event(self, event: Event) -> EventVerdict:
        choice = self._world.random.randrange(6)
        entry = self._world.ledger.of(event.connection)
        if choice == 0:
            entry.is_refused = True
            return Deny("the seed says so")
        if choice == 1:
            entry.is_refused = True
            raise RuntimeError("the seed says so")
        if choice == 2:  # noqa: PLR2004 - one of six
            entry.is_refused = True
            await asyncio.get_running_loop().create_future()
        if choice == 3:  # noqa: PLR2004 - one of six
            await asyncio.sleep(0.5)
        return Pass()


class _Hold(Filter):
    """Has what the server sends held as one object."""

    name: ClassVar[str] = "hold"

    @override
    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter | None:
        return _HoldSession(session)


class _HoldSession(SessionFilter):
    @override
    def on_event(self, event: Event) -> EventVerdict:
        offer = TransferOffer(name="object", direction=Direction.DOWNLOAD, protocol="stream")
        held = self.session.hold_transfer(event.connection, offer)
        event.attach_data_filter(held.factory(event.connection))
        return Pass()


class _Judge(ContentFilter):
    """Releases, refuses, raises or never answers."""

    name: ClassVar[str] = "judge"

    def __init__(self, world: _Counted) -> None:
        self._world = world

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        entry = self._world.ledger.of(transfer.connection)
        choice = self._world.random.randrange(6)
        if choice == 0:
            raise RuntimeError("the seed says so")
        if choice == 1:
            await asyncio.get_running_loop().create_future()
        if choice == 2:  # noqa: PLR2004 - one of six
            return Refuse("the seed says so")
        async with transfer.open() as file:
            while await file.read(65536):
                pass
        entry.to_client = transfer.size
        return Release()


def install_filters(ledger: Ledger, seed: int) -> tuple[Installation, ...]:
    """Return the installations that ``FILTERS`` names, all entering into one ledger."""
    world = _Counted(ledger, seed)
    kinds: dict[str, Callable[[_Counted, int], AnyDataFilter]] = {
        "stream": _Stream,
        "data": _Data,
        "callback": _Callback,
        "leaver": _Leaver,
        "raising": _Raising,
        "silent": _Silent,
    }
    per_connection = [
        Installation(name, PerConnection(world.maker(kind)), OnFailure.DENY, "simulated")
        for name, kind in kinds.items()
    ]
    others: dict[str, Filter | ContentFilter] = {
        "asking": _Asking(world),
        "hold": _Hold(),
        "judge": _Judge(world),
    }
    return (
        *per_connection,
        *(Installation(name, one, OnFailure.DENY, "simulated") for name, one in others.items()),
    )
