"""Byte streams as ``archives`` reads them: cut from a file, unpacked, checked.

Each step takes an iterator of chunks and gives one, so that a tar inside a gzip inside a ZIP file
is read without a copy of it. The invariant: a stream that ends without an error was whole, and
nothing followed it.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import ARCHIVE_MEMORY_BYTES_MAX, ARCHIVE_STREAMS_MAX

__all__ = ["CHUNK_BYTES", "CODECS", "ByteStream", "Codec", "Decoder", "section", "unpack", "verify"]

CHUNK_BYTES = 64 << 10


class Decoder(Protocol):
    """What ``bz2`` and ``lzma`` decompressors have in common, and ``_Inflate`` with them."""

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        """Return at most ``max_length`` unpacked bytes; keep the rest for the next call."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether nothing more can be unpacked before more data comes."""
        ...

    @property
    def eof(self) -> bool:
        """Whether the end mark was reached and the checksum was right."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the end mark."""
        ...


class Codec:
    """A packed format: how to make a decoder, and what may follow a packed stream."""

    __slots__ = ("concatenates", "make")

    def __init__(self, make: Callable[[], Decoder], *, concatenates: bool) -> None:
        self.make = make
        self.concatenates = concatenates
        #: Whether further streams of the kind, and padding of zeros, may follow (as the
        #: command-line tools have it).


class ByteStream:
    """Chunks with a ``read`` over them."""

    __slots__ = ("_buffer", "_chunks", "_position")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        if len(taken) == size:
            return taken
        pieces = [taken]
        missing = size - len(taken)
        while missing and (chunk := next(self._chunks, None)) is not None:
            pieces.append(chunk[:missing])
            self._buffer, self._position = chunk, len(pieces[-1])
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def put_back(self, data: bytes) -> None:
        """Let the next ``read`` begin with bytes that were read too far."""
        self._buffer = data + self._buffer[self._position :]
        self._position = 0

    def read_exactly(self, size: int) -> bytes:
        """Return ``size`` bytes.

        Raises:
            ProtocolError: The stream ends before.
        """
        taken = self.read(size)
        if len(taken) < size:
            raise ProtocolError("it ends too early")
        return taken

    def take(self, size: int) -> Iterator[bytes]:
        """Give the next ``size`` bytes in chunks; the caller uses them up before the next call."""
        while size:
            chunk = self.read_exactly(min(size, CHUNK_BYTES))
            size -= len(chunk)
            yield chunk

    def rest(self) -> Iterator[bytes]:
        """Give everything that is left."""
        while chunk := self.read(CHUNK_BYTES):
            yield chunk


def section(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Give ``length`` bytes of a file from ``start``; other readers may move it in between.

    Raises:
        ProtocolError: The file ends before.
    """
    end = start + length
    while start < end:
        file.seek(start)
        chunk = file.read(min(CHUNK_BYTES, end - start))
        if not chunk:
            raise ProtocolError("it ends too early")
        start += len(chunk)
        yield chunk


def unpack(
    codec: Codec, packed: Iterable[bytes], count: Callable[[int, int], None]
) -> Iterator[bytes]:
    """Give what a packed stream holds.

    ``count`` is told the bytes taken and given so far, after each piece; it raises to stop.

    Raises:
        ProtocolError: The stream is corrupt, ends too early, or something follows it.
        LimitExceeded: Unpacking it takes too much memory, or it is of too many pieces.
    """
    source = ByteStream(packed)
    taken = given = 0
    streams = 1
    decoder = codec.make()
    while not decoder.eof:
        data = b""
        if decoder.needs_input:
            data = source.read(CHUNK_BYTES)
            if not data:
                raise ProtocolError("it ends too early")
        taken += len(data)
        piece = _decompress(decoder, data)
        given += len(piece)
        count(taken, given)
        if piece:
            yield piece
        if decoder.eof and codec.concatenates:
            following = decoder.unused_data.lstrip(b"\0") or _skip_zeros(source)
            if not following:
                return
            taken -= len(following)
            source.put_back(following)
            streams += 1
            if streams > ARCHIVE_STREAMS_MAX:
                raise LimitExceeded("ARCHIVE_STREAMS_MAX", ARCHIVE_STREAMS_MAX)
            decoder = codec.make()
    if decoder.unused_data or source.read(1):
        raise ProtocolError("something follows its end")


def verify(chunks: Iterable[bytes], size: int, checksum: int) -> Iterator[bytes]:
    """Give the chunks on; at the end compare their size and CRC-32.

    Raises:
        ProtocolError: They differ from what was announced.
    """
    length = crc = 0
    for chunk in chunks:
        length += len(chunk)
        crc = zlib.crc32(chunk, crc)
        if length > size:
            break
        yield chunk
    if length != size or crc != checksum:
        raise ProtocolError("its size or checksum differs from what was announced")


class _Inflate:
    """A zlib decompressor with the interface of the other two."""

    __slots__ = ("_inner", "needs_input")

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # A full piece may have left output inside zlib even when all input was taken.
        self.needs_input = not self._inner.unconsumed_tail and len(piece) < max_length
        return piece

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _decompress(decoder: Decoder, data: bytes) -> bytes:
    try:
        return decoder.decompress(data, CHUNK_BYTES)
    except lzma.LZMAError as error:
        if "Memory usage limit" in str(error):
            raise LimitExceeded("ARCHIVE_MEMORY_BYTES_MAX", ARCHIVE_MEMORY_BYTES_MAX) from error
        raise ProtocolError(f"it is corrupt: {error}") from error
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise ProtocolError(f"it is corrupt: {error}") from error


def _skip_zeros(source: ByteStream) -> bytes:
    for chunk in source.rest():
        following = chunk.lstrip(b"\0")
        if following:
            return following
    return b""


#: By the kind that ``executables.archive_kind`` names; ``deflate`` is for members of ZIP files.
CODECS = {
    "gzip": Codec(lambda: _Inflate(16 + zlib.MAX_WBITS), concatenates=True),
    "bzip2": Codec(bz2.BZ2Decompressor, concatenates=True),
    "xz": Codec(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=ARCHIVE_MEMORY_BYTES_MAX),
        concatenates=True,
    ),
    "deflate": Codec(lambda: _Inflate(-zlib.MAX_WBITS), concatenates=False),
    "zip-bzip2": Codec(bz2.BZ2Decompressor, concatenates=False),
}
