"""Failures: an exception of the gate as facts, so that a filter in a cell can catch what it would.

``calls`` carries them. The invariant: what the filter API promises to raise arrives as the same
class with the same facts; any other is a ``GateFailed`` that says what it was.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sluicegate.errors import (
    BadContext,
    FilterFailed,
    LimitExceeded,
    OperationPending,
    ProtocolError,
    Side,
    SluicegateError,
    TransportError,
    WrongThread,
)

__all__ = ["FailureFacts", "GateFailed", "shortened"]


class GateFailed(SluicegateError):
    """The gate could not do what the filter asked, for a reason that has no class of its own."""


class FailureFacts(msgspec.Struct, array_like=True):
    """One exception, flat."""

    kind: str
    text: str = ""
    """Or the name of the limit."""
    number: float = 0
    """The errno, or the bound of the limit."""
    side: str = ""

    @classmethod
    def of(cls, error: BaseException) -> FailureFacts:
        """Take an exception apart."""
        match error:
            case TransportError():
                return cls("TransportError", shortened(error.doing), error.error, error.side.value)
            case LimitExceeded():
                return cls("LimitExceeded", error.limit, error.bound)
            case FilterFailed():
                return cls("FilterFailed", shortened(error.cause), side=error.filter_name)
            case ProtocolError():
                return cls("ProtocolError", shortened(error.hint), side=error.side.value)
            case LookupError():
                # A KeyError shows its text in quotes.
                return cls("LookupError", shortened(str(error.args[0]) if error.args else ""))
            case _:
                return cls._of_text(error)

    @classmethod
    def _of_text(cls, error: BaseException) -> FailureFacts:
        for kind in _BY_TEXT.values():
            if isinstance(error, kind):
                return cls(kind.__name__, shortened(str(error)))
        return cls("GateFailed", shortened(f"{type(error).__name__}: {error}"))

    def error(self) -> Exception:
        """Put the exception together again."""
        side = Side(self.side) if self.side in _SIDES else Side.INTERNAL
        match self.kind:
            case "TransportError":
                return TransportError(int(self.number), side, self.text)
            case "LimitExceeded":
                return LimitExceeded(self.text, self.number)
            case "FilterFailed":
                return FilterFailed(self.side, self.text)
            case "ProtocolError":
                return ProtocolError(self.text, side)
            case _:
                return _BY_TEXT.get(self.kind, GateFailed)(self.text)


_BY_TEXT: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (BadContext, OperationPending, WrongThread, LookupError, TypeError, ValueError)
}
"""Those that carry a text and nothing else."""

_SIDES: Final = {side.value for side in Side}


def shortened(text: str) -> str:
    """Cut a text to what a message has room for."""
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…"


_TEXT_CHARACTERS_MAX: Final = 4000
"""A reason; records are read by people."""
