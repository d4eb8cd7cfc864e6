"""The fields of an HTTP message as web filters read and change them: text, strict, in order.

``web_messages`` makes one for each message; below it are the ``Fields`` of the codec. The
invariant: whatever a filter does here, the message stays one message: what frames it, routes it or
belongs to one connection is the gate's, and names and values that could not be sent are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final

from typing_extensions import override

from sluicegate.errors import BadContext
from sluicegate.protocol_limits import HTTP_FIELD_NAMES_KNOWN_MAX
from sluicegate.protocols.http1 import Fields
from sluicegate.protocols.http1.fields import CONNECTION_FIELDS

__all__ = ["KEPT_BY_GATE", "Headers"]

KEPT_BY_GATE: Final = CONNECTION_FIELDS | {
    b"content-range",
    b"expect",
    b"host",
    b"max-forwards",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"proxy-status",
    b"trailer",
}
"""What no filter sets or removes: it frames the message, says where it goes, or is between two
neighbours (RFC 9110 section 7.6.1). ``Host`` is what was judged: another server is chosen by
``on_route``, and judged, too."""


class Headers:
    """Header fields, in any letter case; values are text, one character for each byte.

    They can be changed while the message's head is the filter's to judge.
    """

    __slots__ = ("_fields", "is_open")

    def __init__(self, fields: Fields | None = None, *, is_open: bool = True) -> None:
        self._fields = Fields() if fields is None else fields
        self.is_open = is_open
        #: Whether a filter may change them; the gate alone sets it.

    def first(self, name: str) -> str | None:
        """Return the first value of a name; None if there is none."""
        value = self._fields.first(_known_name(name))
        return None if value is None else value.decode("latin-1")

    def all(self, name: str) -> list[str]:
        """Return every value of a name, in their order."""
        return [value.decode("latin-1") for value in self._fields.all(_known_name(name))]

    def tokens(self, name: str) -> list[str]:
        """Return the elements of all values of a name, separated by commas, in lower case.

        For lists of tokens (``Content-Encoding``, ``Vary``), which have no quoted strings.
        """
        joined = b",".join(self._fields.all(_known_name(name))).decode("latin-1").lower()
        return [token for part in joined.split(",") if (token := part.strip(" \t"))]

    def items(self) -> list[tuple[str, str]]:
        """Return names, as they are written, and values, in their order."""
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._fields.items()
        ]

    def written(self) -> bytes:
        """Return the fields as they are sent, each with its line end; for searching in them."""
        return self._fields.written()

    def add(self, name: str, value: str) -> None:
        """Put a field behind the others.

        Raises:
            ValueError: The name is no token or the gate's (``KEPT_BY_GATE``), or the value cannot
                be sent.
            BadContext: The head has gone.
        """
        self._fields.add(self._own(name), _encoded(value))

    def set(self, name: str, value: str) -> None:
        """Give a name this one value, in the place of its first one, or behind the others.

        Raises:
            ValueError: As for ``add``.
            BadContext: The head has gone.
        """
        self._fields.set(self._own(name), _encoded(value))

    def remove(self, *names: str) -> int:
        """Take every field of these names out; return how many there were.

        Raises:
            ValueError: One of them is the gate's.
            BadContext: The head has gone.
        """
        return self._fields.remove(*[self._own(name) for name in names])

    def show(self, fields: Fields) -> None:
        """Stand for other fields from here on; the gate's own call."""
        self._fields = fields

    def open(self) -> None:
        """Let a filter change them; the gate's own call."""
        self.is_open = True

    def close(self) -> None:
        """Take the right to change them away: the head goes on; the gate's own call."""
        self.is_open = False

    def _own(self, name: str) -> bytes:
        if not self.is_open:
            raise BadContext("the head has gone: headers are changed in the hook about the head")
        return _own_name(name)

    def __contains__(self, name: str) -> bool:
        return _known_name(name) in self._fields

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.items())

    def __len__(self) -> int:
        return len(self._fields)

    @override
    def __repr__(self) -> str:
        """Show the names; values may be secrets."""
        return f"Headers({', '.join(name for name, _ in self.items())})"


def _encoded(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("header fields have no characters above U+00FF: encode them") from None


#: The same for names, of which filters have few.
_known_name: Final = functools.lru_cache(HTTP_FIELD_NAMES_KNOWN_MAX)(_encoded)


@functools.lru_cache(HTTP_FIELD_NAMES_KNOWN_MAX)
def _own_name(name: str) -> bytes:
    encoded = _encoded(name)
    if encoded.lower() in KEPT_BY_GATE:
        raise ValueError(f"{name} is the gate's: it frames or routes the message")
    return encoded
