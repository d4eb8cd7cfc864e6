"""Position: where in the log's files one is who reads them.

The store keeps it with what it has, and the supervisor tells it to whoever follows the log. The
invariant: it is of one file, known also after that file was given another name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["LogPosition"]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where in the log's files a store is."""

    inode: int = 0
    """Of the file; 0: nothing was read."""
    offset: int = 0
    """Bytes of it that are stored."""
    mark: str = ""
    """What its first line is known by."""

    @classmethod
    def from_text(cls, text: str) -> LogPosition:
        """Return the position that ``text`` was made of."""
        return cls(*json.loads(text))

    @property
    def text(self) -> str:
        """What databases keep of it."""
        return json.dumps([self.inode, self.offset, self.mark])
