"""Private keys: PEM, OpenSSH, OpenPGP, PuTTY, WireGuard, age and Bitcoin.

``catalogue`` lists the kinds. The invariant: what is called a key has the inside of one (the
beginning of its ASN.1, its magic, its checksum), so that a manual which shows the first line of one
is no find.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from .check_digits import base58_is_valid, bech32_is_valid
from .kind import Expression, Find, Kind, is_masked, reader_of

__all__ = ["KEY_KINDS"]


def _read_pem(text: bytes, end: int) -> Find | None:
    """Read the first line, which ends ``_PEM_LOOK`` bytes before, and the beginning of the key."""
    label_end = end - _PEM_LOOK
    start = max(0, label_end - _PEM_LABEL_SPAN)
    label = _PEM_LABEL.search(text[start:label_end])
    if label is None:
        return None
    body = text[label_end:end]
    inside = _PEM_BREAKS.sub(b"", _PEM_HEADERS.sub(b"", body, count=1))
    head = _PEM_INSIDE.match(inside)
    if head is None or is_masked(head[0]) or not _is_key(label[0], head[0], body):
        return None
    last_line = body.find(b"-----END")
    return Find(label_end, label_end + last_line if last_line >= 0 else end, head[0])


def _is_key(label: bytes, head: bytes, body: bytes) -> bool:
    if b"OPENSSH" in label:
        return head.startswith(_OPENSSH)
    if b"PGP" in label or b"ENCRYPTED" in body[:_PEM_LOOK]:
        return True
    # A SEQUENCE (X.690, 8.9): 0x30 is M in base 64, with the two bits behind it.
    return head.startswith(b"M")


def _is_wireguard(value: bytes) -> bool:
    """Tell whether a key is clamped as RFC 7748, 5, has it (``wg genkey`` does so)."""
    try:
        key = base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return len(key) == _CURVE_BYTES and not key[0] & 7 and key[-1] & 0xC0 == _CLAMPED


_PEM_LOOK: Final = 160
"""Bytes that are looked at behind the first line: an Ed25519 key is over by then."""
_PEM_LABEL_SPAN: Final = 100
_PEM_LABEL: Final = re.compile(
    rb"-----BEGIN(?:[ +]|%20)[A-Z0-9 +%]{0,40}PRIVATE(?:[ +]|%20)KEY(?:(?:[ +]|%20)BLOCK)?-----\Z"
)
#: RFC 1421's fields (``Proc-Type: 4,ENCRYPTED``) and OpenPGP's armor headers.
_PEM_HEADERS: Final = re.compile(rb"(?:(?:\s|\\[nrt])*[A-Z][A-Za-z-]{1,30}: [^\n\\]{0,120})+")
_PEM_BREAKS: Final = re.compile(rb"\\[nrt]|\\u000[adAD]|%0[adAD]|[\s\"'+>|,]")
_PEM_INSIDE: Final = re.compile(rb"[A-Za-z0-9+/]{40}")
_OPENSSH: Final = base64.b64encode(b"openssh-key-v1\0")[:19]
_PEM: Final = Kind(
    "private-key",
    "private key",
    (
        Expression(
            rb"PRIVATE(?:[ +]|%%20)KEY(?:(?:[ +]|%%20)BLOCK)?-----.{%d}" % _PEM_LOOK, _read_pem
        ),
        Expression(
            rb"Private-Lines: [0-9]{1,3}\r?\n[A-Za-z0-9+/]{40}",
            reader_of(rb"(Private-Lines: [0-9]{1,3}\r?\n[A-Za-z0-9+/]{40})"),
        ),
        Expression(
            rb"[^A-Za-z0-9+/][Pp]rivate[Kk]ey[ \t]{0,4}[=:][ \t]{0,4}[A-Za-z0-9+/]{43}=",
            reader_of(rb"[ \t=:]([A-Za-z0-9+/]{43}=)", _is_wireguard),
        ),
        Expression(
            rb"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}[^0-9A-Za-z]",
            reader_of(rb"(AGE-SECRET-KEY-1[A-Z0-9]{58})[^0-9A-Za-z]", bech32_is_valid),
        ),
        Expression(
            rb"[^0-9A-Za-z](?:5[1-9A-HJ-NP-Za-km-z]{50}|[KL][1-9A-HJ-NP-Za-km-z]{51})[^0-9A-Za-z]",
            reader_of(rb"[^0-9A-Za-z]([5KL][0-9A-Za-z]{50,51})[^0-9A-Za-z]", base58_is_valid),
        ),
        Expression(
            rb"[^0-9A-Za-z][xyz]prv[1-9A-HJ-NP-Za-km-z]{107}[^0-9A-Za-z]",
            reader_of(rb"([xyz]prv[0-9A-Za-z]{107})[^0-9A-Za-z]", base58_is_valid),
        ),
    ),
    # Up to the last line, if it has one: all of what stands before is of the key.
    rest=re.compile(
        rb"(?:[^-]{0,65536}(?=-----END)|(?:[A-Za-z0-9+/=\s]|\\[nrt]|%0[adAD]){0,65536})"
    ),
)

_CURVE_BYTES: Final = 32
_CLAMPED: Final = 0x40

KEY_KINDS: Final = (_PEM,)
