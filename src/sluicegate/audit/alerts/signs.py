"""Signs: what the line of a record has in it that a query chooses, so that others are not decoded.

Most records of a gate are of what went well, and most alerts about what did not: one look into the
line tells. The invariant: a line without a sign is of a record that the query does not choose; a
line with one may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from sluicegate.audit.search.fields import FieldType
from sluicegate.audit.search.query import All, Any, Compare, Operator, Pattern, Query

__all__ = ["Signs", "may_be_chosen", "signs_of", "signs_of_any"]

Signs: TypeAlias = frozenset[bytes] | None
"""Texts in lower case, of which a line has one at least; none: no line has; None: any may be."""

_PLAIN: Final = re.compile(r"[a-z0-9_.-]{4,}")
"""What JSON writes as it is, and is worth a look."""


def signs_of(query: Query, kind: str) -> Signs:
    """Return what tells that a record of a kind may be chosen."""
    match query:
        case All(parts):
            known = [one for one in (signs_of(part, kind) for part in parts) if one is not None]
            return min(known, key=len, default=None)
        case Any(parts):
            return signs_of_any(signs_of(part, kind) for part in parts)
        case Compare(field, Operator.IS, values) if kind in field.kinds:
            patterns = [one for one in values if isinstance(one, Pattern)]
            if field.name == "kind":
                return None if any(one.matches(kind) for one in patterns) else frozenset()
            if field.type is not FieldType.TEXT or len(patterns) < len(values):
                return None
            pieces = [max(one.pieces, key=len) for one in patterns]
            is_plain = all(_PLAIN.fullmatch(piece) for piece in pieces)
            return frozenset(piece.encode("ascii") for piece in pieces) if is_plain else None
        case Compare(field):
            return None if kind in field.kinds else frozenset()
        case _:
            return None


def signs_of_any(several: Iterable[Signs]) -> Signs:
    """Return what tells that one of several queries may choose a record."""
    found: set[bytes] = set()
    for one in several:
        if one is None:
            return None
        found |= one
    return frozenset(found)


def may_be_chosen(line: bytes, signs: Signs) -> bool:
    """Tell whether the line's record may be chosen; False is certain."""
    if signs is None:
        return True
    if not signs:
        return False
    lower = line.lower()
    return b"\\u" in lower or any(sign in lower for sign in signs)
