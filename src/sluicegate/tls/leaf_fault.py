"""Why a client gets no leaf: one code per cause.

``leaf_source`` and ``authority`` find them, records and pages show their codes. The invariant:
whoever gets no leaf gets a fault, and its connection is refused.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sluicegate.errors import SluicegateError

__all__ = ["LeafFailure", "LeafFault", "LeafRefused"]


class LeafFault(enum.Enum):
    """A cause: its code, and the hint for people."""

    NO_AUTHORITY = "leaf-no-authority", "no authority is configured that could sign certificates"
    SIGNER_DOWN = "leaf-signer-down", "the process that signs certificates is not there"
    SIGNER_LATE = "leaf-signer-late", "the process that signs certificates took too long"
    SIGNER_FAILED = "leaf-signer-failed", "the authority's key could not be used"
    TOO_MANY = "leaf-too-many", "too many certificates are waited for"
    NAME = "leaf-name", "no certificate can be made for this name"
    NOT_PERMITTED = "leaf-name-constraints", "the authority may not certify this name"
    VALIDITY = "leaf-validity", "the certificate would not be valid, or for too long"
    AUTHORITY_EXPIRED = "leaf-authority-expired", "the authority is not valid now"

    def __init__(self, code: str, hint: str) -> None:
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class LeafFailure:
    """No leaf."""

    fault: LeafFault
    detail: str = ""

    @property
    def reason(self) -> str:
        """Return what records say: the code, and what is known beyond."""
        return f"{self.fault.code}: {self.detail}" if self.detail else self.fault.code


class LeafRefused(SluicegateError):
    """A leaf cannot be made: ``failure`` says why."""

    def __init__(self, fault: LeafFault, detail: str = "") -> None:
        self.failure = LeafFailure(fault, detail)
        super().__init__(self.failure.reason)
