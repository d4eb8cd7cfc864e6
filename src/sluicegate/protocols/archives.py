r"""Looks inside archives, within bounds: for executables, or for whatever a caller looks for.

``exe_block`` and ``data_loss`` call it in a worker thread with the held object; it stands on
``executables`` and on the strict readers of ZIP and tar. The invariant: ``CLEAN`` means that every
byte of every member was unpacked, was whole, and was looked at without a find; whatever hinders
that (encryption, damage, an unknown kind, a limit) is another outcome, which the caller must treat
as a refusal.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import (
    ARCHIVE_BYTES_MAX,
    ARCHIVE_DEPTH_MAX,
    ARCHIVE_ENTRIES_MAX,
    ARCHIVE_RATIO_FLOOR_BYTES,
    ARCHIVE_RATIO_MAX,
    ARCHIVE_SCRATCH_BYTES_MAX,
)
from sluicegate.protocols.archive_streams import (
    CODECS,
    ByteStream,
    section,
    unpack,
    verify,
)
from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, archive_kind, executable_kind
from sluicegate.protocols.tar_members import tar_members
from sluicegate.protocols.text import printable
from sluicegate.protocols.zip_directory import ZipMember, zip_members

__all__ = [
    "INSPECTABLE_KINDS",
    "ArchiveLimits",
    "ArchiveOutcome",
    "Finding",
    "MemberLook",
    "executables_inside",
    "look_inside",
]

INSPECTABLE_KINDS = frozenset({"zip", "tar", "gzip", "bzip2", "xz"})
"""The kinds of ``executables.archive_kind`` into which can be looked."""


class ArchiveOutcome(enum.StrEnum):
    """What came of looking into an archive; all but CLEAN are grounds for a refusal."""

    CLEAN = "clean"
    EXECUTABLE = "executable"
    FOUND = "found"
    UNREADABLE = "unreadable"
    OVER_LIMIT = "over limit"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much is unpacked before a limit is reached; the reasons stand in ``limits.py``."""

    entries_max: int = ARCHIVE_ENTRIES_MAX
    bytes_max: int = ARCHIVE_BYTES_MAX
    ratio_max: int = ARCHIVE_RATIO_MAX
    ratio_floor_bytes: int = ARCHIVE_RATIO_FLOOR_BYTES
    depth_max: int = ARCHIVE_DEPTH_MAX
    scratch_bytes_max: int = ARCHIVE_SCRATCH_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, with what a record needs."""

    outcome: ArchiveOutcome
    reason: str = ""
    #: In words, for the record and the client; empty when clean.
    member: str = ""
    #: Where, as ``inner.zip/setup.exe``, printable; empty for the archive itself.
    entries: int = 0
    unpacked_bytes: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether the archive may pass."""
        return self.outcome is ArchiveOutcome.CLEAN


class MemberLook(Protocol):
    """Who looks at one member; each method returns what it found, or None."""

    def begin(self, head: bytes) -> str | None:
        """Look at its first bytes, ``HEAD_BYTES_NEEDED`` at most; they are fed as well."""
        ...

    def feed(self, chunk: bytes) -> str | None:
        """Look at the next bytes of one that is no archive."""
        ...

    def finish(self) -> str | None:
        """Take that nothing follows."""
        ...


def executables_inside(
    file: BinaryIO,
    kind: str,
    *,
    limits: ArchiveLimits | None = None,
    scripts: bool = False,
    kinds: Collection[str] = INSPECTABLE_KINDS,
    passes_others: bool = False,
    open_scratch: Callable[[], BinaryIO] = io.BytesIO,
) -> Finding:
    """Look for executables in an archive, and in archives inside it.

    ``kind`` is what ``archive_kind`` said of the head of ``file``, which must be seekable and is
    left open. ``kinds`` are those into which to look; an archive of another kind inside it makes it
    unreadable, unless ``passes_others``. ``open_scratch`` makes a file for a ZIP file inside an
    archive. The call may take seconds; zlib, bz2 and lzma release the GIL meanwhile.
    """
    found = look_inside(
        file,
        kind,
        lambda: _ExecutableLook(scripts=scripts),
        limits=limits,
        kinds=kinds,
        passes_others=passes_others,
        open_scratch=open_scratch,
    )
    if found.outcome is ArchiveOutcome.FOUND:
        reason = f"{found.reason} executable"
        return dataclasses.replace(found, outcome=ArchiveOutcome.EXECUTABLE, reason=reason)
    return found


