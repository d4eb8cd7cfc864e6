"""SpoolStore: makes the bodies of held objects and keeps the account of what they take.

One per worker, made by the application with the worker's port; transfers ask it for bodies. The
invariant: what a body was charged comes back exactly once, so an idle store holds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sluicegate.limits import Limits

from .body import BodyOwner, SpooledBody
from .buffers import BufferShelf
from .directory import OpenedFile, SpoolDirectory
from .file import SpoolFile
from .quota import HeldElsewhere, Quota

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["SpoolStatistics", "SpoolStore"]

_WRITE_BACK_FLOOR_BYTES: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 32
"""A third of what the kernel lets lie by default (``vm.dirty_background_ratio``, 10 %). Most held
objects are gone before they must be on the disk, and writing one costs a tenth of a second of CPU
per gigabyte; beyond this the disk is kept busy in small steps instead of stalled by a large one."""


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """What a spool holds, at one moment."""

    bodies: int
    bytes_held: int
    memory_bytes: int
    clients: int
    bodies_total: int
    files_open: int
    files_total: int


class SpoolStore:
    """The spool of one worker; ``close`` ends all bodies."""

    __slots__ = (
        "_bodies",
        "_bodies_total",
        "_files_open",
        "_files_total",
        "directory",
        "limits",
        "port",
        "quota",
        "shelf",
    )

    def __init__(
        self,
        port: CompletionPort,
        directory: Path | SpoolDirectory,
        limits: Limits,
        elsewhere: HeldElsewhere | None = None,
    ) -> None:
        self.port = port
        self.limits = limits
        self.directory = (
            directory
            if isinstance(directory, SpoolDirectory)
            else SpoolDirectory(directory, limits)
        )
        self.quota = Quota(limits, elsewhere)
        self.shelf = BufferShelf()
        self._bodies: set[SpooledBody] = set()
        self._bodies_total = 0
        self._files_open = 0
        self._files_total = 0

    def check(self) -> list[str]:
        """Look at the directory before the first object; return warnings. It may block.

        Raises:
            ConfigError: Objects cannot be held there; says why, and what to do.
        """
        return self.directory.check()

    def create_body(self, owner: BodyOwner, client: str) -> SpooledBody:
        """Make an empty body, charged to ``client`` (its address without a port)."""
        body = SpooledBody(self, owner, client)
        self._bodies.add(body)
        self._bodies_total += 1
        return body

    def open_file(self, done: Callable[[OpenedFile | None, BaseException | None], None]) -> None:
        """Open a spool file in the blocking pool (called by bodies).

        Raises:
            LimitExceeded: The port is closed.
        """
        self.port.submit_blocking(self.directory.open_file, done)
        self._files_total += 1

    def adopt_file(self, descriptor: int) -> SpoolFile:
        """Take a file that was opened into the account (called by bodies)."""
        self._files_open += 1
        return SpoolFile(self.port, descriptor, self._on_file_closed)

    @property
    def is_write_back_due(self) -> bool:
        """Whether the files hold so much that the kernel would soon write it all at once."""
        return self.quota.total_bytes - self.quota.memory_bytes > _WRITE_BACK_FLOOR_BYTES

    def close(self) -> None:
        """Remove everything that is held; before the port is closed."""
        for body in list(self._bodies):
            body.close()

    def statistics(self) -> SpoolStatistics:
        """Return what is held now."""
        return SpoolStatistics(
            bodies=len(self._bodies),
            bytes_held=self.quota.total_bytes,
            memory_bytes=self.quota.memory_bytes,
            clients=self.quota.client_count,
            bodies_total=self._bodies_total,
            files_open=self._files_open,
            files_total=self._files_total,
        )

    def on_body_released(self, body: SpooledBody, client: str) -> None:
        """Take that a body has given everything back (called by bodies, once each)."""
        self._bodies.remove(body)
        self.quota.discharge(client, body.size)

    def _on_file_closed(self) -> None:
        self._files_open -= 1
