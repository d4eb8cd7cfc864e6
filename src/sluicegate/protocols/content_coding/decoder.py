"""ContentDecoder: a coded body in pieces, decoded in pieces, within bounds.

A held body owns one and may run it on a thread of the pool, one call at a time. The invariant:
before a piece is given, what all codings made so far is within the bounds, however deep they are
stacked.

The way of a body: ``receive``, then ``take`` until it is empty, and so on; ``finish`` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from .bounds import DEFAULT_CODING_BOUNDS, CodingBounds
from .br import BrotliStage
from .coding import Coding
from .deflate import DeflateStage, GzipStage
from .fault import CodingError, CodingFault
from .stage import CodingStage
from .zstd import ZstdStage

__all__ = ["ContentDecoder"]


class ContentDecoder:
    """Takes the codings off one body."""

    __slots__ = ("_bounds", "_given", "_stages", "_taken")

    def __init__(
        self, codings: Sequence[Coding], bounds: CodingBounds = DEFAULT_CODING_BOUNDS
    ) -> None:
        """Prepare for ``codings``, at least one, in the order in which they were applied."""
        assert codings, "an uncoded body needs no decoder"
        self._bounds = bounds
        self._stages = [_stage(coding, bounds) for coding in reversed(codings)]
        self._given = [0] * len(self._stages)
        #: What each has made.
        self._taken = 0

    def receive(self, data: bytes | memoryview) -> None:
        """Take the next bytes; they must stay as they are until ``take`` is empty.

        Raises:
            CodingError: They follow the end.
        """
        self._taken += len(data)
        self._stages[0].receive(data)

    def take(self) -> bytes:
        """Return the next decoded piece; empty when more must be received.

        Raises:
            CodingError: The body is malformed, or grows beyond a bound.
        """
        return self._take(len(self._stages) - 1)

    def finish(self) -> None:
        """Take that the body has ended, after ``take`` was empty. An empty body has no coding.

        Raises:
            CodingError: A coding is not at its end.
        """
        for stage in self._stages:
            if not stage.is_whole:
                raise CodingError(CodingFault.TRUNCATED)
        if self._taken and not all(self._given[:-1]):
            # The inner coding got nothing: an empty gzip member is no Brotli stream.
            raise CodingError(CodingFault.TRUNCATED, "an inner coding is empty")

    def _take(self, index: int) -> bytes:
        stage = self._stages[index]
        while not (piece := stage.take()):
            if not index:
                return b""
            coded = self._take(index - 1)
            if not coded:
                return b""
            stage.receive(coded)
        self._given[index] += len(piece)
        self._check(self._given[index])
        return piece

    def _check(self, given: int) -> None:
        bounds = self._bounds
        if bounds.bytes_max is not None and given > bounds.bytes_max:
            raise CodingError(CodingFault.TOO_LARGE, f"more than {bounds.bytes_max} bytes")
        if given > max(bounds.ratio_floor_bytes, bounds.ratio_max * self._taken):
            raise CodingError(CodingFault.BOMB, f"{given} bytes of {self._taken}")


def _stage(coding: Coding, bounds: CodingBounds) -> CodingStage:
    match coding:
        case Coding.GZIP:
            return GzipStage()
        case Coding.DEFLATE:
            return DeflateStage()
        case Coding.BROTLI:
            return BrotliStage()
        case Coding.ZSTD:
            return ZstdStage(bounds.frames_max)
