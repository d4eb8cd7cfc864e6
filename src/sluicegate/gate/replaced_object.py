"""ReplacedObject: what a content filter put in an object's place, as the filters behind it see it.

``judgement`` makes one where a filter answers ``Replace``. The invariant: whoever looks at it looks
at the bytes that would be delivered, and at no others.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import AsyncGenerator, Callable
from typing import Any, BinaryIO, Final, TypeVar

from sluicegate.errors import BadContext
from sluicegate.filterapi import Connection, Transfer, TransferFile, TransferOffer

__all__ = ["ReplacedObject"]

ResultT = TypeVar("ResultT")


class ReplacedObject:
    """One body in memory (``filterapi.Transfer``)."""

    def __init__(self, original: Transfer, body: bytes) -> None:
        self._original = original
        self._body = body
        self._sha256 = ""
        self._is_over = False

    @property
    def offer(self) -> TransferOffer:
        """The original's metadata."""
        return self._original.offer

    @property
    def connection(self) -> Connection:
        """The connection that carries it."""
        return self._original.connection

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self._body)

    @property
    def sha256(self) -> str:
        """The digest of its bytes, hexadecimal."""
        if not self._sha256:
            self._sha256 = hashlib.sha256(self._body).hexdigest()
        return self._sha256

    @property
    def head(self) -> bytes:
        """Its first bytes (up to 4 KiB)."""
        return self._body[:_HEAD_BYTES]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[TransferFile]:
        """Open it for reading.

        Raises:
            BadContext: The verdict was given.
        """
        self._check()
        yield _BodyFile(self._body)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a blocking look at the object on the service's pool."""
        self._check()
        return await self._original.run_blocking(function, *args)

    def end(self) -> None:
        """Take that the verdict was given."""
        self._is_over = True

    def _check(self) -> None:
        if self._is_over:
            raise BadContext("the verdict was given: look at the object inside inspect only")


class _BodyFile:
    """The body, open for reading (``filterapi.TransferFile``)."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    async def read(self, count: int = -1) -> bytes:
        end = len(self._body) if count < 0 else self._position + count
        piece = self._body[self._position : end]
        self._position += len(piece)
        return piece

    async def read_at(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0:
            raise ValueError(f"cannot read {count} bytes at {offset}")
        return self._body[offset : offset + count]

    def blocking_file(self) -> BinaryIO:
        return io.BytesIO(self._body)


_HEAD_BYTES: Final = 4096
