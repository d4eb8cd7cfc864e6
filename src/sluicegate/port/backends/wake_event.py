"""WakeEvent: what any thread, or a signal handler, sets to wake a driver that waits.

Each driver has one and waits for its descriptor in its own way. The invariant: setting one that is
closed does nothing, so no descriptor that somebody else has by now is ever written to.
"""

from __future__ import annotations

import os
import threading

__all__ = ["WakeEvent"]


class WakeEvent:
    """An ``eventfd`` (Linux 2.6.27)."""

    __slots__ = ("_lock", "descriptor")

    def __init__(self, flags: int = 0) -> None:
        """Make one.

        Args:
            flags: ``EFD_NONBLOCK``, or nothing.

        Raises:
            OSError: Out of descriptors.
        """
        # Reentrant, because a signal handler may wake in the middle of ``close``.
        self._lock = threading.RLock()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | flags)
        #: Readable once it was set; -1 when it is closed.

    def set(self) -> None:
        """Wake whoever waits."""
        with self._lock:
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Close it, once."""
        with self._lock:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)
