"""ActionFailed: an action did not tell anybody, and why."""

from __future__ import annotations

from sluicegate.errors import SluicegateError

__all__ = ["ActionFailed"]


class ActionFailed(SluicegateError):
    """It may be tried again, unless it says that this is of no use."""

    def __init__(self, cause: str, *, is_final: bool = False) -> None:
        """Make one.

        Args:
            cause: Why; never a secret.
            is_final: Whether another attempt would end the same way.
        """
        super().__init__(cause)
        self.cause = cause
        self.is_final = is_final
