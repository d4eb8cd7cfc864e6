"""Reach: does in the gate what a filter in a cell asks for by calls, and keeps what it was given.

``app.isolated`` gives each cell one. The invariant: it does what the filter API does for a filter
in the gate, for the connections and sessions that the cell was told of and nobody else's; and what
is expected or held for a cell that ends is withdrawn, so nothing comes in past its filter.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluicegate.errors import FILTER_ERRORS, BadContext, LimitExceeded
from sluicegate.filterapi import (
    Action,
    AnyDataFilter,
    Bind,
    Connection,
    DataFilterFactory,
    Position,
    Session,
    SessionFilter,
)
from sluicegate.gate.factories import EventFactory
from sluicegate.gate.secondary import ExpectedConnection
from sluicegate.gate.transfer import GateTransfer
from sluicegate.process_limits import CELL_CALLS_MAX, CELL_GIVEN_MAX

from . import calls
from .calls import Call, Returned
from .cell import CellFailed, Phase
from .data import IsolatedData, stand_in_class
from .errands import DO
from .events import Established
from .facts import AddressFacts, ConnectionFacts, facts_of
from .failures import FailureFacts

if TYPE_CHECKING:
    from .cell import Cell

__all__ = ["Reach"]


@dataclass(slots=True)
class _Given:
    """What a cell was given a number of, and what it keeps for it."""

    action: Action
    tokens: list[int] = field(default_factory=list[int])
    """Its factories, and who is told."""
    factories: list[int] = field(default_factory=list[int])
    """Numbers of factories that end with it."""


@dataclass(slots=True)
class _Kept:
    """A held object, until it is on no connection and its filter does not ask for it any more."""

    held: GateTransfer
    is_dropped: bool = False


class Reach:
    """What one cell may do outside of it."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._given: dict[int, _Given] = {}
        self._held: dict[int, _Kept] = {}
        self._tokens: Counter[int] = Counter()
        #: For how much the cell keeps something.
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._numbers = 0
        self._handles = 0

    # -- for the cell --------------------------------------------------------------------------

    def take(self, message: Call) -> None:
        """Do what was asked for, and answer, now or later."""
        try:
            answer = DO[type(message.errand)](self, message, message.errand)
            if inspect.isawaitable(answer):
                self._wait(message.call, answer)
                return
        except FILTER_ERRORS as error:
            self._fail(message, error)
            return
        if message.call:
            self._cell.tell(Returned(message.call, answer))

    def end(self, cause: str) -> None:
        """Withdraw what the process that has ended was given."""
        given, self._given = self._given, {}
        held, self._held = self._held, {}
        tasks, self._tasks = self._tasks, {}
        self._tokens.clear()
        for task in tasks.values():
            task.cancel()
        for one in given.values():
            one.action.cancel()
        for kept in held.values():
            kept.held.cancel(cause)

    @property
    def is_empty(self) -> bool:
        """Whether the cell has nothing of the gate."""
        return not (self._given or self._held or self._tokens or self._tasks)

    # -- answers -------------------------------------------------------------------------------

    def _fail(self, message: Call, error: BaseException) -> None:
        if message.call:
            self._cell.tell(Returned(message.call, None, FailureFacts.of(error)))
        elif message.place:
            place = self._cell.find_asked(message.place)
            if isinstance(place, IsolatedData):
                place.give_up(error)
        else:
            self._cell.give_up(f"its process asked for what it must not: {error}")

    def _wait(self, number: int, answer: Awaitable[calls.Result | None]) -> None:
        def close() -> None:
            # One that never began is closed, and harmless where it has ended.
            if inspect.iscoroutine(answer):
                answer.close()

        if not number or number in self._tasks or len(self._tasks) >= CELL_CALLS_MAX:
            close()
            raise LimitExceeded("CELL_CALLS_MAX", CELL_CALLS_MAX)

        def on_done(task: asyncio.Task[None]) -> None:
            if self._tasks.get(number) is task:
                del self._tasks[number]
            close()

        task = asyncio.get_running_loop().create_task(self._answer_later(number, answer))
        self._tasks[number] = task
        task.add_done_callback(on_done)

    async def _answer_later(self, number: int, answer: Awaitable[calls.Result | None]) -> None:
        try:
            returned = Returned(number, await answer)
        except FILTER_ERRORS as error:
            returned = Returned(number, None, FailureFacts.of(error))
        # Not after its end: the next process has calls of its own.
        if self._tasks.get(number) is asyncio.current_task():
            self._cell.tell(returned)

    def cancel_call(self, number: int) -> None:
        """Give up what nobody waits for."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    # -- what calls are about --------------------------------------------------------------------

    def session(self, message: Call) -> Session:
        """Return the session that a call is about."""
        return self._cell.known.session(message.session)

    def connection(self, message: Call) -> Connection:
        """Return the connection that a call is about."""
        return self._cell.known.connection(message.connection)

    def find_place(self, message: Call) -> IsolatedData | None:
        """Return the place that a call is about; None when its connection has ended."""
        place = self._cell.find_asked(message.place)
        return place if isinstance(place, IsolatedData) and not place.is_over else None

    def place(self, message: Call) -> IsolatedData:
        """Return the place that a call is about, while its connection is open."""
        place = self.find_place(message)
        if place is None:
            raise BadContext("the connection has ended")
        return place

    def action(self, number: int) -> Action | None:
        """Return an action; None when it is over."""
        found = self._given.get(number)
        return None if found is None else found.action

    def bind(self, number: int) -> Bind:
        """Return a bind."""
        found = self.action(number)
        if not isinstance(found, ExpectedConnection):
            raise BadContext("the bind is over")
        return found

    def held(self, number: int) -> GateTransfer:
        """Return a held object."""
        found = self._held.get(number)
        if found is None:
            raise BadContext("the held object is over")
        return found.held

    # -- giving --------------------------------------------------------------------------------

    def give(self, action: Action, *tokens: int) -> tuple[int, AddressFacts]:
        """Number what may be used in future; the cell keeps what the tokens name until its end."""
        number = self._next_number()
        used = [one for one in tokens if one]
        self._given[number] = _Given(action, used)
        self._tokens.update(used)
        done = self._done_of(number)
        if isinstance(action, ExpectedConnection):
            action.on_done = done
        elif isinstance(action, EventFactory):
            port = self._cell.port
            # Its last filter is being made when it is over.
            action.on_over = lambda: port.post(done)
        return number, facts_of(action.address)

    def give_factory(self, foreseen: int, action: Action, token: int) -> int:
        """Number a factory for something expected: it ends with that."""
        number = self._next_number()
        self._given[number] = _Given(action)
        expected = self._given[foreseen]
        expected.factories.append(number)
        expected.tokens.append(token)
        self._tokens[token] += 1
        return number

    def _next_number(self) -> int:
        if len(self._given) + len(self._held) >= CELL_GIVEN_MAX:
            raise LimitExceeded("CELL_GIVEN_MAX", CELL_GIVEN_MAX)
        self._numbers += 1
        return self._numbers

    def check_room(self, count: int = 1) -> None:
        """Refuse what there would be no number for, before it is made."""
        if len(self._given) + len(self._held) + count > CELL_GIVEN_MAX:
            raise LimitExceeded("CELL_GIVEN_MAX", CELL_GIVEN_MAX)

    def _done_of(self, number: int) -> Callable[[], None]:
        def on_done() -> None:
            given = self._given.pop(number, None)
            if given is None:
                return  # the process that had it has ended
            for factory in given.factories:
                self._given.pop(factory, None)
            self._tokens.subtract(given.tokens)
            over = sorted({token for token in given.tokens if self._tokens[token] <= 0})
            for token in over:
                del self._tokens[token]
            if over:
                self._cell.tell(calls.Forgotten(over))

        return on_done

    def hold(self, held: GateTransfer) -> int:
        """Number a held object."""
        for number in [one for one, kept in self._held.items() if _is_over(kept)]:
            del self._held[number]
        number = self._next_number()
        self._held[number] = _Kept(held)
        return number

    def drop(self, numbers: list[int]) -> None:
        """Take that the cell does not ask about held objects any more."""
        for number in numbers:
            kept = self._held.get(number)
            if kept is not None:
                kept.is_dropped = True
                if _is_over(kept):
                    del self._held[number]

    # -- what the gate calls ---------------------------------------------------------------------

    def told(self, session: Session, token: int) -> tuple[SessionFilter | None, Any]:
        """Return who is told that a connection came up, for a token of the cell."""
        return (Established(session, self._cell, token) if token else None), None

    def factory(self, token: int) -> DataFilterFactory:
        """Return what makes filters in the gate for a factory in the cell."""
        cell, incarnation = self._cell, self._cell.restarts

        def make(connection: Connection) -> AnyDataFilter:
            if cell.restarts != incarnation or cell.phase is not Phase.READY:
                raise CellFailed("its process was replaced before the connection came")
            self._handles -= 1
            handle = self._handles
            cell.tell(calls.Make(token, handle, ConnectionFacts.of(connection)))
            stand_in = stand_in_class(cell.name, Position.MIDDLE)
            return stand_in(cell, handle, {}, connection)

        return make


def _is_over(kept: _Kept) -> bool:
    return kept.is_dropped and not kept.held.is_held
