"""Whose failure is it: the scope in which filter code runs.

The gate enters a scope (a connection) around every call into a filter; what the filter makes on the
port remembers it. The invariant: an exception out of filter code ends the connection of its scope
and nobody else's.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

__all__ = ["FailureScope", "current_scope", "enter", "entered", "leave"]


class FailureScope(Protocol):
    """What a failure of filter code ends."""

    def on_filter_failure(self, error: BaseException) -> None:
        """Abort what the failed code was responsible for, and record why."""
        ...


_scope: ContextVar[FailureScope | None] = ContextVar("sluicegate_failure_scope", default=None)

#: The scope that is entered now, or None.
current_scope = _scope.get

#: Enter a scope for one call, and ``leave`` it by what this returns: half the cost of ``entered``.
enter = _scope.set
leave = _scope.reset


class entered:  # noqa: N801 - it reads as a verb: with entered(scope)
    """Run the block in a scope; a class, because a generator costs a microsecond per completion."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: FailureScope | None) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)
