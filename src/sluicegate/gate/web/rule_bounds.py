"""How large the requests and responses of one rule may be: URL, head and bodies.

Exchanges whose rule has such limits ask here; the gate's own (``web_limits``) were kept by the
parsers before. The invariant: a size is the same in every version of HTTP, and a limit that is
passed names its rule.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sluicegate.errors import LimitExceeded
from sluicegate.policy import AnyRule
from sluicegate.protocols.http1 import Request, Response

__all__ = ["Passed", "passed_by_bodies", "passed_by_request", "passed_by_response"]


class Passed(NamedTuple):
    """A limit that is passed, and the status that says so (RFC 9110 section 15, RFC 6585)."""

    status: int
    limit: LimitExceeded


def passed_by_request(rule: AnyRule, request: Request, scheme: str) -> Passed | None:
    """Return the limit that a request passes by its head, or by the length that it says."""
    limits = rule.limits
    url = _url_bytes(request, scheme)
    return (
        _passed(rule, _URI_TOO_LONG, "url_bytes_max", limits.url_bytes_max, url)
        or _passed(
            rule,
            _FIELDS_TOO_LARGE,
            "head_bytes_max",
            limits.head_bytes_max,
            _head_bytes(request, url),
        )
        or passed_by_bodies(rule, request.framing.length, 0)
    )


def passed_by_response(rule: AnyRule, request: Request, response: Response) -> Passed | None:
    """Return the limit that a response passes by the length that it says.

    What says the length of a body that it has not (RFC 9110 section 8.6) passes none.
    """
    if request.method == b"HEAD" or response.status == _NOT_MODIFIED:
        return None
    return passed_by_bodies(rule, 0, response.framing.length)


def passed_by_bodies(rule: AnyRule, to_server: int, to_client: int) -> Passed | None:
    """Return the limit that so many bytes of bodies pass."""
    limits = rule.limits
    return _passed(
        rule, _CONTENT_TOO_LARGE, "request_bytes_max", limits.request_bytes_max, to_server
    ) or _passed(rule, _BAD_GATEWAY, "response_bytes_max", limits.response_bytes_max, to_client)


def _passed(rule: AnyRule, status: int, name: str, bound: int | None, size: int) -> Passed | None:
    if bound is None or size <= bound:
        return None
    return Passed(status, LimitExceeded(f"rule {rule.name} {name}", bound))


def _url_bytes(request: Request, scheme: str) -> int:
    host = b"" if request.authority is None else bytes(request.authority)
    return len(scheme) + len("://") + len(host) + len(request.target.path)


def _head_bytes(request: Request, url: int) -> int:
    """Return the size of a head as a client of HTTP/1 writes it to a proxy, without its framing."""
    line = len(request.method) + url + len("  HTTP/1.1\r\n")
    fields = sum(len(name) + len(value) + _AROUND_FIELD for name, value in request.fields)
    ours = sum(len(name) + len(value) + _AROUND_FIELD for name, value in request.hop_fields)
    return line + fields + ours + len("\r\n")


_AROUND_FIELD: Final = len(": \r\n")
_CONTENT_TOO_LARGE: Final = 413
_URI_TOO_LONG: Final = 414
_FIELDS_TOO_LARGE: Final = 431
_BAD_GATEWAY: Final = 502
_NOT_MODIFIED: Final = 304
