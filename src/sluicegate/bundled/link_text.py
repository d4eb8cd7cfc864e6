r"""Links in text: absolute URLs of one server written as those of another, in pieces of a stream.

``link_translation`` runs one translator over each body. The invariant: what comes out does not
depend on how the text was cut, and never more is held back than the longest link that is looked
for.

URLs are found as pages write them: ``http://host``, without their scheme (``//host``), with the
slashes escaped as in JSON (``http:\/\/host``), or encoded as in a query (``http%3A%2F%2Fhost``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import re2

__all__ = ["LinkTable", "LinkTranslator", "Translated"]


class _Form(NamedTuple):
    """One way of writing URLs."""

    slashes: str
    #: Behind the colon.
    colon: str
    slash: str

    def write(self, scheme: str, rest: str) -> bytes:
        """Return a URL; without a scheme if that is empty."""
        head = f"{scheme}{self.colon}" if scheme else ""
        body = rest.replace(":", self.colon).replace("/", self.slash)
        return f"{head}{self.slashes}{body}".encode()


_FORMS: Final = (
    _Form("//", ":", "/"),
    _Form("\\/\\/", ":", "\\/"),
    _Form("%2F%2F", "%3A", "%2F"),
)


class LinkTable:
    """What is written instead of what; immutable, shared by all texts.

    Args:
        links: By each URL that is looked for the one that is written: a scheme, a host, perhaps a
            port, perhaps a path without a slash at its end.
    """

    def __init__(self, links: Mapping[str, str]) -> None:
        self._written: dict[bytes, bytes] = {}
        for old, new in links.items():
            for form in _FORMS:
                for old_text, new_text in _texts(form, old, new):
                    # What was said first counts: without a scheme, two may be written alike.
                    self._written.setdefault(old_text.lower(), new_text)
        texts = sorted(self._written, key=len, reverse=True)
        self._lengths = sorted({len(text) for text in texts}, reverse=True)
        self._beginnings = frozenset(
            text[:length] for text in texts for length in range(1, len(text) + 1)
        )
        options = re2.Options()
        options.case_sensitive = False
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = _PATTERN_MEMORY_BYTES
        options.log_errors = False
        pattern = b"|".join(_escaped(text) for text in texts)
        self._pattern = re2.compile(pattern, options) if pattern else None

    def translate(self, data: bytes, *, before: bytes = b"", is_last: bool = True) -> Translated:
        """Translate the beginning of some text.

        Args:
            data: The text.
            before: Up to ``LOOK_BEHIND_BYTES`` of what is in front of it.
            is_last: Whether it ends here; else what is undecided stays for the next call.
        """
        if self._pattern is None:
            return Translated(data, len(data))
        text, at = before + data, len(before)
        end = len(text) if is_last else len(text) - self._undecided(data)
        pieces: list[bytes] = []
        looked = at
        while looked < end:
            found = self._pattern.search(text, looked)
            if found is None or found.start() >= end:
                break
            start = found.start()
            length = self._length_at(text, start)
            if not length:
                looked = start + 1
                continue
            pieces += (text[at:start], self._written[text[start : start + length].lower()])
            at = looked = start + length
        taken = max(at, end)
        pieces.append(text[at:taken])
        return Translated(b"".join(pieces), taken - len(before))

    def _length_at(self, text: bytes, start: int) -> int:
        """Return the length of the longest link that stands alone at a place; 0 if none does."""
        for length in self._lengths:
            looked_for = text[start : start + length].lower()
            is_one = len(looked_for) == length and looked_for in self._written
            if is_one and _is_alone(text, start, start + length):
                return length
        return 0

    def _undecided(self, data: bytes) -> int:
        """Return how many bytes at the end may be a link, depending on what follows."""
        tail = data[-(self._lengths[0] + LOOK_AHEAD_BYTES - 1) :].lower()
        for start in range(len(tail)):
            rest = tail[start:]
            if rest in self._beginnings or any(
                rest[:-count] in self._written for count in range(1, LOOK_AHEAD_BYTES)
            ):
                return len(rest)
        return 0


class Translated(NamedTuple):
    """What goes on, and of how much of the text it was made."""

    written: bytes
    taken: int


class LinkTranslator:
    """One text, as far as it has come."""

    __slots__ = ("_before", "_table")

    def __init__(self, table: LinkTable) -> None:
        self._table = table
        self._before = b""

    def translate(self, data: bytes, *, is_last: bool) -> Translated:
        """Translate what did not go on before, and what has come since."""
        translated = self._table.translate(data, before=self._before, is_last=is_last)
        passed = self._before + data[: translated.taken]
        self._before = passed[-LOOK_BEHIND_BYTES:]
        return translated


def _texts(form: _Form, old: str, new: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield what is looked for and what is written in one form: with scheme, without, with port."""
    new_scheme, _, new_rest = new.partition("://")
    for one in (old, _with_port(old)):
        old_scheme, _, old_rest = one.partition("://")
        yield form.write(old_scheme, old_rest), form.write(new_scheme, new_rest)
        yield form.write("", old_rest), form.write("", new_rest)


def _with_port(url: str) -> str:
    """Return a URL with the port of its scheme, if it names none."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if re.search(r":[0-9]+$", authority):
        return url
    return f"{scheme}://{authority}:{443 if scheme == 'https' else 80}{slash}{path}"


def _is_alone(text: bytes, start: int, stop: int) -> bool:
    """Tell whether a link is no part of a longer one: of another scheme, host, port or path."""
    behind = text[stop : stop + LOOK_AHEAD_BYTES].lower()
    if behind[:1] in _GOES_ON or _PORT.match(behind) is not None:
        return False
    ahead = text[max(0, start - LOOK_BEHIND_BYTES) : start].lower()
    if text[start : start + 1].isalpha():
        return ahead[-1:] not in _IN_SCHEME
    # ``https://host`` is not the ``//host`` of ``http``, nor is ``///host`` one.
    return ahead[-1:] not in _BEFORE_SLASHES and ahead != b"%3a"


def _escaped(text: bytes) -> bytes:
    return b"".join(
        bytes([byte]) if bytes([byte]).isalnum() else b"\\x%02x" % byte for byte in text
    )


LOOK_BEHIND_BYTES: Final = 3
"""How much in front of a link decides about it: an encoded colon."""

LOOK_AHEAD_BYTES: Final = 4
"""How much behind a link decides about it: an encoded colon and a digit."""

_ALPHANUMERIC: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#: A longer name, or another path. A dot at the end of a sentence may be one, and is left alone.
_GOES_ON: Final = frozenset(bytes([byte]) for byte in _ALPHANUMERIC + b".-_~@")
_IN_SCHEME: Final = frozenset(bytes([byte]) for byte in _ALPHANUMERIC + b"+-.")
_BEFORE_SLASHES: Final = frozenset({b":", b"/", b"\\"})
_PORT: Final = re.compile(rb"(?::|%3a)[0-9]")
_PATTERN_MEMORY_BYTES: Final = 64 << 20
"""Of one compiled table; RE2 refuses to compile what needs more."""
