"""Whose failure is it: the scope in which filter code runs.

The gate enters a scope (a connection) around every call into a filter; what the filter makes on the
port remembers it. The invariant: an exception out of filter code ends the connection of its scope
and nobody else's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

__all__ = ["FailureScope", "current_scope", "entered"]


class FailureScope(Protocol):
    """What a failure of filter code ends."""

    def on_filter_failure(self, error: BaseException) -> None:
        """Abort what the failed code was responsible for, and record why."""
        ...


_scope: ContextVar[FailureScope | None] = ContextVar("sluicegate_failure_scope", default=None)

#: The scope that is entered now, or None.
current_scope = _scope.get


@contextlib.contextmanager
def entered(scope: FailureScope | None) -> Iterator[None]:
    """Run the block in a scope."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
