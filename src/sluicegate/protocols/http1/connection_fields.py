"""What a message says about its connection alone: ``Connection`` and all that it names.

Both heads hand their fields to it. The invariant: what it takes out of a message never reaches the
other side, and what it may not take out, because it frames, routes or authorizes a message, it
refuses to: naming ``Content-Length`` or ``Authorization`` in ``Connection`` is an attack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluicegate.errors import Side
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.field_lines import TOKEN, list_elements
from sluicegate.protocols.http1.fields import FieldItem
from sluicegate.protocols.text import printable

__all__ = ["PROTECTED_FIELDS", "ConnectionOptions", "upgrade_protocols"]

PROTECTED_FIELDS: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"age", b"allow", b"authorization", b"cache-control",
        b"content-disposition", b"content-encoding", b"content-language", b"content-length",
        b"content-location", b"content-range", b"content-security-policy", b"content-type",
        b"cookie", b"date", b"etag", b"expect", b"expires", b"forwarded", b"from", b"host",
        b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since",
        b"last-modified", b"location", b"max-forwards", b"origin", b"pragma", b"range", b"referer",
        b"retry-after", b"server", b"set-cookie", b"strict-transport-security",
        b"transfer-encoding", b"user-agent", b"vary", b"via", b"www-authenticate",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
    }
)  # fmt: skip
"""End-to-end fields that RFC 9110 section 7.6.1 forbids to name in ``Connection``, and those by
which a peer learns who asks: whoever removes them changes what the message means."""


class ConnectionOptions:
    """The options of one message's ``Connection`` fields; immutable."""

    __slots__ = ("_named", "_options")

    def __init__(self, options: Iterable[bytes] = ()) -> None:
        self._options = frozenset(options)
        self._named = self._options - _WORDS

    @classmethod
    def read(cls, values: list[bytes] | None, side: Side) -> ConnectionOptions:
        """Read the values of all ``Connection`` fields.

        Raises:
            HttpProtocolError: It is no list of tokens, or names a protected field.
        """
        if values is None:
            return _NONE
        usual = _USUAL.get(values[0].lower()) if len(values) == 1 else None
        if usual is not None:
            return usual
        options = list_elements(values)
        if options is None:
            raise HttpProtocolError(HttpFault.CONNECTION, side)
        named = PROTECTED_FIELDS.intersection(options)
        if named:
            shown = printable(min(named))
            raise HttpProtocolError(HttpFault.CONNECTION_PROTECTED, side, shown)
        return cls(options)

    @property
    def has_upgrade(self) -> bool:
        """Whether ``Upgrade`` is meant for this connection."""
        return b"upgrade" in self._options

    def wants_close(self, *, is_http_1_1: bool) -> bool:
        """Tell whether the sender ends the connection behind this message (RFC 9112, 9.3)."""
        if b"close" in self._options:
            return True
        return not is_http_1_1 and b"keep-alive" not in self._options

    def split(self, items: list[FieldItem]) -> tuple[list[FieldItem], list[tuple[bytes, bytes]]]:
        """Part fields into those that go on and those that were named here."""
        named = self._named
        if not named:
            return items, []
        going = [item for item in items if item[0] not in named]
        return going, [(item[1], item[2]) for item in items if item[0] in named]


def upgrade_protocols(values: list[bytes], side: Side) -> tuple[bytes, ...]:
    """Read ``Upgrade`` fields: ``name`` or ``name/version``, separated by commas.

    Raises:
        HttpProtocolError: It is anything else.
    """
    protocols: list[bytes] = []
    for element in b",".join(values).split(b","):
        protocol = element.strip(b" \t")
        name, slash, version = protocol.partition(b"/")
        is_good = TOKEN.fullmatch(name) and (not slash or TOKEN.fullmatch(version))
        if not is_good:
            raise HttpProtocolError(HttpFault.UPGRADE, side)
        protocols.append(protocol)
    return tuple(protocols)


#: Options that are no names of fields which could be there.
_WORDS: Final = frozenset({b"close", b"keep-alive", b"te", b"upgrade"})
_NONE: Final = ConnectionOptions()
_USUAL: Final = {word: ConnectionOptions({word}) for word in (b"close", b"keep-alive")}
