r"""The members of a tar stream, strictly: what one reader would skip is refused.

``archives`` iterates over it. Own code in place of ``tarfile``, which ends silently at a damaged
header where GNU tar goes on, searches extended headers with backtracking patterns
(CVE-2024-6232), and reads them whole into memory. The invariant: every byte of the stream is a
header, a member's content, or zero padding.
"""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import ARCHIVE_HEADER_BYTES_MAX
from sluicegate.protocols.archive_streams import ByteStream

__all__ = ["is_tar_header", "tar_members"]


def tar_members(stream: ByteStream) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """Give the name and the content of each member that has content; the content is used up first.

    Raises:
        ProtocolError: A header is damaged, a member is of a kind whose content readers disagree
            on (sparse, multi-volume, a link with data), or something follows the end.
        LimitExceeded: An extended header is too large.
    """
    extended = _Extended()
    while (header := stream.read_exactly(_BLOCK)) != _ZERO_BLOCK:
        if not is_tar_header(header):
            raise ProtocolError("a tar header is damaged")
        kind = header[156:157]
        size = _number(header[124:136])
        if kind in _EXTENSIONS:
            extended.add(kind, _read_extension(stream, size))
            continue
        size = size if extended.size is None else extended.size
        _check_content(kind, size)
        content = stream.take(size)
        if kind not in _WITHOUT_CONTENT:
            yield extended.name or _short_name(header), content
        for _ in content:  # what the caller left
            pass
        stream.read_exactly(-size % _BLOCK)
        extended = _Extended()
    if any(chunk.strip(b"\0") for chunk in stream.rest()):
        raise ProtocolError("something follows the end of a tar file")


def is_tar_header(block: bytes) -> bool:
    """Tell whether a block of 512 bytes carries the checksum of a tar header."""
    field = block[148:156].strip(b" \0")
    if len(block) < _BLOCK or not field or field.strip(b"01234567"):
        return False
    return sum(block) - sum(block[148:156]) + 8 * ord(" ") == int(field, 8)


class _Extended:
    """What extended headers said about the next member."""

    __slots__ = ("name", "size")

    def __init__(self) -> None:
        self.name = b""
        self.size: int | None = None

    def add(self, kind: bytes, extension: bytes) -> None:
        """Take one extended header into account."""
        if kind in _PAX:
            records = _pax_records(extension)
            if kind == b"g" and records.keys() & {b"path", b"size"}:
                raise ProtocolError("a global pax header names or sizes every member")
            self.name = records.get(b"path", self.name)
            self.size = _size_of(records, self.size)
        elif kind == _LONG_NAME:
            self.name = extension.rstrip(b"\0")


def _check_content(kind: bytes, size: int) -> None:
    if kind in _WITHOUT_CONTENT and size:
        raise ProtocolError("a tar member that has no content has a size")
    if kind in _AMBIGUOUS:
        raise ProtocolError("a tar member is sparse or part of several volumes")


def _read_extension(stream: ByteStream, size: int) -> bytes:
    if size > ARCHIVE_HEADER_BYTES_MAX:
        raise LimitExceeded("ARCHIVE_HEADER_BYTES_MAX", ARCHIVE_HEADER_BYTES_MAX)
    extension = stream.read_exactly(size)
    stream.read_exactly(-size % _BLOCK)
    return extension


def _pax_records(extension: bytes) -> dict[bytes, bytes]:
    """Read ``length keyword=value`` lines (POSIX.1-2001 pax)."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(extension):
        digits, space, _ = extension[position : position + 8].partition(b" ")
        if not space or not digits.isdigit():
            raise ProtocolError("a pax record has no length")
        record = extension[position + len(digits) + 1 : position + int(digits)]
        keyword, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or keyword.startswith(b"GNU.sparse"):
            raise ProtocolError("a pax record is damaged or describes a sparse file")
        records[keyword] = value[:-1]
        position += int(digits)
    if position != len(extension):
        raise ProtocolError("a pax record passes the end of its header")
    return records


def _size_of(records: dict[bytes, bytes], otherwise: int | None) -> int | None:
    size = records.get(b"size")
    if size is None:
        return otherwise
    if not size.isdigit() or len(size) > _SIZE_DIGITS_MAX:
        raise ProtocolError("a pax record carries no size")
    return int(size)


def _number(field: bytes) -> int:
    """Read octal digits, or the base-256 numbers of GNU tar above 8 GiB."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise ProtocolError("a number in a tar header is damaged")
    return int(digits or b"0", 8)


def _short_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


_BLOCK = 512
_ZERO_BLOCK = bytes(_BLOCK)
_SIZE_DIGITS_MAX = 18
_LONG_NAME = b"L"
#: For the next member, for all further ones, and Solaris' form of the first.
_PAX = b"xgX"
#: With GNU tar's long names and long link targets.
_EXTENSIONS = _PAX + _LONG_NAME + b"K"
#: Links, devices, directories, FIFOs, volume labels.
_WITHOUT_CONTENT = b"123456V"
#: GNU sparse, continued from another volume, dumped directory.
_AMBIGUOUS = b"SMD"
