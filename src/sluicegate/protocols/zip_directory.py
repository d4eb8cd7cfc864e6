r"""The members of a ZIP file, strictly: where readers could disagree, it is refused.

``archives`` asks it for the members and reads them itself. Own code in place of ``zipfile``, which
reads a central directory of any size into memory, believes it where unpackers that stream believe
the local headers, and passes over bytes that no entry of it names. The invariant: the members
returned are all that any reader finds in the file, at these places and with these sizes.

The format is PKWARE's APPNOTE.TXT; section numbers below are of it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import ARCHIVE_DIRECTORY_BYTES_MAX

__all__ = ["ZipEncrypted", "ZipMember", "ZipMethodUnknown", "zip_members"]


class ZipEncrypted(ProtocolError):
    """A member, or the directory, is encrypted."""


class ZipMethodUnknown(ProtocolError):
    """A member is packed by a method that is not unpacked here."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One entry of the central directory, checked against its local header."""

    name: bytes
    method: int
    #: 0 stored, 8 deflated, 12 bzip2 (4.4.5).
    flags: int
    checksum: int
    #: CRC-32 of the content.
    packed_bytes: int
    size_bytes: int
    header_offset: int
    data_offset: int = 0


def zip_members(file: BinaryIO, *, entries_max: int) -> list[ZipMember]:
    """Return the members in the order of the file.

    Raises:
        ProtocolError: It is damaged, encrypted, split, or reads differently to different readers.
        LimitExceeded: It has too many entries, or its directory is too large.
    """
    directory = _find_directory(file)
    if directory.entries > entries_max:
        raise LimitExceeded("ARCHIVE_ENTRIES_MAX", entries_max)
    if directory.size > ARCHIVE_DIRECTORY_BYTES_MAX:
        raise LimitExceeded("ARCHIVE_DIRECTORY_BYTES_MAX", ARCHIVE_DIRECTORY_BYTES_MAX)
    entries = _parse_entries(_read_at(file, directory.offset, directory.size))
    if len(entries) != directory.entries:
        raise ProtocolError("the count of its entries is wrong")
    entries.sort(key=lambda entry: entry.header_offset)
    members = [_check_local_header(file, entry) for entry in entries]
    _check_gaps(file, members, directory.offset)
    return members


@dataclass(frozen=True, slots=True)
class _Directory:
    offset: int
    size: int
    entries: int


def _find_directory(file: BinaryIO) -> _Directory:
    """Find the one end record (4.3.16) and, where there is one, its ZIP64 form (4.3.14)."""
    file_size = file.seek(0, 2)
    tail_size = min(file_size, _END.size + _COMMENT_MAX)
    tail = _read_at(file, file_size - tail_size, tail_size)
    found = (match.start() for match in _END_MAGIC.finditer(tail))
    ends = [at for at in found if _is_end_record(tail, at)]
    if len(ends) != 1:
        raise ProtocolError("it has no end record, or more than one")
    at = file_size - tail_size + ends[0]
    _, disk, first_disk, here, entries, size, offset, _ = _END.unpack_from(tail, ends[0])
    if disk or first_disk or here != entries:
        raise ProtocolError("it is split over several files")
    directory = _Directory(offset, size, entries)
    directory, at = _read_zip64(file, directory, at)
    if directory.offset + directory.size != at:
        raise ProtocolError("something stands before it or before its end record")
    return directory


def _is_end_record(tail: bytes, at: int) -> bool:
    if at + _END.size > len(tail):
        return False
    comment_length = _END.unpack_from(tail, at)[-1]
    return bool(at + _END.size + comment_length == len(tail))


def _read_zip64(file: BinaryIO, directory: _Directory, at: int) -> tuple[_Directory, int]:
    """Return the directory and the place of the first end record, ZIP64 taken into account."""
    locator_at = at - _END64_LOCATOR.size
    locator = _read_at(file, locator_at, _END64_LOCATOR.size) if locator_at >= 0 else b""
    if not locator.startswith(_END64_LOCATOR_MAGIC):
        if _MARK_32 in (directory.offset, directory.size):
            raise ProtocolError("its ZIP64 end record is missing")
        return directory, at
    _, disk, record_at, disks = _END64_LOCATOR.unpack(locator)
    if disk or disks > 1 or record_at + _END64.size != locator_at:
        raise ProtocolError("its ZIP64 end record is not where it must be")
    record = _END64.unpack(_read_at(file, record_at, _END64.size))
    magic, length, _, _, _, _, here, entries, size, offset = record
    if magic != _END64_MAGIC or length != _END64.size - 12 or here != entries:
        raise ProtocolError("its ZIP64 end record is damaged")
    is_same = (
        directory.offset in (offset, _MARK_32)
        and directory.size in (size, _MARK_32)
        and directory.entries in (entries, _MARK_16)
    )
    if not is_same:
        raise ProtocolError("its two end records differ")
    return _Directory(offset, size, entries), record_at


def _parse_entries(central: bytes) -> list[ZipMember]:
    entries: list[ZipMember] = []
    position = 0
    while position < len(central):
        entry, position = _parse_entry(central, position)
        entries.append(entry)
    if position != len(central):
        raise ProtocolError("its directory is cut")
    return entries


