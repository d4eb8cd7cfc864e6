"""Terms: words that no text has, by which the index of words finds hosts, clients and the like.

``sqlite_partition`` writes them beside a record's words, ``sqlite_reading`` looks for them. The
invariant: who looks for a value is told of every record that has it, and, seldom, of one that has
not: whatever is found is looked at.

An index of words is written in one piece for a batch. A tree for each field costs a page for each
record, because hosts and clients come in no order: that was half of what storing took.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from sluicegate.audit.search.query import Network, in_lower_case
from sluicegate.log_limits import SEARCH_TERMS_MAX, TERMS_KNOWN_MAX

__all__ = ["client_terms", "host_term", "identifier_term", "network_terms", "user_term"]

_MARK: Final = "\ue001"
"""For private use, says Unicode: part of a word to FTS5, and of none to us."""

_PLAIN_CHARACTERS_MAX: Final = 64
_BITS: Final = 128
_IPV4: Final = bytes(10) + b"\xff\xff"
_IPV4_FIRST: Final = _IPV4 + bytes(4)
_IPV4_LAST: Final = _IPV4 + b"\xff" * 4
_IPV4_BITS: Final = (112, 120, 128)
_IPV6_BITS: Final = (32, 48, 64, 128)
"""How much of an address each of its terms has; those of IPv4 are mapped into IPv6."""


def _term(kind: str, value: bytes) -> str:
    return f"{_MARK}{kind}{crc32(value):08x}"


@functools.lru_cache(TERMS_KNOWN_MAX)
def host_term(host: str) -> str:
    """Return the term of a host."""
    return _text_term("h", host)


@functools.lru_cache(TERMS_KNOWN_MAX)
def user_term(user: str) -> str:
    """Return the term of a user."""
    return _text_term("u", user)


def identifier_term(identifier: str) -> str:
    """Return the term of a session, a connection or a request.

    Two that differ in hyphens have the same.
    """
    plain = identifier.replace("-", "")
    if plain.isascii() and plain.isalnum() and len(plain) <= _PLAIN_CHARACTERS_MAX:
        # Names of ours, one like the one before: they make a small index.
        return f"{_MARK}n{plain}"
    return _text_term("i", identifier)


def _text_term(kind: str, text: str) -> str:
    return _term(kind, in_lower_case(text).encode("utf-8", "surrogatepass"))


def client_terms(key: bytes) -> str:
    """Return the terms of a client, parted by spaces: its address, and networks that it is in."""
    return " ".join(_term("c", key[: bits // 8]) for bits in _bits_of(key))


def network_terms(network: Network) -> Sequence[str]:
    """Return terms of which each client in a network has one; none: there would be too many."""
    if network.first < _IPV4_FIRST <= network.last or network.first <= _IPV4_LAST < network.last:
        return []  # clients of both kinds are in it
    first, last = (int.from_bytes(one, "big") for one in (network.first, network.last))
    common, known = _BITS - (first ^ last).bit_length(), _bits_of(network.first)
    finer = next(bits for bits in known if bits >= common)
    if 1 << (finer - common) <= SEARCH_TERMS_MAX:
        parts = range(first >> (_BITS - finer), (last >> (_BITS - finer)) + 1)
        return [_term("c", part.to_bytes(finer // 8, "big")) for part in parts]
    coarser = [bits for bits in known if bits < common]
    return [_term("c", network.first[: coarser[-1] // 8])] if coarser else []


def _bits_of(key: bytes) -> tuple[int, ...]:
    return _IPV4_BITS if key.startswith(_IPV4) else _IPV6_BITS
