"""The query language of the log, for commands, the API and the console. This file only re-exports.

A query is text (``parse``), then a value (``query``), and then either a test of records in memory
(``matching``) or a condition of a database (``sql``). The invariant: both choose the same records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .fields import FIELDS, Field, FieldType
    from .parse import QueryRefused, parse_query
    from .query import EVERYTHING, Query
else:
    __getattr__ = front(
        __name__,
        fields=("FIELDS", "Field", "FieldType"),
        parse=("QueryRefused", "parse_query"),
        query=("EVERYTHING", "Query"),
    )

__all__ = [
    "EVERYTHING",
    "FIELDS",
    "Field",
    "FieldType",
    "Query",
    "QueryRefused",
    "parse_query",
]
