r"""OLE compound files: the streams inside old Office documents, installers and messages (MS-CFB).

``examination`` looks into every stream, ``office_macros`` for macros. The invariant: a stream that
is given was read along a chain that visits no sector twice; a file whose chains cross, run in
circles or leave the file is refused, as readers disagree on what it holds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import COMPOUND_ENTRIES_MAX
from sluicegate.protocols.text import printable

__all__ = ["CompoundFile", "CompoundStream"]


@dataclass(frozen=True, slots=True)
class CompoundStream:
    """One stream."""

    path: str
    """Storages and the stream, with slashes; printable."""
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: int
    left: int
    right: int
    child: int
    class_id: bytes
    start: int
    size: int


class CompoundFile:
    """One file in memory; ``read`` gives a stream's bytes."""

    def __init__(self, data: bytes) -> None:
        """Read its tables.

        Raises:
            ProtocolError: It is damaged.
            LimitExceeded: It has too many entries.
        """
        self._data = data
        if len(data) < _HEADER_BYTES:
            raise ProtocolError("a compound file has no header")
        header: tuple[Any, ...] = _HEADER.unpack_from(data)
        if header[0] != _MAGIC or header[4] != _LITTLE_ENDIAN:
            raise ProtocolError("a compound file has no header")
        (_, _, _, major, _, shift, mini_shift, _, _, fat_count, directory, _, cutoff, mini_fat,
         mini_count, more, more_count) = header  # fmt: skip
        if (major, shift) not in _VERSIONS or mini_shift != _MINI_SHIFT or cutoff != _CUTOFF:
            raise ProtocolError("a compound file has sectors of no known size")
        self._sector_bytes: int = 1 << shift
        #: The last sector may be cut short, as many writers do.
        self._sectors: int = -(-len(data) // self._sector_bytes) - 1
        self._fat = self._read_fat(fat_count, more, more_count)
        entries = _entries(self._chain(directory, self._directory_bytes_max(), is_exact=False))
        root = entries[0] if entries else None
        if root is None or root.kind != _ROOT:
            raise ProtocolError("a compound file has no root")
        self.class_id = root.class_id
        self._mini_fat = _numbers(self._chain(mini_fat, mini_count * self._sector_bytes))
        self._mini = self._chain(root.start, root.size)
        self.streams = tuple(_walk(entries))
        #: All of them.

    def read(self, stream: CompoundStream) -> bytes:
        """Return a stream's bytes.

        Raises:
            ProtocolError: Its chain is broken.
        """
        if stream.size >= _CUTOFF:
            return self._chain(stream.start, stream.size)
        return self._mini_chain(stream.start, stream.size)

    def _directory_bytes_max(self) -> int:
        return min(self._sectors * self._sector_bytes, COMPOUND_ENTRIES_MAX * _ENTRY.size + 1)

    def _sector(self, number: int) -> bytes:
        if not 0 <= number < self._sectors:
            raise ProtocolError("a compound file names a sector that it does not have")
        start = (number + 1) * self._sector_bytes
        return self._data[start : start + self._sector_bytes]

    def _read_fat(self, fat_count: int, more: int, more_count: int) -> tuple[int, ...]:
        places = list(struct.unpack_from("<109I", self._data, _HEADER.size))
        seen: set[int] = set()
        while more not in (_END_OF_CHAIN, _FREE) and len(seen) <= more_count:
            if more in seen:
                raise ProtocolError("a compound file's tables run in a circle")
            seen.add(more)
            numbers = _numbers(self._sector(more))
            places += numbers[:-1]
            more = numbers[-1] if numbers else _END_OF_CHAIN
        used = [one for one in places if one <= _LAST_SECTOR]
        if len(used) != fat_count or len(set(used)) != len(used):
            raise ProtocolError("a compound file's table of sectors is damaged")
        return tuple(number for one in used for number in _numbers(self._sector(one)))

    def _chain(self, start: int, size: int, *, is_exact: bool = True) -> bytes:
        """Return ``size`` bytes along a chain of sectors, or at most so many."""
        pieces: list[bytes] = []
        seen: set[int] = set()
        wanted = -(-size // self._sector_bytes)
        while start <= _LAST_SECTOR and len(pieces) < wanted:
            if start in seen or start >= len(self._fat):
                raise ProtocolError("a chain of a compound file runs in a circle or out of it")
            seen.add(start)
            pieces.append(self._sector(start))
            start = self._fat[start]
        return _cut(pieces, size, is_exact=is_exact)

    def _mini_chain(self, start: int, size: int) -> bytes:
        pieces: list[bytes] = []
        seen: set[int] = set()
        wanted = -(-size // _MINI_BYTES)
        while start <= _LAST_SECTOR and len(pieces) < wanted:
            if start in seen or start >= len(self._mini_fat):
                raise ProtocolError("a small chain of a compound file is broken")
            seen.add(start)
            pieces.append(self._mini[start * _MINI_BYTES : (start + 1) * _MINI_BYTES])
            start = self._mini_fat[start]
        return _cut(pieces, size, is_exact=True)


def _cut(pieces: list[bytes], size: int, *, is_exact: bool) -> bytes:
    joined = b"".join(pieces)[:size]
    if is_exact and len(joined) < size:
        raise ProtocolError("a stream of a compound file ends too early")
    return joined


def _numbers(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{len(data) // 4}I", data)


def _entries(directory: bytes) -> list[_Entry]:
    if len(directory) > COMPOUND_ENTRIES_MAX * _ENTRY.size:
        raise LimitExceeded("COMPOUND_ENTRIES_MAX", COMPOUND_ENTRIES_MAX)
    found: list[_Entry] = []
    for values in _ENTRY.iter_unpack(directory[: len(directory) // _ENTRY.size * _ENTRY.size]):
        name, length, kind, _, left, right, child, class_id, _, _, _, start, low, _ = values
        text = name[: max(0, min(length, len(name)) - 2)].decode("utf-16-le", "replace")
        # The upper half of a size means nothing in version 3, and no file here has 4 GiB.
        found.append(_Entry(text, kind, left, right, child, class_id, start, low))
    return found


def _walk(entries: list[_Entry]) -> list[CompoundStream]:
    """Return the streams of a tree of entries, each visited once."""
    found: list[CompoundStream] = []
    seen: set[int] = set()
    pending = [(entries[0].child, "")]
    while pending:
        number, folder = pending.pop()
        if number > _LAST_SECTOR:
            continue
        if number in seen or number >= len(entries):
            raise ProtocolError("the directory of a compound file runs in a circle or out of it")
        seen.add(number)
        entry = entries[number]
        pending += [(entry.left, folder), (entry.right, folder)]
        path = folder + printable(entry.name.encode("utf-8", "replace"))
        if entry.kind == _STORAGE:
            pending.append((entry.child, path + "/"))
        elif entry.kind == _STREAM:
            found.append(CompoundStream(path, entry.start, entry.size))
    return found


_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Header (2.2): signature, class, minor, major, byte order, sector and mini shift, reserved,
#: directory sectors, FAT sectors, first directory sector, transaction, cutoff, first mini FAT
#: sector and their count, first DIFAT sector and their count.
_HEADER: Final = struct.Struct("<8s16sHHHHH6sIIIIIIIII")
_HEADER_BYTES: Final = 512
#: Directory entry (2.6.1).
_ENTRY: Final = struct.Struct("<64sHBBIII16sIQQIII")
_LITTLE_ENDIAN: Final = 0xFFFE
_VERSIONS: Final = ((3, 9), (4, 12))
_MINI_SHIFT: Final = 6
_MINI_BYTES: Final = 1 << _MINI_SHIFT
_CUTOFF: Final = 4096
_LAST_SECTOR: Final = 0xFFFFFFFA
_END_OF_CHAIN: Final = 0xFFFFFFFE
_FREE: Final = 0xFFFFFFFF
_STORAGE: Final = 1
_STREAM: Final = 2
_ROOT: Final = 5
