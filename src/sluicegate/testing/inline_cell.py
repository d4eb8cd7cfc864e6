"""A cell without a process: the same messages, on the gate's own port, in virtual time.

``isolated`` wraps a filter for playbooks and checks, so that one suite runs both in the gate and
behind the wire. The invariant: every message is encoded and decoded on its way, and nothing but
messages and descriptors passes from one side to the other.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from typing_extensions import override

from sluicegate.app.cell_source import manifest_of
from sluicegate.app.filter_source import FilterClass, declared_model
from sluicegate.app.isolated import stand_in_of
from sluicegate.filterapi import ContentFilter, Filter
from sluicegate.gate.rule_settings import maker_of
from sluicegate.gate.settings import InstalledFilter, PerConnection
from sluicegate.isolation.cell import Cell, Phase
from sluicegate.isolation.messages import (
    Fault,
    FromCell,
    Manifest,
    Message,
    Probe,
    Start,
    ToCell,
    decode_from_cell,
    decode_to_cell,
    encode,
)
from sluicegate.isolation.server import CellServer
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort
from sluicegate.port.loop import current_port
from sluicegate.port.scope import entered
from sluicegate.sandbox.launch import Launched
from sluicegate.sandbox.message import MESSAGE_BYTES_MAX
from sluicegate.sandbox.wire import WireBroken

__all__ = ["InlineCell", "InlineLaunched", "isolated"]

MessageT = TypeVar("MessageT")


def isolated(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes the stand-in of a filter that runs behind the wire.

    Args:
        make: A filter's class, or what makes one: a content filter is made once, any other for each
            connection.
    """

    def make_isolated() -> Any:
        cell = InlineCell(make)
        stand_in = cell.stand_in
        return maker_of(stand_in, {})() if isinstance(stand_in, PerConnection) else stand_in

    return make_isolated


