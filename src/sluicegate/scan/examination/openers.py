"""Openers: for each kind of container, how its members are taken out.

``walk`` looks one up by kind. ZIP, tar, gzip, bzip2 and xz are read by our own strict readers, the
rest by libarchive. The invariant: an opener gives every member, or raises; none stops early in
silence.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocols.archive_streams import CODECS, ByteStream, section, unpack, verify
from sluicegate.protocols.compound_file import CompoundFile
from sluicegate.protocols.file_kinds import CLOSED_KINDS
from sluicegate.protocols.mail_parts import mail_parts
from sluicegate.protocols.onenote_files import onenote_files
from sluicegate.protocols.pdf_scripts import pdf_streams
from sluicegate.protocols.powerpoint_objects import powerpoint_objects
from sluicegate.protocols.rtf_objects import rtf_objects
from sluicegate.protocols.tar_members import tar_members
from sluicegate.protocols.text import printable
from sluicegate.protocols.zip_directory import (
    ZipEncrypted,
    ZipMember,
    ZipMethodUnknown,
    zip_members,
)

from . import libarchive_reader
from .budget import Budget
from .faults import Encrypted

__all__ = ["OPENERS", "Members", "open_appended", "zip_names"]

Members: TypeAlias = Iterator[tuple[str, bytes]]
"""Name (printable) and bytes."""

_Opener: TypeAlias = Callable[[bytes, Budget], Members]


def _open_zip(data: bytes, budget: Budget) -> Members:
    file = io.BytesIO(data)
    try:
        found = zip_members(file, entries_max=budget.bounds.entries_max)
    except ZipEncrypted as error:
        # What is not encrypted is looked at all the same.
        yield from libarchive_reader.members(data, "zip", "none", budget)
        raise Encrypted(error.hint) from error
    except LimitExceeded as error:
        if error.limit == "ARCHIVE_ENTRIES_MAX":
            raise LimitExceeded("entries_max", error.bound) from error
        raise
    except ZipMethodUnknown:
        yield from libarchive_reader.members(data, "zip", "none", budget)
        return
    for member in found:
        budget.take_entry()
        yield printable(member.name), budget.collect(_zip_content(file, member, budget))


def zip_names(data: bytes) -> list[str]:
    """Return the names of a ZIP file's members; none if it cannot be read here."""
    try:
        found = zip_members(io.BytesIO(data), entries_max=_NAMED_ENTRIES_MAX)
    except (LimitExceeded, ProtocolError):
        return []
    return [printable(one.name) for one in found]


_NAMED_ENTRIES_MAX: Final = 100_000


def _zip_content(file: io.BytesIO, member: ZipMember, budget: Budget) -> Iterator[bytes]:
    chunks = section(file, member.data_offset, member.packed_bytes)
    codec = _ZIP_CODECS[member.method]
    if codec is not None:
        chunks = unpack(CODECS[codec], chunks, budget.check_ratio)
    return verify(chunks, member.size_bytes, member.checksum)


_ZIP_CODECS: Final = {0: None, 8: "deflate", 12: "zip-bzip2"}


def _open_tar(data: bytes, budget: Budget) -> Members:
    for name, content in tar_members(ByteStream(section(io.BytesIO(data), 0, len(data)))):
        budget.take_entry()
        yield printable(name), budget.collect(content)


def _unpacker(kind: str) -> _Opener:
    def open_one(data: bytes, budget: Budget) -> Members:
        budget.take_entry()
        packed = section(io.BytesIO(data), 0, len(data))
        yield "", budget.collect(unpack(CODECS[kind], packed, budget.check_ratio))

    return open_one


def _by_libarchive(format_name: str, filter_name: str = "none") -> _Opener:
    def open_one(data: bytes, budget: Budget) -> Members:
        return libarchive_reader.members(data, format_name, filter_name, budget)

    return open_one


def _decoder(filter_name: str) -> _Opener:
    def open_one(data: bytes, budget: Budget) -> Members:
        for _, content in libarchive_reader.members(data, "raw", filter_name, budget):
            yield "", content

    return open_one


