"""What passes between a process that makes records and the one that writes them.

``sender`` speaks one side of it, ``collector`` the other, over a Unix socket for each sender. The
invariant: batches of a sender are numbered without gaps, and a batch is acknowledged when its last
byte is in the file, not before.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from sluicegate.limits import RECORD_BATCH_BYTES_MAX

__all__ = ["Batch", "BatchReader", "Note", "NoteKind", "NoteReader", "frame_batch", "frame_note"]

_BATCH: Final = struct.Struct("!IIQ")
_NOTE: Final = struct.Struct("!BQH")
_TEXT_BYTES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines of one sender."""

    number: int
    #: Counted by the sender, from 1.
    records: int
    lines: bytes


class NoteKind(enum.IntEnum):
    """What the writer tells a sender."""

    WRITTEN = 0
    """Everything up to a batch is in the file; the first note of every socket is one."""
    FAILING = 1
    """Writing fails, for the reason in the text."""
    WORKING = 2
    """Writing works again."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note of the writer."""

    kind: NoteKind
    number: int = 0
    text: str = ""


def frame_batch(number: int, lines: bytes) -> bytes:
    """Return the bytes of a batch on the socket."""
    return _BATCH.pack(len(lines), lines.count(b"\n"), number) + lines


def frame_note(note: Note) -> bytes:
    """Return the bytes of a note on the socket."""
    text = note.text.encode("ascii", "replace")[:_TEXT_BYTES_MAX]
    return _NOTE.pack(note.kind, note.number, len(text)) + text


class BatchReader:
    """Batches out of the bytes of one sender."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, received: bytes) -> list[Batch]:
        """Take bytes; return the batches that are whole.

        Raises:
            ValueError: A batch is longer than any sender makes.
        """
        rest = self._rest
        rest += received
        found: list[Batch] = []
        at = 0
        while len(rest) - at >= _BATCH.size:
            length, records, number = _BATCH.unpack_from(rest, at)
            if length > RECORD_BATCH_BYTES_MAX:
                raise ValueError(f"a batch of {length} bytes")
            begin = at + _BATCH.size
            if len(rest) - begin < length:
                break
            at = begin + length
            found.append(Batch(number, records, bytes(rest[begin:at])))
        del rest[:at]
        return found


class NoteReader:
    """Notes out of the bytes of the writer."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> list[Note]:
        """Take bytes; return the notes that are whole."""
        rest = self._rest + received
        found: list[Note] = []
        at = 0
        while len(rest) - at >= _NOTE.size:
            kind, number, length = _NOTE.unpack_from(rest, at)
            begin = at + _NOTE.size
            if len(rest) - begin < length:
                break
            at = begin + length
            found.append(Note(NoteKind(kind), number, rest[begin:at].decode("ascii")))
        self._rest = rest[at:]
        return found
