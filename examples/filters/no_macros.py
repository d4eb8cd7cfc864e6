"""Refuses office documents that carry macros: the first filter of the README."""

import zipfile
from typing import BinaryIO

from typing_extensions import override

from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer, Wants


def has_macros(file: BinaryIO) -> bool:
    """Tell whether an office document carries macros; raises when it is no archive."""
    with file, zipfile.ZipFile(file) as archive:
        return any(name.endswith("vbaProject.bin") for name in archive.namelist())


class NoMacros(ContentFilter):
    """Judges every object that looks like an office document."""

    name = "no-macros"
    wants = Wants(bytes_max=64 << 20)  # what is larger is refused: it could not be judged

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        """Look into the archive, on a thread of the pool."""
        if not transfer.head.startswith(b"PK\x03\x04"):
            return Release()
        async with transfer.open() as file:  # on disk or in memory; the client waits
            found = await transfer.run_blocking(has_macros, file.blocking_file())
        return Refuse("macro document") if found else Release()
