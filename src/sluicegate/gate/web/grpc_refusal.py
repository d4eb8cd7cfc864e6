"""Refusals as clients of gRPC read them: a status in the head of an answer without messages.

``answering`` uses it in the place of a page where a request is one of gRPC, whose libraries would
make "unknown" of most statuses of HTTP and throw the page away. The invariant: what it says is the
same as on the page, in one line, and never a success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.protocols.http1 import NO_BODY, Fields, Response

if TYPE_CHECKING:
    from sluicegate.protocols.http1 import Request

    from .refusal_page import Refusal

__all__ = ["grpc_refusal", "is_grpc"]


def is_grpc(request: Request) -> bool:
    """Tell whether a request is a call of gRPC (its protocol over HTTP/2, section "Requests")."""
    found = request.fields.first(b"content-type")
    if found is None:
        return False
    essence = found.partition(b";")[0].strip(b" \t").lower()
    return essence == _GRPC or essence.startswith(_GRPC + b"+")


def grpc_refusal(refusal: Refusal, *, is_verdict: bool) -> Response:
    """Return the answer to a call that is refused, which ends with its head ("Trailers-Only").

    Args:
        refusal: What there is to say.
        is_verdict: Whether the gate has decided so, and trying again would change nothing.
    """
    words = f"{refusal.reason} (record {refusal.record})"
    if refusal.rule:
        words = f"{refusal.reason} (rule {refusal.rule}, record {refusal.record})"
    code = _CODES.get(refusal.status, _UNKNOWN)
    if refusal.reason.startswith(_LIMITS) or refusal.status in _TOO_LARGE:
        code = _RESOURCE_EXHAUSTED
    elif is_verdict and code == _UNAVAILABLE:
        code = _FAILED_PRECONDITION
    fields = Fields(
        [
            (b"Content-Type", _GRPC),
            (b"Cache-Control", b"no-store"),
            (b"Grpc-Status", b"%d" % code),
            (b"Grpc-Message", _written(words[:_WORDS_MAX])),
        ]
    )
    return Response(200, fields=fields, framing=NO_BODY)


def _written(words: str) -> bytes:
    """Return text as ``grpc-message`` has it: printable ASCII, the rest percent-encoded."""
    data = words.encode()
    return b"".join(
        b"%c" % one if _SPACE <= one <= _TILDE and one != _PERCENT else b"%%%02X" % one
        for one in data
    )


_GRPC: Final = b"application/grpc"
_WORDS_MAX: Final = 300
_SPACE, _PERCENT, _TILDE = b" %~"
_UNKNOWN: Final = 2
_RESOURCE_EXHAUSTED: Final = 8
_FAILED_PRECONDITION: Final = 9
_UNAVAILABLE: Final = 14
_LIMITS: Final = ("limit ", "larger than ")
_TOO_LARGE: Final = frozenset({413, 431})
#: "HTTP to gRPC Status Code Mapping"; what may be tried again is UNAVAILABLE (14).
_CODES: Final = {400: 13, 401: 16, 403: 7, 404: 12, 407: 16, 429: 14, 502: 14, 503: 14, 504: 14}
