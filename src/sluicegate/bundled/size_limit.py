"""Size limit: how large requests and responses of a rule may be, as they travel.

A web filter. The invariant: a size that is declared is judged before a byte passes; one that is not
is counted, and the message is broken off, never cut short so that it looks whole.
"""

from __future__ import annotations

from pydantic import Field
from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    GO_ON,
    SKIP_BODY,
    ChunkVerdict,
    HeadVerdict,
    Need,
    Needs,
    RefuseWith,
    WebExchange,
    WebFilter,
    Window,
)

from .settings import FilterSettings

__all__ = ["SizeLimit", "SizeLimitSettings"]


class SizeLimitSettings(FilterSettings):
    """``[filter.settings]`` of ``size_limit``, and what a rule says to it."""

    request_body_bytes_max: int | None = Field(default=None, ge=0, examples=[10_485_760])
    """The largest body of a request; left out, any."""
    response_body_bytes_max: int | None = Field(default=None, ge=0, examples=[1_073_741_824])
    """The largest body of a response; left out, any."""
    request_headers_bytes_max: int | None = Field(default=None, ge=64, le=65536)
    """The largest URL and headers of a request together."""
    response_headers_bytes_max: int | None = Field(default=None, ge=64, le=65536)
    """The largest headers of a response."""


class SizeLimit(WebFilter):
    """Measures."""

    name = "size_limit"
    Settings = SizeLimitSettings
    RuleSettings = SizeLimitSettings

    def __init__(self, settings: SizeLimitSettings | None = None) -> None:
        self.settings = settings = settings or SizeLimitSettings()
        self.needs = Needs(
            request=_need(settings.request_body_bytes_max),
            response=_need(settings.response_body_bytes_max),
            is_decoded=False,
        )

    @override
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        exchange.state = 0
        request, settings = exchange.request, self.settings
        size = len(request.target) + len(request.headers.written())
        if _is_above(size, settings.request_headers_bytes_max):
            return RefuseWith("the request's headers are too large", _FIELDS_TOO_LARGE)
        length = request.body_length
        if length is None:
            return GO_ON
        if _is_above(length, settings.request_body_bytes_max):
            return _REQUEST_TOO_LARGE
        return SKIP_BODY

    @override
    def on_request_chunk(self, exchange: WebExchange, chunk: Window, is_last: bool) -> ChunkVerdict:
        exchange.state += len(chunk)
        is_above = _is_above(exchange.state, self.settings.request_body_bytes_max)
        return _REQUEST_TOO_LARGE if is_above else FORWARD

    @override
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        exchange.state = 0
        response, settings = exchange.response, self.settings
        assert response is not None, "a response has a head"
        size = len(response.headers.written())
        if _is_above(size, settings.response_headers_bytes_max):
            return RefuseWith("the response's headers are too large", _BAD_GATEWAY)
        length = response.body_length
        if length is None:
            return GO_ON
        if _is_above(length, settings.response_body_bytes_max):
            return _RESPONSE_TOO_LARGE
        return SKIP_BODY

    @override
    def on_response_chunk(
        self, exchange: WebExchange, chunk: Window, is_last: bool
    ) -> ChunkVerdict:
        exchange.state += len(chunk)
        is_above = _is_above(exchange.state, self.settings.response_body_bytes_max)
        return _RESPONSE_TOO_LARGE if is_above else FORWARD


def _need(bound: int | None) -> Need:
    return Need.HEADERS if bound is None else Need.STREAM


def _is_above(size: int, bound: int | None) -> bool:
    return bound is not None and size > bound


_FIELDS_TOO_LARGE = 431
_BAD_GATEWAY = 502
_REQUEST_TOO_LARGE = RefuseWith("the request's body is too large", 413)
_RESPONSE_TOO_LARGE = RefuseWith("the response's body is too large", 403)
