"""gzip and deflate: both of zlib, with one member, and nothing behind it.

The invariant: a stream is read as zlib or as raw deflate by its first two bytes alone, as clients
do, and what is read to its end without a fault has no other reading.

Chromium and Firefox take the first gzip member and ignore what follows it; Go, Node and Python's
clients read further members; curl fails. So a body that goes on behind its first member is refused.
"""

from __future__ import annotations

import zlib
from typing import Final

from typing_extensions import override

from .fault import CodingError, CodingFault
from .stage import PIECE_BYTES, CodingStage

__all__ = ["DeflateStage", "GzipStage"]


class GzipStage(CodingStage):
    """One gzip member (RFC 1952); zlib checks its header, length and CRC."""

    __slots__ = ("_has_begun", "_inflate", "_input", "_is_full")

    _name = "gzip"

    def __init__(self, window_bits: int = 16 + zlib.MAX_WBITS) -> None:
        self._inflate = zlib.decompressobj(window_bits)
        self._input: bytes | memoryview = b""
        self._is_full = False
        #: The last piece was, so that more may lie inside zlib.
        self._has_begun = False

    @override
    def receive(self, data: bytes | memoryview) -> None:
        if not data:
            return
        self._has_begun = True
        if self._inflate.eof:
            raise self._followed()
        self._input = data

    @override
    def take(self) -> bytes:
        data = self._inflate.unconsumed_tail or self._input
        self._input = b""
        while data or self._is_full:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise CodingError(CodingFault.MALFORMED, f"{self._name}: {error}") from error
            self._is_full = len(piece) == PIECE_BYTES
            if self._inflate.unused_data:
                raise self._followed()
            if piece:
                return piece
            data = self._inflate.unconsumed_tail
        return b""

    @property
    @override
    def is_whole(self) -> bool:
        return self._inflate.eof or not self._has_begun

    def _followed(self) -> CodingError:
        return CodingError(CodingFault.MALFORMED, f"{self._name}: something follows the end")


class DeflateStage(GzipStage):
    """``deflate``: zlib as RFC 9110 says, or raw deflate as some servers send it."""

    __slots__ = ("_first",)

    _name = "deflate"

    def __init__(self) -> None:
        super().__init__(zlib.MAX_WBITS)
        self._first: bytes | None = b""
        #: Bytes that are too few to tell; None once it is told.

    @override
    def receive(self, data: bytes | memoryview) -> None:
        if self._first is None:
            super().receive(data)
            return
        self._has_begun = self._has_begun or bool(data)
        first = self._first + bytes(data)
        if len(first) < _HEADER_BYTES:
            self._first = first
            return
        self._first = None
        if not _is_zlib(first):
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        super().receive(first)


def _is_zlib(first: bytes) -> bool:
    """Tell whether bytes begin with a zlib header (RFC 1950 section 2.2)."""
    method, flags = first[0], first[1]
    is_deflate = method & 0x0F == _DEFLATE and method >> 4 <= _WINDOW_MAX
    return is_deflate and not (method << 8 | flags) % _CHECK


_HEADER_BYTES: Final = 2
_DEFLATE: Final = 8
_WINDOW_MAX: Final = 7
_CHECK: Final = 31
