"""Sinks: records on their way to other systems, beside the log. This file only re-exports.

The invariant: a sink that is slow, full or gone holds up nobody; what it cannot take within its
bound is counted, never silent.
"""

from .settings import SinkSettings
from .sink import Sink

__all__ = ["Sink", "SinkSettings"]
