"""Learning as operators see it: which entries let pass what no rule speaks of, and until when.

``Gate`` and ``Supervisor`` show it in their status. The invariant: no entry that is in effect is
left out, so learning is never on without being seen.
"""

from __future__ import annotations

from sluicegate.gate.views import LearnView
from sluicegate.policy import PolicySnapshot

__all__ = ["learn_views"]


def learn_views(snapshot: PolicySnapshot, now: float) -> list[LearnView]:
    """Return what is learned at an instant, in seconds since the epoch."""
    return [
        LearnView(name=one.name, clients=[str(it) for it in one.clients], until=one.until)
        for one in snapshot.policy.learn
        if now < one.until
    ]
