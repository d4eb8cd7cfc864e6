"""Cells in real processes: a cell on a port of its own, and objects to ask it about."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO, Self

from sluicegate.address import SocketAddress
from sluicegate.app.cell_source import manifest_of
from sluicegate.filterapi import ContentFilter, Direction, EntryMode, TransferOffer
from sluicegate.isolation.cell import Cell
from sluicegate.isolation.content import isolated_content
from sluicegate.isolation.messages import Start, decode_from_cell
from sluicegate.limits import Limits
from sluicegate.port.loop import current_port, run
from sluicegate.sandbox.launch import Surroundings, launcher

LOCALHOST = SocketAddress.parse("127.0.0.1:1")
FILTERS = pathlib.Path(__file__).with_name("cell_filters.py")
MEMORY_BYTES_MAX = 512 << 20


class RealCell(Cell):
    """A cell with one of the filters of ``cell_filters``."""

    def __init__(self, name: str, *, secret: tuple[str, ...] = (), **limits: Any) -> None:
        bounds = Limits(**{"isolated_memory_bytes_max": MEMORY_BYTES_MAX, **limits})
        surroundings = Surroundings(
            "sluicegate.app.cell", (str(FILTERS),), secret, MEMORY_BYTES_MAX
        )
        self.failures: list[str] = []
        self.failed = asyncio.Event()
        start = Start(f"{FILTERS}:{name}", "/", {}, {})
        super().__init__(
            "cell",
            launcher(surroundings, decode_from_cell),
            start,
            bounds,
            manifest_of(ContentFilter),
        )

    async def __aenter__(self) -> Self:
        self.start_on(current_port(), self._on_failure)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self.wait_ended()

    def _on_failure(self, error: BaseException) -> None:
        self.failures.append(str(error))
        self.failed.set()

    def stand_in(self) -> ContentFilter:
        return isolated_content(self, manifest_of(ContentFilter), 1 << 20)


class _Session:
    id = "s-1"
    user = None


class _Connection:
    id = "c-1"
    session = _Session()
    rule = "rule"
    is_secondary = is_emulated = False
    entry_mode = EntryMode.PUBLISHED
    client_address = server_address = client_side_address = server_side_address = LOCALHOST


class HeldFile:
    """An object in an unlinked file, as the spool holds one; satisfies ``Transfer``."""

    offer = TransferOffer("object", Direction.DOWNLOAD, "test")
    connection = _Connection()

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.size = len(body)
        self.sha256 = hashlib.sha256(body).hexdigest()
        self.head = body[:4096]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        self._file.write(body)
        self._file.flush()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HeldFile]:
        yield self

    def blocking_file(self) -> BinaryIO:
        path = f"/proc/self/fd/{self._file.fileno()}"
        return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")

    def close(self) -> None:
        self._file.close()


def in_loop(work: Callable[[], Any], backend: str) -> Any:
    """Run a coroutine function on a port, to a bound."""

    async def bounded() -> Any:
        async with asyncio.timeout(300):
            return await work()

    return run(bounded(), backend=backend)  # type: ignore[arg-type]


async def inspect(cell: Cell, body: bytes = b"object") -> Any:
    """Have a cell's content filter judge an object."""
    held = HeldFile(body)
    try:
        return await cell.stand_in().inspect(held)  # type: ignore[attr-defined]
    finally:
        held.close()
