"""What ``LogStore`` writes to: partitions in their order, whatever database has them.

``sqlite_partition`` and ``postgres_partition`` are the two kinds. The invariant: records, their
words, totals, link and where in the log they end are written in one transaction or not at all.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .chain import Checkpoint, link_of
from .entry import Entry
from .position import LogPosition
from .row import Addresses
from .totals import Totals

__all__ = ["Batch", "Partition", "PartitionName", "Partitions"]


class PartitionName(NamedTuple):
    """What a partition is known by; they come in this order."""

    day: str
    """``2026-11-28``."""
    number: int
    """A day has them from 1 on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that are stored together, and the link that they make."""

    entries: Sequence[Entry]
    """What is kept of them; one at least."""
    position: LogPosition
    """Where the last one ends."""
    first: int
    """The number of its first record."""
    last: int
    link: bytes

    @property
    def numbered(self) -> Iterator[tuple[int, Entry]]:
        """Its records with their numbers."""
        return enumerate(self.entries, self.first)

    @property
    def link_row(self) -> tuple[int, int, bytes, float, float]:
        """What is kept of its link: numbers, the link, and the times that its records are from."""
        times = [entry.time for entry in self.entries]
        return (self.first, self.last, self.link, min(times), max(times))


class Partition(abc.ABC):
    """One partition, for its one writer."""

    is_outdated: bool
    """Whether an earlier version made it: it is read, and another is begun."""

    def __init__(self, first: int, last: int, link: bytes) -> None:
        self.first = first
        #: The number of its first record, there or to come.
        self.last = last
        #: The number of its last record.
        self.link = link
        #: The link that ends with it.
        self._addresses = Addresses()
        self._totals = Totals(self._values_of, self._addresses)

    def append(
        self, lines: Sequence[bytes], entries: Sequence[Entry], position: LogPosition
    ) -> None:
        """Store a batch, with everything that goes with it, or nothing of it.

        Args:
            lines: The records as they stand in the log, without line ends; one at least.
            entries: What is kept of each.
            position: Where the last one ends.
        """
        first, last = self.last + 1, self.last + len(lines)
        link = link_of(self.link, first, lines)
        try:
            self._store(Batch(entries, position, first, last, link))
        except BaseException:
            self._totals.forget()
            raise
        self.last, self.link = last, link

    # -- what differs --------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def position(self) -> LogPosition:
        """Where in the log what it holds ends."""

    @property
    @abc.abstractmethod
    def signed_last(self) -> int:
        """The number of the last record that a checkpoint in it covers; 0: none is in it."""

    @property
    @abc.abstractmethod
    def bytes_used(self) -> int:
        """Bytes on disk."""

    @abc.abstractmethod
    def move(self, position: LogPosition) -> None:
        """Note where in the log it is, when nothing there was a record."""

    @abc.abstractmethod
    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abc.abstractmethod
    def _store(self, batch: Batch) -> None:
        """Write a batch in one transaction, or nothing of it."""

    @abc.abstractmethod
    def _values_of(self, hour: int, subject: str) -> Iterable[str]:
        """Tell which values of a subject it has counted for an hour."""


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
