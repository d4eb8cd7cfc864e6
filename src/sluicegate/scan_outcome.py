"""Scan outcome: what a scanner can say of an object.

``filterapi`` shows it to filters, ``scan`` and its sandboxed processes answer with it. The
invariant: what was not looked at to its end is never ``CLEAN``.
"""

from __future__ import annotations

import enum

__all__ = ["ScanOutcome"]


class ScanOutcome(enum.StrEnum):
    """What a scanner can say."""

    CLEAN = "clean"
    """All of it was looked at, and nothing was found."""
    FOUND = "found"
    ENCRYPTED = "encrypted"
    """A part of it is encrypted, so nobody can tell."""
    CORRUPT = "corrupt"
    """A part of it is damaged, or of a kind into which nobody can look."""
    OVER_LIMIT = "over-limit"
    """It is larger, deeper or more than may be looked at."""
    MODIFIED = "modified"
    """All of it was looked at, and the scanner has other bytes to stand in its place."""
    NOT_SCANNED = "not-scanned"
    """It was not looked at, or not to its end: an error, nobody there, too late, a limit of
    somebody else's."""
