"""What ``LogStore`` writes to: partitions in their order, whatever database has them.

``sqlite_partition`` and ``postgres_partition`` are the two kinds. The invariant: records, their
words, totals, link and where in the log they end are written in one transaction or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .chain import Checkpoint

__all__ = ["LogPosition", "Partition", "PartitionName", "Partitions"]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where in the log's files a store is."""

    inode: int = 0
    """Of the file; 0: nothing was read."""
    offset: int = 0
    """Bytes of it that are stored."""
    mark: str = ""
    """What its first line is known by."""


class PartitionName(NamedTuple):
    """What a partition is known by; they come in this order."""

    day: str
    """``2026-11-28``."""
    number: int
    """A day has them from 1 on."""


class Partition(Protocol):
    """One partition, for its one writer."""

    first: int
    """The number of its first record, there or to come."""
    last: int
    """The number of its last record."""
    link: bytes
    """The link that ends with it."""

    @property
    def position(self) -> LogPosition:
        """Where in the log what it holds ends."""
        ...

    @property
    def signed_last(self) -> int:
        """The number of the last record that a checkpoint in it covers; 0: none is in it."""
        ...

    @property
    def bytes_used(self) -> int:
        """Bytes on disk."""
        ...

    @property
    def is_outdated(self) -> bool:
        """Whether an earlier version made it: it is read, and another is begun."""
        ...

    def append(
        self, lines: Sequence[bytes], records: list[dict[str, object]], position: LogPosition
    ) -> None:
        """Store a batch, with everything that goes with it, or nothing of it.

        Args:
            lines: The records as they stand in the log, without line ends; one at least.
            records: The same, decoded.
            position: Where the last one ends.
        """
        ...

    def move(self, position: LogPosition) -> None:
        """Note where in the log it is, when nothing there was a record."""
        ...

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Partitions(Protocol):
    """All partitions of a store, for its one writer.

    What goes wrong with a database is ``sqlite3.Error`` or ``ConfigError``.
    """

    def names(self) -> list[PartitionName]:
        """Return those that are there, the oldest first."""
        ...

    def open(self, name: PartitionName) -> Partition:
        """Open the newest one."""
        ...

    def make(
        self, name: PartitionName, first: int, before: bytes, position: LogPosition
    ) -> Partition:
        """Make an empty one, whole or not at all, and open it.

        Args:
            name: It is not there yet.
            first: The number of its first record.
            before: The link that its first one follows.
            position: Where its first record begins.
        """
        ...

    def size(self, name: PartitionName) -> int:
        """Return its bytes on disk."""
        ...

    def first_of(self, name: PartitionName) -> int:
        """Return the number of its first record."""
        ...

    def remove(self, name: PartitionName) -> str:
        """Let go of it with all that is in it; return what people call it."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...