class InlineCell(Cell):
    """A cell on the running loop's port; it starts itself when it is first asked."""

    def __init__(self, make: Callable[..., Any], **limits: Any) -> None:
        self.launched: list[InlineLaunched] = []
        #: Every incarnation.
        self.failures: list[BaseException] = []
        self._made: object
        self.manifest = self.use(make)
        bounds = Limits(**limits)
        start = Start("", "", {}, dataclasses.asdict(bounds))
        super().__init__("inline", self._launch_inline, start, bounds, self.manifest)

    @property
    def stand_in(self) -> InstalledFilter:
        """What stands for the filter in the gate."""
        return stand_in_of(self, self.manifest)

    def use(self, make: Callable[..., Any]) -> Manifest:
        """Let the next incarnation load another filter, as after a repair."""
        made: Any = make()
        kind = cast("FilterClass", type(made))
        declared = declared_model(kind, "RuleSettings") if isinstance(make, type) else None
        self._made = (
            made
            if isinstance(made, ContentFilter | Filter)
            else PerConnection(make, declared, None)
        )
        return manifest_of(kind)

    @override
    def check_expected(self) -> None:
        if self.phase is not Phase.STOPPED:
            super().check_expected()

    @override
    async def wait_ready(self) -> None:
        port = current_port()
        if self.phase is Phase.STOPPED or self.port is not port:
            # One instance may serve several playbooks, each with a port of its own.
            self._watch = self._timer = None
            self._asked.clear()
            self.start_on(port, self.failures.append)
        await super().wait_ready()

    def _launch_inline(
        self,
        on_message: Callable[[FromCell, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        on_ended: Callable[[str], None],
    ) -> Launched:
        del on_broken
        launched = InlineLaunched(self._made, self.manifest, on_message, on_ended)
        self.launched.append(launched)
        return launched


class InlineLaunched:
    """One incarnation; satisfies ``sandbox.launch.Launched``."""

    def __init__(
        self,
        made: object,
        manifest: Manifest,
        on_message: Callable[[FromCell, list[int]], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self.pid = 1
        self.is_mute = False
        #: Whether the cell's loop stands: it hears nothing.
        port = current_port()
        self.server = CellServer(port, _Made(made, manifest), lambda: self._end("ended"))
        self._on_ended = on_ended
        self._has_ended = False
        self._port = port
        self.wire = _InlineWire(port, decode_to_cell, self._to_cell)
        to_gate = _InlineWire(port, decode_from_cell, on_message)
        self.server.wire = _CellEnd(to_gate, self.wire)

    def kill(self) -> None:
        """As ``Launched.kill``."""
        self.server.abandon()
        self._end("was killed by SIGKILL")

    def memory_bytes(self) -> int:
        """As ``Launched.memory_bytes``."""
        return 0

    def _to_cell(self, message: ToCell, descriptors: list[int]) -> None:
        if self.is_mute or self._has_ended:
            for one in descriptors:
                os.close(one)
        else:
            self.server.on_message(message, descriptors)

    def _end(self, how: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            self.wire.close()
            self.server.wire.close()
            self._port.post(lambda: self._on_ended(how))


class _InlineWire(Generic[MessageT]):
    """One direction; satisfies ``sandbox.wire.Wire``."""

    def __init__(
        self,
        port: CompletionPort,
        decode: Callable[[bytes], MessageT],
        on_message: Callable[[MessageT, list[int]], None],
    ) -> None:
        self._port = port
        self._decode = decode
        self._on_message = on_message
        self._is_closed = False
        self._queue: deque[tuple[bytes, list[int]]] = deque()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """As ``Wire.send``."""
        if self._is_closed:
            return
        data = encode(message)
        assert len(data) <= MESSAGE_BYTES_MAX, f"{type(message).__name__} is too long"
        self._queue.append((data, [os.dup(one) for one in descriptors]))
        self._port.post(self._deliver)

    def flush(self) -> None:
        """Let the other end read all that was sent."""
        while self._queue:
            self._deliver()

    def take(self, is_wanted: Callable[[MessageT], bool]) -> MessageT:
        """Return, before its turn, the first message that is wanted.

        Raises:
            WireBroken: There is none.
        """
        for index, (data, _) in enumerate(self._queue):
            message = self._decode(data)
            if is_wanted(message):
                del self._queue[index]
                return message
        raise WireBroken("has ended")

    def _deliver(self) -> None:
        if not self._queue:
            return  # it was read before its turn
        data, sent = self._queue.popleft()
        self._on_message(self._decode(data), sent)

    @property
    def is_congested(self) -> bool:
        """As ``Wire.is_congested``: never, what is sent is posted."""
        return False

    def call_when_drained(self, action: Callable[[], None]) -> None:
        """As ``Wire.call_when_drained``."""
        self._port.post(action)

    async def drain(self) -> None:
        """As ``Wire.drain``: what was sent is on its way."""

    def close(self) -> None:
        """As ``Wire.close``."""
        self._is_closed = True
        for _, descriptors in self._queue:
            for one in descriptors:
                os.close(one)
        self._queue.clear()


class _CellEnd:
    """The cell's end; satisfies ``isolation.server.CellWire``."""

    def __init__(self, to_gate: _InlineWire[FromCell], to_cell: _InlineWire[ToCell]) -> None:
        self._to_gate = to_gate
        self._to_cell = to_cell
        self.send = to_gate.send
        self.call_when_drained = to_gate.call_when_drained
        self.drain = to_gate.drain
        self.close = to_gate.close

    @property
    def is_congested(self) -> bool:
        """As ``Wire.is_congested``."""
        return self._to_gate.is_congested

    def wait_for(self, is_wanted: Callable[[ToCell], bool]) -> ToCell:
        """As ``CellWire.wait_for``: the gate reads what was sent, and its answer is there."""
        # What the gate does now is nobody's doing in the cell.
        with entered(None):
            self._to_gate.flush()
        return self._to_cell.take(is_wanted)


class _Made:
    """Satisfies ``isolation.server.FilterSource`` with a filter that exists."""

    def __init__(self, made: object, manifest: Manifest) -> None:
        self._made = made
        self._manifest = manifest

    def make(self, start: Start) -> tuple[object, Manifest]:
        """As ``FilterSource.make``."""
        del start
        return self._made, self._manifest

    def probe(self, probe: Probe) -> tuple[Manifest, list[Fault]]:
        """As ``FilterSource.probe``."""
        del probe
        return self._manifest, []
