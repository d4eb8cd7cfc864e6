"""What an object of HTTP is called: by its URL, and by what the message says (RFC 6266, RFC 7578).

Rules about content judge by the extensions of these names. The invariant: every name under which a
client may store an object is among them; which one a client takes is its own affair.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from sluicegate.protocols.text import printable

__all__ = ["disposition_names", "url_name"]


def url_name(path: str) -> str:
    """Return the last segment of a path, unescaped and made printable; the path of a folder."""
    name = path.rstrip("/").rpartition("/")[2]
    return printable(unquote_to_bytes(name)) if name and not path.endswith("/") else path


def disposition_names(value: bytes) -> tuple[str, ...]:
    """Return the names that a ``Content-Disposition`` gives, printable, the preferred one first.

    Clients differ in what they take of a field that is not well formed, so that every parameter of
    the two names counts, wherever it stands, in quotes or without, escaped or not.
    """
    found: dict[str, None] = {}
    for match in _NAMES.finditer(value):
        is_extended, quoted, plain = match.groups()
        text = plain if quoted is None else quoted
        if is_extended:
            _, _, text = text.rpartition(b"'")
            found.setdefault(printable(unquote_to_bytes(text)))
    for match in _NAMES.finditer(value):
        is_extended, quoted, plain = match.groups()
        if is_extended:
            continue
        text = _ESCAPED.sub(rb"\1", quoted) if quoted is not None else plain
        found.setdefault(printable(text))
        if b"%" in text:
            # Chromium and others unescape it although it is no extended name.
            found.setdefault(printable(unquote_to_bytes(text)))
    return tuple(name for name in found if name)


_NAMES: Final = re.compile(
    rb'filename[ \t]*(\*?)(?:\*[0-9]+\*?)?[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^;\s]*))',
    re.IGNORECASE | re.DOTALL,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
