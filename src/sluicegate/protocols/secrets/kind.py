"""Kinds of what must not leave: how each is found, and what makes a find sure.

``cards``, ``keys`` and their neighbours define them, ``catalogue`` lists them, ``search`` looks for
them. The invariant: an expression is matched by the engine and only proposes; a kind's reader
decides, and what it needs to see lies within ``SECRET_SPAN_BYTES_MAX`` bytes before the end of the
match.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluicegate.protocol_limits import SECRET_SPAN_BYTES_MAX

__all__ = ["Expression", "Find", "Kind", "Reader", "is_masked", "masked", "reader_of"]


@dataclass(frozen=True, slots=True)
class Find:
    """One secret in a text."""

    start: int
    end: int
    """Where it is."""
    value: bytes
    """What makes it different from others of its kind: without separators, in one case."""


Reader: TypeAlias = Callable[[bytes, int], Find | None]
"""Called with a text and where in it a match ends; returns the secret there, if it is one."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One pattern for the engine, and who reads what it finds."""

    pattern: bytes
    read: Reader


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of secret."""

    name: str
    """As settings call it."""
    title: str
    """As records call it."""
    expressions: tuple[Expression, ...]
    is_default: bool = True
    """Whether it is looked for unless settings say otherwise."""
    count_min: int = 1
    """How many different ones there must be in one object, unless settings say otherwise."""
    rest: re.Pattern[bytes] | None = None
    """Matches, at the end of a find, what more of the secret must be masked; bounded by the
    object."""


def reader_of(pattern: bytes, check: Callable[[bytes], bool] | None = None) -> Reader:
    """Make the reader of a token that a regular expression describes exactly.

    Args:
        pattern: What comes before the end of the match, boundaries included; its group 1 is the
            secret.
        check: Tells whether it is one.
    """
    compiled = re.compile(b"(?:%s)\\Z" % pattern, re.DOTALL)

    def read(text: bytes, end: int) -> Find | None:
        start = max(0, end - SECRET_SPAN_BYTES_MAX)
        found = compiled.search(text[start:end])
        if found is None:
            return None
        value = found[1]
        if _is_example(value) or (check is not None and not check(value)):
            return None
        return Find(start + found.start(1), start + found.end(1), value)

    return read


def masked(secret: bytes) -> bytes:
    """Return a text of the same shape: ``9`` for each digit, ``X`` and ``x`` for letters.

    No kind takes it for a secret; a JSON number stays one, for it does not begin with a zero.
    """
    return secret.translate(_MASK)


def is_masked(text: bytes) -> bool:
    """Tell whether a text is what ``masked`` makes of one."""
    return masked(text) == text


def _is_example(value: bytes) -> bool:
    """Tell whether a token is none: masked, or one of those that documentation shows."""
    return is_masked(value) or len(set(value)) < _DISTINCT_MIN or b"EXAMPLE" in value


_DISTINCT_MIN: Final = 6
"""Different characters of a token; by chance, 16 of 32 have fewer once in 10 million."""

_MASK: Final = bytes.maketrans(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    b"9" * 10 + b"X" * 26 + b"x" * 26,
)
