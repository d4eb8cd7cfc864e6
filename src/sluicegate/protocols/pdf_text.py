r"""The text that pages of a PDF file show (ISO 32000-1, 9.4): strings put together, codes read.

``examination`` asks it for filters that look for words. The invariant: every string that any page
may show comes out in some reading; a reading too many is harmless.

A page is a program that shows strings, cut wherever its writer liked: for kerning, or each letter
by itself. So what stands between two strings of one piece of text is left out once, and read as a
space once. Codes of embedded fonts mean nothing by themselves; a table in the file (``ToUnicode``,
9.10.3) says which letters they are. Which font a string is in is not looked up: that leads through
the cross-references, which are what is forged. Every table is tried on every page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import LimitExceeded
from sluicegate.protocol_limits import PDF_CODES_MAX, PDF_FONTS_MAX

from .pdf_scripts import pdf_streams

__all__ = ["pdf_texts"]


def pdf_texts(data: bytes, *, bytes_max: int) -> Iterator[bytes]:
    """Give what the pages of a file show, in each reading.

    Args:
        data: The file.
        bytes_max: Of all streams together, and of all texts.

    Raises:
        ProtocolError: A stream is damaged.
        LimitExceeded: There are too many streams, fonts or codes, or too much comes out.
    """
    pages: list[bytes] = []
    tables: list[_Table] = []
    for stream in pdf_streams(data, bytes_max=bytes_max):
        if b"begincmap" in stream.content:
            if len(tables) >= PDF_FONTS_MAX:
                raise LimitExceeded("PDF_FONTS_MAX", PDF_FONTS_MAX)
            tables.append(_read_table(stream.content))
        elif not stream.is_opaque and _SHOWS.search(stream.content):
            pages.append(stream.content)
    given = 0
    for page in pages:
        strings = list(_strings(page))
        for text in _readings(strings, tables):
            given += len(text)
            if given > bytes_max:
                raise LimitExceeded("bytes_max", bytes_max)
            yield text


@dataclass(frozen=True, slots=True)
class _Table:
    """Which letters the codes of a font are."""

    widths: tuple[int, ...]
    """Bytes of a code."""
    letters: Mapping[tuple[int, int], str]
    """By width and code."""

    def read(self, shown: bytes) -> str:
        """Return what some codes say; what the table does not have is left out."""
        found: list[str] = []
        at = 0
        while at < len(shown):
            for width in self.widths:
                letters = self.letters.get((width, int.from_bytes(shown[at : at + width], "big")))
                if letters is not None:
                    found.append(letters)
                    at += width
                    break
            else:
                at += self.widths[0]
        return "".join(found)


def _read_table(content: bytes) -> _Table:
    """Read a table of ``ToUnicode`` (Adobe Technical Note 5411)."""
    letters: dict[tuple[int, int], str] = {}
    for section in _CHARS.finditer(content):
        for source, target in _PAIR.findall(section[1]):
            _put(letters, source, 0, _letters(target))
    for section in _RANGES.finditer(content):
        for first, last, target, listed in _RANGE.findall(section[1]):
            count = int(b"0" + last, 16) - int(b"0" + first, 16) + 1
            if listed:
                for offset, one in enumerate(_HEX.findall(listed)[: max(0, count)]):
                    _put(letters, first, offset, _letters(one))
                continue
            begins = _letters(target)
            if not begins:
                continue
            if count > PDF_CODES_MAX:
                raise LimitExceeded("PDF_CODES_MAX", PDF_CODES_MAX)
            for offset in range(max(0, count)):
                last_letter = min(ord(begins[-1]) + offset, _LAST_LETTER)
                _put(letters, first, offset, begins[:-1] + chr(last_letter))
    widths = tuple(sorted({width for width, _ in letters}, reverse=True))
    return _Table(widths or (1,), letters)


def _put(letters: dict[tuple[int, int], str], source: bytes, offset: int, said: str) -> None:
    if len(letters) >= PDF_CODES_MAX:
        raise LimitExceeded("PDF_CODES_MAX", PDF_CODES_MAX)
    width = (len(source) + 1) // 2
    if 0 < width <= _CODE_BYTES_MAX:
        letters[width, int(source, 16) + offset] = said


def _letters(digits: bytes) -> str:
    return _from_hex(digits).decode("utf-16-be", "replace")


def _readings(strings: list[bytes | None], tables: list[_Table]) -> Iterator[bytes]:
    """Give the text of a page by no table and by each, with and without spaces."""
    plain = [b"" if one is None else one for one in strings]
    gaps = [b" " if one is None else one for one in strings]
    yield b"".join(plain)
    yield b"".join(gaps)
    for table in tables:
        read = [None if one is None else table.read(one) for one in strings]
        if not any(read):
            continue
        yield "".join(one or "" for one in read).encode("utf-8", "replace")
        yield "".join(" " if one is None else one for one in read).encode("utf-8", "replace")


def _strings(page: bytes) -> Iterator[bytes | None]:
    """Give the strings that a page shows, and None where what follows stands apart."""
    waiting: list[bytes | None] = []
    for token in _TOKEN.finditer(page):
        text = token[0]
        match token.lastgroup:
            case "literal":
                waiting.append(_from_literal(text[1:-1]))
            case "hex":
                waiting.append(_from_hex(text[1:-1]))
            case "gap" if waiting:
                waiting.append(None)
            case "shown":
                if text in _NEW_LINES:
                    yield None
                yield from waiting
                waiting.clear()
            case "moved":
                yield None
                waiting.clear()
            case _:
                pass


def _from_literal(body: bytes) -> bytes:
    """Undo the escapes of a literal string (7.3.4.2)."""
    return _ESCAPE.sub(_unescaped, body) if b"\\" in body else body


def _unescaped(match: re.Match[bytes]) -> bytes:
    said = match[1]
    if said[:1].isdigit():
        return bytes((int(said, 8) & 0xFF,))
    return _SIMPLE.get(said, said)


def _from_hex(digits: bytes) -> bytes:
    plain = b"".join(digits.split())
    return bytes.fromhex((plain + b"0" * (len(plain) % 2)).decode("ascii"))


_CODE_BYTES_MAX: Final = 4
_LAST_LETTER: Final = 0xD7FF
"""What is above begins pairs that are no letters by themselves, or stands outside the range."""
_SHOWS: Final = re.compile(rb"(?:[)>\]]|\s)\s{0,9}(?:Tj|TJ|'|\")")
_NEW_LINES: Final = (b"'", b'"')
_SIMPLE: Final = {
    b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r\n": b"",
    b"\r": b"",
}  # fmt: skip
_ESCAPE: Final = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)
# Possessive throughout: none of these can be made to try a text in more than one way.
_TOKEN: Final = re.compile(
    rb"(?P<comment>%[^\r\n]*+)"
    rb"|(?P<literal>\((?:[^()\\]++|\\.|\((?:[^()\\]++|\\.|\((?:[^()\\]++|\\.)*+\))*+\))*+\))"
    rb"|(?P<dictionary><<|>>)"
    rb"|(?P<hex><[0-9A-Fa-f\s]*+>)"
    rb"|(?P<gap>-(?:[2-9]\d\d|\d{4,9}+)(?:\.\d*+)?)"
    rb"|(?P<number>[+-]?[\d.]++)"
    rb"|(?P<name>/[^\s()<>\[\]{}/%]*+)"
    rb"|(?P<shown>(?:Tj|TJ|'|\")(?![A-Za-z0-9]))"
    rb"|(?P<moved>(?:Td|TD|T\*|Tm|ET|BT)(?![A-Za-z0-9]))"
    rb"|(?P<word>[A-Za-z0-9*'\"]++)",
    re.DOTALL,
)
_HEX: Final = re.compile(rb"<([0-9A-Fa-f\s]{0,1000}+)>")
_CHARS: Final = re.compile(rb"beginbfchar(.*?)endbfchar", re.DOTALL)
_RANGES: Final = re.compile(rb"beginbfrange(.*?)endbfrange", re.DOTALL)
_PAIR: Final = re.compile(rb"<([0-9A-Fa-f]{1,8})>\s*+<([0-9A-Fa-f\s]{0,1000}+)>")
_RANGE: Final = re.compile(
    rb"<([0-9A-Fa-f]{1,8})>\s*+<([0-9A-Fa-f]{1,8})>\s*+"
    rb"(?:<([0-9A-Fa-f\s]{0,1000}+)>|\[([^\]]*+)\])"
)
