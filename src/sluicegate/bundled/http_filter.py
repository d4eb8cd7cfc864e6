"""The HTTP filter: what requests and responses of a rule may be made of.

A web filter, with the knobs of the model's (Forefront TMG's) HTTP filter, set per rule. The
invariant: what is refused is refused before its receiver has any byte of the part that is searched,
except where it waits for every piece of a stream; and no refusal tells the client what it sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal
from urllib.parse import unquote_to_bytes

from pydantic import Field, StringConstraints
from typing_extensions import override

from sluicegate.filterapi import (
    GO_ON,
    LEAVE,
    SKIP_BODY,
    ChunkVerdict,
    Forward,
    GoOn,
    Headers,
    HeadVerdict,
    Need,
    Needs,
    Refuse,
    RefuseWith,
    WebExchange,
    WebFilter,
    WebRequest,
    WebResponse,
    Window,
)

from .http_signatures import BodyScan, Executables, Signature
from .settings import FilterSettings

__all__ = ["HttpFilter", "HttpFilterSettings"]

Method = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z-]{0,31}$")]
Extension = Annotated[str, StringConstraints(pattern=r"^\.[a-z0-9_~-]{1,32}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$")]
Choice = Literal["refuse", "pass"]


class HttpFilterSettings(FilterSettings):
    """``[filter.settings]`` of ``http_filter``, and what a rule says to it."""

    methods_allowed: tuple[Method, ...] = Field(default=(), examples=[["GET", "HEAD", "POST"]])
    """The only methods that pass; empty allows all that are not denied."""
    methods_denied: tuple[Method, ...] = Field(default=(), examples=[["DELETE", "PUT"]])
    """Methods that do not pass."""
    extensions_allowed: tuple[Extension, ...] = Field(default=(), examples=[[".html", ".css"]])
    """The only extensions of paths that pass; a path without one passes. Empty allows all that are
    not denied."""
    extensions_denied: tuple[Extension, ...] = Field(default=(), examples=[[".exe", ".dll"]])
    """Extensions of paths that do not pass."""
    ambiguous_extensions: Choice = "pass"
    """What becomes of a path in which another part than the last has an extension
    (``/a.exe/b``): some servers take it for that file's."""
    request_headers_denied: tuple[HeaderName, ...] = Field(
        default=(), examples=[["X-Original-URL"]]
    )
    """Headers that no request may have."""
    response_headers_denied: tuple[HeaderName, ...] = Field(default=(), examples=[["X-Debug"]])
    """Headers that no response may have."""
    server_header: str | None = Field(
        default=None, pattern=r"^(?:[!-~](?:[ -~]*[!-~])?)?$", examples=["web"]
    )
    """What responses say in ``Server``; an empty text takes it out. Left out, it stays."""
    signatures: tuple[Signature, ...] = Field(
        default=(), examples=[[{"name": "traversal", "place": "url", "text": "../"}]]
    )
    """What must not be in URLs, headers or bodies."""
    executables: Executables = "pass"
    """Which executables no response may begin with: ``windows`` (PE and DOS) or ``all`` (ELF and
    Mach-O, too). ``exe_block`` looks into archives as well."""
    normalization: Choice = "refuse"
    """What becomes of a URL that changes when it is decoded a second time: a filter in front of a
    server that decodes twice sees another URL than the server."""
    high_bit: Choice = "pass"
    """What becomes of a URL with bytes beyond ASCII, encoded or not."""
    url_bytes_max: int = Field(default=8192, ge=1, le=65536)
    """The longest path and query, in bytes, as written."""
    query_bytes_max: int = Field(default=8192, ge=0, le=65536)
    """The longest query, in bytes."""
    headers_bytes_max: int = Field(default=32768, ge=64, le=65536)
    """The largest URL and headers of a request together, in bytes."""
    body_bytes_max: int | None = Field(default=None, ge=0)
    """The largest body of a request, in bytes, without its content coding; left out, any."""

    def body_signatures(self, place: str) -> tuple[Signature, ...]:
        """Return the signatures about bodies of requests or of responses."""
        return tuple(one for one in self.signatures if one.place == place)


