"""Stages: the stream filters of one direction, run inline.

The pump asks ``judge`` for every chunk; both directions of a connection share the filters and keep
what is held apart. The invariant: the bytes returned are exactly those that every stage released,
in order, and a filter sees nothing its predecessor holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import FILTER_ERRORS, FilterFailed, LimitExceeded, Side
from sluicegate.filterapi import FORWARD, Connection, Cut, Forward, Rewrite, StreamFilter, Wait
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.limits import STREAM_WAIT_S_MAX

from .own_stage import OwnStage

if TYPE_CHECKING:
    from sluicegate.clock import Clock
    from sluicegate.port import Timer

    from .attached import Attached

__all__ = ["INSPECT_NEEDS_FILTER", "Stage", "StageGroup", "Stages"]

INSPECT_NEEDS_FILTER: Final = "inspect-needs-a-filter"
"""The rule wants the content inspected, and no filter is there, or none any more, that looks."""


class Stage:
    """One stream filter of one connection; in both directions' lists until it leaves."""

    __slots__ = ("filter", "has_left", "name")

    def __init__(self, name: str, stream_filter: StreamFilter) -> None:
        self.name = name
        self.filter = stream_filter
        self.has_left = False

    @property
    def is_watching(self) -> bool:
        """Whether it has not left; what the gate itself put there never watches."""
        return not (self.has_left or isinstance(self.filter, OwnStage))

    def start(self, connection: Connection) -> None:
        """Give the filter its connection.

        Raises:
            FilterFailed: It raised.
        """
        try:
            self.filter.on_start(connection)
        except FILTER_ERRORS as error:
            raise _failed(self, error) from error

    def on_data(self, side: Side, window: Window) -> object:
        """Ask the filter about bytes.

        Raises:
            FilterFailed: It raised.
        """
        try:
            return self.filter.on_data(side, window)
        except FILTER_ERRORS as error:
            raise _failed(self, error) from error

    def on_end(self, side: Side, held: Window) -> object:
        """Ask the filter about the end of a stream.

        Raises:
            FilterFailed: It raised.
        """
        try:
            return self.filter.on_end(side, held)
        except FILTER_ERRORS as error:
            raise _failed(self, error) from error


def _failed(stage: Stage, error: BaseException) -> FilterFailed:
    return FilterFailed(stage.name, f"{type(error).__name__}: {error}")


class StageGroup:
    """The stream filters of a connection in position order (client to server)."""

    __slots__ = ("stages",)

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages

    @classmethod
    def of(cls, attached: list[Attached]) -> StageGroup:
        """Return the stages for attached stream filters."""
        stages: list[Stage] = []
        for item in attached:
            assert isinstance(item.filter, StreamFilter)
            stages.append(Stage(item.name, item.filter))
        return cls(stages)

    def start(self, connection: Connection) -> None:
        """Give the filters their connection.

        Raises:
            FilterFailed: One of them raised.
        """
        for stage in self.stages:
            stage.start(connection)

    @property
    def is_watching(self) -> bool:
        """Whether one of them has not left."""
        return any(stage.is_watching for stage in self.stages)

    def for_side(self, side: Side, hold_bytes_max: int, clock: Clock) -> Stages:
        """Return the stages as bytes from ``side`` meet them."""
        ordered = self.stages if side is Side.CLIENT else self.stages[::-1]
        return Stages(ordered, hold_bytes_max, clock)


