"""Replies that a command did not ask for: the gate refused, or it is of another version."""

from __future__ import annotations

from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import AnyReply, RefusedReply

__all__ = ["unexpected"]


def unexpected(reply: AnyReply) -> SluicegateError:
    """Make the error for a reply that is no answer."""
    if isinstance(reply, RefusedReply):
        return SluicegateError("the gate refused: " + "; ".join(reply.causes))
    return SluicegateError(
        f"the gate answered with {type(reply).__name__} (is it of another version?)"
    )
