r"""The parts of a mail: MIME bodies decoded, and files that stand in text by uuencode.

``examination`` looks into each. The invariant: a part is given decoded however its headers lie: a
transfer encoding that is not known is given as it stands, and so is what cannot be decoded.
"""

from __future__ import annotations

import binascii
import email
import email.message
import email.policy
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["mail_parts"]


def mail_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    r"""Give the name and the bytes of each part of a mail, or of each mail of an mbox.

    >>> list(mail_parts(b"MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n"))
    [('part 0', b'hello')]
    """
    number = 0
    for one in _messages(data):
        for part in email.message_from_bytes(one, policy=email.policy.compat32).walk():
            if part.is_multipart():
                continue
            content = _content(part)
            name = part.get_filename()
            yield (name if isinstance(name, str) and name else f"part {number}"), content
            number += 1
            yield from _uuencoded(content)


def _messages(data: bytes) -> Iterator[bytes]:
    """Cut an mbox (RFC 4155) into its mails; other data is one."""
    if not data.startswith(b"From "):
        yield data
        return
    starts = [match.end() for match in _FROM_LINE.finditer(data)]
    ends = [match.start() for match in _FROM_LINE.finditer(data)][1:]
    for start, end in zip(starts, [*ends, len(data)], strict=True):
        yield data[start:end]


def _content(part: email.message.Message) -> bytes:
    decoded = part.get_payload(decode=True)
    return decoded if isinstance(decoded, bytes) else b""


def _uuencoded(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Give files that stand in a text between ``begin`` and ``end`` (POSIX uuencode)."""
    for match in _BEGIN.finditer(text):
        pieces: list[bytes] = []
        for line in text[match.end() :].splitlines():
            if line.strip() == b"end" or line[:1] in (b"`", b""):
                break
            try:
                pieces.append(binascii.a2b_uu(line))
            except binascii.Error:
                break
        yield match[1].decode("utf-8", "replace").strip(), b"".join(pieces)


_FROM_LINE: Final = re.compile(rb"^From \S[^\n]{0,500}\n", re.MULTILINE)
_BEGIN: Final = re.compile(rb"^begin [0-7]{3,4} ([^\r\n]{1,200})\r?\n", re.MULTILINE)
