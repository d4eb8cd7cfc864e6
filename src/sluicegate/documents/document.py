"""One operator's file: its tree, and where each key of it stands.

Readers of configuration and policy begin here, with text that ``app`` read. The invariant: a
document exists only for text that is TOML; what it means is checked against a model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from .findings import Findings
from .places import KeyPath, locate_keys

__all__ = ["Document", "format_key", "read_document"]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file; ``name`` is how messages call it."""

    name: str
    tree: dict[str, object]
    lines: dict[KeyPath, int]

    def table(self, path: KeyPath) -> object:
        """Return what stands at a key; a missing table is empty."""
        found: object = self.tree
        for part in path:
            if isinstance(part, int):
                found = cast("list[object]", found)[part]
            elif isinstance(found, Mapping):
                found = cast("Mapping[str, object]", found).get(part, {})
        return found

    def where(self, path: Iterable[str | int] = ()) -> str:
        """Return ``file:line: key`` for a key, also for one that is missing."""
        path = tuple(path)
        line = self.line(path)
        place = f"{self.name}:{line}" if line else self.name
        return f"{place}: {format_key(path)}" if path else place

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the table around a missing one; 0 for the file."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return 0


def read_document(text: str, name: str, findings: Findings) -> Document | None:
    """Parse a TOML text; None, with a finding, when it is not one."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        cause, line = _split_message(str(error), text)
        findings.refuse(f"{name}:{line}", f"not TOML: {cause}", "see https://toml.io")
        return None
    return Document(name, tree, locate_keys(text))


def format_key(path: Iterable[str | int]) -> str:
    """Write a key path as people do: ``listener[0].address``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _BARE_KEY.fullmatch(part) else repr(part)
            text += f".{shown}" if text else shown
    return text


def _split_message(message: str, text: str) -> tuple[str, int]:
    """Take the line out of what ``tomllib`` says (Python 3.14 has attributes, 3.11 has not)."""
    found = _PLACE.search(message)
    if found is None:
        return message.removesuffix(" (at end of document)"), text.count("\n") + 1
    return message[: found.start()], int(found[1])


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")
