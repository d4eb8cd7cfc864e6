"""Which kinds of records a query can choose, so that no other record is tried with it."""

from __future__ import annotations

from sluicegate.audit.search.fields import KINDS
from sluicegate.audit.search.query import All, Any, Compare, Operator, Pattern, Query

__all__ = ["kinds_chosen"]


def kinds_chosen(query: Query) -> frozenset[str]:
    """Return kinds beside which a query chooses nothing; it may choose nothing of them, too."""
    match query:
        case All(parts):
            return KINDS.intersection(*map(kinds_chosen, parts))
        case Any(parts):
            return frozenset[str]().union(*map(kinds_chosen, parts))
        case Compare(field, operator, values) if field.name == "kind":
            patterns = [one for one in values if isinstance(one, Pattern)]
            named = {kind for kind in KINDS if any(one.matches(kind) for one in patterns)}
            return KINDS - named if operator is Operator.IS_NOT else frozenset(named)
        case Compare(field):
            return field.kinds
        case _:
            return KINDS