def _parse_entry(central: bytes, position: int) -> tuple[ZipMember, int]:
    """Read one central directory header (4.3.12); return it and where the next one begins."""
    if position + _CENTRAL.size > len(central):
        raise ProtocolError("its directory is cut")
    (magic, _, _, flags, method, _, _, checksum, packed, size, name_length, extra_length,
     comment_length, disk, _, _, offset) = _CENTRAL.unpack_from(central, position)  # fmt: skip
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    name = central[name_at:extra_at]
    extra = central[extra_at : extra_at + extra_length]
    if magic != _CENTRAL_MAGIC or disk not in (0, _MARK_16):
        raise ProtocolError("its directory is damaged")
    size, packed, offset = _zip64_values(extra, (size, packed, offset))
    entry = ZipMember(name, method, flags, checksum, packed, size, offset)
    return entry, extra_at + extra_length + comment_length


def _zip64_values(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Replace marked sizes and offsets by those of the ZIP64 extra field (4.5.3)."""
    fields = [field for kind, field in _extra_fields(extra) if kind == _ZIP64_EXTRA]
    if _MARK_32 not in values:
        return values
    if len(fields) != 1:
        raise ProtocolError("a ZIP64 size is missing or there twice")
    marked = values.count(_MARK_32)
    if len(fields[0]) < 8 * marked:
        raise ProtocolError("a ZIP64 size is missing")
    wide = iter(struct.unpack_from(f"<{marked}Q", fields[0]))
    return tuple(next(wide) if value == _MARK_32 else value for value in values)


def _extra_fields(extra: bytes) -> list[tuple[int, bytes]]:
    fields: list[tuple[int, bytes]] = []
    position = 0
    # Android's alignment pads extra fields with up to three bytes that are no field.
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        fields.append((kind, extra[position + 4 : position + 4 + length]))
        position += 4 + length
    return fields


def _check_local_header(file: BinaryIO, entry: ZipMember) -> ZipMember:
    """Compare an entry with the header (4.3.7) that readers of a stream believe."""
    if entry.flags & _FLAGS_ENCRYPTED:
        raise ZipEncrypted("a member is encrypted")
    if entry.flags & _FLAG_PATCH or entry.method not in _METHODS:
        raise ZipMethodUnknown("a member is packed in a way that cannot be looked into")
    if entry.method == _STORED and entry.packed_bytes != entry.size_bytes:
        raise ProtocolError("a stored member has two sizes")
    fixed = _read_at(file, entry.header_offset, _LOCAL.size)
    magic, _, flags, method, _, _, checksum, packed, size, name_length, extra_length = (
        _LOCAL.unpack(fixed)
    )
    names = _read_at(file, entry.header_offset + _LOCAL.size, name_length + extra_length)
    size, packed = _zip64_values(names[name_length:], (size, packed))
    is_same = magic == _LOCAL_MAGIC and method == entry.method and names[:name_length] == entry.name
    is_same = is_same and not (flags ^ entry.flags) & _FLAGS_THAT_MATTER
    expected = (entry.checksum, entry.packed_bytes, entry.size_bytes)
    if flags & _FLAG_DESCRIPTOR:
        # The values follow the data; in front of it stand zeros, or what will follow.
        told = (checksum, packed, size)
        is_same = is_same and all(a in (0, b) for a, b in zip(told, expected, strict=True))
    else:
        is_same = is_same and (checksum, packed, size) == expected
    if not is_same:
        raise ProtocolError("a member's two headers differ")
    data_offset = entry.header_offset + _LOCAL.size + name_length + extra_length
    return replace(entry, data_offset=data_offset)


def _check_gaps(file: BinaryIO, members: list[ZipMember], directory_offset: int) -> None:
    """Refuse overlapping members, and members between members that the directory leaves out."""
    ends = [0, *(member.data_offset + member.packed_bytes for member in members)]
    starts = [*(member.header_offset for member in members), directory_offset]
    read_bytes = 0
    for start, end in zip(starts, ends, strict=True):
        if start < end:
            raise ProtocolError("its members overlap")
        read_bytes += start - end
        if read_bytes > ARCHIVE_DIRECTORY_BYTES_MAX:
            raise ProtocolError("too much stands between its members")
        # What is shorter is a data descriptor, a split marker or padding.
        if start - end >= _LOCAL.size and _LOCAL_MAGIC in _read_at(file, end, start - end):
            raise ProtocolError("it holds a member that its directory leaves out")


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    taken = file.read(size)
    if len(taken) != size:
        raise ProtocolError("it ends too early")
    return taken


_END_MAGIC = re.compile(rb"PK\x05\x06")
_END = struct.Struct("<4s4H2IH")
_END64_MAGIC = b"PK\x06\x06"
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_LOCATOR_MAGIC = b"PK\x06\x07"
_END64_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL_MAGIC = b"PK\x01\x02"
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s5H3I2H")
_COMMENT_MAX = 0xFFFF
_MARK_16 = 0xFFFF
_MARK_32 = 0xFFFFFFFF
_ZIP64_EXTRA = 1
_STORED = 0
_METHODS = frozenset({_STORED, 8, 12})
#: Encrypted, strongly encrypted, directory encrypted (4.4.4).
_FLAGS_ENCRYPTED = 0x2041
_FLAG_DESCRIPTOR = 0x8
_FLAG_PATCH = 0x20
#: Not those that tell how hard was tried (4.4.4), in which writers are careless.
_FLAGS_THAT_MATTER = _FLAGS_ENCRYPTED | _FLAG_DESCRIPTOR | _FLAG_PATCH
