"""zstd: one frame behind the other, as RFC 8878 and every client has it.

The invariant: a window is at most 8 MiB (RFC 9659), which is what browsers take, and frames are
counted.
"""

from __future__ import annotations

import sys
from typing import Final

from typing_extensions import override

from .fault import CodingError, CodingFault
from .stage import PIECE_BYTES, CodingStage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ZstdStage"]

_WINDOW_LOG_MAX: Final = 23
_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}


class ZstdStage(CodingStage):
    """The frames of one body, those to be skipped included."""

    __slots__ = ("_frame", "_frames", "_frames_max", "_input")

    def __init__(self, frames_max: int) -> None:
        self._frames_max = frames_max
        self._frames = 0
        self._frame: zstd.ZstdDecompressor | None = None
        self._input: bytes | memoryview = b""

    @override
    def receive(self, data: bytes | memoryview) -> None:
        self._input = data

    @override
    def take(self) -> bytes:
        data, self._input = self._input, b""
        frame = self._frame
        while data or (frame is not None and not frame.eof and not frame.needs_input):
            if frame is None or frame.eof:
                frame = self._frame = self._next_frame()
            try:
                piece = frame.decompress(data, PIECE_BYTES)
            except zstd.ZstdError as error:
                raise CodingError(CodingFault.MALFORMED, f"zstd: {error}") from error
            data = frame.unused_data if frame.eof else b""
            if piece:
                self._input = data
                return piece
        return b""

    @property
    @override
    def is_whole(self) -> bool:
        return self._frame is None or self._frame.eof

    def _next_frame(self) -> zstd.ZstdDecompressor:
        self._frames += 1
        if self._frames > self._frames_max:
            raise CodingError(CodingFault.MALFORMED, f"zstd: more than {self._frames_max} frames")
        return zstd.ZstdDecompressor(options=_OPTIONS)
