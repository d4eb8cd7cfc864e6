"""Words: how names and URLs are cut into what people look for.

The store indexes what ``searched_text`` returns, and ``matching`` looks into it. The invariant: one
function cuts texts and queries alike.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Final

from sluicegate.log_limits import WORDS_KNOWN_MAX

from .query import in_lower_case

__all__ = [
    "SEARCHED",
    "holds_words",
    "host_among",
    "host_of_record",
    "indexed_text",
    "searched_text",
    "texts_searched",
    "words_of",
]

SEARCHED: Final = ("host", "url", "target", "sni", "name", "server", "reason", "cause", "message")
"""The record's fields in which words are looked for."""

_WORD: Final = re.compile(r"[^\W_]+")
_BARRIER: Final = " \ue000 "
"""For private use, says Unicode: part of a word to FTS5, and of none to us."""

_AUTHORITY: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.ASCII)


def words_of(text: str) -> list[str]:
    """Cut a text into its words: runs of letters and digits, in lower case."""
    return _WORD.findall(in_lower_case(text))


def texts_searched(fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return a record's texts of ``SEARCHED``, in that order; empty where it has none."""
    return tuple(_text(fields, name) for name in SEARCHED)


def searched_text(texts: Sequence[str]) -> str:
    """Return what words are looked for in: the words of a record's names, parted by spaces.

    Between two fields stands a word that no query has, so that no run of words goes across.

    Args:
        texts: As ``texts_searched`` returns them.
    """
    return _BARRIER.join(_spaced(text) for text in texts if text)


@functools.lru_cache(WORDS_KNOWN_MAX)
def _spaced(text: str) -> str:
    """Return the words of a text; names of hosts and servers come again and again."""
    return " ".join(words_of(text))


def indexed_text(texts: Sequence[str]) -> str:
    """Return a text of which FTS5 makes the words of ``searched_text``, in any order.

    Its tokenizer cuts ASCII as we do, so that is left to it.

    Args:
        texts: As for ``searched_text``.
    """
    joined = " ".join(texts)
    if joined.isascii():
        return joined
    return " ".join(text if text.isascii() else " ".join(words_of(text)) for text in texts)


def holds_words(fields: Mapping[str, object], words: str) -> bool:
    """Tell whether words, parted by spaces, stand one behind the other; the last may go on."""
    return " " + words in " " + searched_text(texts_searched(fields))


def host_of_record(fields: Mapping[str, object]) -> str:
    """Return the host that a record is about, without its port; empty: about none."""
    return host_among(*(_text(fields, name) for name in ("host", "url", "target", "sni")))


def host_among(host: str, url: str, target: str, sni: str) -> str:
    """Return the host that a record is about, of these fields of it.

    The name that the client asked for, else the one in the URL, in the target, in the ClientHello.
    """
    if host:
        return host
    if url and (authority := _authority_of(url)) is not None:
        return _without_port(authority.rpartition("@")[2])
    return _without_port(target) if target else in_lower_case(sni)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _authority_of(url: str) -> str | None:
    """Return what stands between the scheme and the path; None: there is no scheme."""
    if url.startswith(("http://", "https://")) and "?" not in url and "#" not in url:
        return url.split("/", 3)[2]  # the same, in a third of the time
    found = _AUTHORITY.match(url)
    return found[1] if found is not None else None


def _without_port(authority: str) -> str:
    if ":" not in authority:
        return authority.removeprefix("[").partition("]")[0] if "[" in authority else authority
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    host, colon, port = authority.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else authority
