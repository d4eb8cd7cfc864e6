"""PatternSet: many expressions, matched at once and in time linear to the text.

``search`` has one for each set of kinds. It stands on Vectorscan, which reports every end of every
match: so what is found does not depend on where a text is cut. The invariant: patterns of operators
and bytes of clients meet only here, in an engine that never backtracks.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import TypeAlias

import hyperscan

from sluicegate.errors import LimitExceeded
from sluicegate.protocol_limits import SECRET_MATCHES_MAX, SECRET_PATTERNS_KEPT_MAX

__all__ = ["Match", "PatternError", "PatternSet", "Scanning"]

Match: TypeAlias = tuple[int, int]
"""The number of an expression, and where its match ends."""


class PatternError(ValueError):
    """An expression that the engine does not take; says why."""


class PatternSet:
    """Compiled once, scanned by many threads, each with a ``Scanning`` of its own."""

    def __init__(self, patterns: Sequence[bytes], once: Collection[int] = ()) -> None:
        """Compile.

        Args:
            patterns: The expressions.
            once: The numbers of those of which only the first match in a text is reported.

        Raises:
            PatternError: One of them is no expression, or too much for the engine.
        """
        try:
            self._database = _compiled(tuple(patterns), frozenset(once))
        except hyperscan.HyperscanError as error:
            raise PatternError(str(error)) from error

    def scanning(self) -> Scanning:
        """Return what one thread scans with."""
        return Scanning(self._database)


@functools.lru_cache(SECRET_PATTERNS_KEPT_MAX)
def _compiled(patterns: tuple[bytes, ...], once: frozenset[int]) -> hyperscan.Database:
    # Nothing changes it any more, so all sets of the same expressions have it together: a reload
    # makes every filter again.
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=list(patterns),
        ids=list(range(len(patterns))),
        elements=len(patterns),
        flags=[
            hyperscan.HS_FLAG_DOTALL | (hyperscan.HS_FLAG_SINGLEMATCH if n in once else 0)
            for n in range(len(patterns))
        ],
    )
    return database


class Scanning:
    """The working memory of one scan at a time."""

    __slots__ = ("_database", "_scratch")

    def __init__(self, database: hyperscan.Database) -> None:
        self._database = database
        self._scratch = hyperscan.Scratch(database)

    def matches(self, text: bytes) -> list[Match]:
        """Return every match in a text, in the order of their ends; the GIL is released meanwhile.

        Raises:
            LimitExceeded: There are more than ``SECRET_MATCHES_MAX``.
        """
        found: list[Match] = []

        def take(number: int, start: int, end: int, flags: int, context: object) -> bool | None:
            del start, flags, context
            found.append((number, end))
            return len(found) > SECRET_MATCHES_MAX or None

        try:
            self._database.scan(text, match_event_handler=take, scratch=self._scratch)
        except hyperscan.ScanTerminated as error:
            raise LimitExceeded("secret_matches_max", SECRET_MATCHES_MAX) from error
        return found
