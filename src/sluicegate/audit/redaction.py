"""Redaction: what looks like a secret is taken out of a record before it is written.

``lines`` asks about every line; few have to be looked at closely. Records hold no secrets by
design: URLs lose their queries, credentials are kept elsewhere. But reasons, causes and notes have
words of others in them, an error's or a filter's, and those may quote what they were given. The
invariant: the time that a text takes grows with its length alone, whoever wrote it.

Texts: headers with credentials (RFC 9110 section 11, RFC 6265), user information in URLs (RFC 3986
section 3.2.1), passwords of FTP (RFC 959) and SASL (RFC 4954), values whose names say what they
are, private keys (RFC 7468).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias, cast

import re2

__all__ = ["REDACTED", "changed_texts", "may_hold_secrets", "redacted"]

REDACTED: Final = "[redacted]"
"""Stands where something was taken out."""

_Match: TypeAlias = re.Match[str]

_SUSPECT: Final = re2.compile(
    # What each kind of secret brings along.
    rb"(?i)ookie|uthorization|uth-token|earer |asic |egotiate |ntlm |pass |acct |auth |assw|assph"
    rb"|pwd|pikey|pi_key|pi-key|private key|@"
    # A quote in a text, and what stands between two words like a space, as JSON writes them.
    rb'|\\["tnrf]|\\u00'
    # Ends of the other names of facts that are secrets, which stand in an object of their own.
    rb'|:\{[^\n]*(?:oken|key)"'
    # Parts of what ``_NAMED`` and ``_HEADER`` find before ``=``, in one text: each quote begins or
    # ends one. The last two are whole words: what comes behind them is no letter.
    rb"|(?:pass|pwd|secret|token|key|credential|signature|session|cookie|authorization)"
    rb'[^"\n]*='
    rb'|(?:sig|auth)(?:[^a-z0-9_"\n][^"\n]*)?='
)
"""Found in few lines, in one pass at the speed of memory, whatever is in them."""

_SECRET_NAMES: Final = re.compile(
    r"(?:\w{1,20}[_-])?(?:pass(?:word|wd|phrase)|pwd|token|(?:api|access|private)[_-]?key"
    r"|(?:proxy-)?authorization|(?:set-)?cookie)",
    re.IGNORECASE,
)
"""Names of facts that are secrets whatever they hold."""

_USER_INFO: Final = re.compile(r"(://)[^\s/?#@\"<>]*@")
_HEADER: Final = re.compile(
    r"(\b(?:proxy-)?authorization|\b(?:set-)?cookie|\bx-api-key|\bx-auth-token)"
    r"(\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?)[^\r\n]+",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(
    r"\b(basic|bearer|negotiate|ntlm)(\s{1,4})([A-Za-z0-9+/_.~=-]{8,})", re.IGNORECASE
)
_COMMAND: Final = re.compile(r"\b(PASS|ACCT|AUTH\s{1,4}[A-Z0-9-]{1,20})(\s{1,4})[^\r\n]+")
_COMMAND_ALONE: Final = re.compile(r"\s{0,8}(pass|acct)(\s{1,4})\S+\s{0,8}", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"((?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|signature|session[_-]?id)[\w-]{0,20}|\bsig|\bauth)"
    r"(\\?[\"']?\s{0,4}=\s{0,4}\\?[\"']?)[^\s&;,\"'<>]+",
    re.IGNORECASE,
)
_TOLD: Final = re.compile(
    r"(pass(?:word|wd|phrase)|pwd|api[_-]?key)(\\?[\"']?\s{0,4}:\s{0,4}\\?[\"']?)[^\s&;,\"'<>]+",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY-----[^-]*(?:-----END[^\r\n]*)?")


def may_hold_secrets(lines: bytes) -> bool:
    """Tell whether some of these lines have to be looked at closely; False is certain.

    Args:
        lines: JSON in ASCII: beyond it, there are more spaces, and letters that are others in
            small.
    """
    return _SUSPECT.search(lines) is not None


def redacted(text: str) -> str:
    """Return a text without what looks like a secret; most often the same text."""
    for take_out in _TAKES:
        text = take_out(text)
    return text


def changed_texts(value: object, change: Callable[[str], str]) -> object:
    """Return the fields of a record with every text changed, and facts that are secrets left out.

    Args:
        value: The fields, or what is in one.
        change: Makes a text what is written.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        table = cast("dict[object, object]", value)
        return {
            changed_texts(key, change): REDACTED if _is_secret(key) else changed_texts(one, change)
            for key, one in table.items()
        }
    if isinstance(value, list | tuple):
        return [changed_texts(one, change) for one in cast("list[object]", value)]
    return value


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and _SECRET_NAMES.fullmatch(name) is not None


def _scheme(found: _Match) -> str:
    """Take credentials out; a word in a sentence is in one case, and has no digit or sign."""
    scheme, space, word = found.groups()
    is_word = word.isalpha() and (word.islower() or word.istitle()) and len(word) < _WORD_MAX
    return found[0] if is_word else f"{scheme}{space}{REDACTED}"


_WORD_MAX: Final = 20

_TAKES: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: _KEY.sub(REDACTED, text),
    lambda text: _USER_INFO.sub(rf"\1{REDACTED}@", text),
    lambda text: _HEADER.sub(rf"\1\2{REDACTED}", text),
    lambda text: _SCHEME.sub(_scheme, text),
    lambda text: _COMMAND.sub(rf"\1\2{REDACTED}", text),
    lambda text: (
        _COMMAND_ALONE.sub(rf"\1\2{REDACTED}", text) if _COMMAND_ALONE.fullmatch(text) else text
    ),
    lambda text: _NAMED.sub(rf"\1\2{REDACTED}", text),
    lambda text: _TOLD.sub(rf"\1\2{REDACTED}", text),
)
