"""Who may do what in the console: three roles, each with all that the one before may.

The invariant: a user has exactly one role, by the group of that name in the console's users file.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from typing_extensions import override

__all__ = ["Role", "role_of"]


class Role(enum.IntEnum):
    """What somebody may do."""

    VIEWER = 1
    """See everything but secrets."""
    OPERATOR = 2
    """End connections, acknowledge alerts, save queries."""
    ADMINISTRATOR = 3
    """Change the policy, export certificates, see the console's users."""

    @override
    def __str__(self) -> str:
        return self.name.lower()


def role_of(groups: Iterable[str]) -> Role | None:
    """Return the role that groups give: the greatest; None: they give none."""
    named = {str(role): role for role in Role}
    return max((named[group] for group in groups if group in named), default=None)
