"""ExeBlock: refuses executables, in whatever protocol carries them, also inside archives.

A content filter: the gate holds each object and asks ``inspect`` before anybody gets a byte. What
an executable looks like is known to ``protocols.executables``. The invariant: what could not be
looked at to its end (damaged, encrypted, over a limit) is refused like what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, Literal

from pydantic import Field
from typing_extensions import override

from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer
from sluicegate.protocols.archives import ArchiveOutcome, Finding, executables_inside
from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, archive_kind, executable_kind

from .exempting import ExemptingSettings

__all__ = ["ExeBlock", "ExeBlockSettings"]

ArchiveKind = Literal["zip", "tar", "gzip", "bzip2", "xz"]


class ExeBlockSettings(ExemptingSettings):
    """``[filter.settings]`` of ``exe_block``."""

    scripts: bool = False
    """Whether a file that begins with ``#!`` counts as executable."""
    archives: tuple[ArchiveKind, ...] = Field(
        default=("zip", "tar", "gzip", "bzip2", "xz"), examples=[["zip", "gzip"]]
    )
    """The kinds of archives to look into; empty looks into none."""
    other_archives: Literal["pass", "refuse"] = "refuse"
    """What becomes of archives into which is not looked, also inside others: those left out above,
    and 7z, rar, cab, zstd, lz4, lzip, lzma, lzop, compress, arj, lha, ace, ar (Debian packages),
    rpm, cpio, xar, wim and squashfs."""


class ExeBlock(ContentFilter):
    """Refuses what is, or contains, an executable."""

    name = "exe_block"
    runs_beside = True
    Settings = ExeBlockSettings

    def __init__(self, settings: ExeBlockSettings | None = None) -> None:
        self._settings = settings or ExeBlockSettings()

    @override
    async def verdict_version(self, transfer: Transfer) -> str | None:
        # Who is exempt is so by name or address, not by what the bytes are.
        return None if self._settings.exempts(transfer) else ""

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        if self._settings.exempts(transfer):
            return Release()
        async with transfer.open() as file:
            head = await file.read_at(0, HEAD_BYTES_NEEDED)
            executable = self._executable(head, is_text=transfer.offer.is_text)
            if executable is not None:
                return Refuse(executable)
            kind = archive_kind(head)
            if kind is None:
                return Release()
            if kind not in self._settings.archives:
                return self._judge_other(kind)
            if transfer.offer.is_text:
                # The receiver converts line ends, and then has another archive than the one here.
                return Refuse(f"{kind} archive in ASCII mode: use binary mode (TYPE I)")
            with file.blocking_file() as opened:
                found = await transfer.run_blocking(self._look_into, opened, kind)
        return Release() if found.is_clean else Refuse(_describe(found, kind))

    def _executable(self, head: bytes, *, is_text: bool) -> str | None:
        for seen in _as_received(head) if is_text else (head,):
            kind = executable_kind(seen, scripts=self._settings.scripts)
            if kind is not None:
                return f"{_NAMES[kind]} executable"
        return None

    def _judge_other(self, kind: str) -> ContentVerdict:
        if self._settings.other_archives == "refuse":
            return Refuse(f"{kind} archive, into which is not looked")
        return Release()

    def _look_into(self, file: BinaryIO, kind: str) -> Finding:
        """Look into an archive, on a thread of the pool."""
        settings = self._settings
        return executables_inside(
            file,
            kind,
            scripts=settings.scripts,
            kinds=settings.archives,
            passes_others=settings.other_archives == "pass",
        )


def _as_received(head: bytes) -> Iterator[bytes]:
    """Yield what a text-mode receiver may make of a head: servers differ in which CR they drop."""
    yield head
    yield head.replace(b"\r\n", b"\n")
    yield head.replace(b"\r", b"")


def _describe(found: Finding, kind: str) -> str:
    where = f" ({found.member})" if found.member else ""
    if found.outcome is ArchiveOutcome.EXECUTABLE:
        return f"{found.reason} inside {kind} archive{where}"
    return f"{kind} archive cannot be looked into: {found.reason}{where}"


_NAMES: Final = {
    "pe": "Windows (PE)",
    "dos": "DOS (MZ)",
    "elf": "Linux (ELF)",
    "mach-o": "macOS (Mach-O)",
    "mach-o-fat": "macOS (universal Mach-O)",
    "script": "script (#!)",
}
