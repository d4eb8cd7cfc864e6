"""Sieve: which rows of a table what is typed chooses: words, or a query as the log is asked.

The invariant: text of clients is only compared, never interpreted.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Final

from sluicegate.audit.search import parse_query
from sluicegate.audit.search.fields import FIELDS
from sluicegate.audit.search.matching import predicate_of

from .row import Row

__all__ = ["Sieve", "sieve_of"]

Sieve = Callable[[Row], bool]


def sieve_of(typed: str, now: float, *, is_asked: bool) -> Sieve:
    """Return the test that rows must pass.

    Args:
        typed: Words, all of which a row has to have somewhere; or, with the name of a field of
            records in it (``client:10.0.0.0/8 rule:web*``), a query.
        now: What durations are counted back from, in seconds since the Unix epoch.
        is_asked: Whether the table takes queries.

    Raises:
        QueryRefused: It is a query, and means nothing (yet).
    """
    if is_asked and any(found[1] in FIELDS for found in _FIELD.finditer(typed)):
        zone = dt.datetime.now().astimezone().tzinfo or dt.UTC
        passes = predicate_of(parse_query(typed, now, zone))
        return lambda row: passes(row.fields)
    words = typed.lower().split()
    return lambda row: all(word in row.searched for word in words)


_FIELD: Final = re.compile(r"(?:^|[\s(-])([A-Za-z_]+)(?:\.[\w-]+)? ?(?:!=|>=|<=|[:=<>])", re.ASCII)
"""A field and its operator, where a word may begin: an address has colons, too."""
