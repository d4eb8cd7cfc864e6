"""Where a body ends, by its head (RFC 9112 section 6).

Both heads ask it once. The invariant: a body has one length for every reader: two statements about
it, or one that some reader may take otherwise, are refused, also where RFC 9112 would let a
recipient repair them.
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.errors import Side
from sluicegate.protocol_limits import HTTP_LENGTH_DIGITS_MAX
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.field_lines import TOKEN
from sluicegate.protocols.http1.messages import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing
from sluicegate.protocols.text import printable

__all__ = ["has_no_body", "request_framing", "response_framing"]


def request_framing(
    lengths: list[bytes],
    codings: list[bytes],
    *,
    method: bytes,
    is_http_1_1: bool,
    is_lenient: bool,
) -> Framing:
    """Tell how the body of a request ends.

    Args:
        lengths: The values of ``Content-Length``, as received behind the colon.
        codings: The same of ``Transfer-Encoding``.
        method: Some have no body.
        is_http_1_1: Transfer codings began with it.
        is_lenient: Whether GET, HEAD and DELETE may have a body.

    Raises:
        HttpProtocolError: There is not exactly one answer.
    """
    framing = _declared(lengths, codings, Side.CLIENT, is_http_1_1=is_http_1_1)
    if framing is None:
        return NO_BODY
    has_body = framing is CHUNKED or framing.length > 0
    is_bodiless = method == b"TRACE" or (not is_lenient and method in _METHODS_WITHOUT_BODY)
    if method == b"CONNECT" or (has_body and is_bodiless):
        is_chunked = framing is CHUNKED
        fault = HttpFault.CODING_WITHOUT_BODY if is_chunked else HttpFault.LENGTH_WITHOUT_BODY
        raise HttpProtocolError(fault, Side.CLIENT, printable(method))
    return framing


def response_framing(
    lengths: list[bytes], codings: list[bytes], *, status: int, method: bytes, is_http_1_1: bool
) -> Framing:
    """Tell how the body of a response ends, or what is declared of one that is not sent.

    Args:
        lengths: The values of ``Content-Length``, as received behind the colon.
        codings: The same of ``Transfer-Encoding``.
        status: 1xx and 204 have no body and may declare none.
        method: Of the request.
        is_http_1_1: Transfer codings began with it.

    Raises:
        HttpProtocolError: There is not exactly one answer.
    """
    if method == b"CONNECT" and _OK <= status < _MULTIPLE_CHOICES:
        # RFC 9110 section 9.3.6: both are to be ignored here, and some proxies send a length.
        return NO_BODY
    framing = _declared(lengths, codings, Side.SERVER, is_http_1_1=is_http_1_1)
    if status < _OK or status == _NO_CONTENT:
        if framing is CHUNKED:
            raise HttpProtocolError(HttpFault.CODING_WITHOUT_BODY, Side.SERVER, str(status))
        if framing is not None and framing.length:
            raise HttpProtocolError(HttpFault.LENGTH_WITHOUT_BODY, Side.SERVER, str(status))
        return NO_BODY
    if framing is None:
        return NO_BODY if has_no_body(status, method) else UNTIL_CLOSE
    return framing


def has_no_body(status: int, method: bytes) -> bool:
    """Tell whether a response has no body whatever it declares (RFC 9112 section 6.3)."""
    return (
        status < _OK
        or status in {_NO_CONTENT, _NOT_MODIFIED}
        or method == b"HEAD"
        or (method == b"CONNECT" and status < _MULTIPLE_CHOICES)
    )


def _declared(
    lengths: list[bytes], codings: list[bytes], side: Side, *, is_http_1_1: bool
) -> Framing | None:
    if codings:
        if lengths:
            raise HttpProtocolError(HttpFault.LENGTH_AND_CODING, side)
        _check_codings(codings, side)
        if not is_http_1_1:
            raise HttpProtocolError(HttpFault.CODING_IN_1_0, side)
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1:
        raise HttpProtocolError(HttpFault.LENGTH_REPEATED, side)
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise HttpProtocolError(HttpFault.LENGTH_MALFORMED, side)
    return Framing.of_length(int(lengths[0]))


def _check_codings(values: list[bytes], side: Side) -> None:
    if len(values) == 1 and _CHUNKED.fullmatch(values[0]) is not None:
        return
    codings = [part.strip(b" \t").lower() for part in b",".join(values).split(b",")]
    if not all(TOKEN.fullmatch(coding) for coding in codings) or codings == [b"chunked"]:
        raise HttpProtocolError(HttpFault.CODING_MALFORMED, side)
    if b"chunked" in codings[:-1]:
        raise HttpProtocolError(HttpFault.CODING_REPEATED, side)
    raise HttpProtocolError(HttpFault.CODING_UNKNOWN, side, printable(codings[0][:40]))


#: No sign, no leading zero, which some read as octal; one space before it, or none.
_LENGTH: Final = re.compile(rb" ?(?:0|[1-9][0-9]{0,%d})" % (HTTP_LENGTH_DIGITS_MAX - 1))
_CHUNKED: Final = re.compile(rb" ?chunked", re.IGNORECASE)
_METHODS_WITHOUT_BODY: Final = frozenset({b"GET", b"HEAD", b"DELETE"})
_OK: Final = 200
_NO_CONTENT: Final = 204
_MULTIPLE_CHOICES: Final = 300
_NOT_MODIFIED: Final = 304