def _open_rar(data: bytes, budget: Budget) -> Members:
    is_newer = data.startswith(b"Rar!\x1a\x07\x01\x00")
    return libarchive_reader.members(data, "rar5" if is_newer else "rar", "none", budget)


def _open_compound(data: bytes, budget: Budget) -> Members:
    compound = CompoundFile(data)
    for stream in compound.streams:
        budget.take_entry()
        content = budget.collect((compound.read(stream),))
        yield stream.path, content
        if stream.path.lower() == "powerpoint document":
            for packed in powerpoint_objects(content, bytes_max=budget.room):
                budget.take_entry()
                yield f"{stream.path}/object", budget.collect((packed,))


def _open_pdf(data: bytes, budget: Budget) -> Members:
    for number, stream in enumerate(pdf_streams(data, bytes_max=budget.room)):
        budget.take_entry()
        yield f"stream {number}", budget.collect((stream.content,))


def _open_with(reader: Callable[[bytes], Iterator[tuple[str, bytes]]]) -> _Opener:
    def open_one(data: bytes, budget: Budget) -> Members:
        for name, content in reader(data):
            budget.take_entry()
            yield printable(name.encode()), budget.collect((content,))

    return open_one


OPENERS: Final[dict[str, _Opener]] = {
    "zip": _open_zip,
    "tar": _open_tar,
    "gzip": _unpacker("gzip"),
    "bzip2": _unpacker("bzip2"),
    "xz": _unpacker("xz"),
    "zstd": _decoder("zstd"),
    "lz4": _decoder("lz4"),
    "lzip": _decoder("lzip"),
    "lzma": _decoder("lzma"),
    "compress": _decoder("compress"),
    "7z": _by_libarchive("7zip"),
    "rar": _open_rar,
    "cab": _by_libarchive("cab"),
    "iso9660": _by_libarchive("iso9660"),
    "cpio": _by_libarchive("cpio"),
    "ar": _by_libarchive("ar"),
    "deb": _by_libarchive("ar"),
    "rpm": _by_libarchive("cpio", "all"),
    "xar": _by_libarchive("xar"),
    "lha": _by_libarchive("lha"),
    "warc": _by_libarchive("warc"),
    "ole": _open_compound,
    "pdf": _open_pdf,
    "mail": _open_with(mail_parts),
    "rtf": _open_with(rtf_objects),
    "onenote": _open_with(onenote_files),
}


def open_appended(data: bytes, budget: Budget, *, is_container: bool) -> tuple[str, Members] | None:
    """Open what stands behind a program or a picture: the archive that makes it self-extracting.

    Args:
        data: The whole.
        budget: What may be unpacked.
        is_container: Whether the whole holds files itself, among which there may be archives: then
            only a ZIP file counts that ends where the whole ends.

    Returns:
        The kind and the members; None if there is nothing of that kind.
    """
    if _has_zip_end(data, is_exact=is_container):
        return "zip", libarchive_reader.members(data, "zip", "none", budget)
    if is_container:
        return None
    for kind, mark in _APPENDED:
        at = data.find(mark, 1)
        if at > 0:
            return kind, OPENERS[kind](data[at:], budget)
    return None


def _has_zip_end(data: bytes, *, is_exact: bool) -> bool:
    """Tell whether a file ends with the end record of a ZIP file (APPNOTE 4.3.16)."""
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _ZIP_END_BYTES_MAX))
    if at < 0 or at + _ZIP_END_BYTES > len(data):
        return False
    comment = int.from_bytes(data[at + 20 : at + 22], "little")
    entries = int.from_bytes(data[at + 10 : at + 12], "little")
    end = at + _ZIP_END_BYTES + comment
    return entries > 0 and (end == len(data) if is_exact else end <= len(data))


_ZIP_END_BYTES: Final = 22
_ZIP_END_BYTES_MAX: Final = _ZIP_END_BYTES + 0xFFFF
_APPENDED: Final = (
    ("7z", b"7z\xbc\xaf\x27\x1c\x00"),
    ("rar", b"Rar!\x1a\x07"),
    ("cab", b"MSCF\0\0\0\0"),
)
"""Marks that stand where a self-extracting program ends; the first one decides."""

assert not CLOSED_KINDS & OPENERS.keys(), "a kind is opened or it is not"
