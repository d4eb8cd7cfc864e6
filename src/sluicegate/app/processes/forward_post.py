"""ForwardPost: the place that the forwarder fills, in the supervisor.

``store_post`` has it, for both follow the log. The invariant: nobody waits for the forwarder but
the end of the gate, and that not for long.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from typing_extensions import override

from sluicegate.app.config import Configuration
from sluicegate.audit.store import LogPosition, end_of_log
from sluicegate.log_limits import SINK_END_S
from sluicegate.process_limits import WORKER_GRACE_S

from .child import Child
from .child_post import Begin, ChildPost, Upkeep
from .orders import AnyMessage, BeginForward, Forwarded, SinkState

__all__ = ["ForwardPost"]


class ForwardPost(ChildPost):
    """The forwarder of one gate, and its replacements."""

    end_s: ClassVar[float] = SINK_END_S + WORKER_GRACE_S
    """It sends what it can in a moment."""

    def __init__(self, configuration: Configuration, upkeep: Upkeep) -> None:
        """Have none yet.

        Args:
            configuration: Says where the log is, and the sinks; without any nothing is started.
            upkeep: What every place needs.
        """
        super().__init__("forwarder", "forwarder", upkeep)
        self.sinks: list[SinkState] = []
        #: What the forwarder said last.
        self._told_by: Child | None = None
        #: Which one that was.
        self._left: dict[str, tuple[int, int]] = {}
        #: What those before it had sent and lost, by sink.
        self.begin = BeginForward(
            log=str(configuration.log_path),
            folder=str(configuration.state_dir / _FOLDER),
            begin=end_of_log(configuration.log_path) if configuration.sinks else LogPosition(),
            sinks=list(configuration.sinks),
        )

    @override
    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        found = super().warnings()
        for sink in self.sinks:
            if sink.failure:
                waiting = f"{sink.bytes_behind >> 10} KiB wait"
                found.append(f"the sink {sink.name} takes no records: {sink.failure}; {waiting}")
            if sink.lost:
                found.append(f"{sink.lost} records did not get to the sink {sink.name}")
        return found

    def totals(self) -> list[SinkState]:
        """Return how far sinks are, with what forwarders that have ended did."""
        found: list[SinkState] = []
        for one in self.sinks:
            sent, lost = self._left.get(one.name, (0, 0))
            found.append(msgspec.structs.replace(one, sent=one.sent + sent, lost=one.lost + lost))
        return found

    @override
    def _begin(self) -> Begin | None:
        return (self.begin, []) if self.begin.sinks else None

    @override
    def _on_said(self, child: Child, message: AnyMessage) -> None:
        if isinstance(message, Forwarded):
            if child is not self._told_by:
                self._left = {one.name: (one.sent, one.lost) for one in self.totals()}
                self._told_by = child
            self.sinks = message.sinks
        else:
            super()._on_said(child, message)


_FOLDER = "sinks"
