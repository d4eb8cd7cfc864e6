r"""Received bytes that no event has taken yet: heads and lines in one piece, bodies without a copy.

Each end owns one. The invariant: after ``keep`` nothing refers to memory that somebody else may
reuse, and what is found does not depend on how the stream was cut.

Received memory is looked at where it is. What cannot be used yet, because its end is missing, moves
to the *stash*; it never grows past the bound that the caller names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sluicegate.protocols.http1.fault import HttpFault

__all__ = ["BlockBounds", "Incoming"]

_HEAD_END: Final = b"\r\n\r\n"
_EMPTY_LINE: Final = b"\r\n"


class Incoming:
    """One direction's bytes, from the network to its reader."""

    __slots__ = ("_at", "_checked", "_memory", "_scanned", "_stash", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        #: How many bytes nobody has taken.
        self._memory: bytes | memoryview = b""
        self._at = 0
        self._stash = bytearray()
        #: Precedes ``_memory[_at:]``; a head or line whose end has not come.
        self._scanned = 0
        self._checked = 0

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Add what came; its memory must not change until ``keep``."""
        self.waiting += len(data)
        if self._at < len(self._memory):
            self._memory = bytes(self._memory[self._at :]) + data
        else:
            self._memory = data if isinstance(data, bytes) else memoryview(data).toreadonly()
        self._at = 0

    def keep(self) -> None:
        """Let go of memory of others: what is left of it is copied."""
        if self._at >= len(self._memory):
            self._memory = b""
            self._at = 0
        elif not isinstance(self._memory, bytes):
            self._memory = bytes(self._memory[self._at :])
            self._at = 0

    def take(self, count_max: int) -> bytes | memoryview:
        """Take up to so many bytes of those that are here, as a view; empty if there are none."""
        memory, at = self._memory, self._at
        assert not self._stash, "bodies begin behind a whole line"
        if not at and len(memory) <= count_max:
            self._at = len(memory)
            self.waiting = 0
            return memory
        taken = memoryview(memory)[at : at + count_max]
        self._at = at + len(taken)
        self.waiting -= len(taken)
        return taken

    def take_head(self, bytes_max: int) -> bytes | None:
        """Take everything up to an empty line, which is included; None until it has come.

        What is taken is no longer than ``bytes_max``. Before waiting for more, let
        ``BlockBounds.check`` look at the beginning.
        """
        if not self._stash:
            memory, at = self._memory, self._at
            window = memory if isinstance(memory, bytes) else bytes(memory[at : at + bytes_max])
            start = at if window is memory else 0
            end = window.find(_HEAD_END, start, start + bytes_max)
            if end >= 0:
                self._at = at + end + 4 - start
                self.waiting -= end + 4 - start
                return window[start : end + 4]
        end = self._gather(_HEAD_END, bytes_max)
        return self._from_stash(end + 4) if end >= 0 else None

    def take_trailers(self, bytes_max: int) -> bytes | None:
        """Take trailers with the empty line behind them, which may be all there is."""
        scanned = self._scanned
        end = self._gather(_HEAD_END, bytes_max)
        if self._stash.startswith(_EMPTY_LINE):
            assert scanned < len(_EMPTY_LINE), "an empty line is seen when it comes"
            return self._from_stash(len(_EMPTY_LINE))
        return self._from_stash(end + 4) if end >= 0 else None

    def take_line(self, bytes_max: int) -> bytes | None:
        """Take one line with its LF, no longer than ``bytes_max``; None until it has come."""
        end = self._gather(b"\n", bytes_max)
        return self._from_stash(end + 1) if end >= 0 else None

    def check(self, block: BlockBounds) -> HttpFault | None:
        """Find what is wrong with the beginning of a block whose end has not come.

        Each byte is looked at once, however few come at a time.
        """
        fault = block.check(self._stash, max(0, self._checked - 1))
        self._checked = len(self._stash)
        return fault

    @property
    def beginning(self) -> bytes:
        """The stash: what was gathered of a head or line without finding its end."""
        return bytes(self._stash)

    def _gather(self, mark: bytes, bytes_max: int) -> int:
        """Move bytes to the stash, which then has at most ``bytes_max``; return where a mark is."""
        stash = self._stash
        piece = self._memory[self._at : self._at + bytes_max - len(stash)]
        self._at += len(piece)
        stash += piece
        end = stash.find(mark, max(0, self._scanned - len(mark) + 1))
        self._scanned = len(stash)
        return end

    def _from_stash(self, length: int) -> bytes:
        """Return the stash's first bytes; the others, which came last, are given back."""
        self._at -= len(self._stash) - length
        taken = bytes(self._stash[:length])
        self.waiting -= length
        self._stash.clear()
        self._scanned = 0
        self._checked = 0
        return taken


@dataclass(frozen=True, slots=True)
class BlockBounds:
    """How long a head (or trailers) and its first line may be, and the faults of longer ones."""

    line_bytes_max: int
    line_fault: HttpFault
    bytes_max: int
    fault: HttpFault

    def check(self, beginning: bytes | bytearray, start: int = 0) -> HttpFault | None:
        """Find what is wrong with a block, complete or not, whatever follows; None if nothing is.

        Bytes before ``start`` were checked before.

        The first byte that cannot be right decides, so the answer is the same for every cut of the
        input: a byte that no line has, the one that makes the first line too long, or the one that
        makes the block too large.
        """
        found = _FORBIDDEN.search(beginning, start)
        forbidden_at = found.end() - 1 if found is not None else len(beginning)
        has_line = beginning.find(b"\n", 0, self.line_bytes_max) >= 0
        if not has_line and forbidden_at >= self.line_bytes_max:
            return self.line_fault
        if found is None:
            is_overfull = len(beginning) >= self.bytes_max and _HEAD_END not in beginning
            return self.fault if is_overfull else None
        return _FORBIDDEN_FAULTS.get(found[0][:1], HttpFault.CONTROL_CHARACTER)


#: Controls but tab; LF without CR; CR without LF, found when the byte behind it is there.
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]")
_FORBIDDEN_FAULTS: Final = {
    b"\n": HttpFault.BARE_LF,
    b"\r": HttpFault.BARE_CR,
    b"\0": HttpFault.NUL,
}
