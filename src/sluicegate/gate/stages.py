"""Stages: the stream filters of one direction, run inline.

The pump asks ``judge`` for every chunk; both directions of a connection share the filters and keep
what is held apart. The invariant: the bytes returned are exactly those that every stage released,
in order, and a filter sees nothing its predecessor holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import FILTER_ERRORS, FilterFailed, LimitExceeded, Side
from sluicegate.filterapi import FORWARD, Connection, Cut, Forward, Rewrite, StreamFilter
from sluicegate.filterapi.stream_filter import Leave

if TYPE_CHECKING:
    from .attached import Attached

__all__ = ["Stage", "StageGroup", "Stages"]


class Stage:
    """One stream filter of one connection; in both directions' lists until it leaves."""

    __slots__ = ("filter", "has_left", "name")

    def __init__(self, name: str, stream_filter: StreamFilter) -> None:
        self.name = name
        self.filter = stream_filter
        self.has_left = False

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

    def for_side(self, side: Side, hold_bytes_max: int) -> Stages:
        """Return the stages as bytes from ``side`` meet them."""
        ordered = self.stages if side is Side.CLIENT else self.stages[::-1]
        return Stages(ordered, hold_bytes_max)


class Stages:
    """The stages of one direction, and what each holds back."""

    __slots__ = ("_held", "_hold_bytes_max", "_only", "_stages", "cut_reason")

    def __init__(self, stages: list[Stage], hold_bytes_max: int) -> None:
        self.cut_reason: str | None = None
        #: Set when a stage refused the connection.
        self._stages = list(stages)
        self._held: list[bytes] = [b""] * len(stages)
        self._hold_bytes_max = hold_bytes_max
        self._only = stages[0] if len(stages) == 1 else None

    @classmethod
    def joined(cls, parts: list[Stages]) -> Stages:
        """Return stages that go on where several left off, in the order of the parts."""
        whole = cls([], parts[0]._hold_bytes_max)  # noqa: SLF001 - another of its own kind
        for part in parts:
            whole._stages += part._stages  # noqa: SLF001 - another of its own kind
            whole._held += part._held  # noqa: SLF001 - another of its own kind
        whole._only = whole._stages[0] if len(whole._stages) == 1 else None
        return whole

    @property
    def is_active(self) -> bool:
        """Whether a stage is left that wants bytes or holds some."""
        return any(
            held or not stage.has_left for stage, held in zip(self._stages, self._held, strict=True)
        )

    def judge(self, side: Side, window: Window) -> Literal[True] | bytes:
        """Show a chunk to the stages; True releases it as it is, else the bytes to send.

        Raises:
            FilterFailed: A filter answered nonsense.
            LimitExceeded: A filter holds more than ``stream_hold_bytes_max``.
        """
        only = self._only
        if only is None or only.has_left or self._held[0]:
            return self._through(side, bytes(window))
        # One stage that holds nothing, as nearly always: no copy, no list.
        try:
            verdict = only.filter.on_data(side, window)
        except FILTER_ERRORS as error:
            raise _failed(only, error) from error
        if verdict is FORWARD:
            return True
        return self._apply(0, bytes(window), verdict)

    def end(self, side: Side) -> bytes:
        """Tell each stage of the end of the stream, once; return what they release at last.

        Raises:
            FilterFailed: A filter answered nonsense.
        """
        tail = b""
        for index, stage in enumerate(self._stages):
            if tail:
                tail = self._show(side, index, tail)
            held, self._held[index] = self._held[index], b""
            if stage.has_left:
                tail += held
                continue
            verdict = stage.on_end(side, Window(ConstBuffer(held), 0, len(held)))
            tail += self._apply_at_end(stage, held, verdict)
            if self.cut_reason is not None:
                return b""
        return tail

    def _apply_at_end(self, stage: Stage, held: bytes, verdict: object) -> bytes:
        if isinstance(verdict, Rewrite):
            return verdict.data
        if isinstance(verdict, Cut):
            self.cut_reason = verdict.reason
            return b""
        if isinstance(verdict, Forward | Leave):
            return held
        raise FilterFailed(stage.name, f"answered {verdict!r} to the end of the stream")

    def _through(self, side: Side, data: bytes) -> bytes:
        for index in range(len(self._stages)):
            data = self._show(side, index, data)
            if not data or self.cut_reason is not None:
                return b""
        return data

    def _show(self, side: Side, index: int, data: bytes) -> bytes:
        """Show bytes to one stage, behind what it holds; return what it releases."""
        stage = self._stages[index]
        data = self._held[index] + data
        self._held[index] = b""
        if stage.has_left:
            return data
        verdict = stage.on_data(side, Window(ConstBuffer(data), 0, len(data)))
        return self._apply(index, data, verdict)

    def _apply(self, index: int, data: bytes, verdict: object) -> bytes:
        stage = self._stages[index]
        if isinstance(verdict, Forward):
            count = len(data) if verdict.count is None else verdict.count
            if not 0 <= count <= len(data):
                raise FilterFailed(stage.name, f"released {count} of {len(data)} bytes")
            if len(data) - count > self._hold_bytes_max:
                raise LimitExceeded("stream_hold_bytes_max", self._hold_bytes_max)
            self._held[index] = data[count:]
            return data[:count]
        if isinstance(verdict, Rewrite):
            return verdict.data
        if isinstance(verdict, Cut):
            self.cut_reason = verdict.reason
            return b""
        if isinstance(verdict, Leave):
            stage.has_left = True
            return data
        raise FilterFailed(stage.name, f"answered {verdict!r}")
