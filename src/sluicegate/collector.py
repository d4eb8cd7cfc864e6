"""Collector: what finds circles of objects, off while a process is loaded, and seldom after that.

Every interpreter of a gate begins with ``PAUSED``, and so does the command. The invariant: it looks
again before the process works for anybody: whoever lets one begin paused calls ``resume``.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["PAUSED", "quieten", "resume"]

PAUSED: Final = "import gc; gc.disable()"
"""What an interpreter runs first. Modules make many objects and keep them: a tenth of the time to
load them went into looking for those that nobody has."""

_THRESHOLDS: Final = (50_000, 20, 100)
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
    gc.set_threshold(*_THRESHOLDS)
