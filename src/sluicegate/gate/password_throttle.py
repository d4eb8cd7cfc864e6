"""PasswordThrottle: who sent too many wrong passwords is not asked again for a while.

``entry_handshake`` asks it before a verification, which costs a tenth of a second of CPU, and tells
it of every refusal. The invariant: what it keeps is bounded, and a client that waits the window out
is heard again.
"""

from __future__ import annotations

from collections import OrderedDict

from sluicegate.clock import Clock
from sluicegate.limits import PASSWORD_THROTTLE_CLIENTS_MAX, Limits

__all__ = ["PasswordThrottle"]


class PasswordThrottle:
    """Wrong passwords by client address, of one worker."""

    __slots__ = ("_clock", "_failures", "_limits")

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        #: How many, and when the first of them stops to count.

    def __len__(self) -> int:
        return len(self._failures)

    def is_refused(self, client: str) -> bool:
        """Tell whether a client has used its attempts up."""
        return self._count(client) >= self._limits.password_failures_max

    def note_failure(self, client: str) -> None:
        """Count a wrong password."""
        count = self._count(client)
        until = self._clock.monotonic() + self._limits.password_failures_window_s
        if count:
            until = self._failures[client][1]
        self._failures[client] = count + 1, until
        self._failures.move_to_end(client)
        if len(self._failures) > PASSWORD_THROTTLE_CLIENTS_MAX:
            self._failures.popitem(last=False)

    def _count(self, client: str) -> int:
        known = self._failures.get(client)
        if known is None:
            return 0
        if known[1] <= self._clock.monotonic():
            del self._failures[client]
            return 0
        return known[0]
