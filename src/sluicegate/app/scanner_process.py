"""A scanner process: from a bare interpreter to one that looks at objects and can do nothing else.

``sandbox.launch`` runs ``main`` in a fresh interpreter. The invariant: the process is confined
before the first byte of an object is read, and it ends with the wire.
"""

from __future__ import annotations

import contextlib
import os

from sluicegate.sandbox.arrival import arrive
from sluicegate.sandbox.blocking_wire import BlockingWire
from sluicegate.scan.examination.server import serve
from sluicegate.scan.messages import Unable, decode_to_process
from sluicegate.scan_limits import SCAN_NICENESS

from .early import load_early

__all__ = ["main"]


def main() -> None:
    """Confine this process, then serve the wire with which it was launched."""
    load_early("email.parser")  # else with the first mail
    # Relaying comes first: what is scanned waits anyway.
    os.nice(SCAN_NICENESS)
    raw = arrive(lambda error: Unable(f"{error.cause} ({error.cure})"))
    if raw is None:
        return
    with contextlib.suppress(OSError):  # the gate is gone
        serve(BlockingWire(raw, decode_to_process))
    os._exit(0)
