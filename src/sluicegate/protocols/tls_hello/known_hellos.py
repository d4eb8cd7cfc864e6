"""KnownHellos: what ClientHellos say that were read before, so that the next is not read again.

One program says the same to one server again and again, but for what is random: its nonce, its
session's number, its keys. Of these nothing is read but how long they are (``message``). The
invariant: what is found is what reading would give, for every other byte, and every length, is the
same. Whatever is new, or hides another hello, is read.
"""

from __future__ import annotations

from typing import Final

from sluicegate.protocol_limits import (
    TLS_HELLO_KNOWN_BYTES_MAX,
    TLS_HELLOS_ALIKE_MAX,
    TLS_HELLOS_KNOWN_MAX,
)

from .hello import ClientHello
from .message import read_message

__all__ = ["KnownHellos"]

_Known = tuple[tuple[tuple[int, int, bytes], ...], ClientHello]
"""What has to be the same, each with where it begins and ends, and what it says."""


class KnownHellos:
    """The hellos of one worker's clients; nobody changes what it gives out."""

    __slots__ = ("_count", "_known")

    def __init__(self) -> None:
        self._known: dict[int, list[_Known]] = {}
        #: By length.
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def read(self, message: bytes) -> ClientHello:
        """Read a whole ClientHello, as ``read_message``.

        Raises:
            TlsRefused: It has no reading, or more than one.
        """
        alike = self._known.get(len(message))
        if alike is not None:
            for fixed, hello in alike:
                for start, end, content in fixed:
                    if message[start:end] != content:
                        break
                else:
                    return hello
        hello = read_message(message)
        # What hides another one, or resumes, is never the same twice.
        is_plain = hello.ech is None and not hello.resumes
        if is_plain and len(message) <= TLS_HELLO_KNOWN_BYTES_MAX:
            self._keep(message, hello)
        return hello

    def _keep(self, message: bytes, hello: ClientHello) -> None:
        if self._count >= TLS_HELLOS_KNOWN_MAX:
            # Begin anew: the frequent ones are soon back.
            self._known.clear()
            self._count = 0
        alike = self._known.setdefault(len(message), [])
        if len(alike) >= TLS_HELLOS_ALIKE_MAX:
            del alike[0]
            self._count -= 1
        fixed: list[tuple[int, int, bytes]] = []
        at = 0
        for start, end in _random_parts(message):
            fixed.append((at, start, message[at:start]))
            at = end
        fixed.append((at, len(message), message[at:]))
        alike.append((tuple(fixed), hello))
        self._count += 1


def _random_parts(message: bytes) -> list[tuple[int, int]]:
    """Return where a hello that has a reading is random, each with its end, in order."""
    at = _RANDOM + _RANDOM_SIZE
    number = at + 1
    found = [(_RANDOM, at), (number, number + message[at])]
    at = number + message[at]
    at += 2 + _number(message, at)  # the cipher suites
    at += 1 + message[at]  # the compressions
    at += 2  # the length of the extensions, if there are any
    while at < len(message):
        kind, content = _number(message, at), at + 4
        at = content + _number(message, at + 2)
        if kind != _KEY_SHARE:
            continue
        share = content + 2
        while share < at:
            key = share + 4
            share = key + _number(message, share + 2)
            found.append((key, share))
    return found


def _number(message: bytes, at: int) -> int:
    return message[at] << 8 | message[at + 1]


_RANDOM: Final = 6
"""Behind the message's head and its version (RFC 8446 section 4.1.2)."""
_RANDOM_SIZE: Final = 32
_KEY_SHARE: Final = 51
