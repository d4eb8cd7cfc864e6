"""Collector: what finds circles of objects, off while a process is loaded, and seldom after that.

Every interpreter of a gate begins with ``PAUSED``, and so does the command; they go by ``end``,
which frees nothing one by one. The invariant: it looks again before the process works for anybody:
whoever lets one begin paused calls ``resume``.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import Final

__all__ = ["PAUSED", "THRESHOLDS", "end", "quieten", "resume"]

PAUSED: Final = "import gc; gc.disable()"
"""What an interpreter runs first. Modules make many objects and keep them: a tenth of the time to
load them went into looking for those that nobody has."""

THRESHOLDS: Final = (50_000, 20, 100)
"""Allocations before a collection: the data path makes no cycles, so looking often finds nothing
(CPython's own first number is 700)."""


def resume() -> None:
    """Let it look again, at what is made from now on.

    What modules left in circles while they were loaded, less than half a MiB, stays: to look for it
    takes as long as was saved.
    """
    gc.freeze()
    gc.enable()


def quieten() -> None:
    """Take what the start has made out of its sight, and let it look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def end(status: int) -> None:
    """End the process, and leave its memory to the kernel.

    The interpreter would look through all of it and free each object by itself: 30 ms of a worker,
    50 ms of a command that reads a configuration. It returns, and so leaves the end to the
    interpreter, where that has more to do: a thread to wait for, or to say what could not be
    written.

    Args:
        status: Of the process.
    """
    if any(one is not threading.main_thread() and not one.daemon for one in threading.enumerate()):
        return
    # What a filter or a library left for the end.
    atexit._run_exitfuncs()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(status)
