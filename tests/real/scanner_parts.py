"""Objects that real scanners are shown, and a table of what they have to say of them."""

from __future__ import annotations

import contextlib
import gzip
import io
import pathlib
import random
import zipfile
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

from sluicegate.address import SocketAddress
from sluicegate.filterapi import (
    Direction,
    Scanner,
    ScanOutcome,
    ScanResult,
    Transfer,
    TransferOffer,
)
from tests.real.clamd_parts import TEST_FILES, eicar

CLEAN, FOUND = ScanOutcome.CLEAN, ScanOutcome.FOUND
NOT_SCANNED, MODIFIED = ScanOutcome.NOT_SCANNED, ScanOutcome.MODIFIED


class Object:
    """A held object: a file."""

    def __init__(self, path: pathlib.Path, *, is_upload: bool = False, kind: str = "") -> None:
        self.path = path
        self.size = path.stat().st_size
        direction = Direction.UPLOAD if is_upload else Direction.DOWNLOAD
        self.offer = TransferOffer(path.name, direction, "ftp", content_type=kind)
        self.connection = SimpleNamespace(server_address=SocketAddress("192.0.2.9", 21))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        with self.path.open("rb") as file:
            yield Opened(self.path, file)


class Opened:
    """One reader of it."""

    def __init__(self, path: pathlib.Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    async def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    async def read_at(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(count)

    def blocking_file(self) -> BinaryIO:
        return self._path.open("rb")


async def ask(scanner: Scanner, path: pathlib.Path, **offer: Any) -> ScanResult:
    """Show a scanner a file."""
    return await scanner.scan(cast("Transfer", Object(path, **offer)))


async def ask_about_test_files(scanner: Scanner) -> set[str]:
    """Return the names of ClamAV's test files in which it finds nothing."""
    paths = sorted(TEST_FILES.iterdir())
    assert len(paths) > 30
    return {path.name for path in paths if (await ask(scanner, path)).outcome is not FOUND}


def zipped(content: bytes, name: str = "inner") -> bytes:
    """Return an archive with one member."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()


def zipped_behind(size: int) -> bytes:
    """Return an archive with the test file behind a large one that cannot be packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("first"), random.Random(1).randbytes(size))
        archive.writestr(zipfile.ZipInfo("second"), eicar())
    return packed.getvalue()


JUDGED = {
    "empty": (b"", CLEAN),
    "short": (b"harmless", CLEAN),
    "long": (b"harmless\n" * 200_000, CLEAN),
    "zip": (zipped(b"harmless"), CLEAN),
    "eicar": (eicar(), FOUND),
    "eicar in zip": (zipped(eicar()), FOUND),
    "eicar in gzip": (gzip.compress(eicar() + b"\n"), FOUND),
    "eicar in zip in zip": (zipped(zipped(eicar())), FOUND),
    "eicar behind much else": (zipped_behind(1 << 20), FOUND),
}
"""Objects, and what every scanner has to say of them."""
