"""A content filter in a cell: the stand-in that the gate asks in its place.

It lends the held object to the cell: the unlinked file, open for reading only, or a sealed copy of
one that is in memory. The invariant: the cell gets a descriptor that nothing can be written
through, and no name; no byte of a held file travels through the wire.
"""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar

from typing_extensions import override

from sluicegate.errors import LimitExceeded, SluicegateError
from sluicegate.filterapi import (
    Connection,
    ContentFilter,
    ContentVerdict,
    Refuse,
    Release,
    Replace,
    Transfer,
    Wants,
    lend_descriptor,
)

from .cell import Asked, Cell, CellFailed
from .facts import ConnectionFacts, OfferFacts
from .messages import (
    Cancel,
    FromCell,
    Inspect,
    Manifest,
    Part,
    Raised,
    Replaced,
    Verdict,
)

__all__ = ["IsolatedContent", "IsolatedFilterError", "isolated_content"]


class IsolatedFilterError(SluicegateError):
    """The filter in the cell raised, or answered nonsense; says what, as the cell told it."""


class IsolatedContent(ContentFilter):
    """Stands for one installed content filter; ``isolated_content`` makes one."""

    def __init__(self, cell: Cell, body_bytes_max: int) -> None:
        self._cell = cell
        self._body_bytes_max = body_bytes_max

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await self._cell.wait_ready()
        asked = _Inspection(transfer.connection, self._body_bytes_max)
        facts = (ConnectionFacts.of(transfer.connection), OfferFacts.of(transfer.offer))
        described = (*facts, transfer.size, transfer.sha256, transfer.head)
        async with transfer.open() as file:
            with file.blocking_file() as opened:
                descriptor = lend_descriptor(opened)
        try:
            number = self._cell.ask(asked, lambda one: Inspect(one, *described), (descriptor,))
        finally:
            os.close(descriptor)
        self._cell.known.add(transfer.connection)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self._cell.tell(Cancel(number))
            raise
        finally:
            self._cell.known.drop(transfer.connection)
            self._cell.forget(number)


def isolated_content(cell: Cell, manifest: Manifest, body_bytes_max: int) -> IsolatedContent:
    """Make the stand-in of a filter that says this of itself.

    Args:
        cell: Where the filter runs.
        manifest: What its class says.
        body_bytes_max: The largest body that it may put in an object's place.

    Raises:
        ValueError: The manifest makes no sense.
    """
    asked_for = Wants() if manifest.wants is None else manifest.wants.wants()

    class Isolated(IsolatedContent):
        name: ClassVar[str] = manifest.name
        wants: ClassVar[Wants] = asked_for

    return Isolated(cell, body_bytes_max)


class _Inspection(Asked):
    """One object that a cell was asked about."""

    def __init__(self, connection: Connection, body_bytes_max: int) -> None:
        self.answer: asyncio.Future[ContentVerdict] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._body_bytes_max = body_bytes_max
        self._parts: list[bytes] = []
        self._bytes = 0

    @override
    def take(self, message: FromCell, descriptors: list[int]) -> bool:
        for one in descriptors:
            os.close(one)
        if self.answer.done():
            return True
        match message:
            case Part(_, data):
                self._bytes += len(data)
                if self._bytes <= self._body_bytes_max:
                    self._parts.append(data)
                    return False
                self._parts.clear()
                bound = self._body_bytes_max
                self.answer.set_exception(LimitExceeded("isolated_memory_bytes_max", bound))
            case Verdict(_, True):
                self.answer.set_result(Release())
            case Verdict(_, False, reason):
                self.answer.set_result(Refuse(reason))
            case Replaced():
                self.answer.set_result(Replace(b"".join(self._parts)))
            case Raised(_, cause):
                self.answer.set_exception(IsolatedFilterError(cause))
            case _:
                cause = f"answered an inspection with {type(message).__name__}"
                self.answer.set_exception(IsolatedFilterError(cause))
        return True

    @override
    def fail(self, error: CellFailed) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
