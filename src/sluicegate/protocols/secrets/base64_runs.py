"""Base64Decoder: finds runs of base 64 in a text and decodes them, wherever they begin.

``search`` and ``masking`` use it. The invariant: a run decodes to the same bytes however the text
is cut; and as nobody says where in a run the encoded part begins (behind a path, a prefix, a line
of something else), it is decoded from each of four places.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["PHASES", "RUN_MIN", "Base64Decoder", "base64_runs"]

PHASES: Final = 4
"""Characters of one quantum: a run is decoded from each of its first four places."""

RUN_MIN: Final = 20
"""Characters of the shortest run that is decoded: 15 bytes, one less than most cards have."""


class Base64Decoder:
    """Decodes one text, piece by piece."""

    __slots__ = ("_carried", "_is_inside")

    def __init__(self) -> None:
        self._is_inside = False
        self._carried = [b""] * PHASES
        #: Of a run that goes on: what is less than a quantum, by phase.

    def skip(self) -> None:
        """Go on elsewhere: no run goes on."""
        self._is_inside = False
        self._carried = [b""] * PHASES

    def decode(self, text: bytes, fresh: int, *, is_last: bool) -> list[bytes]:
        """Return what the runs in a piece stand for, by phase; runs are divided by NULs.

        Args:
            text: The piece, with ``RUN_MIN`` bytes or more before it.
            fresh: Where in ``text`` the piece begins.
            is_last: Whether nothing follows.
        """
        parts: list[list[bytes]] = [[] for _ in range(PHASES)]
        for start, end, is_new in self._runs(text, fresh):
            goes_on = end == len(text) and not is_last
            characters = text[start:end].translate(_STANDARD, b"\r\n")
            for phase, out in enumerate(parts):
                data = characters[phase:] if is_new else self._carried[phase] + characters
                whole = len(data) & ~3
                if goes_on:
                    self._carried[phase] = data[whole:]
                    out.append(data[:whole])
                else:
                    out.append(_ended(data, whole))
                    self._carried[phase] = b""
            self._is_inside = goes_on
        return [binascii.a2b_base64(b"".join(out)) for out in parts]

    def _runs(self, text: bytes, fresh: int) -> Iterator[tuple[int, int, bool]]:
        at = 0
        if self._is_inside:
            at = _end_of_run(text, fresh)
            yield fresh, at, False
        for start, end in base64_runs(text, at, fresh):
            yield start, end, True


def base64_runs(text: bytes, at: int, fresh: int) -> Iterator[tuple[int, int]]:
    """Yield where runs begin and end that have ``RUN_MIN`` characters only with what is fresh.

    Args:
        text: Where they are.
        at: Before it, none begins.
        fresh: Before it, none was long enough.
    """
    marks = text.translate(_MARKS)
    look = max(at, fresh - RUN_MIN + 1, 0)
    while (hit := marks.find(_RUN, look)) >= 0:
        start = max(at, marks.rfind(b" ", 0, hit) + 1)
        end = _end_of_run(text, hit)
        characters = text[start:end]
        # What has letters of one case only is a word or a number.
        if end - start > _SURE or characters.lower() != characters != characters.upper():
            yield start, end
        look = at = end


def _end_of_run(text: bytes, start: int) -> int:
    found = _REST_OF_RUN.match(text, start)
    assert found is not None, "it matches the empty text"
    return found.end()


def _ended(data: bytes, whole: int) -> bytes:
    """Fill the last quantum, and divide: one character alone stands for no byte."""
    rest = len(data) - whole
    if rest > 1:
        return data + b"AA"[: PHASES - rest] + _NULS
    return data[:whole] + _NULS


_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_MARKS: Final = bytes(ord("x") if one in _ALPHABET else ord(" ") for one in range(256))
_RUN: Final = b"x" * RUN_MIN
#: Mail and PEM break lines; the alphabet for URLs (RFC 4648, 5) is read as well.
_REST_OF_RUN: Final = re.compile(rb"[A-Za-z0-9+/_\r\n-]*")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
#: Not line ends: ``=`` before one would be quoted-printable.
_NULS: Final = binascii.b2a_base64(bytes(3), newline=False)
_SURE: Final = 64
"""Characters from which on a run is decoded whatever it looks like."""
