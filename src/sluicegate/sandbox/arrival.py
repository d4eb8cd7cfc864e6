"""Arrival: what a launched process does before anything else.

``launch`` writes the arguments, ``app.cell`` and ``app.scanner_process`` arrive with them. The
invariant: when ``arrive`` has returned a wire, the process is confined.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from sluicegate import collector

from .confinement import CannotConfineError, confine
from .message import Message, encode
from .wire import WireSocket

__all__ = ["arrive"]


def arrive(refusal: Callable[[CannotConfineError], Message]) -> WireSocket | None:
    """Confine this process, and return its end of the wire.

    Args:
        refusal: Makes what the gate is told where this kernel cannot confine it; then there is no
            wire, and nothing to do.
    """
    collector.resume()
    descriptor, parent, memory_bytes_max, readable = (int(one) for one in sys.argv[1:5])
    paths = sys.argv[5:]
    raw = WireSocket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    try:
        confine(
            parent,
            readable=paths[:readable],
            secret=paths[readable:],
            memory_bytes_max=memory_bytes_max,
        )
    except CannotConfineError as error:
        raw.send(encode(refusal(error)))
        return None
    return raw
