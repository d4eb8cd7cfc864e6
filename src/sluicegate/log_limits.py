"""What the log and whoever reads it may take: fixed numbers, each with its unit and its reason.

``audit`` and operators' commands use them. The invariant: what asks the log costs time that grows
with what is read, and with nothing else.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "QUERY_BYTES_MAX",
    "QUERY_DEPTH_MAX",
    "QUERY_STARS_MAX",
    "QUERY_TERMS_MAX",
    "QUERY_VALUES_MAX",
]

QUERY_BYTES_MAX: Final = 4096
"""The text of one query: more than anybody writes, and it fits into a URL."""

QUERY_TERMS_MAX: Final = 64
"""Comparisons and words of one query: each is tried on every record that is read."""

QUERY_VALUES_MAX: Final = 256
"""Values that one comparison lists: the clients of a small office."""

QUERY_DEPTH_MAX: Final = 16
"""Parentheses and negations inside one another: no reader of a query goes deeper on its stack."""

QUERY_STARS_MAX: Final = 4
"""Stars in one value: a database tries every way to place them."""
