"""Reading the log's files: lines as they are.

The commands ``log``, ``why``, ``simulate`` and ``learn`` use it, on a file that the gate may be
writing and that a rotation may move. The invariant: only whole lines are read, and a line that is
no record is skipped and counted.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final, cast

import msgspec

__all__ = ["LogFile", "LogLine", "host_of", "rotated_files"]

_READ_BYTES: Final = 1 << 20
_COMPRESSED: Final = ".gz"

_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record as it stands in the file."""

    raw: bytes
    """The line without its end."""
    fields: dict[str, Any]
    """What it holds, also fields that this version does not know."""

    def text(self, name: str) -> str:
        """Return a field as text, empty when it is absent."""
        value = self.fields.get(name)
        return "" if value is None else str(value)


class LogFile:
    """The log at a path, read from its beginning; ``new_lines`` goes on where it stopped."""

    def __init__(self, path: pathlib.Path) -> None:
        self.skipped = 0
        #: Lines that were no records.
        self.bytes_read = 0
        self._path = path
        self._file: IO[bytes] = _open(path)
        self._rest = b""
        self._texts: tuple[bytes, ...] = ()

    def new_lines(self) -> Iterator[LogLine]:
        """Yield the whole lines that came since the last call; follows a rotation."""
        yield from self._read()
        if self._was_moved():
            # What was appended between the last read and the move belongs first.
            yield from self._read()
            following = _open(self._path)  # if it cannot be opened now, it is tried again
            self._file.close()
            self._file = following
            self._rest = b""
            yield from self._read()

    def skip_to_last(self, bytes_max: int) -> None:
        """Begin with the first whole line of so many bytes at the end; not in a compressed file."""
        size = os.fstat(self._file.fileno()).st_size
        if size > bytes_max:
            self._file.seek(size - bytes_max - 1)
            self._file.readline()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def only_with(self, *texts: str) -> None:
        """From now on, leave out lines that hold none of these texts, without reading them.

        A line that holds one need not be about it: whoever asks looks at what it says.
        """
        self._texts = tuple(json.dumps(text)[1:-1].encode("ascii") for text in texts)

    def _may_be_wanted(self, raw: bytes) -> bool:
        return not self._texts or any(text in raw for text in self._texts)

    def _read(self) -> Iterator[LogLine]:
        while block := self._file.read(_READ_BYTES):
            self.bytes_read += len(block)
            lines = (self._rest + block).split(b"\n")
            self._rest = lines.pop()
            for raw in lines:
                line = self._parse(raw)
                if line is not None:
                    yield line

    def _parse(self, raw: bytes) -> LogLine | None:
        if not raw or not self._may_be_wanted(raw):
            return None
        try:
            return LogLine(raw, _decoder.decode(raw))
        except msgspec.DecodeError:
            self.skipped += 1
            return None

    def _was_moved(self) -> bool:
        if self._path.suffix == _COMPRESSED:
            return False
        opened = os.fstat(self._file.fileno())
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False  # between the move and the gate's reopening
        if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            return True
        if named.st_size < self._file.tell():
            self._file.seek(0)  # cut in place (copytruncate)
            self._rest = b""
        return False


def rotated_files(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of a log, the oldest first and ``path`` last, if it is there.

    Rotations leave ``records.jsonl.1``, ``records.jsonl-20270131``, and the same with ``.gz``.
    """
    name = re.compile(re.escape(path.name) + r"[.-]\d+(?:\.gz)?")
    times: dict[pathlib.Path, float] = {}
    for one in path.parent.iterdir():
        if name.fullmatch(one.name):
            with contextlib.suppress(FileNotFoundError):  # the gate has just let it go
                times[one] = one.stat().st_mtime
    found = sorted(times, key=lambda one: times[one])
    return [*found, *([path] if path.exists() else [])]


def _open(path: pathlib.Path) -> IO[bytes]:
    if path.suffix == _COMPRESSED:
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def host_of(address: str) -> str:
    """Return the address in ``address:port``, as records write clients."""
    return address.rpartition(":")[0].strip("[]")
