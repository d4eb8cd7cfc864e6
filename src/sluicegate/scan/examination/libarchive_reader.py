"""Members of archives that only libarchive can read: 7z, rar, cab, ISO 9660, cpio, ar and others.

``openers`` calls it, in a scanner process alone: it is C code, and formats are hostile. The
invariant: a member is given only if libarchive had no complaint, not even a warning, about the
archive so far; what it cannot read is damage, never the end.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any, Final

from sluicegate.errors import LimitExceeded
from sluicegate.protocols.text import printable

from .budget import Budget
from .faults import Encrypted, Unopenable

# Looking for it would start programs, which a confined process cannot.
os.environ.setdefault("LIBARCHIVE", "libarchive.so.13")

from libarchive import ffi

__all__ = ["members"]


def members(
    data: bytes, format_name: str, filter_name: str, budget: Budget
) -> Iterator[tuple[str, bytes]]:
    """Give the name and the bytes of each member that is a file.

    Args:
        data: The archive.
        format_name: What of libarchive's formats may be taken for it.
        filter_name: What of libarchive's codings may be taken for it.
        budget: What may be unpacked.

    Raises:
        Encrypted: A member, or the archive, is; after all others were given.
        Unopenable: It is damaged, or libarchive cannot read it.
        LimitExceeded: A bound was reached.
    """
    archive = _calls.read_new()
    if not archive:
        raise MemoryError
    try:
        _check(archive, _support("filter", filter_name)(archive))
        _check(archive, _support("format", format_name)(archive))
        _check(archive, _calls.read_open_memory(archive, data, len(data)))
        yield from _entries(archive, len(data), budget)
    finally:
        _calls.read_free(archive)


def _entries(archive: int, packed: int, budget: Budget) -> Iterator[tuple[str, bytes]]:
    entry = _calls.entry_new()
    if not entry:
        raise MemoryError
    unpacked, is_locked, is_empty = 0, False, True
    try:
        while True:
            status = _calls.read_next_header2(archive, entry)
            if status == _END:
                break
            if status != _OK and not _is_about_names(archive):
                raise _fault(archive)
            budget.take_entry()
            is_empty = False
            if _calls.entry_is_encrypted(entry):
                is_locked = True
                continue
            if _calls.entry_filetype(entry) not in (_REGULAR, 0):
                continue
            name = printable(_calls.entry_pathname(entry) or b"")
            content = _read(archive, packed, unpacked, budget)
            unpacked += len(content)
            yield name, content
    finally:
        _calls.entry_free(entry)
    if is_empty and packed > _EMPTY_BYTES_MAX:
        # Where libarchive sees nothing, another reader may see what the bytes are for.
        raise Unopenable("nothing is found in it")
    if is_locked or _calls.read_has_encrypted_entries(archive) > 0:
        raise Encrypted("the archive has encrypted members")


def _read(archive: int, packed: int, unpacked: int, budget: Budget) -> bytes:
    pieces: list[bytes] = []
    size = 0
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    while True:
        count = _calls.read_data(archive, buffer, _PIECE_BYTES)
        if count == 0:
            return b"".join(pieces)
        if count < 0:
            raise _fault(archive)
        size += count
        if size > budget.bounds.member_bytes_max:
            raise LimitExceeded("member_bytes_max", budget.bounds.member_bytes_max)
        budget.take_bytes(count)
        budget.check_ratio(packed, unpacked + size)
        pieces.append(buffer.raw[:count])


def _check(archive: int, status: int) -> None:
    if status != _OK:
        raise _fault(archive)


def _is_about_names(archive: int) -> bool:
    """Tell a warning about a name that is no text from one about content."""
    return b"can't be converted" in (_calls.error_string(archive) or b"")


def _fault(archive: int) -> Exception:
    said = printable(_calls.error_string(archive) or b"no reason told")
    lowered = said.lower()
    if any(word in lowered for word in _ENCRYPTION_WORDS):
        return Encrypted(said)
    if "allocate memory" in lowered:
        return MemoryError(said)
    return Unopenable(said)


_ENCRYPTION_WORDS: Final = ("encrypt", "passphrase", "password", "decrypt")

_OK: Final = 0
_END: Final = 1
_REGULAR: Final = 0o100000
_EMPTY_BYTES_MAX: Final = 256
"""An archive of no files is a header and an end, in every format."""
_PIECE_BYTES: Final = 256 << 10


class _Calls:
    """Functions of the library, without the checks that would let warnings pass."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        size = ctypes.c_size_t
        self.library = library
        self.read_new = _bound(library, "read_new", pointer)
        self.read_free = _bound(library, "read_free", number, pointer)
        self.read_open_memory = _bound(library, "read_open_memory", number, pointer, text, size)
        self.read_next_header2 = _bound(library, "read_next_header2", number, pointer, pointer)
        self.read_data = _bound(library, "read_data", ctypes.c_ssize_t, pointer, pointer, size)
        self.read_has_encrypted_entries = _bound(
            library, "read_has_encrypted_entries", number, pointer
        )
        self.error_string = _bound(library, "error_string", text, pointer)
        self.entry_new = _bound(library, "entry_new", pointer)
        self.entry_free = _bound(library, "entry_free", None, pointer)
        self.entry_filetype = _bound(library, "entry_filetype", number, pointer)
        self.entry_pathname = _bound(library, "entry_pathname", text, pointer)
        self.entry_is_encrypted = _bound(library, "entry_is_encrypted", number, pointer)


def _bound(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    # Subscription makes a function of our own; attributes are shared with libarchive-c.
    function = library[f"archive_{name}"]
    function.restype = result
    function.argtypes = arguments
    return function


def _support(what: str, name: str) -> Any:
    return _bound(_calls.library, f"read_support_{what}_{name}", ctypes.c_int, ctypes.c_void_p)


_calls: Final = _Calls(ffi.libarchive)
