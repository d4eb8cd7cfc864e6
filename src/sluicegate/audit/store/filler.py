"""Filler: moves lines from the log into the store, a step at a time, whatever breaks.

The store's process turns it. The invariant: a store that cannot be written is tried again and said
once; it holds up nobody, because the log is written without it.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Callable
from typing import Final

from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.log_limits import (
    STORE_LOOK_S,
    STORE_RETAIN_S,
    STORE_RETRY_MAX_S,
    STORE_RETRY_S,
)

from .follower import Follower
from .log_store import LogStore, Retention
from .place import StorePlace
from .position import LogPosition

__all__ = ["Filler"]

_ERRORS: Final = (sqlite3.Error, OSError, ConfigError)


class Filler:
    """One store and the log that it follows."""

    def __init__(
        self,
        log: pathlib.Path,
        place: StorePlace,
        retention: Retention,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.failure = ""
        #: Why nothing is stored; empty while it works.
        self.last = 0
        #: The number of the last record.
        self.inode = 0
        #: The number of the log's file in which what is stored ends.
        self._log = log
        self._place = place
        self._retention = retention
        self._clock = clock
        self._say = say
        self._store: LogStore | None = None
        self._follower: Follower | None = None
        self._retry_s = STORE_RETRY_S
        self._retain_at = 0.0
        self._has_read = False
        #: Whether the last step has found something in the log.

    def turn(self) -> float:
        """Store what is there, a batch at most; returns after how many seconds to come again.

        What comes meanwhile waits: a batch of many records costs much less than many of a few.
        """
        try:
            has_more = self._step()
        except _ERRORS as error:
            return self._fail(error)
        if self.failure:
            self.failure = ""
            self._say(f"{self._place.name}: records are stored again")
        self._retry_s = STORE_RETRY_S
        return 0.0 if has_more else STORE_LOOK_S

    def move(self, place: StorePlace) -> None:
        """Reach the store so from now on; ``turn`` may come at once."""
        if place != self._place:
            self._place = place
            self._retry_s = STORE_RETRY_S
            self._drop()

    @property
    def bytes_behind(self) -> int:
        """Bytes of the log that are not stored, as far as that can be seen."""
        try:
            if self._follower is not None:
                return self._follower.bytes_behind
            return Follower(self._log, LogPosition(), self._on_gap).bytes_behind
        except OSError:
            return 0

    def close(self) -> None:
        """Store what is there, as long as that works, and close."""
        self._has_read = True
        while self._has_read and not self.failure:
            self.turn()
        self._drop()

    def _step(self) -> bool:
        """Store one batch; tell whether there is more."""
        self._has_read = False
        if self._store is None:
            self._store = LogStore(self._place, self._clock, self._retention)
            self._note(self._store)
        store = self._store
        if self._follower is None:
            self._follower = Follower(self._log, store.position, self._on_gap)
        now = self._clock.monotonic()
        if now >= self._retain_at:
            self._retain_at = now + STORE_RETAIN_S
            for name in store.retain():
                self._say(
                    f"{self._place.name}: {name} was let go: it is too old, or there is too much"
                )
        chunk = self._follower.read()
        if chunk is None:
            store.sign_when_due()
            return False
        skipped = store.skipped
        store.append(chunk.lines, chunk.position)
        if store.skipped > skipped:
            self._say(f"{self._log}: {store.skipped - skipped} lines are no records: left out")
        self._note(store)
        self._has_read = True
        return chunk.has_more

    def _note(self, store: LogStore) -> None:
        self.last, self.inode = store.last, store.position.inode

    def _on_gap(self, cause: str) -> None:
        self._say(f"{self._place.name}: {cause}")

    def _fail(self, error: Exception) -> float:
        cause = str(error).removeprefix(f"{self._place.name}: ")
        if self.failure != cause:
            self._say(f"{self._place.name}: {cause}; records wait in {self._log}")
        self.failure = cause
        self._drop()
        retry_s, self._retry_s = self._retry_s, min(2 * self._retry_s, STORE_RETRY_MAX_S)
        return retry_s

    def _drop(self) -> None:
        """Close both: what is not stored is read again."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._store is not None:
            store, self._store = self._store, None
            try:
                store.close()
            except _ERRORS as error:
                if not self.failure:
                    self._say(f"{self._place.name}: {error}")
