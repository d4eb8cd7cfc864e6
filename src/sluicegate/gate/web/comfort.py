"""Comfort: keeps a client that waits for a held object from giving up, without a byte of it.

A held stage has one. From its rule's delay on the client is sent the next byte of the head that it
will get, every ten seconds: to its time-outs that is a slow server. The first nine bytes are the
same for every answer, so that a refusal can still be told in a page; behind them the answer is
promised, and only a reset takes it back. The invariant: nothing that is sent says anything of the
object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sluicegate.limits import HELD_COMFORT_S
from sluicegate.port import Timer

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["Comfort"]


class _Service(Protocol):
    @property
    def port(self) -> CompletionPort: ...


class _Comforting(Protocol):
    """A held stage."""

    @property
    def service(self) -> _Service: ...

    def can_comfort(self) -> bool:
        """Send the client something that keeps its time-outs alive; False: nothing is left."""
        ...


class Comfort:
    """The timer of one held body."""

    __slots__ = ("_stage", "_timer")

    def __init__(self, stage: _Comforting) -> None:
        self._stage: _Comforting | None = stage
        self._timer: Timer | None = None

    def start(self, after_s: float) -> None:
        """Begin when the delay is over."""
        stage = self._stage
        if stage is not None:
            self._timer = stage.service.port.call_after(after_s, self._on_due)

    def stop(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        # It knows the stage, which knows this.
        self._stage = self._timer = None

    def _on_due(self) -> None:
        stage = self._stage
        if stage is not None and stage.can_comfort() and self._stage is not None:
            self.start(HELD_COMFORT_S)
