"""What web filters may do to messages, and what they may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    Answer,
    Headers,
    Redirect,
    RefuseWith,
    RouteTo,
    WebRequest,
    WebResponse,
)
from sluicegate.protocols.http1 import (
    CHUNKED,
    NO_BODY,
    EndOfMessage,
    Fields,
    Framing,
    Http1Client,
    Http1Server,
    Request,
    Response,
    Target,
)

HOST = [(b"Host", b"a.example")]


def request_of(line: bytes = b"GET /a?b=1 HTTP/1.1") -> Request:
    server = Http1Server()
    server.receive_data(line + b"\r\nHost: a.example\r\n\r\n")
    request = server.next_event()
    assert isinstance(request, Request)
    return request


def test_headers_are_read_in_any_letter_case() -> None:
    headers = Headers(Fields([(b"User-Agent", b"curl/8"), (b"Vary", b"A, b"), (b"vary", b"C")]))
    assert headers.first("user-agent") == "curl/8"
    assert headers.first("x-none") is None
    assert "USER-AGENT" in headers
    assert headers.all("Vary") == ["A, b", "C"]
    assert headers.tokens("VARY") == ["a", "b", "c"]
    assert list(headers) == [("User-Agent", "curl/8"), ("Vary", "A, b"), ("vary", "C")]


def test_headers_are_changed_in_their_place() -> None:
    headers = Headers(Fields([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")]))
    headers.set("a", "4")
    headers.add("C", "\xe9")
    assert headers.items() == [("a", "4"), ("B", "2"), ("C", "\xe9")]
    assert headers.remove("A", "b") == 2
    assert headers.written() == b"C: \xe9\r\n"


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "Expect",
     "Content-Range", "Proxy-Authorization", "Trailer", "keep-alive", "Max-Forwards"],
)  # fmt: skip
def test_what_frames_or_routes_a_message_is_not_the_filters(name: str) -> None:
    headers = Headers(Fields(HOST))
    for change in (
        lambda: headers.add(name, "x"),
        lambda: headers.set(name, "x"),
        lambda: headers.remove(name),
    ):
        with pytest.raises(ValueError):
            change()
    assert headers.items() == [("Host", "a.example")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nB: c"), ("X", "a\nb"), ("X", "\0"), ("X", " a"), ("X y", "a"), ("", "a"),
     ("X:", "a"), ("X", "\u20ac"), ("\u20ac", "a"), ("X", "a\x7f"), ("X", "a\xa0")],
)  # fmt: skip
def test_what_could_not_be_sent_is_refused_where_it_is_written(name: str, value: str) -> None:
    headers = Headers()
    with pytest.raises(ValueError):
        headers.add(name, value)
    assert len(headers) == 0


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5))
def test_no_header_that_is_taken_splits_a_message(pairs: list[tuple[str, str]]) -> None:
    response = Response(200, framing=Framing.of_length(0))
    headers = WebResponse(response).headers
    taken = 0
    for name, value in pairs:
        try:
            headers.add(name, value)
        except ValueError:
            continue
        taken += 1
    server = Http1Server()
    server.receive_data(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    while server.next_event() is not None:
        pass
    sent = b"".join(map(bytes, server.send(response)))
    client = Http1Client()
    client.send(request_of())
    client.send(EndOfMessage())
    client.receive_data(sent)
    read = client.next_event()
    assert isinstance(read, Response)
    assert len(read.fields) == taken


def test_a_head_that_has_gone_cannot_be_changed() -> None:
    request = WebRequest(request_of(), host="a.example")
    request.close()
    for change in (
        lambda: request.headers.add("X", "y"),
        lambda: setattr(request, "method", "POST"),
        lambda: setattr(request, "target", "/b"),
    ):
        with pytest.raises(BadContext):
            change()
    request.open()
    request.target = "/b?c"
    assert (request.path, request.query, request.url) == ("/b", "c", "http://a.example/b?c")


@pytest.mark.parametrize(
    ("scheme", "host", "port", "url"),
    [
        ("http", "a.example", 80, "http://a.example/a?b=1"),
        ("https", "a.example", 443, "https://a.example/a?b=1"),
        ("http", "a.example", 8080, "http://a.example:8080/a?b=1"),
        ("http", "2001:db8::1", 80, "http://[2001:db8::1]/a?b=1"),
    ],
)
def test_url_has_the_host_that_was_judged(scheme: str, host: str, port: int, url: str) -> None:
    request = WebRequest(request_of(), scheme=scheme, host=host, port=port)
    assert request.url == url


@pytest.mark.parametrize("target", ["b", "", "/ b", "/b\r\nX: y", "/\xe9", "http://b.example/"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    request = WebRequest(request_of())
    with pytest.raises(ValueError):
        request.target = target
    assert request.target == "/a?b=1"


def test_target_of_an_absolute_request_keeps_its_server() -> None:
    request = WebRequest(request_of(b"GET http://a.example/x HTTP/1.1"))
    request.target = "/y"
    assert bytes(request.message.target) == b"http://a.example/y"


def test_options_about_the_server_has_no_other_target_or_method() -> None:
    request = WebRequest(request_of(b"OPTIONS * HTTP/1.1"), host="a.example")
    assert (request.target, request.url) == ("*", "http://a.example")
    with pytest.raises(ValueError):
        request.target = "/"
    with pytest.raises(ValueError):
        request.method = "GET"


@pytest.mark.parametrize("method", ["get", "", "G T", "GET\r\n", "G1"])
def test_a_method_that_is_none_is_refused(method: str) -> None:
    request = WebRequest(request_of())
    with pytest.raises(ValueError):
        request.method = method


def test_length_of_a_body_is_known_or_not() -> None:
    assert WebRequest(Request(b"POST", Target.origin(b"/"), framing=CHUNKED)).body_length is None
    assert WebRequest(Request(b"POST", Target.origin(b"/"))).body_length == 0
    assert WebResponse(Response(200, framing=Framing.of_length(5))).body_length == 5
    assert (
        WebResponse(Response(200, framing=Framing.of_length(5)), is_bodiless=True).body_length == 0
    )
    assert WebResponse(Response(204, framing=NO_BODY)).body_length == 0


def test_content_type_is_a_media_type_without_parameters() -> None:
    response = Response(200, fields=Fields([(b"content-type", b"Text/HTML ; charset=utf-8")]))
    assert WebResponse(response).content_type == "text/html"
    assert WebResponse(Response(200)).content_type == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda: RefuseWith("why", 200),
        lambda: RefuseWith("why", 600),
        lambda: Answer(101),
        lambda: Answer(204, b"x"),
        lambda: Answer(200, headers={"Content-Length": "3"}),
        lambda: Answer(200, headers={"X": "a\r\nb"}),
        lambda: Redirect("/a", 200),
        lambda: Redirect("//evil.example/"),
        lambda: Redirect("/\\evil.example/"),
        lambda: Redirect("javascript:alert(1)"),
        lambda: Redirect("https://a.example/ b"),
        lambda: Redirect("/a\r\nSet-Cookie: x=y"),
        lambda: Redirect(""),
        lambda: RouteTo("", 80),
        lambda: RouteTo("a.example", 0),
        lambda: RouteTo("a.example", 65536),
        lambda: RouteTo("a.example/b", 80),
        lambda: RouteTo("a@b", 80),
        lambda: RouteTo("\u20ac", 80),
    ],
)
def test_an_answer_that_cannot_be_sent_cannot_be_made(make) -> None:
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "location", ["/", "/a/b?c#d", "https://b.example/", "http://b.example:81/x"]
)
def test_a_redirect_leads_to_a_url_or_a_path(location: str) -> None:
    assert Redirect(location, 307).location == location