class Stages:
    """The stages of one direction, and what each holds back.

    Whoever feeds them sends what they return, and then looks at ``cut``, ``has_leaver`` and
    ``wait_s``. While a stage waits, nothing may be judged: only ``again`` and ``flush`` are called.
    """

    __slots__ = (
        "_clock",
        "_due",
        "_ended",
        "_held",
        "_hold_bytes_max",
        "_only",
        "_stages",
        "cut",
        "has_leaver",
        "timer",
    )

    def __init__(self, stages: list[Stage], hold_bytes_max: int, clock: Clock) -> None:
        self.cut: Cut | None = None
        #: Set when a stage refused the connection.
        self.has_leaver = False
        #: Set when a stage leaves: the other direction is to ``flush``. Its user clears it.
        self.timer: Timer | None = None
        #: Its user's, for the wait that is under way.
        self._stages = list(stages)
        self._held: list[bytes] = [b""] * len(stages)
        self._due: dict[int, float] = {}
        #: When the stages that wait are asked again, by their place.
        self._ended = 0
        #: How many were told the end of the stream.
        self._hold_bytes_max = hold_bytes_max
        self._clock = clock
        self._only = stages[0] if len(stages) == 1 else None

    @classmethod
    def joined(cls, parts: list[Stages]) -> Stages:
        """Return stages that go on where several left off, in the order of the parts."""
        whole = cls([], parts[0]._hold_bytes_max, parts[0]._clock)  # noqa: SLF001 - another of its own kind
        for part in parts:
            assert part.wait_s is None, "who collapses a chain waits for what waits"
            whole._stages += part._stages  # noqa: SLF001 - another of its own kind
            whole._held += part._held  # noqa: SLF001 - another of its own kind
        whole._only = whole._stages[0] if len(whole._stages) == 1 else None
        return whole

    # -- asking --------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether a stage is left that wants bytes or holds some."""
        return any(
            held or not stage.has_left for stage, held in zip(self._stages, self._held, strict=True)
        )

    @property
    def is_watching(self) -> bool:
        """Whether a stage is left that looks, and does not only count."""
        return any(stage.is_watching for stage in self._stages)

    @property
    def is_ended(self) -> bool:
        """Whether every stage was told the end of the stream."""
        return self._ended == len(self._stages)

    @property
    def has_leftover(self) -> bool:
        """Whether a stage that has left holds something: ``flush``."""
        return any(
            held and stage.has_left for stage, held in zip(self._stages, self._held, strict=True)
        )

    @property
    def wait_s(self) -> float | None:
        """How long to wait before ``again``; None while no stage waits."""
        if not self._due:
            return None
        return max(0.0, self._due[max(self._due)] - self._clock.monotonic())

    # -- bytes ---------------------------------------------------------------------------------

    def judge(self, side: Side, window: Window) -> Literal[True] | bytes:
        """Show a chunk to the stages; True releases it as it is, else the bytes to send.

        Raises:
            FilterFailed: A filter answered nonsense.
            LimitExceeded: A filter holds more than ``stream_hold_bytes_max``.
        """
        only = self._only
        if only is None or only.has_left or self._held[0]:
            return self._through(side, 0, bytes(window))
        # One stage that holds nothing, as nearly always: no copy, no list.
        try:
            verdict = only.filter.on_data(side, window)
        except FILTER_ERRORS as error:
            raise _failed(only, error) from error
        if verdict is FORWARD:
            return True
        return self._apply(0, bytes(window), verdict)

    def again(self, side: Side) -> bytes:
        """Ask the waiting stage nearest to the sink once more; its time has come.

        Raises:
            FilterFailed: A filter answered nonsense.
            LimitExceeded: A filter holds more than ``stream_hold_bytes_max``.
        """
        # Nearest first: what the others release must not come to one that still waits.
        index = max(self._due)
        del self._due[index]
        return self._through(side, index + 1, self._show(side, index, b""))

    def flush(self, side: Side) -> bytes:
        """Release what stages hold that have left meanwhile, through those behind them.

        Raises:
            FilterFailed: A filter answered nonsense.
            LimitExceeded: A filter holds more than ``stream_hold_bytes_max``.
        """
        data = b""
        for index, stage in enumerate(self._stages):
            if stage.has_left:
                self._due.pop(index, None)
            if data or (stage.has_left and self._held[index]):
                data = self._show(side, index, data)
                if self.cut is not None:
                    return b""
        return data

    def end(self, side: Side) -> bytes:
        """Tell each stage of the end of the stream, once; return what they release at last.

        Where one of them wants to wait first, ``is_ended`` stays false: call it once more when no
        stage waits.

        Raises:
            FilterFailed: A filter answered nonsense.
            LimitExceeded: A filter holds more than ``stream_hold_bytes_max``.
        """
        tail = b""
        while (index := self._ended) < len(self._stages):
            stage = self._stages[index]
            if tail:
                tail = self._show(side, index, tail)
                if self.cut is not None:
                    return b""
                if index in self._due:
                    return self._through(side, index + 1, tail)
            self._ended += 1
            held, self._held[index] = self._held[index], b""
            if stage.has_left:
                tail += held
                continue
            verdict = stage.on_end(side, Window(ConstBuffer(held), 0, len(held)))
            tail += self._apply_at_end(stage, held, verdict)
            if self.cut is not None:
                return b""
        return tail

    def _apply_at_end(self, stage: Stage, held: bytes, verdict: object) -> bytes:
        if isinstance(verdict, Rewrite):
            # What it does not stand for cannot be held: nothing comes behind it.
            count = len(held) if verdict.count is None else verdict.count
            return verdict.data + held[max(0, count) :]
        if isinstance(verdict, Cut):
            self.cut = verdict
            return b""
        if isinstance(verdict, Leave):
            stage.has_left = self.has_leaver = True
            return held
        if isinstance(verdict, Forward):
            return held
        raise FilterFailed(stage.name, f"answered {verdict!r} to the end of the stream")

    def _through(self, side: Side, start: int, data: bytes) -> bytes:
        """Show bytes to the stages from one on; return what the last of them releases."""
        for index in range(start, len(self._stages)):
            if not data or self.cut is not None:
                return b""
            data = self._show(side, index, data)
        return b"" if self.cut is not None else data

    def _show(self, side: Side, index: int, data: bytes) -> bytes:
        """Show bytes to one stage, behind what it holds; return what it releases."""
        stage = self._stages[index]
        data = self._held[index] + data
        self._held[index] = b""
        if stage.has_left:
            return data
        if index in self._due:
            return self._keep(index, data, 0)
        verdict = stage.on_data(side, Window(ConstBuffer(data), 0, len(data)))
        return self._apply(index, data, verdict)

    def _apply(self, index: int, data: bytes, verdict: object) -> bytes:
        stage = self._stages[index]
        if isinstance(verdict, Forward):
            count = len(data) if verdict.count is None else verdict.count
            return self._keep(index, data, count)
        if isinstance(verdict, Rewrite):
            if verdict.count is not None:
                self._keep(index, data, verdict.count)
            return verdict.data
        if isinstance(verdict, Wait):
            if not 0 < verdict.seconds <= STREAM_WAIT_S_MAX:
                raise FilterFailed(stage.name, f"wants to wait {verdict.seconds} s")
            self._due[index] = self._clock.monotonic() + verdict.seconds
            return self._keep(index, data, verdict.count)
        if isinstance(verdict, Cut):
            self.cut = verdict
            return b""
        if isinstance(verdict, Leave):
            stage.has_left = self.has_leaver = True
            return data
        raise FilterFailed(stage.name, f"answered {verdict!r}")

    def _keep(self, index: int, data: bytes, count: int) -> bytes:
        """Hold what is behind the first ``count`` bytes, and return those."""
        if not 0 <= count <= len(data):
            raise FilterFailed(self._stages[index].name, f"released {count} of {len(data)} bytes")
        if len(data) - count > self._hold_bytes_max:
            raise LimitExceeded("stream_hold_bytes_max", self._hold_bytes_max)
        self._held[index] = data[count:]
        return data[:count]
