"""Sinks: records on their way to other systems, beside the log. This file only re-exports.

The invariant: a sink that is slow, full or gone holds up nobody; what it cannot take within its
bound is counted, never silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .settings import SinkSettings
    from .sink import Sink
else:
    __getattr__ = front(
        __name__,
        settings=("SinkSettings",),
        sink=("Sink",),
    )

__all__ = ["Sink", "SinkSettings"]
