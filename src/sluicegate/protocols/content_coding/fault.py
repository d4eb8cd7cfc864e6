"""Why a coded body is refused: one code per cause.

Every module of the package raises ``CodingError`` with one of these; records and the reference name
them. The invariant: a fault is final, and it does not depend on how the input was cut.
"""

from __future__ import annotations

import enum

from sluicegate.errors import ProtocolError

__all__ = ["CodingError", "CodingFault"]


class CodingFault(enum.Enum):
    """A cause: its code and the hint for records."""

    FIELD_MALFORMED = "content-encoding-malformed", "Content-Encoding is not a list of codings"
    UNKNOWN = "content-coding-unknown", "a content coding that the gate cannot read"
    TOO_MANY = "content-codings-too-many", "too many content codings, one over the other"
    MALFORMED = "content-coding-malformed", "the body is not exactly one stream of its coding"
    TRUNCATED = "content-coding-truncated", "the body ends before its coding does"
    TOO_LARGE = "content-coding-too-large", "the decoded body is too large"
    BOMB = "content-coding-bomb", "the body grows too much when it is decoded"

    def __init__(self, code: str, hint: str) -> None:
        self.code = code
        self.hint = hint


class CodingError(ProtocolError):
    """A coded body is refused: ``fault`` says why."""

    def __init__(self, fault: CodingFault, detail: str = "") -> None:
        super().__init__(f"{fault.hint} ({detail})" if detail else fault.hint)
        self.fault = fault
