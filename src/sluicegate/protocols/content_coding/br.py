"""br: Brotli (RFC 7932), one stream, and nothing behind it.

The invariant: windows are those of the RFC (16 MiB), never those of the "large window" extension,
which no browser reads.
"""

from __future__ import annotations

import brotli
from typing_extensions import override

from .fault import CodingError, CodingFault
from .stage import PIECE_BYTES, CodingStage

__all__ = ["BrotliStage"]


class BrotliStage(CodingStage):
    """One Brotli stream."""

    __slots__ = ("_brotli", "_has_begun", "_input", "_may_have_more")

    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()
        self._input = b""
        self._may_have_more = False
        #: Output may lie inside the library although it has taken all input.
        self._has_begun = False

    @override
    def receive(self, data: bytes | memoryview) -> None:
        if not data:
            return
        if self._has_begun and self._brotli.is_finished():
            raise CodingError(CodingFault.MALFORMED, "br: something follows the end")
        self._has_begun = self._may_have_more = True
        self._input = bytes(data)

    @override
    def take(self) -> bytes:
        data, self._input = self._input, b""
        while self._may_have_more:
            try:
                piece = self._brotli.process(data, output_buffer_limit=PIECE_BYTES)
                is_at_end = self._brotli.is_finished()
            except brotli.error as error:
                raise CodingError(CodingFault.MALFORMED, f"br: {error}") from error
            data = b""
            is_taken = self._brotli.can_accept_more_data()
            self._may_have_more = not is_at_end and (bool(piece) or not is_taken)
            if piece:
                return piece
        return b""

    @property
    @override
    def is_whole(self) -> bool:
        return not self._has_begun or self._brotli.is_finished()
