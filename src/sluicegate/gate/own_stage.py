"""OwnStage: a stream filter that the gate itself puts into a connection, because its rule says so.

``rule_limits`` and ``hello_check`` have one each. The invariant: it never counts as a filter that
looks at content: where a rule wants that, some other one has to be there.
"""

from __future__ import annotations

from sluicegate.filterapi import Position, StreamFilter

__all__ = ["OwnStage"]


class OwnStage(StreamFilter):
    """A stage of the gate's own, at the client."""

    __slots__ = ()

    position = Position.NAT