class HttpFilter(WebFilter):
    """Holds messages to what the settings allow."""

    name = "http_filter"
    Settings = HttpFilterSettings
    RuleSettings = HttpFilterSettings

    def __init__(self, settings: HttpFilterSettings | None = None) -> None:
        self.settings = settings or HttpFilterSettings()
        self._in_requests = self.settings.body_signatures("request-body")
        self._in_responses = self.settings.body_signatures("response-body")
        reads_requests = bool(self._in_requests) or self.settings.body_bytes_max is not None
        reads_responses = bool(self._in_responses) or self.settings.executables != "pass"
        self.needs = Needs(
            request=Need.STREAM if reads_requests else Need.HEADERS,
            response=Need.STREAM if reads_responses else Need.HEADERS,
        )

    @override
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        for find in _OBJECTIONS:
            objection = find(self.settings, exchange.request)
            if objection is not None:
                return objection
        if self.needs.request is Need.HEADERS:
            return GO_ON
        length, bound = exchange.request.body_length, self.settings.body_bytes_max
        if length is not None and bound is not None and length > bound:
            return _TOO_LARGE
        exchange.state = _Body(BodyScan(self._in_requests, "pass", is_stream=False))
        return GO_ON

    @override
    def on_request_chunk(self, exchange: WebExchange, chunk: Window, is_last: bool) -> ChunkVerdict:
        body: _Body = exchange.state
        bound = self.settings.body_bytes_max
        if bound is not None and body.passed + len(chunk) > bound:
            return _TOO_LARGE
        return _judge(body, chunk, is_last=is_last, may_leave=bound is None)

    @override
    def on_interim(self, exchange: WebExchange, interim: WebResponse) -> GoOn | Refuse:
        del exchange
        return self._judge_head(interim) or GO_ON

    def _judge_head(self, response: WebResponse) -> Refuse | None:
        """Judge the headers of a response, and put ``Server`` right."""
        settings = self.settings
        objection = _header_objection(
            settings, response.headers, settings.response_headers_denied, "response-header"
        )
        if objection is None and settings.server_header is not None:
            if not settings.server_header:
                response.headers.remove("Server")
            elif response.status >= _FINAL or response.headers.first("Server") is not None:
                response.headers.set("Server", settings.server_header)
        return objection

    @override
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        response = exchange.response
        assert response is not None, "a response has a head"
        settings = self.settings
        objection = self._judge_head(response)
        if objection is not None:
            return objection
        if self.needs.response is Need.HEADERS:
            return GO_ON
        is_stream = response.content_type in _STREAMS
        scan = BodyScan(self._in_responses, settings.executables, is_stream=is_stream)
        if scan.is_done:
            return SKIP_BODY
        exchange.state = _Body(scan)
        return GoOn(Need.STREAM)

    @override
    def on_response_chunk(
        self, exchange: WebExchange, chunk: Window, is_last: bool
    ) -> ChunkVerdict:
        return _judge(exchange.state, chunk, is_last=is_last, may_leave=True)


class _Body:
    """One body, as far as it has come."""

    __slots__ = ("passed", "scan")

    def __init__(self, scan: BodyScan) -> None:
        self.scan = scan
        self.passed = 0
        #: Bytes that have gone on.


def _judge(body: _Body, chunk: Window, *, is_last: bool, may_leave: bool) -> ChunkVerdict:
    found = body.scan.judge(bytes(chunk), is_last=is_last)
    if isinstance(found, str):
        return RefuseWith(f"the HTTP filter found {found!r} in the body")
    body.passed += found
    if may_leave and body.scan.is_done:
        return LEAVE
    return Forward(found)


