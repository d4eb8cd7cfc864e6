"""A cell without a process: the same messages, on the gate's own port, in virtual time.

``isolated`` wraps a filter for playbooks and checks, so that one suite runs both in the gate and
behind the wire. The invariant: every message is encoded and decoded on its way, and nothing but
messages and descriptors passes from one side to the other.
"""

from __future__ import annotations

import dataclasses
import os
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
from sluicegate.sandbox.launch import Launched
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
        self.server.wire = _InlineWire(port, decode_from_cell, on_message)

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

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """As ``Wire.send``."""
        if self._is_closed:
            return
        data, sent = encode(message), [os.dup(one) for one in descriptors]
        self._port.post(lambda: self._deliver(data, sent))

    def _deliver(self, data: bytes, sent: list[int]) -> None:
        if self._is_closed:
            for one in sent:
                os.close(one)
        else:
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
