"""The decision on one new connection: who asks where, and may they.

The gate's listener calls ``decide`` once per connection, before anything is dialled. The invariant:
the answer depends on its arguments alone, and what no rule names is refused.
"""

from __future__ import annotations

from typing import Final

from sluicegate.address import SocketAddress

from .rules import Publication
from .snapshot import PolicySnapshot

__all__ = ["CLIENT_NOT_LISTED", "NOT_PUBLISHED", "PUBLISHED", "Decision", "decide"]

PUBLISHED: Final = "published"
"""A publication names the client."""

CLIENT_NOT_LISTED: Final = "client-not-listed"
"""The listener has publications; none names the client."""

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


def decide(snapshot: PolicySnapshot, listener: str, client: SocketAddress) -> Decision:
    """Decide whether a client may use what a listener publishes; the first matching rule wins."""
    publication = snapshot.find(listener, client)
    if publication is not None:
        return Decision(True, publication, PUBLISHED)
    return _NOT_LISTED if listener in snapshot.publications_by_listener else _NOT_PUBLISHED
