"""What an intermediary does to a message that it passes on (RFC 9110 sections 7.6 and 7.8).

The proxy calls it between its two ends. The invariant: each function returns a message of its own;
the one that was received stays as it was, for records.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sluicegate.protocols.http1.field_lines import TOKEN
from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.messages import Request, Response

__all__ = ["NOT_PASSED", "forwards_left", "has_passed", "to_client", "to_server"]


def to_server(request: Request, pseudonym: bytes, *, upgrades: Collection[bytes] = ()) -> Request:
    """Return a request as it goes on: in origin form, with Via, with one forward less.

    Args:
        request: As received; whoever forwards TRACE or OPTIONS asks ``forwards_left`` first.
        pseudonym: The name of this gate in ``Via``.
        upgrades: Protocols, in lower case, whose offers may pass; all others are left out.
    """
    fields = _with_via(request, pseudonym)
    left = forwards_left(request)
    if left is not None:
        fields.set(b"Max-Forwards", b"%d" % max(0, left - 1))
    if request.authority is not None:
        # An absolute target replaces Host, and HTTP/1.0 may lack it (RFC 9112 section 3.2.2).
        _set_host(fields, bytes(request.authority), is_absolute=bool(request.target.scheme))
    return Request(
        request.method,
        request.target.as_origin(),
        fields,
        request.framing,
        request.authority,
        expects_continue=request.expects_continue,
        upgrade=tuple([p for p in request.upgrade if p.lower() in upgrades]),
        accepts_trailers=request.accepts_trailers,
    )


def to_client(response: Response, pseudonym: bytes) -> Response:
    """Return a response as it goes on, with Via."""
    fields = _with_via(response, pseudonym)
    return Response(
        response.status, response.reason, fields, response.framing, upgrade=response.upgrade
    )


def forwards_left(request: Request) -> int | None:
    """Return how often TRACE or OPTIONS may still be forwarded; 0: answer it, None: no limit."""
    if request.method not in _COUNTED:
        return None
    value = request.fields.first(b"max-forwards")
    return int(value) if value is not None else None


def has_passed(fields: Fields, pseudonym: bytes) -> bool:
    """Tell whether a message has passed this gate before: it is going round in a circle."""
    for value in fields.all(b"via"):
        for element in value.split(b","):
            parts = element.split()
            if len(parts) > 1 and parts[1].lower() == pseudonym.lower():
                return True
    return False


def _with_via(received: Request | Response, pseudonym: bytes) -> Fields:
    """Return a message's fields with the version that said it, and to whom (section 7.6.3)."""
    if TOKEN.fullmatch(pseudonym) is None:
        raise ValueError("the pseudonym of Via is a token")
    fields = received.fields.copy()
    by_http_1 = b"1.1 " if received.is_http_1_1 else b"1.0 "
    fields.add(b"Via", (b"2.0 " if received.came_by_http_2 else by_http_1) + pseudonym)
    return fields


def _set_host(fields: Fields, host: bytes, *, is_absolute: bool) -> None:
    if is_absolute or b"host" not in fields:
        had_none = b"host" not in fields
        fields.set(b"Host", host)
        if had_none:
            fields.move_first(b"host")


NOT_PASSED: Final = (b"Proxy-Authenticate", b"Proxy-Authentication-Info", b"Alt-Svc")
"""What no client is told: the first two are between this proxy and one behind it; Alt-Svc leads
clients to HTTP/3, which does not pass a proxy."""

_COUNTED: Final = frozenset({b"TRACE", b"OPTIONS"})
