"""Sizes as people write them, memory ceilings, and objects too large to be kept.

Playbooks and checks use all three. The invariant: nothing here holds the bytes it speaks of, so a
test may send more than the machine has memory.
"""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Final

__all__ = ["BulkBytes", "CeilingExceeded", "memory_ceiling", "parse_size"]

_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?) *(?P<unit>B|KiB|MiB|GiB)?")
_UNITS: Final = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_PATTERN: Final = bytes((at * 167 + (at >> 8) * 89) & 0xFF for at in range(1 << 16))
"""Repeats after 64 KiB only, so bytes that moved to another place are found."""


def parse_size(size: int | str) -> int:
    """Return a number of bytes from ``"8 MiB"`` (B, KiB, MiB, GiB) or a number.

    Raises:
        ValueError: It is no size.
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise ValueError(f'{size!r} is no size: write a number and B, KiB, MiB or GiB ("8 MiB")')
    return int(float(found["number"]) * _UNITS[found["unit"]])


@dataclass(frozen=True, slots=True)
class BulkBytes:
    """Many bytes that nobody keeps: made while they are sent, compared while they arrive."""

    size: int

    @classmethod
    def of(cls, size: int | str) -> BulkBytes:
        """Make so many, also from ``"64 MiB"``."""
        return cls(parse_size(size))

    def piece(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``start``; fewer at the end."""
        length = max(0, min(length, self.size - start))
        offset = start % len(_PATTERN)
        repeated = _PATTERN * ((offset + length) // len(_PATTERN) + 1)
        return repeated[offset : offset + length]

    def __len__(self) -> int:
        return self.size


class CeilingExceeded(AssertionError):
    """More memory was allocated than a ceiling allows."""


@contextlib.contextmanager
def memory_ceiling(size: int | str) -> Generator[None]:
    """Fail if the block allocates more than ``size`` on top of what was there before it.

    The peak counts, not what is left. It is Python's own account (``tracemalloc``): exact and
    repeatable, without what C libraries take for themselves; the block runs some times slower. A
    playbook inside the block needs about 4 MiB of its own, one made before it about 1 MiB.

    Raises:
        CeilingExceeded: The peak was higher.
    """
    __tracebackhide__ = True
    ceiling = parse_size(size)
    with _traced():
        peak = _Peak()
        try:
            yield
        finally:
            peak.end()
    if peak.size > ceiling:
        raise CeilingExceeded(
            f"{_in_mib(peak.size)} were allocated at the peak, the ceiling is {_in_mib(ceiling)}"
        )


class _Peak:
    """The most that was allocated since it was made; several may overlap."""

    _active: ClassVar[list[_Peak]] = []

    def __init__(self) -> None:
        self._note()  # for those outside: the account of the peak is one for all
        tracemalloc.reset_peak()
        self._start = tracemalloc.get_traced_memory()[0]
        self._highest = self._start
        self._active.append(self)

    @property
    def size(self) -> int:
        """How much that was, above what was there before."""
        return self._highest - self._start

    def end(self) -> None:
        """Take the last look."""
        self._note()
        self._active.remove(self)

    def _note(self) -> None:
        highest = tracemalloc.get_traced_memory()[1]
        for one in self._active:
            one._highest = max(one._highest, highest)  # noqa: SLF001 - of its own kind


@contextlib.contextmanager
def _traced() -> Generator[None]:
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        yield
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _in_mib(size: int) -> str:
    return f"{size / (1 << 20):.2f} MiB"
