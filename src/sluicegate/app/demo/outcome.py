"""What a demonstration reports: each object as its client saw it, beside what the gate recorded.

``live`` makes them, ``cli demo`` shows them. The invariant: they are the demonstration's whole
result, so that what people see and what ``--json`` prints cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from sluicegate.audit.query import LogLine

__all__ = ["Demo", "DemoOutcome", "DemoReport", "Fetched"]


class DemoOutcome(msgspec.Struct, kw_only=True):
    """What became of one object."""

    name: str
    bytes: int
    """Bytes that the gate held."""
    verdict: str
    """``released`` or ``refused``."""
    reason: str
    sha256_ok: bool | None
    """Whether the receiver got the sender's object, byte for byte; null when refused."""
    bytes_to_client: int
    """Bytes of it that reached the client."""
    held_ms: float
    """From the first byte to the verdict."""
    peak_rss_bytes: int | None
    """Most memory that the gate's process had meanwhile; null where the kernel does not tell."""


class DemoReport(msgspec.Struct, kw_only=True):
    """What ``--json`` prints."""

    backend: str
    """``io_uring`` or ``epoll``."""
    outcomes: list[DemoOutcome]


@dataclass(slots=True)
class Fetched:
    """One object as its client saw it, with its record and whether all is right; for people."""

    outcome: DemoOutcome
    is_right: bool
    elapsed_s: float
    reply: str
    """The server's final reply, or the gate's in its place."""
    bytes_written: int
    """Bytes that the spool wrote to its file."""


@dataclass(slots=True)
class Demo:
    """Everything that came of a demonstration."""

    report: DemoReport
    expected: int
    """How many objects there were."""
    fetched: list[Fetched] = field(default_factory=list["Fetched"])
    records: list[LogLine] = field(default_factory=list["LogLine"])

    @property
    def is_right(self) -> bool:
        """Whether every object was asked for, and every outcome was right."""
        return len(self.fetched) == self.expected and all(one.is_right for one in self.fetched)
