"""Scanners: who looks for malware in a held object on behalf of a content filter.

``[[scanner]]`` of ``sluicegate.toml`` configures them, ``scan`` implements them, content filters
reach them by name (``connection.firewall.scanner``). The invariant: whatever is not plainly looked
at to its end is never ``CLEAN``, and has a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sluicegate.scan_outcome import ScanOutcome

if TYPE_CHECKING:
    from .content_filter import Transfer

__all__ = [
    "ContentScanner",
    "Contents",
    "FoundPart",
    "ScanResult",
    "Scanner",
    "Unpacked",
]


@dataclass(frozen=True, slots=True)
class ScanResult:
    """One answer."""

    outcome: ScanOutcome
    reason: str = ""
    """What was found, or why it was not looked at; printable."""
    signatures: str = ""
    """The engine and its signatures, as it names them."""
    body: bytes | None = None
    """What the scanner would put in the object's place; of ``MODIFIED`` only."""


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


@dataclass(frozen=True, slots=True)
class FoundPart:
    """What an object is, or what is inside it; parts that are alike are told once."""

    path: str
    """Where, as ``inner.zip/setup.exe``, printable; empty for the object itself."""
    kind: str
    """By its content: a name of ``protocols.file_kinds``."""
    named: str = ""
    """What its name says that it is; empty if the name says nothing."""
    within: str = ""
    """The kind of what it stands in; empty for the object itself."""
    size: int = 0
    """Bytes, of the first one."""
    count: int = 1
    """How many are like it."""
    traits: tuple[str, ...] = ()
    """What else was seen: ``macros``, ``pdf-script`` and kin."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in an object, down to the members of its archives."""

    result: ScanResult
    parts: tuple[FoundPart, ...] = ()
    """The object first; complete unless ``result`` says that something could not be looked at."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What is inside an object, for a filter that reads it itself."""

    result: ScanResult
    """``CLEAN``: ``members`` is all that there is."""
    members: tuple[tuple[str, bytes], ...] = ()
    """Where, and the bytes: files in archives, streams and texts of documents; not the object."""


@runtime_checkable
class ContentScanner(Scanner, Protocol):
    """A scanner that opens archives and tells what is in them."""

    async def examine(self, transfer: Transfer) -> Contents:
        """Look at a held object; never raises for what the scanner does or fails to do."""
        ...

    async def unpack(self, transfer: Transfer) -> Unpacked:
        """Return what is inside a held object, within the scanner's bounds; never raises either.

        It is in memory: at most ``archives.forwarded_bytes_max`` of the scanner.
        """
        ...
