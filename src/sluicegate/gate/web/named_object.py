"""What the object in a message is called, and whether there is one.

Held bodies and rules about content ask. The invariant: every name under which a client may store an
object is among its names, so that a rule about extensions sees the one that the user gets.
"""

from __future__ import annotations

from typing import Final

from sluicegate.protocols.http1 import NO_BODY, FieldsView, FramingKind, Request, Response
from sluicegate.protocols.object_names import disposition_names, url_name

__all__ = ["has_body", "names_of"]


def has_body(request: Request, response: Response) -> bool:
    """Tell whether bytes of an object follow a response's head (RFC 9112 section 6.3)."""
    status = response.status
    is_bodiless = status in {_NO_CONTENT, _NOT_MODIFIED} or request.method == b"HEAD"
    framing = response.framing
    if is_bodiless or framing is NO_BODY:
        return False
    return framing.length > 0 or framing.kind is not FramingKind.LENGTH


def names_of(path: bytes, fields: FieldsView) -> tuple[str, ...]:
    """Return the names of an object, printable, the one that browsers prefer first.

    Args:
        path: Of the URL, with or without its query.
        fields: Of the message.
    """
    found: list[str] = []
    for value in fields.all(b"content-disposition"):
        found += disposition_names(value)
    found.append(url_name(path.partition(b"?")[0].decode("ascii", "replace")))
    return tuple(dict.fromkeys(found))


_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
