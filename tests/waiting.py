"""Waiting for what another process does, of which no event tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["wait_until"]

FoundT = TypeVar("FoundT")

_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 120.0
"""By the clock, for a look may take its time; it is always looked more than once."""


def wait_until(
    condition: Callable[[], FoundT],
    what: str | Callable[[], str] = "it does not come true",
    look_s: float = _LOOK_S,
) -> FoundT:
    """Return what a condition finds, as soon as that is something.

    Args:
        condition: Looks once.
        what: What is wrong if it never finds anything, or says so then.
        look_s: Between looks, in seconds; more where who is asked counts questions.
    """
    waiting = threading.Event()
    until = time.monotonic() + _PATIENCE_S
    is_last = False
    while True:
        found = condition()
        if found:
            return found
        if is_last:
            break
        waiting.wait(look_s)
        is_last = time.monotonic() > until
    raise AssertionError(what if isinstance(what, str) else what())
