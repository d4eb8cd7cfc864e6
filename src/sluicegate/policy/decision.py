"""The decision on one new connection: who asks where, and may they.

The gate's listener calls ``decide`` once per connection, before anything is dialled. The invariant:
the answer depends on its arguments alone, and what no rule names is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluicegate.address import SocketAddress

from .publications import CompiledPublication
from .rules import Publication
from .snapshot import PolicySnapshot

__all__ = [
    "CLIENT_NOT_LISTED",
    "NOT_NOW",
    "NOT_PUBLISHED",
    "PUBLISHED",
    "Decision",
    "choose_publication",
    "decide",
]

PUBLISHED: Final = "published"
"""A publication names the client."""

CLIENT_NOT_LISTED: Final = "client-not-listed"
"""The listener has publications; none names the client."""

NOT_NOW: Final = "not-now"
"""Publications name the client, at other times."""

NOT_PUBLISHED: Final = "not-published"
"""The listener has no publication."""


class Decision:
    """An answer: immutable by convention, and made per rule and not per connection where it can."""

    __slots__ = ("allowed", "publication", "reason")

    def __init__(self, allowed: bool, publication: Publication | None, reason: str) -> None:
        self.allowed = allowed
        self.publication = publication
        #: The rule that decided; None when none did.
        self.reason = reason
        #: A reason code for the record.


_NOT_PUBLISHED: Final = Decision(False, None, NOT_PUBLISHED)
_NOT_LISTED: Final = Decision(False, None, CLIENT_NOT_LISTED)
_NOT_NOW: Final = Decision(False, None, NOT_NOW)


def decide(snapshot: PolicySnapshot, listener: str, client: SocketAddress, now: float) -> Decision:
    """Decide whether a client may use what a listener publishes; the first matching rule wins.

    Args:
        snapshot: The policy.
        listener: The listener that it came to.
        client: Who came.
        now: Seconds since the epoch (UTC).
    """
    candidates = snapshot.find(listener, client)
    if candidates and candidates[0].is_unconditional:
        return Decision(True, candidates[0].publication, PUBLISHED)
    if not candidates:
        return _NOT_LISTED if listener in snapshot.publications_by_listener else _NOT_PUBLISHED
    return choose_publication(candidates, client, now)


def choose_publication(
    candidates: Iterable[CompiledPublication], client: SocketAddress, now: float
) -> Decision:
    """Return the first of some publications, in order, that is for a client at an instant."""
    refusal = _NOT_PUBLISHED
    for one in candidates:
        if refusal is _NOT_PUBLISHED:
            refusal = _NOT_LISTED
        if one.covers(client):
            if one.is_in_time(now):
                return Decision(True, one.publication, PUBLISHED)
            refusal = _NOT_NOW
    return refusal
