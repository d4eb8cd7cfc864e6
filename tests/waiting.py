"""Waiting for what another process does, of which no event tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["wait_until"]

FoundT = TypeVar("FoundT")

_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 60.0


def wait_until(
    condition: Callable[[], FoundT], what: str | Callable[[], str] = "it does not come true"
) -> FoundT:
    """Return what a condition finds, as soon as that is something.

    Args:
        condition: Looks once.
        what: What is wrong if it never finds anything, or says so then.
    """
    waiting = threading.Event()
    for _ in range(int(_PATIENCE_S / _LOOK_S)):
        found = condition()
        if found:
            return found
        waiting.wait(_LOOK_S)
    raise AssertionError(what if isinstance(what, str) else what())
