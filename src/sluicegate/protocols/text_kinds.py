r"""What kind of text some bytes are: scripts, shortcuts, mark-up, mail.

``file_kinds`` asks it about what has no mark of its own. The invariant: patterns are anchored and
bounded, so that no text takes longer than another of its size.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["decoded_text", "text_kind"]


def text_kind(head: bytes) -> str:
    """Name the kind of a text; empty if it is none.

    >>> text_kind(b"<!DOCTYPE html><p>"), text_kind(b"@echo off"), text_kind(bytes(9))
    ('html', 'batch', '')
    """
    text = decoded_text(head)
    if text is None:
        return ""
    start = text.lstrip("\ufeff \t\r\n")[:_LOOK_CHARACTERS]
    for kind, pattern in _PATTERNS:
        if pattern.match(start):
            return kind
    return "text"


def decoded_text(head: bytes) -> str | None:
    """Return the beginning of a text; None for what is none: it has control characters."""
    piece = head[:_LOOK_BYTES]
    for mark, encoding in _MARKS:
        if piece.startswith(mark):
            return piece.decode(encoding, "ignore")
    if len(piece) != len(piece.translate(None, _CONTROLS)):
        return None
    return piece.decode("utf-8", "replace")


_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROLS: Final = bytes(set(range(32)) - set(b"\b\t\n\v\f\r\x1a\x1b")) + b"\x7f"
_LOOK_BYTES: Final = 8192
_LOOK_CHARACTERS: Final = 4096

_XML: Final = r"(?:<\?xml[^>]{0,200}>\s{0,99})?"
_COMMENT: Final = r"(?:<!--[\s\S]{0,500}?-->\s{0,99})?"
_MAIL_FIELDS: Final = (
    "received|return-path|message-id|mime-version|delivered-to|x-mozilla-status|x-mailer|x-sieve"
)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_PATTERNS: Final = (
    ("hta", _pattern(r"(?:<!doctype[^>]{0,200}>\s{0,99})?<html[\s\S]{0,2000}?<hta:application")),
    ("library-ms", _pattern(_XML + r"<librarydescription")),
    ("settings-ms", _pattern(_XML + r"<pcsettings")),
    ("windows-script", _pattern(_XML + r"<(?:package|job|component|scriptlet)[\s>]")),
    ("svg", _pattern(_XML + _COMMENT + r"(?:<!doctype svg[^>]{0,300}>\s{0,99})?<svg[\s>]")),
    ("html", _pattern(_XML + _COMMENT + r"<(?:!doctype html|html|head|body|script|iframe)[\s>]")),
    ("xml", _pattern(r"<\?xml\s")),
    ("url", _pattern(r"\[(?:internetshortcut|\{000214a0-[0-9a-f-]+\})")),
    ("scf", _pattern(r"\[shell\]\s{1,9}command")),
    ("desktop-entry", _pattern(r"(?:#[^\n]{0,200}\n|\s){0,20}\[desktop entry\]")),
    ("registry", _pattern(r"(?:windows registry editor version|regedit4)")),
    ("batch", _pattern(r"@?echo\s+off\b")),
    ("mail", _pattern(r"from \S{1,200} {1,3}[a-z]{3} [a-z]{3} ")),
    (
        "mail",
        _pattern(rf"(?:(?:from|to|subject|date):[^\n]*\n(?:[ \t][^\n]*\n)*)*(?:{_MAIL_FIELDS}):\s"),
    ),
    ("binhex", _pattern(r"\(this file must be converted with binhex")),
    ("json", _pattern(r"[\[{]\s{0,99}(?:\"|[\]}{\[])")),
)
