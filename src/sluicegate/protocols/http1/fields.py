"""The fields of a message that go from end to end: ordered, repeatable, and always fit to be sent.

Parsers make them, filters read and change them, the serializer writes them as they are. The
invariant: no value of this type can split a message or frame it: names are tokens, values have no
line end, and neither framing nor anything that belongs to one connection can be added.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from typing_extensions import override

from sluicegate.protocol_limits import HTTP_FIELD_NAMES_KNOWN_MAX
from sluicegate.protocols.text import printable

__all__ = ["CONNECTION_FIELDS", "FieldItem", "Fields", "FieldsView", "WrittenFields"]

FieldItem = tuple[bytes, bytes, bytes]
"""The name in lower case, the name as it is written, and the value without white space around."""

CONNECTION_FIELDS: Final = frozenset(
    {
        b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""What belongs to one connection and to its framing (RFC 9110 section 7.6.1, RFC 9112 section 6):
attributes of a message say it, never its fields. ``Content-Length`` is here because
``message.framing`` is the one place that knows how long a body is."""


class FieldsView:
    """Fields that cannot be changed through this object; filters that only look are given one."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Take names and values.

        Raises:
            ValueError: A name is no token or belongs to the connection, or a value cannot be sent.
        """
        self._items: list[FieldItem] = [_checked(name, value) for name, value in items]

    def first(self, name: bytes) -> bytes | None:
        """Return the first value of a name, in any letter case; None if there is none."""
        lower = name.lower()
        for item in self._items:
            if item[0] == lower:
                return item[2]
        return None

    def all(self, name: bytes) -> list[bytes]:
        """Return every value of a name, in their order."""
        lower = name.lower()
        return [item[2] for item in self._items if item[0] == lower]

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return names, as they are written, and values, in their order."""
        return [(item[1], item[2]) for item in self._items]

    def checked_items(self) -> list[FieldItem]:
        """Return the items as ``Fields.from_checked`` takes them."""
        return self._items.copy()

    def items_behind(self, begin: list[FieldItem]) -> list[FieldItem] | None:
        """Return what stands behind these; None if the fields do not begin with them."""
        items, count = self._items, len(begin)
        return items[count:] if items[:count] == begin else None

    def copy(self) -> Fields:
        """Return fields of one's own, free to change."""
        return Fields.from_checked(self._items.copy())

    def written(self) -> bytes:
        """Return the fields as they are sent, each with its line end."""
        return b"".join([b"%b: %b\r\n" % (name, value) for _, name, value in self._items])

    def written_without(self, names: AbstractSet[bytes]) -> bytes:
        """Return as ``written`` what has none of these names, which are in lower case."""
        return b"".join([b"%b: %b\r\n" % item[1:] for item in self._items if item[0] not in names])

    def __contains__(self, name: bytes) -> bool:
        return self.first(name) is not None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.items())

    def __len__(self) -> int:
        return len(self._items)

    @override
    def __eq__(self, other: object) -> bool:
        """Tell whether the same values stand under the same names, in any letter case."""
        if not isinstance(other, FieldsView):
            return NotImplemented
        return [(i[0], i[2]) for i in self._items] == [(i[0], i[2]) for i in other._items]

    __hash__ = None  # type: ignore[assignment]  # the fields may change below a view

    @override
    def __repr__(self) -> str:
        """Show the names; values may be secrets."""
        return f"{type(self).__name__}({', '.join(printable(item[1]) for item in self._items)})"


class Fields(FieldsView):
    """Fields that may be changed; each message owns its own."""

    __slots__ = ()

    @classmethod
    def from_checked(cls, items: list[FieldItem]) -> Fields:
        """Take a list, and its ownership, whose items a parser has already checked."""
        fields = cls.__new__(cls)
        fields._items = items  # noqa: SLF001 - its own class
        return fields

    def view(self) -> FieldsView:
        """Return the same fields, as they are and will be, without the right to change them."""
        view = FieldsView.__new__(FieldsView)
        view._items = self._items  # noqa: SLF001 - its own base class
        return view

    def add(self, name: bytes, value: bytes) -> None:
        """Put a field behind the others.

        Raises:
            ValueError: The name is no token or belongs to the connection, or the value cannot be
                sent.
        """
        self._items.append(_checked(name, value))

    def set(self, name: bytes, value: bytes) -> None:
        """Give a name this one value, in the place of its first one, or behind the others.

        Raises:
            ValueError: As for ``add``.
        """
        new = _checked(name, value)
        lower, items = new[0], self._items
        for item in items:
            if item[0] == lower:
                place = items.index(item)
                items[place:] = [new, *[one for one in items[place + 1 :] if one[0] != lower]]
                return
        items.append(new)

    def move_first(self, name: bytes) -> None:
        """Put the fields of a name before all others, as is good for ``Host``."""
        lower = name.lower()
        first = [item for item in self._items if item[0] == lower]
        self._items[:] = first + [item for item in self._items if item[0] != lower]

    def remove(self, *names: bytes) -> int:
        """Take every field of these names out; return how many there were."""
        gone = {name.lower() for name in names}
        before = len(self._items)
        self._items[:] = [item for item in self._items if item[0] not in gone]
        return before - len(self._items)


class WrittenFields:
    """How fields are written but for some names, remembered for what was put behind them."""

    __slots__ = ("_items", "_names", "_written")

    def __init__(self, fields: FieldsView, names: AbstractSet[bytes]) -> None:
        self._items = fields.checked_items()
        self._names = names
        self._written = fields.written_without(names)

    def of(self, fields: FieldsView) -> list[bytes]:
        """Return ``fields.written_without(names)`` in pieces; quickly if they only grew."""
        behind = fields.items_behind(self._items)
        if behind is None:
            return [fields.written_without(self._names)]
        pieces = [self._written]
        for lower, name, value in behind:
            if lower not in self._names:
                pieces.append(b"%b: %b\r\n" % (name, value))
        return pieces


def _checked(name: bytes, value: bytes) -> FieldItem:
    lower = _lower_name(name)
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of {printable(name)} cannot be sent: {printable(value)}")
    return lower, name, value


@functools.lru_cache(HTTP_FIELD_NAMES_KNOWN_MAX)
def _lower_name(name: bytes) -> bytes:
    """Return a name in lower case.

    Raises:
        ValueError: It is no token, or belongs to the connection.
    """
    lower = name.lower()
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"the field's name is not a token: {printable(name)}")
    if lower in CONNECTION_FIELDS:
        raise ValueError(f"{printable(name)} belongs to the connection: set the message's framing")
    return lower


_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_EDGE: Final = rb"[!-~\x80-\x84\x86-\x9f\xa1-\xff]"
#: Empty, or without white space (or what some read as such) at both ends.
_VALUE: Final = re.compile(rb"(?:" + _EDGE + rb"(?:[\t -~\x80-\xff]*" + _EDGE + rb")?)?")
