"""The head of a response in HTTP/2, read from servers and written for clients.

``Http2Client`` reads with it, ``Http2Server`` writes with it. The invariant: a response that is
handed out answers its request's method, and can be sent on in HTTP/1 without another check (RFC
9113 section 8.3.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.forwarding import NOT_PASSED, to_client
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http1.known_heads import KnownResponse
from sluicegate.protocols.http1.messages import (
    CHUNKED,
    NO_BODY,
    Framing,
    FramingKind,
    Response,
)
from sluicegate.protocols.http1.reasons import reason_of
from sluicegate.protocols.text import printable

from .fault import Http2Fault, StreamFault
from .field_lists import KnownLists, RawField, read_length

__all__ = ["read_response", "response_fields", "whole_fields"]


def read_response(
    fields: Sequence[RawField], known: KnownLists, method: bytes, *, is_whole: bool
) -> Response:
    """Read a head.

    Args:
        fields: As they were decompressed.
        known: Readings of lists that came before, and the bounds.
        method: Of the request.
        is_whole: Whether no body follows.

    Raises:
        StreamFault: It is malformed.
    """
    if not fields or fields[0][0] != b":status":
        name = fields[0][0] if fields else b""
        is_pseudo = name.startswith(b":")
        fault = Http2Fault.PSEUDO_UNKNOWN if is_pseudo else Http2Fault.PSEUDO_MISSING
        raise StreamFault(fault, printable(name[:40]) if is_pseudo else ":status")
    digits = fields[0][1]
    if _STATUS.fullmatch(digits) is None:
        raise StreamFault(Http2Fault.STATUS, printable(digits[:40]))
    status = int(digits)
    if status == _SWITCHING_PROTOCOLS:
        raise StreamFault(Http2Fault.STATUS_101)
    if len(fields) > 1 and fields[1][0].startswith(b":"):
        is_twice = fields[1][0] == b":status"
        fault = Http2Fault.PSEUDO_REPEATED if is_twice else Http2Fault.PSEUDO_UNKNOWN
        raise StreamFault(fault, printable(fields[1][0][:40]))
    if status < _OK and is_whole:
        raise StreamFault(Http2Fault.INFORMATIONAL_END, digits.decode())
    facts = known.read(fields[1:])
    length = read_length(facts)
    items = [item for item in facts.items if item[0] != b"expect"]
    items += [(b"host", b"host", value) for value in facts.hosts]
    return Response(
        status,
        reason_of(status),
        Fields.from_checked(items),
        _framing(status, method, length, is_whole=is_whole),
        hop_fields=facts.hop_fields,
        came_by_http_2=True,
    )


def _framing(status: int, method: bytes, length: int, *, is_whole: bool) -> Framing:
    if status < _OK or status == _NO_CONTENT or (method == b"CONNECT" and status < _REDIRECTED):
        if length > 0 and method != b"CONNECT":
            raise StreamFault(Http2Fault.LENGTH_WITHOUT_BODY, str(status))
        return NO_BODY
    if has_no_body(status, method):
        # What is declared of a body that is not sent.
        return NO_BODY if length < 0 else Framing.of_length(length)
    if is_whole:
        if length > 0:
            raise StreamFault(Http2Fault.LENGTH_WRONG, "nothing follows")
        return Framing.of_length(0)
    return CHUNKED if length < 0 else Framing.of_length(length)


def whole_fields(known: KnownResponse, changed: Fields | None, pseudonym: bytes) -> list[RawField]:
    """Return a known head as it is sent to a client.

    Args:
        known: It has a body, of a known length.
        changed: What was made of its fields; None: nothing was.
        pseudonym: The name of this gate in ``Via``.
    """
    if changed is not None:
        response = known.response
        going = Response(response.status, b"", changed, response.framing, response.is_http_1_1)
        return _going_fields(going, pseudonym)
    found = known.listed.get(pseudonym)
    if found is None:
        found = known.listed[pseudonym] = _going_fields(known.response, pseudonym)
    return found


def _going_fields(response: Response, pseudonym: bytes) -> list[RawField]:
    going = to_client(response, pseudonym)
    going.fields.remove(*NOT_PASSED)
    return response_fields(going, b"GET")


def response_fields(response: Response, method: bytes) -> list[RawField]:
    """Return a response's head as it is sent to a client."""
    status = response.status
    fields: list[RawField] = [(b":status", b"%d" % status)]
    fields += [(lower, value) for lower, _, value in response.fields.checked_items()]
    framing = response.framing
    if framing.kind is FramingKind.LENGTH and status >= _OK and status != _NO_CONTENT:
        if not (method == b"CONNECT" and status < _REDIRECTED):
            fields.append((b"content-length", b"%d" % framing.length))
    elif framing is NO_BODY and not has_no_body(status, method):
        fields.append((b"content-length", b"0"))
    return fields


_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200
_NO_CONTENT: Final = 204
_REDIRECTED: Final = 300
