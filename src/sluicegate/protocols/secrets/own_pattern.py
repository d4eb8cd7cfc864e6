"""Own patterns: what operators look for beside the kinds that are known.

``bundled/data_loss`` makes kinds of what its settings say. The invariant: a pattern says how long a
text it matches at most, so that where a text is cut hides none; one that does not is refused with
what to write instead.

The language is the common part of all engines: literals, classes, groups, alternatives and bounded
repetition. A small reader of its own tells how wide a pattern is: no engine at hand says so.
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.protocol_limits import SECRET_PATTERN_BYTES_MAX

from .kind import Expression, Find, Kind, is_masked
from .pattern_set import PatternError, PatternSet

__all__ = ["own_kind", "pattern_width"]


def own_kind(name: str, pattern: str, *, ignores_case: bool, count_min: int) -> Kind:
    """Make a kind of an operator's pattern; it matches whole words.

    Raises:
        PatternError: It is no pattern, or has no bound.
    """
    text = pattern.encode()
    width = pattern_width(pattern)
    flags = b"(?i)" if ignores_case else b""
    expression = flags + b"[^A-Za-z0-9_](?:" + text + b")[^A-Za-z0-9_]"
    try:
        compiled = re.compile(
            flags + rb"(?<![A-Za-z0-9_])(" + text + rb")[^A-Za-z0-9_]\Z", re.DOTALL
        )
    except re.error as error:
        raise PatternError(f"{error.msg} at character {error.pos}") from error
    PatternSet([expression])

    def read(text: bytes, end: int) -> Find | None:
        start = max(0, end - width - 2)
        found = compiled.search(text[start:end])
        if found is None or is_masked(found[1]):
            return None
        return Find(start + found.start(1), start + found.end(1), found[1])

    return Kind(name, name, (Expression(expression, read),), count_min=count_min)


def pattern_width(pattern: str) -> int:
    """Return how many bytes a pattern matches at most.

    Raises:
        PatternError: It has no bound, one above ``SECRET_PATTERN_BYTES_MAX``, may match nothing, or
            has what is not understood.
    """
    reader = _Reader(pattern)
    least, most = reader.alternatives(0)
    if reader.at < len(pattern):
        raise PatternError(f"a ) too many, at character {reader.at}")
    if not least:
        raise PatternError("it may match nothing at all")
    if most > SECRET_PATTERN_BYTES_MAX:
        raise PatternError(
            f"it may match {most} bytes, more than {SECRET_PATTERN_BYTES_MAX}: bound repetitions"
        )
    return most


class _Reader:
    """Reads one pattern; each method returns the least and the most bytes of what it read."""

    def __init__(self, pattern: str) -> None:
        self.at = 0
        self._pattern = pattern

    def alternatives(self, depth: int) -> tuple[int, int]:
        """Read up to the end, or to the ``)`` that closes a group."""
        if depth > _DEPTH_MAX:
            raise PatternError(f"groups in more than {_DEPTH_MAX} others")
        widths = [self._sequence(depth)]
        while self._next() == "|":
            self.at += 1
            widths.append(self._sequence(depth))
        return min(one for one, _ in widths), max(one for _, one in widths)

    def _sequence(self, depth: int) -> tuple[int, int]:
        least = most = 0
        while (one := self._next()) and one not in "|)":
            low, high = self._atom(one, depth)
            fewest, times = self._repetition()
            least += low * fewest
            most += high * times
        return least, most

    def _atom(self, one: str, depth: int) -> tuple[int, int]:
        self.at += 1
        match one:
            case "(":
                return self._group(depth)
            case "[":
                return self._characters()
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{":
                raise PatternError(f"{one} repeats nothing, at character {self.at - 1}")
            case "^" | "$":
                raise PatternError(f"{one} has no meaning in a text without a beginning")
            case _:
                size = 1 if one == "." else len(one.encode())
                return size, size

    def _group(self, depth: int) -> tuple[int, int]:
        if self._pattern.startswith("?:", self.at):
            self.at += 2
        elif self._next() == "?":
            raise PatternError(f"only (?:…) and (…) are groups, at character {self.at}")
        width = self.alternatives(depth + 1)
        if self._next() != ")":
            raise PatternError("a group is not closed")
        self.at += 1
        return width

    def _characters(self) -> tuple[int, int]:
        start = self.at
        while (one := self._next()) != "]" or self.at == start:
            if not one:
                raise PatternError("a class is not closed")
            if one == "[" or not one.isascii():
                raise PatternError(f"a class has ASCII characters, and \\[ for a bracket: {one!r}")
            self.at += 2 if one == "\\" else 1
        self.at += 1
        return 1, 1

    def _escape(self) -> tuple[int, int]:
        one = self._next()
        self.at += 1
        if one == "x":
            if not re.fullmatch("[0-9A-Fa-f]{2}", self._pattern[self.at : self.at + 2]):
                raise PatternError("\\x has two hexadecimal digits behind it")
            self.at += 2
        elif one.isalnum() and one not in "dDwWsSnrt":
            raise PatternError(f"\\{one} is not understood")
        elif not one:
            raise PatternError("a backslash at the end")
        return 1, 1

    def _repetition(self) -> tuple[int, int]:
        found = _BOUNDS.match(self._pattern, self.at)
        if self._next() in {"*", "+"} or (found is not None and found[3] == ""):
            raise PatternError(
                f"it has no bound at character {self.at}: write {{1,50}} where you mean +"
            )
        if self._next() == "?":
            self.at += 1
            return 0, 1
        if found is None:
            return 1, 1
        self.at = found.end()
        low = int(found[1])
        return low, low if found[2] is None else int(found[3])

    def _next(self) -> str:
        return self._pattern[self.at : self.at + 1]


_BOUNDS: Final = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")
_DEPTH_MAX: Final = 20
