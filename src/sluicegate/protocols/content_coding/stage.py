"""One coding at work: bytes in, decoded pieces out, as many as are asked for.

``deflate``, ``br`` and ``zstd`` implement it; ``decoder`` puts them one behind the other. The
invariant: no call gives much more than ``PIECE_BYTES``, whatever came in.
"""

from __future__ import annotations

import abc
from typing import Final

__all__ = ["PIECE_BYTES", "CodingStage"]

PIECE_BYTES: Final = 64 << 10
"""Decoded bytes of one call: 100 µs of a core. Brotli's library gives up to half as many more."""


class CodingStage(abc.ABC):
    """Decodes one coding of one body."""

    __slots__ = ()

    @abc.abstractmethod
    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes; only when ``take`` has given everything of those before.

        Raises:
            CodingError: They follow the end.
        """

    @abc.abstractmethod
    def take(self) -> bytes:
        """Return the next decoded piece; empty when it needs more bytes.

        Raises:
            CodingError: They are malformed.
        """

    @property
    @abc.abstractmethod
    def is_whole(self) -> bool:
        """Whether the end was reached, or nothing ever came."""
