"""In a cell: the service, as far as it reaches out of the gate.

``server`` has one. The invariant: what filters see of the gate is what came over the wire and
nothing more, and what cannot be done from here raises ``NotInCellError`` with the reason instead of
pretending.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from sluicegate.buffer import Buffer
from sluicegate.limits import Limits

from .cell_calls import CellCalls
from .cell_connection import CellConnection
from .cell_session import CellSession, not_here
from .facts import ConnectionFacts
from .messages import Message, Note

if TYPE_CHECKING:
    from sluicegate.filterapi import TaskCompletion
    from sluicegate.port import CompletionPort

__all__ = [
    "CellFirewall",
    "GateSide",
]

ResultT = TypeVar("ResultT")


class GateSide(Protocol):
    """The way to the gate."""

    def tell(self, message: Message) -> None:
        """Say something that has no answer."""
        ...


class CellFirewall:
    """The service; satisfies ``filterapi.Firewall``."""

    def __init__(self, gate: GateSide, port: CompletionPort, limits: Limits) -> None:
        self.port = port
        #: The cell's own.
        self.limits = limits
        #: The gate's.
        self.calls = CellCalls(port, gate.tell)
        self._gate = gate
        self._connections: weakref.WeakValueDictionary[str, CellConnection] = (
            weakref.WeakValueDictionary()
        )
        self._sessions: weakref.WeakValueDictionary[str, CellSession] = (
            weakref.WeakValueDictionary()
        )

    def create_buffer(self, size: int) -> Buffer:
        """As ``filterapi.Firewall.create_buffer``."""
        return self.port.create_buffer(size)

    def post_task(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """As ``filterapi.Firewall.post_task``."""
        self.port.post_task(completion, user_data)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """As ``filterapi.Firewall.run_blocking``."""
        return await self.port.run_blocking(function, *args)

    def note(self, filter_name: str, message: str, facts: Mapping[str, str | int]) -> None:
        """As ``filterapi.Firewall.note``; the record has the name that is installed."""
        del filter_name
        self._gate.tell(Note("", message, dict(facts)))

    def session(self, facts: ConnectionFacts) -> CellSession:
        """Return the session of a connection; the same one while somebody has it."""
        found = self._sessions.get(facts.session)
        if found is None:
            found = self._sessions[facts.session] = CellSession(self.calls, facts)
        return found

    def connection(self, facts: ConnectionFacts) -> CellConnection:
        """Return a connection as it is by now; the same one while somebody has it."""
        found = self._connections.get(facts.connection)
        if found is None:
            session = self.session(facts)
            found = CellConnection(self._gate, self, session, facts)
            self._connections[facts.connection] = found
        else:
            found.update(facts)
        return found

    def __getattr__(self, name: str) -> NoReturn:
        raise not_here("the firewall", name)
