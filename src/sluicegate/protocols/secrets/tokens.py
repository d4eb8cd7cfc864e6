"""Tokens of clouds and services: by their prefixes and, where they have one, their checksum.

``catalogue`` lists the kinds. The invariant: a token counts only whole, between characters that it
could not have, and what documentation shows as an example is none.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from .check_digits import entropy_bits, token_checksum
from .kind import Expression, Find, Kind, is_masked, reader_of

__all__ = ["TOKEN_KINDS"]


class _Token(NamedTuple):
    """One format."""

    pattern: bytes
    """All of it, or, where it has no fixed length, its least beginning."""
    characters: bytes
    """What it consists of: it stands between others."""
    check: Callable[[bytes], bool] | None = None
    is_open: bool = False
    """Whether more of it may follow."""

    def expression(self) -> Expression:
        """Return it as the engine and its reader need it."""
        before = rb"[^%s]" % self.characters
        after = b"" if self.is_open else before
        return Expression(
            before + b"(?:" + self.pattern + b")" + after,
            reader_of(before + b"(" + self.pattern + b")" + after, self.check),
        )


def _ends_in_checksum(value: bytes) -> bool:
    """As GitHub and npm make them: prefix, 30 characters, and six of the CRC-32 of the thirty."""
    body = value.rpartition(b"_")[2]
    return token_checksum(body[:-6]) == body[-6:]


def _is_jwt(value: bytes) -> bool:
    """Tell whether a token's first part is a JOSE header (RFC 7515, 4)."""
    part = value.partition(b".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


def _is_secret_word(value: bytes) -> bool:
    """Tell whether a value looks made by a machine: letters and digits, and much to guess."""
    letters = value.translate(None, _DIGITS)
    if len(letters) in {0, len(value)}:
        return False
    bound = _HEX_BITS_MIN if _HEX.fullmatch(value) else _WORD_BITS_MIN
    return entropy_bits(value) >= bound


def _is_random_text(value: bytes) -> bool:
    """Tell whether a text has upper, lower and digits, and the entropy of no word."""
    return (
        any(one in value for one in _DIGITS)
        and value.lower() != value != value.upper()
        and entropy_bits(value) >= _RANDOM_BITS_MIN
    )


def _read_assigned(text: bytes, end: int) -> Find | None:
    start = max(0, end - _ASSIGNED_SPAN)
    found = _ASSIGNED.search(text[start:end])
    if found is None or is_masked(found[1]) or not _is_secret_word(found[1]):
        return None
    return Find(start + found.start(1), start + found.end(1), found[1])


_DIGITS: Final = b"0123456789"
_HEX: Final = re.compile(rb"[0-9a-fA-F]+")
_HEX_BITS_MIN: Final = 3.0
_WORD_BITS_MIN: Final = 3.5
_RANDOM_BITS_MIN: Final = 4.3
"""Bits for each character: 32 random ones of base 64 have about 4.5, English and names below 4."""

_WORD: Final = rb"A-Za-z0-9"
_URL: Final = rb"A-Za-z0-9_-"
_BASE64: Final = rb"A-Za-z0-9+/"

_CLOUD: Final = (
    _Token(rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", _WORD),
    _Token(rb"AccountKey=[A-Za-z0-9+/]{86}==", _BASE64),
    _Token(rb"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", rb"A-Za-z0-9_~.-"),
    _Token(rb"AIza[A-Za-z0-9_-]{35}", _URL),
    _Token(rb"GOCSPX-[A-Za-z0-9_-]{28}", _URL),
    _Token(rb"ya29\.[A-Za-z0-9_-]{60}", _URL, is_open=True),
    _Token(rb"do[opr]_v1_[0-9a-f]{64}", _WORD),
    _Token(rb"dapi[0-9a-f]{32}", _WORD),
    _Token(rb"hv[sb]\.[A-Za-z0-9_-]{90}", _URL, is_open=True),
    _Token(rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60}", _URL, is_open=True),
)

_SERVICE: Final = (
    _Token(rb"gh[pousr]_[A-Za-z0-9]{36}", rb"A-Za-z0-9_", _ends_in_checksum),
    _Token(rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", rb"A-Za-z0-9_"),
    _Token(rb"gl(?:pat|dt|rt|ptt|cbt|soat)-[A-Za-z0-9_-]{20}", _URL, is_open=True),
    _Token(rb"xox[abeoprs]-[A-Za-z0-9-]{24}", rb"A-Za-z0-9-", is_open=True),
    _Token(rb"xapp-[0-9]-[A-Z0-9]{8,16}-[0-9]{10,16}-[a-f0-9]{64}", rb"A-Za-z0-9-"),
    _Token(
        rb"https://hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}",
        _WORD,
    ),
    _Token(rb"[sr]k_live_[A-Za-z0-9]{24}", rb"A-Za-z0-9_", is_open=True),
    _Token(rb"sk-ant-[a-z]{2,8}[0-9]{2}-[A-Za-z0-9_-]{80}", _URL, is_open=True),
    _Token(rb"sk-[A-Za-z0-9_-]{20,160}T3BlbkFJ[A-Za-z0-9_-]{20}", _URL, is_open=True),
    _Token(rb"npm_[A-Za-z0-9]{36}", rb"A-Za-z0-9_", _ends_in_checksum),
    _Token(rb"pypi-AgE[A-Za-z0-9_-]{60}", _URL, is_open=True),
    _Token(rb"rubygems_[0-9a-f]{48}", _WORD),
    _Token(rb"dckr_[op]at_[A-Za-z0-9_-]{27}", _URL, is_open=True),
    _Token(rb"hf_[A-Za-z]{34}", _WORD),
    _Token(rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", _URL),
    _Token(rb"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", _WORD),
    _Token(rb"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}", rb"A-Za-z0-9_"),
    _Token(rb"lin_api_[A-Za-z0-9]{40}", _WORD),
    _Token(rb"PMAK-[0-9a-f]{24}-[0-9a-f]{34}", _WORD),
    _Token(rb"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}", _URL),
    _Token(rb"ATATT3[A-Za-z0-9_=-]{180}", rb"A-Za-z0-9_=-", is_open=True),
)

_JWT: Final = Expression(
    rb"[A-Za-z0-9_-]{8}\.eyJ[A-Za-z0-9_-]{40}",
    reader_of(rb"[^A-Za-z0-9_.-](eyJ[A-Za-z0-9_-]{8,512}\.eyJ[A-Za-z0-9_-]{40})", _is_jwt),
)

_ASSIGNED_SPAN: Final = 240
_ASSIGNED_WORD: Final = (
    rb"(?i:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key"
    rb"|private[_-]?key|client[_-]?secret|credentials?)"
)
_ASSIGNED_SIGN: Final = rb"[\"']?[ \t]{0,4}(?::=|=>|[=:])[ \t]{0,4}[\"'`]?"
_ASSIGNED: Final = re.compile(
    _ASSIGNED_WORD
    + rb"[A-Za-z0-9_-]{0,20}"
    + _ASSIGNED_SIGN
    + rb"([A-Za-z0-9+/_.~=-]{16,128})[^A-Za-z0-9+/_.~=-]\Z"
)

TOKEN_KINDS: Final = (
    Kind(
        "cloud-token",
        "cloud key",
        tuple(one.expression() for one in _CLOUD),
        rest=re.compile(rb"[A-Za-z0-9_.~=-]{0,4096}"),
    ),
    Kind(
        "service-token",
        "service token",
        tuple(one.expression() for one in _SERVICE),
        rest=re.compile(rb"[A-Za-z0-9_.=-]{0,4096}"),
    ),
    Kind(
        "jwt",
        "JSON web token",
        (_JWT,),
        is_default=False,
        rest=re.compile(rb"[A-Za-z0-9_.-]{0,65536}"),
    ),
    Kind(
        "assigned-secret",
        "secret in an assignment",
        (
            Expression(
                _ASSIGNED_WORD
                + rb"[A-Za-z0-9_-]{0,20}"
                + _ASSIGNED_SIGN
                + rb"[A-Za-z0-9+/_.~=-]{16,128}[^A-Za-z0-9+/_.~=-]",
                _read_assigned,
            ),
        ),
    ),
    Kind(
        "random-text",
        "random text",
        (
            Expression(
                rb"[^A-Za-z0-9_-][A-Za-z0-9_-]{32,128}[^A-Za-z0-9_-]",
                reader_of(rb"[^A-Za-z0-9_-]([A-Za-z0-9_-]{32,128})[^A-Za-z0-9_-]", _is_random_text),
            ),
        ),
        is_default=False,
    ),
)
