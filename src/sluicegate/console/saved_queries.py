"""SavedQueries: questions to the log that people have named, for everybody who logs in.

They are one small file in a folder of their own, the only one that the console writes in. The
invariant: at every moment the file is one whole version, and a query in it was one when it was
saved.
"""

from __future__ import annotations

import pathlib
import re
from typing import Final

import msgspec

from sluicegate.documents import Wrong

__all__ = ["SavedQueries", "SavedQuery", "queries_folder"]

_NAME: Final = "queries.json"
_QUERIES_MAX: Final = 200
"""Queries: a list that is still read."""
_TITLE: Final = re.compile(r"[^\W_][\w .,:()/+-]{0,59}")


def queries_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """Return where the queries of a console are kept, of whose folder."""
    return pathlib.Path(folder) / "queries"


class SavedQuery(msgspec.Struct, frozen=True):
    """One."""

    title: str
    text: str
    by: str


class SavedQueries:
    """All of one console."""

    def __init__(self, folder: str) -> None:
        self._path = queries_folder(folder) / _NAME

    def read(self) -> list[SavedQuery]:
        """Return them, by title; none where the file is not there or is no such file."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[SavedQuery])
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def save(self, query: SavedQuery) -> None:
        """Add one, or put it in the place of its namesake.

        Raises:
            Wrong: Its title is none, or there are too many.
            OSError: It cannot be written.
        """
        if _TITLE.fullmatch(query.title) is None:
            raise Wrong("a title has 1 to 60 letters, digits, spaces and simple signs")
        others = [one for one in self.read() if one.title != query.title]
        if len(others) >= _QUERIES_MAX:
            raise Wrong(f"there are {_QUERIES_MAX} queries already", "remove one")
        self._write([*others, query])

    def remove(self, title: str) -> bool:
        """Remove one; tell whether it was there.

        Raises:
            OSError: It cannot be written.
        """
        known = self.read()
        left = [one for one in known if one.title != title]
        if len(left) == len(known):
            return False
        self._write(left)
        return True

    def _write(self, queries: list[SavedQuery]) -> None:
        text = msgspec.json.encode(sorted(queries, key=lambda one: one.title.lower()))
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(text)
        fresh.replace(self._path)
