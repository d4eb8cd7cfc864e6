"""What else a policy is made of: the files that its main file includes, and lists of objects.

``app`` asks ``find_includes`` and ``find_lists`` what to read, and hands all of it to ``parse``.
The invariant: paths are only named here, never opened: a policy is a function of its texts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import cast

__all__ = ["find_includes", "find_lists"]


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
