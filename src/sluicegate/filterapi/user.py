"""User: who a session's client has shown to be, as filters and rules see it.

Entry listeners make one from what an authenticator said, filters make one for private sessions. The
invariant: it holds names only; nothing in it proves anything to anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["User"]


@dataclass(frozen=True, slots=True)
class User:
    """One authenticated user."""

    name: str
    """Canonical, as rules write it."""
    groups: tuple[str, ...] = ()
    """The groups that the user is in."""
    scheme: str = ""
    """What vouches for the name: ``password``, or what the filter that made it says."""
