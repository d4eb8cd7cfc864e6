"""Scanners: who looks for malware in a held object on behalf of a content filter.

``[[scanner]]`` of ``sluicegate.toml`` configures them, ``scan`` implements them, content filters
reach them by name (``connection.firewall.scanner``). The invariant: whatever is not plainly looked
at to its end is ``NOT_SCANNED`` with a reason; no failure is ever ``CLEAN``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .content_filter import Transfer

__all__ = ["ScanOutcome", "ScanResult", "Scanner"]


class ScanOutcome(enum.StrEnum):
    """What a scanner can say."""

    CLEAN = "clean"
    """All of it was looked at, and nothing was found."""
    FOUND = "found"
    ENCRYPTED = "encrypted"
    """A part of it is encrypted, so nobody can tell."""
    NOT_SCANNED = "not-scanned"
    """It was not looked at, or not to its end: a limit, an error, nobody there, too late."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """One answer."""

    outcome: ScanOutcome
    reason: str = ""
    """What was found, or why it was not looked at; printable."""
    signatures: str = ""
    """The engine and its signatures, as it names them."""


class Scanner(Protocol):
    """One scanner; serves many transfers at once, up to a bound, and queues the rest."""

    @property
    def name(self) -> str:
        """As the operator calls it."""
        ...

    async def version(self) -> str:
        """Return the engine and its signatures, as they are now; empty where it cannot be told.

        As long as it is the same, the same bytes get the same answer.
        """
        ...

    async def scan(self, transfer: Transfer) -> ScanResult:
        """Look at a held object; never raises for what the scanner does or fails to do."""
        ...
