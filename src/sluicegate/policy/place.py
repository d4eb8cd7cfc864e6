"""A place in an operator's file: where findings about one table belong.

The readers of rules and objects make one for each table. The invariant: every finding has its file
and line, whichever file the table was included from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sluicegate.documents import Document, Findings, Wrong

__all__ = ["Place"]

ValueT = TypeVar("ValueT")


class Place:
    """One table of one document."""

    __slots__ = ("at", "document", "findings")

    def __init__(self, document: Document, at: tuple[str | int, ...], findings: Findings) -> None:
        self.document = document
        self.at = at
        #: Its path in the document.
        self.findings = findings

    def where(self, *path: str | int) -> str:
        """Return ``file:line: key`` of a key of the table."""
        return self.document.where((*self.at, *path))

    def refuse(self, path: tuple[str | int, ...], cause: str, cure: str = "") -> None:
        """Add an error about a key of the table."""
        self.findings.refuse(self.where(*path), cause, cure)

    def warn(self, path: tuple[str | int, ...], cause: str, cure: str = "") -> None:
        """Add a warning about a key of the table."""
        self.findings.warn(self.where(*path), cause, cure)

    def each(
        self, key: str, texts: Sequence[str], parse: Callable[[str], ValueT]
    ) -> list[tuple[int, ValueT]]:
        """Parse each text of a list; what is wrong, or stands there twice, is refused."""
        parsed: list[tuple[int, ValueT]] = []
        seen: set[str] = set()
        for index, text in enumerate(texts):
            if text in seen:
                self.refuse((key, index), f"{text!r} is listed twice")
                continue
            seen.add(text)
            try:
                parsed.append((index, parse(text)))
            except Wrong as wrong:
                self.refuse((key, index), wrong.cause, wrong.cure)
        return parsed
