"""Answerable: whose work an internal error was raised in, so that it ends and nothing else does.

``port`` asks for every exception out of a completion, a posted task, a timer or a coroutine that
nobody has taken: a fault of ours. The invariant: whatever was in hand when it was raised is told,
the innermost first; what was not goes on.

The frames of the exception say what was in hand. Nothing is noted beforehand, as the scope of
filters is (``scope.py``): our own completions are the hot path, and many of them work for several
connections in turn (a resolver's answer, a pool, a stream of HTTP/2), so that whoever started the
operation is not always the one at fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType, MethodType
from typing import TYPE_CHECKING, Final, Protocol, TypeGuard

from .layer import LayeredSocket

if TYPE_CHECKING:
    from .backend import RawSocket

__all__ = ["Answerable", "end_both_ways", "in_hand", "is_answerable"]


class Answerable(Protocol):
    """Who ends when an error of ours is raised in its work."""

    def on_internal_error(self, error: BaseException) -> None:
        """End at once, with the error as the reason; may be told of one error twice."""
        ...


def in_hand(error: BaseException, told: object = None) -> Iterator[Answerable]:
    """Return everybody who was worked for when an exception was raised, the innermost first.

    Args:
        error: The exception.
        told: Who was called to begin with, should it not even have come to a frame.
    """
    held: list[object] = []
    raised: BaseException | None = error
    while raised is not None:
        frames: list[FrameType] = []
        trace = raised.__traceback__
        while trace is not None:
            frames.append(trace.tb_frame)
            trace = trace.tb_next
        held += [value for frame in reversed(frames) for value in frame.f_locals.values()]
        raised = raised.__context__  # what it was raised over has broken something, too
    seen: set[int] = set()
    for value in (*held, told):
        # Whoever is to be called by a method of its own was to be told, and will not be.
        one = value.__self__ if isinstance(value, MethodType) else value
        if is_answerable(one) and id(one) not in seen:
            seen.add(id(one))
            yield one


def is_answerable(value: object) -> TypeGuard[Answerable]:
    """Tell whether somebody ends by an error of ours; its class is asked, as stand-ins say yes."""
    return hasattr(type(value), "on_internal_error")


def end_both_ways(raw: RawSocket) -> None:
    """Let a socket's peer know the end, where an error hides whose the socket is by now.

    Whoever has taken it sees the end, too, and closes it; else it is closed as the last that
    refers to it goes.
    """
    while isinstance(raw, LayeredSocket):
        raw = raw.inner
    with contextlib.suppress(OSError):  # it has gone, or is closed
        raw.shutdown(_SHUT_RDWR)


_SHUT_RDWR: Final = 2
