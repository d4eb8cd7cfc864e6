"""The files of a policy as a set: their names, their order, and one digest of all of them.

The invariant: two sets have one digest only if every file of them is the same, comments too.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterable

from sluicegate.gate.policy_orders import PolicyFile
from sluicegate.policy import PolicyTexts

__all__ = ["digest_of", "files_of", "path_of", "size_of", "texts_from"]


def files_of(texts: PolicyTexts, main: str) -> list[PolicyFile]:
    """Return the files in the order of their rules, the lists behind them.

    Args:
        texts: What was read.
        main: The name of the main file.
    """
    return [
        *(PolicyFile(name=one.name, text=one.text) for one in texts.before),
        PolicyFile(name=main, text=texts.main),
        *(PolicyFile(name=one.name, text=one.text) for one in texts.after),
        *(PolicyFile(name=name, text=text) for name, text in texts.lists.items()),
    ]


def digest_of(texts: PolicyTexts) -> str:
    """Return the SHA-256 of all files and their names."""
    digest = hashlib.sha256()
    for file in files_of(texts, ""):
        for part in (file.name, file.text):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def size_of(texts: PolicyTexts) -> int:
    """Return how many bytes all files have."""
    return sum(len(file.text.encode()) for file in files_of(texts, ""))


def path_of(main: pathlib.Path, name: str) -> pathlib.Path:
    """Return where a file of a policy lies."""
    return main if name == main.name else main.parent / name


def texts_from(files: Iterable[PolicyFile]) -> dict[str, str]:
    """Return texts by the names of their files."""
    return {file.name: file.text for file in files}
