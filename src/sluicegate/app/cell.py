"""The process of an isolated filter: from a bare interpreter to a cell that answers.

``sandbox.launch`` runs ``main`` in a fresh interpreter. The invariant: the process is confined
before the first line of the filter's code runs, and it ends with the wire.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Final

from sluicegate.isolation.messages import ToCell, Unusable, decode_to_cell
from sluicegate.isolation.server import CellServer
from sluicegate.limits import Limits
from sluicegate.port.loop import current_port, run
from sluicegate.sandbox.arrival import arrive
from sluicegate.sandbox.wire import SocketWire, WireSocket

from .cell_source import CellSource

__all__ = ["main"]

_THREAD_STACK_BYTES: Final = 2 << 20
"""Of the bounded address space; the usual 8 MiB would be half of it with all threads."""

_QUEUE_BYTES_MAX: Final = 1 << 40
"""What the gate has not read yet is bounded by this process's memory."""

_LIMITS: Final = Limits(
    interactive_buffers_max=8,
    bulk_buffers_max=1,
    blocking_threads_max=8,
    blocking_threads_grown_max=16,
)
"""Of the cell's own port: it receives nothing from the network."""


def main() -> None:
    """Confine this process, then serve the wire with which it was launched."""
    threading.stack_size(_THREAD_STACK_BYTES)
    raw = arrive(lambda error: Unusable(error.cause, error.cure))
    if raw is not None:
        run(_serve(raw), backend="epoll", limits=_LIMITS)


async def _serve(raw: WireSocket) -> None:
    over = asyncio.Event()
    server = CellServer(current_port(), CellSource(), over.set)
    wire: SocketWire[ToCell] = SocketWire(
        raw, decode_to_cell, server.on_message, lambda _: os._exit(0), _QUEUE_BYTES_MAX
    )
    server.wire = wire
    await over.wait()
    await wire.drain()
    # Not by the way of exceptions and joins: a thread of the filter may never end.
    os._exit(0)