def look_inside(
    file: BinaryIO,
    kind: str,
    begin_look: Callable[[], MemberLook],
    *,
    limits: ArchiveLimits | None = None,
    kinds: Collection[str] = INSPECTABLE_KINDS,
    passes_others: bool = False,
    open_scratch: Callable[[], BinaryIO] = io.BytesIO,
) -> Finding:
    """Have each member of an archive looked at, and those of archives inside it.

    As ``executables_inside``; ``begin_look`` makes who looks at one member. What it found is the
    reason; its own ``LimitExceeded`` makes the archive one that is over a limit.
    """
    inspection = _Inspection(
        limits or ArchiveLimits(),
        open_scratch,
        begin_look=begin_look,
        kinds=INSPECTABLE_KINDS.intersection(kinds),
        passes_others=passes_others,
    )
    try:
        found = inspection.look_into(file, kind)
    except LimitExceeded as error:
        outcome, reason = ArchiveOutcome.OVER_LIMIT, str(error)
    except ProtocolError as error:
        outcome, reason = ArchiveOutcome.UNREADABLE, error.hint
    else:
        outcome = ArchiveOutcome.CLEAN if found is None else ArchiveOutcome.FOUND
        reason = found or ""
    return Finding(
        outcome,
        reason,
        "" if outcome is ArchiveOutcome.CLEAN else inspection.where,
        inspection.entries,
        inspection.unpacked_bytes,
    )


class _ExecutableLook:
    """Looks for executables, by their first bytes."""

    def __init__(self, *, scripts: bool) -> None:
        self._scripts = scripts

    def begin(self, head: bytes) -> str | None:
        return executable_kind(head, scripts=self._scripts)

    def feed(self, chunk: bytes) -> str | None:
        del chunk
        return None

    def finish(self) -> str | None:
        return None


