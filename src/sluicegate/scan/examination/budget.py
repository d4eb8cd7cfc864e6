"""Budget: how much of one object may still be unpacked, over all of its archives.

``walk`` makes one per object, openers take from it. The invariant: whatever is unpacked was taken
from it first, so that no archive costs more than the operator allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sluicegate.errors import LimitExceeded
from sluicegate.scan.messages import ArchiveBounds

__all__ = ["Budget"]


class Budget:
    """Of one object."""

    def __init__(self, bounds: ArchiveBounds) -> None:
        self.bounds = bounds
        self.entries = 0
        self.bytes = 0

    def take_entry(self) -> None:
        """Count a member.

        Raises:
            LimitExceeded: It is one too many.
        """
        self.entries += 1
        if self.entries > self.bounds.entries_max:
            raise LimitExceeded("entries_max", self.bounds.entries_max)

    def check_depth(self, depth: int) -> None:
        """Allow another archive in archives.

        Raises:
            LimitExceeded: It is one too deep.
        """
        if depth > self.bounds.depth_max:
            raise LimitExceeded("depth_max", self.bounds.depth_max)

    def take_bytes(self, count: int) -> None:
        """Count what was unpacked.

        Raises:
            LimitExceeded: It is too much.
        """
        self.bytes += count
        if self.bytes > self.bounds.bytes_max:
            raise LimitExceeded("bytes_max", self.bounds.bytes_max)

    def check_ratio(self, packed: int, unpacked: int) -> None:
        """Compare what came out of an archive with what it is.

        Raises:
            LimitExceeded: It blows up beyond measure.
        """
        if unpacked > max(_FLOOR_BYTES, packed * self.bounds.ratio_max):
            raise LimitExceeded("ratio_max", self.bounds.ratio_max)

    @property
    def room(self) -> int:
        """Bytes that one more member may have."""
        return min(self.bounds.member_bytes_max, self.bounds.bytes_max - self.bytes)

    def collect(self, chunks: Iterable[bytes]) -> bytes:
        """Put a member together that was not counted yet.

        Raises:
            LimitExceeded: It is too large, or there is too much.
        """
        return b"".join(self._counted(chunks))

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self.bounds.member_bytes_max:
                raise LimitExceeded("member_bytes_max", self.bounds.member_bytes_max)
            self.take_bytes(len(chunk))
            yield chunk


_FLOOR_BYTES: Final = 4 << 20
"""The ratio is not judged before: small files of zeros are common."""
