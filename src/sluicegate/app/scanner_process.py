"""A scanner process: from a bare interpreter to one that looks at objects and can do nothing else.

``sandbox.launch`` runs ``main`` in a fresh interpreter. The invariant: the process is confined
before the first byte of an object is read, and it ends with the wire.
"""

from __future__ import annotations

import contextlib
import os
import sys

from sluicegate.sandbox.blocking_wire import BlockingWire
from sluicegate.sandbox.confinement import CannotConfineError, confine
from sluicegate.sandbox.message import encode
from sluicegate.sandbox.wire import WireSocket
from sluicegate.scan.examination.server import serve
from sluicegate.scan.messages import Unable, decode_to_process
from sluicegate.scan_limits import SCAN_NICENESS

__all__ = ["main"]


def main() -> None:
    """Confine this process, then serve the wire whose descriptor is the first argument."""
    descriptor, parent, memory_bytes_max, readable = (int(one) for one in sys.argv[1:5])
    raw = WireSocket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    paths = sys.argv[5:]
    # Relaying comes first: what is scanned waits anyway.
    os.nice(SCAN_NICENESS)
    try:
        confine(
            parent,
            readable=paths[:readable],
            secret=paths[readable:],
            memory_bytes_max=memory_bytes_max,
        )
    except CannotConfineError as error:
        raw.send(encode(Unable(f"{error.cause} ({error.cure})")))
        return
    with contextlib.suppress(OSError):  # the gate is gone
        serve(BlockingWire(raw, decode_to_process))
    os._exit(0)
