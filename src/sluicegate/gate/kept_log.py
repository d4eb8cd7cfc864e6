"""KeptLog: a record when a filter kept a slice of a shared buffer beyond its time.

The pool tells it of each slot that it had to replace for that. The invariant: what was kept never
shows another client's bytes (the pool's doing), and the filter that kept it is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from sluicegate.audit import NoteRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.port.pool import Slot

from .throttle import Throttle

__all__ = ["KeptLog"]


@runtime_checkable
class Keeper(Protocol):
    """Whose code had the slot: a connection with its stages, or an element of its chain."""

    @property
    def id(self) -> str:
        """The connection."""
        ...

    def filter_names(self) -> tuple[str, ...]:
        """The filters that can have kept it; one, where the slot itself was shown."""
        ...


class KeptLog:
    """Which filters kept slices of late, and how often."""

    __slots__ = ("_clock", "_recorder", "_throttle")

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._throttle: Throttle[tuple[str, str]] = Throttle(call_after, self._write)

    def note(self, slot: Slot) -> None:
        """Take note of a slot whose memory somebody else still holds."""
        keeper = slot.keeper
        name, connection = "", ""
        if isinstance(keeper, Keeper):
            name, connection = ", ".join(keeper.filter_names()), keeper.id
        self._throttle.note(name, (name, connection))

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        self._throttle.flush()

    def _write(self, fact: tuple[str, str], count: int) -> None:
        name, connection = fact
        self._recorder.write(
            NoteRecord(
                time=self._clock.wall(),
                filter=name,
                message="kept a slice of a shared buffer; the buffer was replaced",
                facts={"connection": connection, "count": count},
            )
        )
