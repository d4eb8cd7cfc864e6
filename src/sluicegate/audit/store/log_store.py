"""LogStore: the partitions of a store, for their one writer, whatever database has them.

The store's process has one. The invariant: records have numbers without a gap from the first that
was ever stored; what is let go is whole partitions from the oldest on, and a signed checkpoint says
so.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.log_limits import (
    CHECKPOINT_RECORDS_MAX,
    CHECKPOINT_S,
    PARTITION_BYTES_MAX,
)

from .chain import FIRST_LINK, ChainKey
from .entry import read_entry
from .partition import PartitionName, Partitions
from .place import PostgresPlace, StorePlace, require_psycopg
from .position import LogPosition
from .sqlite_partition import SqlitePartitions

__all__ = ["LogStore", "Retention", "open_partitions"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept; the newest partition is kept in any case."""

    days: int
    """Days after the last record of a partition."""
    bytes_max: int
    """Bytes of all partitions together."""


class LogStore:
    """The store at a place; the key of its chain is in a folder of this machine in any case."""

    def __init__(self, place: StorePlace, clock: Clock, retention: Retention) -> None:
        """Open it, or begin one.

        Raises:
            ConfigError: The folder, the key or the server cannot be used, or somebody else writes
                there.
            sqlite3.Error: The newest partition cannot be opened.
        """
        self.folder = folder = place.path
        self.skipped = 0
        #: Lines that were no records.
        self._clock = clock
        self._retention = retention
        try:
            folder.mkdir(mode=0o750, exist_ok=True)
            self._lock = os.open(
                folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ConfigError(str(folder), f"cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(str(folder), "another process stores records there") from error
        try:
            self._partitions = open_partitions(place)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._open()
        except BaseException:
            self._partitions.close()
            os.close(self._lock)
            raise

    def _open(self) -> None:
        """Open the key and the newest partition; the lock is ours."""
        folder = self.folder
        self._key = ChainKey.open(folder / "chain.key")
        (folder / "chain.pub").write_text(self._key.public.hex() + "\n", encoding="ascii")
        names = self._partitions.names()
        if names:
            self._name = names[-1]
            self._newest = self._partitions.open(self._name)
        else:
            self._name = PartitionName(self._today(), 1)
            self._newest = self._partitions.make(self._name, 1, FIRST_LINK, LogPosition())
        self._signed_last = self._newest.signed_last
        # What nobody has signed yet (a store that begins, or one that was killed) is soon.
        self._signed_at = self._clock.monotonic() if self._signed_last else -math.inf

    @property
    def position(self) -> LogPosition:
        """Where in the log what is stored ends."""
        return self._newest.position

    @property
    def last(self) -> int:
        """The number of the last record; 0: there is none."""
        return self._newest.last

    def append(self, lines: Sequence[bytes], position: LogPosition) -> None:
        """Store the next lines of the log.

        Args:
            lines: Without line ends.
            position: Where the last one ends.

        Raises:
            sqlite3.Error: They cannot be stored; none of them is.
            OSError: A new partition cannot be made.
        """
        read = [read_entry(line) for line in lines]
        entries = [entry for entry in read if entry is not None]
        if len(entries) < len(lines):
            self.skipped += len(lines) - len(entries)
            lines = [line for line, entry in zip(lines, read, strict=True) if entry is not None]
        if not entries:
            self._newest.move(position)
            return
        self._begin_partition()
        self._newest.append(lines, entries, position)
        self.sign_when_due()

    def sign_when_due(self) -> None:
        """Sign if many records, or those of a while, are not signed.

        Raises:
            sqlite3.Error: The checkpoint cannot be stored.
        """
        is_long_ago = self._clock.monotonic() - self._signed_at >= CHECKPOINT_S
        if is_long_ago or self._newest.last - self._signed_last >= CHECKPOINT_RECORDS_MAX:
            self.sign()

    def sign(self) -> None:
        """Sign how far the log is, if it went on since the last time.

        Raises:
            sqlite3.Error: The checkpoint cannot be stored.
        """
        newest = self._newest
        if newest.last == max(self._signed_last, newest.first - 1):
            return
        self._signed_at = self._clock.monotonic()
        self._add_checkpoint(self._first())
        self._signed_last = newest.last

    def retain(self) -> list[str]:
        """Let go what is too old or too much; returns the names of what went.

        The checkpoint that says where the log begins now is written before anything goes.

        Raises:
            sqlite3.Error: The checkpoint cannot be stored.
            OSError: A file cannot be removed.
        """
        names, partitions = self._partitions.names(), self._partitions
        oldest_day = self._day_of(self._clock.wall() - self._retention.days * _DAY_S)
        sizes = [partitions.size(name) for name in names[:-1]]
        used = sum(sizes) + self._newest.bytes_used
        count = 0
        for name, size in zip(names[:-1], sizes, strict=True):
            if name.day >= oldest_day and used <= self._retention.bytes_max:
                break
            used -= size
            count += 1
        if not count:
            return []
        self._add_checkpoint(partitions.first_of(names[count]))
        return [partitions.remove(name) for name in names[:count]]

    def close(self) -> None:
        """Sign, and close.

        Raises:
            sqlite3.Error: The checkpoint cannot be stored.
        """
        try:
            self.sign()
        finally:
            self._newest.close()
            self._partitions.close()
            os.close(self._lock)

    # -- partitions ----------------------------------------------------------------------------

    def _begin_partition(self) -> None:
        """Go on in a new one on another day, or when this one is large; time never goes back."""
        newest, name, today = self._newest, self._name, self._today()
        if newest.last < newest.first:
            return
        if today > name.day:
            name = PartitionName(today, 1)
        elif newest.bytes_used >= PARTITION_BYTES_MAX or newest.is_outdated:
            name = PartitionName(name.day, name.number + 1)
        else:
            return
        self.sign()
        begun = self._partitions.make(name, newest.last + 1, newest.link, newest.position)
        self._name, self._newest = name, begun
        newest.close()

    def _add_checkpoint(self, first: int) -> None:
        newest = self._newest
        self._newest.add_checkpoint(
            self._key.sign(newest.last, newest.link, self._clock.wall(), first)
        )

    def _first(self) -> int:
        """Return the number of the oldest record that is kept."""
        return self._partitions.first_of(self._partitions.names()[0])

    def _today(self) -> str:
        return self._day_of(self._clock.wall())

    @staticmethod
    def _day_of(time: float) -> str:
        return dt.datetime.fromtimestamp(time, dt.UTC).date().isoformat()


def open_partitions(place: StorePlace) -> Partitions:
    """Open the partitions of a store for their one writer.

    Raises:
        ConfigError: The server cannot be used, or somebody else writes there.
    """
    if isinstance(place, PostgresPlace):
        require_psycopg(place.name)
        from .postgres_partition import PostgresPartitions  # noqa: PLC0415 - psycopg is optional

        return PostgresPartitions(place)
    return SqlitePartitions(place.path)


_DAY_S: Final = 86_400
