"""Evidence: what passed to be learned from, counted by who wanted what.

``learn propose`` fills it from the log, ``proposal`` makes rules of it. The invariant: it holds
exactly what was asked for: canonical hosts, ports, clients and users, and nothing that was derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpNetwork
from sluicegate.documents import Wrong
from sluicegate.errors import LimitExceeded
from sluicegate.identity.users import check_user_name
from sluicegate.names import CanonicalHost, classify
from sluicegate.policy.destinations import NO_RULE
from sluicegate.policy.learn import LEARNING
from sluicegate.policy_limits import LEARNED_DESTINATIONS_MAX

from .offline_gate import OfflineGate
from .past import PastDecision, Unanswerable, ask_again

__all__ = ["Evidence", "Seen", "Wish"]

_LEARN_RULE: Final = "learn:"
"""Begins the name by which records know a time of learning."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody wants something."""

    listener: str
    client: str
    user: str
    host: CanonicalHost
    protocol: str
    port: int


@dataclass(slots=True)
class Seen:
    """How often, and when."""

    first: float
    last: float
    learned: int = 0
    refused: int = 0

    @property
    def count(self) -> int:
        """All of it."""
        return self.learned + self.refused


class Evidence:
    """Collects wishes from decision records.

    Args:
        gate: Whose listeners, users and names count.
        clients: Only of these; none: of everybody.
        with_denied: Also what no rule spoke of and was refused.
    """

    def __init__(
        self, gate: OfflineGate, clients: tuple[IpNetwork, ...] = (), *, with_denied: bool = False
    ) -> None:
        self.seen: dict[Wish, Seen] = {}
        self.left_out: dict[str, int] = {}
        #: What no rule can be proposed for, by reason.
        self._gate = gate
        self._clients = clients
        self._with_denied = with_denied

    def take(self, past: PastDecision) -> None:
        """Count a decision, if there is something to learn from it.

        Raises:
            LimitExceeded: There is more than anybody would review.
        """
        is_learned = past.is_allowed and (
            past.reason == LEARNING or past.rule.startswith(_LEARN_RULE)
        )
        is_denied = self._with_denied and not past.is_allowed and past.reason == NO_RULE
        if not (is_learned or is_denied):
            return
        asked = ask_again(past, self._gate)
        if isinstance(asked, Unanswerable):
            self._leave_out(asked.why)
            return
        if asked.host is None:
            return  # leave to send datagrams: where they go has records of its own
        if self._clients and not any(asked.client.ip in one for one in self._clients):
            return
        why = _obstacle(asked.host, past.user)
        if why:
            self._leave_out(why)
            return
        wish = Wish(
            asked.listener, asked.client.host, past.user, asked.host, asked.protocol, asked.port
        )
        seen = self.seen.get(wish)
        if seen is None:
            if len(self.seen) >= LEARNED_DESTINATIONS_MAX:
                raise LimitExceeded("LEARNED_DESTINATIONS_MAX", LEARNED_DESTINATIONS_MAX)
            seen = self.seen[wish] = Seen(past.time, past.time)
        seen.first = min(seen.first, past.time)
        seen.last = max(seen.last, past.time)
        seen.learned += is_learned
        seen.refused += is_denied

    def _leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


def _obstacle(host: CanonicalHost, user: str) -> str:
    """Say why no rule is proposed for a wish; empty if one may be."""
    if host.address is not None and not classify(host.address).is_public:
        return "an address that is not public: write such a rule by hand, if it is meant"
    if user:
        try:
            check_user_name(user)
        except Wrong:
            return "its user has no name that rules can have"
    return ""