class _Inspection:
    """One call of ``look_inside``: the counters, and where it is."""

    def __init__(
        self,
        limits: ArchiveLimits,
        open_scratch: Callable[[], BinaryIO],
        *,
        begin_look: Callable[[], MemberLook],
        kinds: frozenset[str],
        passes_others: bool,
    ) -> None:
        self._limits = limits
        self._open_scratch = open_scratch
        self._begin_look = begin_look
        self._kinds = kinds
        self._passes_others = passes_others
        self._path: list[str] = []
        self.entries = 0
        self.unpacked_bytes = 0

    @property
    def where(self) -> str:
        """The member being looked at."""
        return "/".join(self._path)[:_WHERE_MAX]

    def look_into(self, file: BinaryIO, kind: str) -> str | None:
        """Return the first find in the archive; ``where`` says where."""
        if kind == "zip":
            return self._look_into_zip(file, depth=1)
        size = file.seek(0, io.SEEK_END)
        return self._look_into_stream(kind, section(file, 0, size), depth=1)

    def _look_into_stream(self, kind: str, chunks: Iterator[bytes], *, depth: int) -> str | None:
        self._check_depth(depth)
        if kind == "tar":
            return self._look_into_tar(chunks, depth=depth)
        if kind == "zip":
            return self._look_into_zip_copy(chunks, depth=depth)
        if kind not in INSPECTABLE_KINDS:
            raise ProtocolError(f"{kind} files cannot be looked into")
        unpacked = unpack(CODECS[kind], chunks, self._meter())
        return self._look_at_content(unpacked, depth=depth)

    def _look_into_tar(self, chunks: Iterator[bytes], *, depth: int) -> str | None:
        for name, content in tar_members(ByteStream(chunks)):
            kind = self._look_at_member(name, content, depth=depth)
            if kind is not None:
                return kind
        return None

    def _look_into_zip(self, file: BinaryIO, *, depth: int) -> str | None:
        for member in zip_members(file, entries_max=self._limits.entries_max):
            content = self._zip_content(file, member)
            kind = self._look_at_member(member.name, content, depth=depth)
            if kind is not None:
                return kind
        return None

    def _look_into_zip_copy(self, chunks: Iterable[bytes], *, depth: int) -> str | None:
        with self._open_scratch() as scratch:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                if size > self._limits.scratch_bytes_max:
                    maximum = self._limits.scratch_bytes_max
                    raise LimitExceeded("ARCHIVE_SCRATCH_BYTES_MAX", maximum)
                scratch.write(chunk)
            return self._look_into_zip(scratch, depth=depth)

    def _zip_content(self, file: BinaryIO, member: ZipMember) -> Iterator[bytes]:
        chunks = section(file, member.data_offset, member.packed_bytes)
        codec = _ZIP_CODECS[member.method]
        if codec is not None:
            chunks = unpack(CODECS[codec], chunks, self._meter())
        return verify(chunks, member.size_bytes, member.checksum)

    def _look_at_member(self, name: bytes, content: Iterator[bytes], *, depth: int) -> str | None:
        self._path.append(printable(name))
        self.entries += 1
        if self.entries > self._limits.entries_max:
            raise LimitExceeded("ARCHIVE_ENTRIES_MAX", self._limits.entries_max)
        kind = self._look_at_content(content, depth=depth)
        if kind is None:
            self._path.pop()
        return kind

    def _look_at_content(self, chunks: Iterator[bytes], *, depth: int) -> str | None:
        stream = ByteStream(chunks)
        head = stream.read(HEAD_BYTES_NEEDED)
        look = self._begin_look()
        found = look.begin(head)
        if found is not None:
            return found
        whole = itertools.chain((head,), stream.rest())
        archive = archive_kind(head)
        if archive is not None and archive not in self._kinds and not self._passes_others:
            raise ProtocolError(f"it holds a {archive} archive, into which is not looked")
        if archive not in self._kinds:
            return self._look_through(look, whole)
        found = self._look_into_stream(archive, whole, depth=depth + 1)
        if found is None:
            for _ in whole:  # to the end, where sizes and checksums are compared
                pass
        return found

    def _look_through(self, look: MemberLook, chunks: Iterable[bytes]) -> str | None:
        """Have all of a member looked at, to its end, where its checksum is compared."""
        for chunk in chunks:
            found = look.feed(chunk)
            if found is not None:
                return found
        return look.finish()

    def _check_depth(self, depth: int) -> None:
        if depth > self._limits.depth_max:
            raise LimitExceeded("ARCHIVE_DEPTH_MAX", self._limits.depth_max)

    def _meter(self) -> Callable[[int, int], None]:
        """Return what ``unpack`` tells its progress: it adds up, and stops at a limit."""
        limits = self._limits
        given_before = 0

        def count(taken: int, given: int) -> None:
            nonlocal given_before
            self.unpacked_bytes += given - given_before
            given_before = given
            if self.unpacked_bytes > limits.bytes_max:
                raise LimitExceeded("ARCHIVE_BYTES_MAX", limits.bytes_max)
            if given > max(limits.ratio_floor_bytes, taken * limits.ratio_max):
                raise LimitExceeded("ARCHIVE_RATIO_MAX", limits.ratio_max)

        return count


#: By the method of a ZIP member: the codec, None for stored.
_ZIP_CODECS = {0: None, 8: "deflate", 12: "zip-bzip2"}
_WHERE_MAX = 300
