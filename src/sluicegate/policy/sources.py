"""The texts of a policy: the main file, those it includes, and the lists that objects name.

``app`` asks ``find_includes`` and ``find_lists`` what to read, and hands all of it to ``parse``.
The invariant: paths are only named here, never opened: a policy is a function of its texts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

__all__ = ["PolicyText", "PolicyTexts", "find_includes", "find_lists"]


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One file."""

    name: str
    """How messages call it: its path, from the folder of the main file."""
    text: str


@dataclass(frozen=True, slots=True)
class PolicyTexts:
    """One version of all files of a policy."""

    main: str
    before: tuple[PolicyText, ...] = ()
    """Included, in order; their rules stand before those of the main file."""
    after: tuple[PolicyText, ...] = ()
    """Included, in order; their rules stand after those of the main file."""
    lists: Mapping[str, str] = field(default_factory=dict[str, str])
    """Lists of entries, by the path that an object names."""


def find_includes(text: str) -> tuple[list[str], list[str]]:
    """Return the files and folders that a main file includes: before its rules, and after them.

    What is wrong with the text is for ``parse_policy`` to say: nothing is included by it.
    """
    include = _tables(_tree(text), "include")
    return _strings(include.get("before")), _strings(include.get("after"))


def find_lists(text: str) -> Iterator[str]:
    """Yield the paths of the lists that the objects of a file name."""
    for kind in _tables(_tree(text), "objects").values():
        if isinstance(kind, dict):
            for members in cast("dict[str, object]", kind).values():
                path = _tables({"it": members}, "it").get("file")
                if isinstance(path, str):
                    yield path


def _tree(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _tables(tree: dict[str, object], key: str) -> dict[str, object]:
    found = tree.get(key)
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [one for one in cast("list[object]", value) if isinstance(one, str)]
