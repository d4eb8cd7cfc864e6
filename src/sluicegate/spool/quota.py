"""What held objects may take: each, those of one client, all of them, and of the free disk.

The store owns one ``Quota``; bodies charge it for every byte before they keep it, and discharge it
once, at their end. The invariant: a charge that would pass a limit changes nothing and names the
limit; when no body is left everything is zero again.
"""

from __future__ import annotations

from typing import Protocol

from sluicegate.errors import LimitExceeded
from sluicegate.limits import Limits

__all__ = ["HeldElsewhere", "Quota"]


class HeldElsewhere(Protocol):
    """The spools of the other workers, which share one limit with this one."""

    def held_elsewhere(self) -> int:
        """Return the bytes that all others hold."""
        ...

    def note_held(self, count: int) -> None:
        """Take what this one holds, for the others to see."""
        ...


class Quota:
    """The counters of one spool."""

    __slots__ = (
        "_by_client",
        "_elsewhere",
        "_free_floor",
        "_limits",
        "memory_bytes",
        "total_bytes",
    )

    def __init__(self, limits: Limits, elsewhere: HeldElsewhere | None = None) -> None:
        self._elsewhere = elsewhere
        self.total_bytes = 0
        #: Held now, by all bodies.
        self.memory_bytes = 0
        #: Of these, room taken in memory.
        self._limits = limits
        self._by_client: dict[str, int] = {}
        self._free_floor: int | None = None
        #: ``total_bytes`` at which the file system would reach ``spool_free_bytes_min``.

    def charge(self, client: str, held: int, count: int) -> None:
        """Count ``count`` more bytes for an object that has ``held``.

        Raises:
            LimitExceeded: With the name of the limit; nothing was counted.
        """
        limits = self._limits
        if held + count > limits.spool_object_bytes_max:
            raise LimitExceeded("spool_object_bytes_max", limits.spool_object_bytes_max)
        of_client = self._by_client.get(client, 0) + count
        if of_client > limits.spool_client_bytes_max:
            raise LimitExceeded("spool_client_bytes_max", limits.spool_client_bytes_max)
        total = self.total_bytes + count
        others = self._elsewhere.held_elsewhere() if self._elsewhere is not None else 0
        if total + others > limits.spool_bytes_max:
            raise LimitExceeded("spool_bytes_max", limits.spool_bytes_max)
        if self._free_floor is not None and total > self._free_floor:
            raise LimitExceeded("spool_free_bytes_min", limits.spool_free_bytes_min)
        self._by_client[client] = of_client
        self._set_total(total)

    def discharge(self, client: str, count: int) -> None:
        """Give back what one object was charged."""
        self._set_total(self.total_bytes - count)
        left = self._by_client.get(client, 0) - count
        assert left >= 0, "a body gave back more than it was charged"
        if left:
            self._by_client[client] = left
        else:
            self._by_client.pop(client, None)
        if not self.total_bytes:
            # Measured again with the next file: what was free then says nothing of now.
            self._free_floor = None

    def _set_total(self, total: int) -> None:
        self.total_bytes = total
        if self._elsewhere is not None:
            self._elsewhere.note_held(total)

    def note_free(self, free_bytes: int) -> None:
        """Take a measurement of the file system, made when a file is opened."""
        usable = free_bytes - self._limits.spool_free_bytes_min
        self._free_floor = self.total_bytes + max(usable, 0)

    def take_memory(self, count: int) -> bool:
        """Reserve room in memory; False sends the object to a file."""
        if self.memory_bytes + count > self._limits.spool_memory_all_bytes_max:
            return False
        self.memory_bytes += count
        return True

    def return_memory(self, count: int) -> None:
        """Give back reserved room."""
        self.memory_bytes -= count
        assert self.memory_bytes >= 0, "room in memory was given back twice"

    @property
    def share(self) -> float:
        """How much of the spool is used, from 0 to 1."""
        return self.total_bytes / max(self._limits.spool_bytes_max, 1)

    @property
    def client_count(self) -> int:
        """Clients that hold something now."""
        return len(self._by_client)
