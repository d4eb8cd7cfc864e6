r"""Escapes: bytes written as several characters, in URLs, JSON, source code, HTML and mail.

``search`` decodes with it what it looks through, ``masking`` writes back with it. The invariant: a
text decodes to the same bytes however it is cut, and every byte knows where it was written.

All escapes that cannot be taken for each other are one coding, decoded in one pass, so that a text
which mixes them has no shadow (``%34\u0031``). Quoted-printable is another: its ``=41`` is what a
form says of a field.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["ESCAPES", "QUOTED_PRINTABLE", "Coding", "EscapeDecoder", "spelled"]


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to write bytes."""

    name: str
    """As records call it."""
    patterns: tuple[tuple[bytes, int], ...]
    """What its escapes look like, for the engine, and how many bytes each has."""
    values: Mapping[bytes, bytes]
    """What each of them stands for: each has a value, else a text would never be decoded."""
    longest: int
    """Bytes of the longest escape."""


class EscapeDecoder:
    """Decodes one text in one coding, piece by piece, and only what stands near an escape.

    The rest is the same decoded as it is, and who looks through the decoded text has looked through
    that already.
    """

    __slots__ = ("_coding", "_done", "_near", "_reach")

    def __init__(self, coding: Coding, reach: int) -> None:
        """Begin.

        Args:
            coding: What is decoded.
            reach: Bytes before and behind an escape that are wanted, too.
        """
        self._coding = coding
        self._reach = reach
        self._done = self._near = 0
        #: Up to where the text was decoded, and up to where it is near the last escape.

    @property
    def done(self) -> int:
        """Up to where the text was decoded."""
        return self._done

    def skip(self, position: int) -> None:
        """Go on elsewhere: what stands before the position is not wanted."""
        self._done = self._near = position

    def decode(
        self, text: bytes, base: int, escapes: Sequence[tuple[int, int]], *, is_last: bool
    ) -> list[tuple[int, int, bytes]]:
        """Decode a piece.

        Args:
            text: The piece, with ``reach`` bytes before it, and those of the longest escape.
            base: Where in the whole text it begins.
            escapes: Those that end in the piece, in order: how many bytes each has, and its end.
            is_last: Whether nothing follows; else the last bytes wait for what does.

        Returns:
            Parts, in order: where in the whole text each begins and ends, and what it stands for.
            What is far from any escape is left out.
        """
        values, reach = self._coding.values, self._reach
        parts: list[tuple[int, int, bytes]] = []
        done, near = self._done, self._near

        def keep(start: int, end: int) -> None:
            if end > start:
                parts.append((start, end, text[start - base : end - base]))

        for size, end_in_text in escapes:
            start, end = base + end_in_text - size, base + end_in_text
            if start < done:
                continue
            follows = min(start, near)
            keep(done, follows)
            keep(max(done, follows, start - reach), start)
            parts.append((start, end, values[text[start - base : end - base]]))
            done, near = end, end + reach
        limit = base + len(text) - (0 if is_last else self._coding.longest - 1)
        follows = min(limit, near)
        keep(done, follows)
        self._done, self._near = max(done, follows), near
        return parts


def spelled(escape: bytes, value: int) -> bytes | None:
    """Write an ASCII byte as an escape was written, in as many characters; None if that cannot be.

    Args:
        escape: As it was.
        value: The byte that it is to stand for.
    """
    for head, tail, digits in _FORMS:
        if escape.startswith(head) and escape.endswith(tail) and len(escape) > len(head):
            inner = len(escape) - len(head) - len(tail)
            written = head + (digits % value).rjust(inner, b"0") + tail
            return written if len(written) == len(escape) else None
    return None


#: What stands before and behind the number, and how it is written.
_FORMS: Final = (
    (b"%", b"", b"%X"),
    (b"\\u", b"", b"%x"),
    (b"\\x", b"", b"%x"),
    (b"&#x", b";", b"%x"),
    (b"&#X", b";", b"%x"),
    (b"&#", b";", b"%d"),
    (b"=", b"", b"%X"),
)


def _hexadecimal(head: bytes, tail: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    digits = b"0123456789abcdefABCDEF"
    for high, low in itertools.product(digits, digits):
        pair = bytes((high, low))
        yield head + pair + tail, bytes.fromhex(pair.decode())


def _decimal() -> Iterator[tuple[bytes, bytes]]:
    """What has no byte in Latin-1 becomes a question mark: no secret has such a character."""
    for value in range(1000):
        for width in range(len(str(value)), 4):
            yield b"&#%0*d;" % (width, value), bytes((value,)) if value < _BYTES else b"?"


_BYTES: Final = 256

ESCAPES: Final = Coding(
    "escaped",
    (
        (rb"%[0-9A-Fa-f]{2}", 3),
        (rb"\\u00[0-9A-Fa-f]{2}", 6),
        (rb"\\x[0-9A-Fa-f]{2}", 4),
        (rb"\\[/nrt\\]", 2),
        (rb"&#[0-9];", 4),
        (rb"&#[0-9]{2};", 5),
        (rb"&#[0-9]{3};", 6),
        (rb"&#[xX][0-9A-Fa-f]{2};", 6),
    ),
    dict(
        itertools.chain(
            _hexadecimal(b"%"),
            _hexadecimal(b"\\u00"),
            _hexadecimal(b"\\x"),
            [(b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t")],
            # Two backslashes are one, so that what follows is escaped once more, or not at all.
            [(b"\\\\", b"\\")],
            _decimal(),
            _hexadecimal(b"&#x", b";"),
            _hexadecimal(b"&#X", b";"),
        )
    ),
    longest=6,
)
"""URLs and forms (RFC 3986, 2.1), JSON (RFC 8259, 7), source code, and HTML's references."""

QUOTED_PRINTABLE: Final = Coding(
    "quoted-printable",
    ((rb"=[0-9A-Fa-f]{2}", 3), (rb"=\n", 2), (rb"=\r\n", 3)),
    dict(itertools.chain(_hexadecimal(b"="), [(b"=\n", b""), (b"=\r\n", b"")])),
    longest=3,
)
"""Mail and forms as mail (RFC 2045, 6.7)."""
