"""Words: how names and URLs are cut into what people look for.

The store indexes what ``searched_text`` returns, and ``matching`` looks into it. The invariant: one
function cuts texts and queries alike.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

from sluicegate.log_limits import WORDS_KNOWN_MAX

from .query import in_lower_case

__all__ = ["SEARCHED", "holds_words", "host_of_record", "indexed_text", "searched_text", "words_of"]

SEARCHED: Final = ("host", "url", "target", "sni", "name", "server", "reason", "cause", "message")
"""The record's fields in which words are looked for."""

_WORD: Final = re.compile(r"[^\W_]+")
_BARRIER: Final = " \ue000 "
"""For private use, says Unicode: part of a word to FTS5, and of none to us."""

_AUTHORITY: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.ASCII)


def words_of(text: str) -> list[str]:
    """Cut a text into its words: runs of letters and digits, in lower case."""
    return _WORD.findall(in_lower_case(text))


def searched_text(fields: Mapping[str, object]) -> str:
    """Return what words are looked for in: the words of a record's names, parted by spaces.

    Between two fields stands a word that no query has, so that no run of words goes across.
    """
    found = (fields.get(name) for name in SEARCHED)
    return _BARRIER.join(_spaced(text) for text in found if isinstance(text, str) and text)


@functools.lru_cache(WORDS_KNOWN_MAX)
def _spaced(text: str) -> str:
    """Return the words of a text; names of hosts and servers come again and again."""
    return " ".join(words_of(text))


def indexed_text(fields: Mapping[str, object]) -> str:
    """Return a text of which FTS5 makes the words of ``searched_text``, in any order.

    Its tokenizer cuts ASCII as we do, so that is left to it.
    """
    found = (fields.get(name) for name in SEARCHED)
    return " ".join(
        text if text.isascii() else " ".join(words_of(text))
        for text in found
        if isinstance(text, str) and text
    )


def holds_words(fields: Mapping[str, object], words: str) -> bool:
    """Tell whether words, parted by spaces, stand one behind the other; the last may go on."""
    return " " + words in " " + searched_text(fields)


def host_of_record(fields: Mapping[str, object]) -> str:
    """Return the host that a record is about, without its port; empty: about none.

    The name that the client asked for, else the one in the URL, in the target, in the ClientHello.
    """
    host = fields.get("host")
    if isinstance(host, str) and host:
        return host
    url = fields.get("url")
    if isinstance(url, str) and (found := _AUTHORITY.match(url)) is not None:
        return _without_port(found[1].rpartition("@")[2])
    target = fields.get("target")
    if isinstance(target, str) and target:
        return _without_port(target)
    sni = fields.get("sni")
    return in_lower_case(sni) if isinstance(sni, str) else ""


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    host, colon, port = authority.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else authority
