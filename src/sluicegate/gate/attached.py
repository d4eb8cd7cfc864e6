"""Attached: a data or stream filter of one connection, from the event that brought it to its end.

The connection keeps them in the order of their places, the chain and the pump run them. The
invariant: each is detached exactly once, after everything that was pending on its sockets was told;
a coroutine that goes on after its connection is waited for, to a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, Self

from sluicegate.errors import FILTER_ERRORS, BadContext, FilterFailed
from sluicegate.filterapi import AnyDataFilter, DatagramFilter, Position, StreamFilter

if TYPE_CHECKING:
    from .service import FirewallService
    from .session import GateSession

__all__ = ["Attached"]


class _Filtered(Protocol):
    """What a filter is attached to, as far as its own life goes."""

    @property
    def has_datagrams(self) -> bool:
        """Whether datagrams pass it, and no stream."""
        ...

    @property
    def is_closing(self) -> bool:
        """Whether it has ended, or is about to."""
        ...

    def on_detach_error(self, name: str, error: BaseException) -> None:
        """Record a filter that failed while it was being detached."""
        ...


class Attached:
    """A filter attached to one connection."""

    __slots__ = (
        "_connection",
        "_due",
        "_is_detached",
        "_is_given_up",
        "context",
        "filter",
        "name",
        "position",
        "task",
        "wheel_slot",
    )

    def __init__(
        self,
        connection: _Filtered,
        data_filter: AnyDataFilter,
        position: Position,
        context: Any,
        name: str,
    ) -> None:
        self.filter = data_filter
        self.position = position
        self.context = context
        self.name = name
        self.task: asyncio.Task[None] | None = None
        #: Runs its coroutine, until that has ended.
        self.wheel_slot = -1
        self._connection = connection
        self._due = 0.0
        self._is_detached = False
        self._is_given_up = False

    @classmethod
    def at(
        cls,
        connection: _Filtered,
        data_filter: AnyDataFilter,
        position: Position | None,
        context: Any,
        name: str = "",
    ) -> Self:
        """Make one whose place and name are the filter's own where none is given."""
        kind = type(data_filter)
        if isinstance(data_filter, DatagramFilter) and not connection.has_datagrams:
            raise BadContext(f"{name or kind.__name__} is a filter for datagrams, not for streams")
        place = kind.position if position is None else position
        return cls(connection, data_filter, place, context, name or kind.name or kind.__name__)

    @property
    def is_running(self) -> bool:
        """Whether a coroutine of it has not ended; its end detaches it."""
        return self.task is not None

    @property
    def is_drained(self) -> bool:
        """Whether it has no unfinished work; one that cannot say has failed, and is not asked."""
        if isinstance(self.filter, StreamFilter | DatagramFilter):
            return True
        try:
            return bool(self.filter.is_drained())
        except FILTER_ERRORS as error:
            self._connection.on_detach_error(self.name, error)
            return True

    async def failure_of(self, run: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Run the filter's coroutine to its end, and return how it failed; None when it did not.

        Raises:
            asyncio.CancelledError: It was cancelled by the gate.
        """
        try:
            await run()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._connection.is_closing or (task is not None and task.cancelling()):
                raise
            return FilterFailed(self.name, f"was cancelled: {error}")
        except FILTER_ERRORS as error:
            return error
        return None

    def detach(self) -> None:
        """Tell the filter that the connection has ended for it."""
        if self._is_detached:
            return
        self._is_detached = True
        try:
            self.filter.detach()
        except FILTER_ERRORS as error:
            self._connection.on_detach_error(self.name, error)

    def end(self, service: FirewallService, session: GateSession) -> None:
        """Take that the connection has ended; the end of a coroutine that runs detaches it."""
        if self.is_running:
            self._due = service.port.now + service.limits.drain_timeout_s
            service.wheel.add(self, self._due)
        else:
            self.detach()
        if not isinstance(self.filter, StreamFilter | DatagramFilter):
            service.slow.add(self, session)

    # -- a coroutine that outlives its connection (port.timers.Expiring) ---------------------------

    def due(self) -> float:
        """Return when the coroutine is cancelled."""
        return self._due

    def on_expired(self) -> None:
        """Take that the coroutine did not end in time."""
        self.give_up()

    def give_up(self) -> None:
        """Wait no longer: say so, and cancel a coroutine that has not ended."""
        if self._is_given_up:
            return
        self._is_given_up = True
        late = TimeoutError("had unfinished work drain_timeout_s after its connection")
        self._connection.on_detach_error(self.name, late)
        if self.task is not None:
            self.task.cancel()
            self.detach()
