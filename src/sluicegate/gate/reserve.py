"""Descriptors kept back: a gate that has run out of them must still answer, and get out of it.

``control`` lends its own out to accept a client and to answer it, ``dial_queue`` its own to the
first dial of a burst. The invariant: between two loans a reserve is as full as the machine allows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Final

__all__ = ["DescriptorReserve"]

_COUNT: Final = 4
"""One for the client, one for what an answer looks up (``/proc``), two to spare."""


class DescriptorReserve:
    """A few descriptors that can be let go for a moment; lives as long as the control socket."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[int] = []
        self.fill()

    @property
    def is_there(self) -> bool:
        """Whether any descriptor is kept."""
        return bool(self._kept)

    def fill(self) -> None:
        """Take back what was lent, as far as there are any."""
        with contextlib.suppress(OSError):  # none is left: the next call tries again
            while len(self._kept) < _COUNT:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """Let the block have them; it may keep some, and must not wait."""
        self.close()
        try:
            yield
        finally:
            self.fill()

    def close(self) -> None:
        """Give all of them up."""
        while self._kept:
            os.close(self._kept.pop())
