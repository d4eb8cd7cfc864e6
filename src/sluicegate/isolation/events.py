"""A filter that handles events, in a cell: the filter and session filters that stand for it.

The gate dispatches to them as to any other; each event goes to the cell as a message, and its
answer brings the data filters that were attached. The invariant: an event that the cell does not
answer fails like one that a filter in the gate does not answer, by the same time-out.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from sluicegate.errors import SluicegateError
from sluicegate.filterapi import (
    Allow,
    Connection,
    ConnectionAccepted,
    ConnectionTerminating,
    ConnectRequested,
    Deny,
    Emulate,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Position,
    Session,
    SessionFilter,
    UdpBindRequested,
    UdpDestination,
)

from .cell import Asked, Cell, CellFailed
from .content import IsolatedFilterError
from .data import IsolatedData, stand_in_class
from .facts import AddressFacts, ConnectionFacts, address_of, facts_of
from .messages import (
    AttachedFilter,
    Cancel,
    DenyPeer,
    EventAnswer,
    FromCell,
    Raised,
    Registration,
    SessionEnded,
    Tell,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from .messages import Manifest

__all__ = ["Established", "IsolatedFilter", "isolated_filter"]

_TYPES = (
    ConnectRequested,
    UdpBindRequested,
    UdpDestination,
    ConnectionAccepted,
    ConnectionTerminating,
)


def isolated_filter(cell: Cell, manifest: Manifest) -> IsolatedFilter:
    """Make the stand-in of a filter that says this of itself."""

    class Isolated(IsolatedFilter):
        name: ClassVar[str] = manifest.name

    return Isolated(cell)


class IsolatedFilter(Filter):
    """Stands for one installed filter that handles events."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._connections: dict[str, Connection] = {}
        #: Those that the cell was told of, until they end.

    @override
    def start(self, firewall: Firewall) -> Events:
        # What it really wants is known when its process is ready; until then all of it waits.
        return Events.of(*_TYPES, secondary=True)

    @override
    def attach(self, session: Session) -> SessionFilter:
        return _IsolatedSession(session, self)

    def is_wanted(self, event: Event) -> bool:
        """Tell whether the filter registered for an event, as far as is known."""
        wanted = self.cell.registration
        return wanted is None or _has(wanted, event)

    def know(self, connection: Connection) -> None:
        """Take a connection of which the cell is told from now on."""
        if connection.id not in self._connections:
            self._connections[connection.id] = connection
            self.cell.known.add(connection)

    def forget(self, connection: Connection) -> None:
        """Take that it is told of one for the last time."""
        known = self._connections.pop(connection.id, None)
        if known is not None:
            self.cell.known.drop(known)


def _has(wanted: Registration, event: Event) -> bool:
    return (
        type(event).__name__ in wanted.types
        and (wanted.secondary or not event.is_secondary)
        and (wanted.sources is None or event.source.value in wanted.sources)
    )


class _IsolatedSession(SessionFilter):
    """Stands for the filter in one session."""

    def __init__(self, session: Session, owner: IsolatedFilter) -> None:
        super().__init__(session)
        self._owner = owner
        self._is_known = False
        #: Whether the cell was told of the session.

    @override
    def on_event(self, event: Event) -> EventVerdict | Awaitable[EventVerdict]:
        owner, connection = self._owner, event.connection
        if isinstance(event, ConnectionTerminating):
            owner.forget(connection)
        if not owner.is_wanted(event):
            return Pass()
        if not isinstance(event, ConnectionTerminating):
            owner.know(connection)
        # Taken now: what it is about may have ended when the process is ready.
        return self._ask(event, ConnectionFacts.of(connection))

    async def _ask(self, event: Event, facts: ConnectionFacts) -> EventVerdict:
        cell = self._owner.cell
        await cell.wait_ready()
        if not self._owner.is_wanted(event):
            return Pass()
        if not self._is_known:
            self._is_known = True
            cell.known.add_session(self.session)
        return await _asked(cell, event, facts)

    @override
    def detach(self) -> None:
        if self._is_known:
            cell = self._owner.cell
            cell.known.drop_session(self.session)
            cell.tell(SessionEnded(self.session.id))


class Established(SessionFilter):
    """Stands for who is told that what a filter in a cell expected came up."""

    def __init__(self, session: Session, cell: Cell, token: int) -> None:
        """Make it.

        Args:
            session: Whose it is.
            cell: Where the filter is.
            token: The cell's number for who is told.
        """
        super().__init__(session)
        self._cell = cell
        self._token = token
        self._incarnation = cell.restarts

    @override
    def on_event(self, event: Event) -> Awaitable[EventVerdict]:
        if self._cell.restarts != self._incarnation:
            raise CellFailed("its process was replaced before the connection came up")
        return self._tell(event)

    async def _tell(self, event: Event) -> EventVerdict:
        connection, known = event.connection, self._cell.known
        known.add(connection)
        try:
            return await _asked(self._cell, event, ConnectionFacts.of(connection), self._token)
        finally:
            known.drop(connection)


async def _asked(cell: Cell, event: Event, facts: ConnectionFacts, token: int = 0) -> EventVerdict:
    """Tell the cell of an event, and return its answer."""
    asked = _Question(event, cell)
    address, local = _addresses(event)
    written: Mapping[str, Any] = event.rule_settings
    told = (
        type(event).__name__, facts, event.is_secondary, dict(written), address, local, token,
    )  # fmt: skip
    number = cell.ask(asked, lambda one: Tell(one, *told))
    try:
        return await asked.answer
    except asyncio.CancelledError:
        cell.tell(Cancel(number))
        raise
    finally:
        cell.forget(number)


def _addresses(event: Event) -> tuple[AddressFacts | None, AddressFacts | None]:
    if isinstance(event, ConnectRequested):
        return facts_of(event.target), None
    if isinstance(event, UdpDestination | UdpBindRequested):
        return facts_of(event.address), None
    if isinstance(event, ConnectionAccepted):
        return facts_of(event.remote), None if event.local is None else facts_of(event.local)
    return None, None


class _Question(Asked):
    """One event that a cell was told of."""

    def __init__(self, event: Event, cell: Cell) -> None:
        self.answer: asyncio.Future[EventVerdict] = asyncio.get_running_loop().create_future()
        self._event = event
        self._cell = cell

    @override
    def take(self, message: FromCell, descriptors: list[int]) -> bool:
        for one in descriptors:
            os.close(one)
        if self.answer.done():
            return True
        try:
            if isinstance(message, DenyPeer) and isinstance(self._event, UdpDestination):
                self._event.peer.deny(message.reason)
                return False
            self.answer.set_result(self._verdict(message))
        except (SluicegateError, ValueError) as error:
            self.answer.set_exception(error)
        return True

    def _verdict(self, message: FromCell) -> EventVerdict:
        if isinstance(message, Raised):
            raise IsolatedFilterError(message.cause)
        if not isinstance(message, EventAnswer):
            raise IsolatedFilterError(f"answered an event with {type(message).__name__}")
        emulated = message.emulation
        for one in message.attached:
            peer = None if one.peer is None else address_of(one.peer)
            self._event.attach_data_filter(self._stand_in(one), peer=peer)
        match message.verdict:
            case "allow":
                return Allow()
            case "deny":
                return Deny(message.reason)
            case "emulate":
                return Emulate(None if emulated is None else self._stand_in(emulated))
            case _:
                return Pass()

    def _stand_in(self, announced: AttachedFilter) -> IsolatedData:
        made = stand_in_class(announced.name, Position(announced.position))
        return made(self._cell, announced.handle, {})

    @override
    def fail(self, error: CellFailed) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
