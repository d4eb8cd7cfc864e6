"""Suggestion: what an operator may have meant by a name that does not exist.

Whatever reads names from people says it: documents, queries of the log. The invariant: it always
says what to write, if there is anything.
"""

from __future__ import annotations

import difflib

__all__ = ["suggest"]


def suggest(written: str, known: list[str]) -> str:
    """Make the cure for a name that does not exist."""
    close = difflib.get_close_matches(written, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"one of: {', '.join(known)}" if known else "there is nothing to set here"
