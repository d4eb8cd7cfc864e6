"""Text that goes into LDAP and comes out of it: values in filters, distinguished names.

``ldap_lookup`` builds its searches with it, ``app/ldap_config`` checks the operator's with it. No
I/O. The invariant: a value that was put into a filter is only ever a value, whatever it is made of;
and a name that cannot be read exactly is an error, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from sluicegate.access_limits import LDAP_NAME_CHARACTERS_MAX

__all__ = ["DistinguishedName", "LdapTextError", "escape_filter_value", "fill_filter"]

Attribute: TypeAlias = tuple[str, str]
"""The type of an attribute in lower case, and its value without escapes."""


class LdapTextError(ValueError):
    """A distinguished name that is none."""


def escape_filter_value(value: str) -> str:
    """Return a value as a filter takes it (RFC 4515 section 3).

    Everything but ASCII letters and digits is escaped: more than the RFC asks for, so that no
    reading of a filter, however lenient, finds an operator in a value.
    """
    return "".join(
        character
        if character.isascii() and character.isalnum()
        else "".join(f"\\{octet:02x}" for octet in character.encode("utf-8", "surrogateescape"))
        for character in value
    )


def fill_filter(template: str, **values: str) -> str:
    """Return a filter with values in their places, which are written ``{name}``.

    The places are filled in one go, so that a value that looks like a place stays a value.
    """
    parts: list[str] = []
    rest = template
    while rest:
        before, brace, behind = rest.partition("{")
        parts.append(before)
        name, closing, after = behind.partition("}")
        if brace and closing and name in values:
            parts.append(escape_filter_value(values[name]))
            rest = after
        else:
            parts.append(brace)
            rest = behind
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """A distinguished name, taken apart (RFC 4514): the entry first, the root of the tree last."""

    text: str
    """As it was written."""
    parts: tuple[tuple[Attribute, ...], ...]
    """Each part's attributes; nearly always one."""

    @classmethod
    def parse(cls, text: str) -> DistinguishedName:
        """Read a distinguished name.

        Raises:
            LdapTextError: It is none, or longer than any that is real.
        """
        if len(text) > LDAP_NAME_CHARACTERS_MAX:
            raise LdapTextError(f"longer than {LDAP_NAME_CHARACTERS_MAX} characters")
        reader = _Reader(text)
        parts: list[tuple[Attribute, ...]] = []
        goes_on = True
        while goes_on:
            attributes = [reader.read_attribute()]
            while reader.take("+"):
                attributes.append(reader.read_attribute())
            parts.append(tuple(attributes))
            goes_on = reader.take(",") or reader.take(";")
        return cls(text, tuple(parts))

    @property
    def first_value(self) -> Attribute:
        """The attribute that names the entry among its neighbours; the first of several."""
        return self.parts[0][0]

    def is_within(self, base: DistinguishedName) -> bool:
        """Tell whether the entry is ``base`` or below it."""
        own, wanted = self._comparable(), base._comparable()
        return len(own) >= len(wanted) and own[len(own) - len(wanted) :] == wanted

    def is_same(self, other: DistinguishedName) -> bool:
        """Tell whether both name one entry, as directories compare names (case and spaces)."""
        return self._comparable() == other._comparable()

    def _comparable(self) -> list[frozenset[Attribute]]:
        return [
            frozenset((kind, " ".join(value.casefold().split())) for kind, value in part)
            for part in self.parts
        ]


class _Reader:
    """Reads a distinguished name from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._text)

    def take(self, character: str) -> bool:
        """Step over a character, if it is the next one."""
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def read_attribute(self) -> Attribute:
        kind, equals, _ = self._text[self._at :].partition("=")
        name = kind.strip(" ")
        if not equals or not name or not name.isascii() or set(name) - _TYPE_CHARACTERS:
            raise LdapTextError(f"{self._text!r} has no attribute=value where one should be")
        self._at += len(kind) + 1
        return name.lower(), self._read_value()

    def _read_value(self) -> str:
        """Read up to a separator; spaces around a value are none of it, unless escaped."""
        while self.take(" "):
            pass
        octets, kept = bytearray(), 0
        while not self.is_at_end and self._text[self._at] not in _SEPARATORS:
            character = self._text[self._at]
            self._at += 1
            if character == "\\":
                octets += self._read_escaped()
                kept = len(octets)
            elif character in _NEVER_BARE:
                raise LdapTextError(f"{self._text!r} has a bare {character!r} in a value")
            else:
                octets += character.encode("utf-8", "surrogateescape")
                kept = kept if character == " " else len(octets)
        try:
            return octets[:kept].decode("utf-8")
        except UnicodeDecodeError:
            raise LdapTextError(f"{self._text!r} has a value that is not UTF-8") from None

    def _read_escaped(self) -> bytes:
        pair = self._text[self._at : self._at + 2]
        if len(pair) == _PAIR and set(pair) <= _HEX_DIGITS:
            self._at += _PAIR
            return bytes.fromhex(pair)
        if not pair or pair[0] not in _ESCAPABLE:
            raise LdapTextError(f"{self._text!r} has a backslash that escapes nothing")
        self._at += 1
        return pair[0].encode("ascii")


_PAIR: Final = 2
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_TYPE_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.;_"
)
_SEPARATORS: Final = frozenset(",;+")
_NEVER_BARE: Final = frozenset('"<>\x00')
_ESCAPABLE: Final = frozenset(' "#+,;<=>\\')