def _size_objection(settings: HttpFilterSettings, request: WebRequest) -> RefuseWith | None:
    if len(request.target) > settings.url_bytes_max:
        return RefuseWith("the URL is longer than the HTTP filter allows", _URI_TOO_LONG)
    if len(request.query) > settings.query_bytes_max:
        return RefuseWith("the query is longer than the HTTP filter allows", _URI_TOO_LONG)
    if len(request.target) + len(request.headers.written()) > settings.headers_bytes_max:
        return RefuseWith("the headers are larger than the HTTP filter allows", _FIELDS_TOO_LARGE)
    return None


def _method_objection(settings: HttpFilterSettings, request: WebRequest) -> RefuseWith | None:
    allowed, method = settings.methods_allowed, request.method
    if method in settings.methods_denied or (allowed and method not in allowed):
        return RefuseWith("the method is not allowed by the HTTP filter", 405, method)
    return None


def _url_objection(settings: HttpFilterSettings, request: WebRequest) -> RefuseWith | None:
    written = request.target.encode("latin-1")
    once = unquote_to_bytes(written)
    if settings.normalization == "refuse" and unquote_to_bytes(once) != once:
        return RefuseWith("the URL changes when it is decoded twice", detail=request.target)
    if settings.high_bit == "refuse" and not once.isascii():
        return RefuseWith("the URL has bytes beyond ASCII", detail=request.target)
    for signature in settings.signatures:
        if signature.place == "url" and (signature.is_in(written) or signature.is_in(once)):
            reason = f"the HTTP filter found {signature.name!r} in the URL"
            return RefuseWith(reason, detail=request.target)
    return None


def _extension_objection(settings: HttpFilterSettings, request: WebRequest) -> RefuseWith | None:
    *others, last = _extensions(request.path)
    if settings.ambiguous_extensions == "refuse" and any(others):
        reason = "the path has more than one part with an extension"
        return RefuseWith(reason, detail=request.path)
    allowed = settings.extensions_allowed
    if last in settings.extensions_denied or (last and allowed and last not in allowed):
        return RefuseWith("the extension is not allowed by the HTTP filter", detail=request.path)
    return None


def _extensions(path: str) -> Iterator[str]:
    """Yield the extension of each part of a path, empty where it has none.

    Parameters (``;v=1``), and what Windows ignores behind a name (dots and spaces, ``::$DATA``), do
    not hide one.
    """
    for part in unquote_to_bytes(path).decode("utf-8", "replace").replace("\\", "/").split("/"):
        name = part.partition(";")[0].partition(":")[0].partition("\0")[0].rstrip(". ")
        stem, dot, extension = name.rpartition(".")
        yield f".{extension.lower()}" if dot and (stem or extension) else ""


def _request_header_objection(
    settings: HttpFilterSettings, request: WebRequest
) -> RefuseWith | None:
    return _header_objection(
        settings, request.headers, settings.request_headers_denied, "request-header"
    )


def _header_objection(
    settings: HttpFilterSettings, headers: Headers, denied: tuple[str, ...], place: str
) -> RefuseWith | None:
    for name in denied:
        if name in headers:
            return RefuseWith(f"the HTTP filter does not allow the header {name}")
    for signature in settings.signatures:
        if signature.place != place:
            continue
        values = headers.all(signature.header) if signature.header else ()
        searched = [value.encode("latin-1") for value in values]
        if not signature.header:
            searched = [headers.written()]
        if any(signature.is_in(one) for one in searched):
            return RefuseWith(f"the HTTP filter found {signature.name!r} in the headers")
    return None


_OBJECTIONS: Final[tuple[Callable[[HttpFilterSettings, WebRequest], RefuseWith | None], ...]] = (
    _size_objection,
    _method_objection,
    _url_objection,
    _extension_objection,
    _request_header_objection,
)
_TOO_LARGE: Final = RefuseWith("the body is larger than the HTTP filter allows", 413)
_FINAL: Final = 200
_URI_TOO_LONG: Final = 414
_FIELDS_TOO_LARGE: Final = 431
_STREAMS: Final = frozenset(
    {"application/grpc", "application/x-ndjson", "multipart/x-mixed-replace", "text/event-stream"}
)
"""Media types whose readers wait for every piece."""
