"""The reason code of what ended by an error of ours.

Whatever is ``port.Answerable`` ends by it. The invariant: it names the kind of the error only; its
words, which may quote a client, and its trace are in the gate's own output.
"""

from __future__ import annotations

__all__ = ["internal_error"]


def internal_error(error: BaseException) -> str:
    """Return why something ended in which an error of ours was raised."""
    return f"internal error: {type(error).__name__}"
