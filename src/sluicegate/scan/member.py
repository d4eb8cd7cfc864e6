"""A file from inside a held object, shown to another scanner as if it were an object of its own.

``content_scanner`` makes one per member. The invariant: it lives in memory, within the bound for
what is forwarded of one object, and ends with the call that needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar

from sluicegate.filterapi import Connection, Transfer, TransferFile, TransferOffer

__all__ = ["HeldMember"]

ResultT = TypeVar("ResultT")

_HEAD_BYTES = 4096


class HeldMember:
    """One member; satisfies ``filterapi.Transfer``."""

    def __init__(self, whole: Transfer, path: str, data: bytes) -> None:
        self.offer: TransferOffer = replace(whole.offer, name=path, content_type="")
        self.connection: Connection = whole.connection
        self.size = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.head = data[:_HEAD_BYTES]
        self._whole = whole
        self._data = data

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[TransferFile]:
        """As ``filterapi.Transfer.open``."""
        yield _MemberFile(self._data)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """As ``filterapi.Transfer.run_blocking``."""
        return await self._whole.run_blocking(function, *args)


class _MemberFile:
    """One reader; satisfies ``filterapi.TransferFile``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    async def read(self, count: int = -1) -> bytes:
        """As ``filterapi.TransferFile.read``."""
        end = len(self._data) if count < 0 else self._position + count
        piece = self._data[self._position : end]
        self._position += len(piece)
        return piece

    async def read_at(self, offset: int, count: int) -> bytes:
        """As ``filterapi.TransferFile.read_at``."""
        if offset < 0 or count < 0:
            raise ValueError(f"cannot read {count} bytes at {offset}")
        return self._data[offset : offset + count]

    def blocking_file(self) -> BinaryIO:
        """As ``filterapi.TransferFile.blocking_file``."""
        return io.BytesIO(self._data)
