"""PolicyClock: notices when a policy decides otherwise because time has passed.

Schedules begin and end, rules and learning expire: ``service`` sets it with every policy, and is
told at each of these instants. The invariant: nothing that was decided before such an instant is
kept beyond it, also when somebody sets the machine's clock.

Time is the port's reading for the turn, by which everything in the turn is decided: one that is
newer would have what is open judged anew by the time before the change, and then no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sluicegate.policy import PolicySnapshot
from sluicegate.policy_limits import CLOCK_LOOKED_AT_S
from sluicegate.port import CompletionPort, Timer

__all__ = ["PolicyClock"]


class PolicyClock:
    """The next change by time of one service's policy."""

    __slots__ = ("_on_change", "_policy", "_port", "_set_at", "_timer", "next_change")

    def __init__(self, port: CompletionPort, on_change: Callable[[], None]) -> None:
        """Make it.

        Args:
            port: Of the service.
            on_change: Called when the policy in force decides otherwise than before.
        """
        self.next_change = math.inf
        #: When that is, in seconds since the epoch.
        self._port = port
        self._on_change = on_change
        self._policy: PolicySnapshot | None = None
        self._set_at = 0.0
        self._timer: Timer | None = None

    def set(self, policy: PolicySnapshot) -> None:
        """Watch for the changes of a policy."""
        self.stop()
        self._policy = policy
        now = self._set_at = self._port.wall
        self.next_change = policy.next_change(now)
        if not math.isinf(self.next_change):
            # Not one timer for all of it: the machine's clock may be set meanwhile.
            delay_s = min(max(0.0, self.next_change - now), CLOCK_LOOKED_AT_S)
            self._timer = self._port.call_after(delay_s, self._on_timer)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        policy, now = self._policy, self._port.wall
        assert policy is not None, "it was set"
        is_due = now >= self.next_change or now < self._set_at
        self.set(policy)
        if is_due:
            self._on_change()
