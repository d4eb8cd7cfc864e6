"""Heads that were read before: what is remembered is what reading and writing anew would give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import BadContext
from sluicegate.protocols.http1 import (
    DEFAULT_BOUNDS,
    NOT_PASSED,
    Http1Client,
    Http1Server,
    HttpBounds,
    HttpFault,
    HttpProtocolError,
    KnownHeads,
    Request,
    Response,
    to_client,
    to_server,
)

FIELDS = st.lists(
    st.sampled_from(
        [
            b"User-Agent: curl/8",
            b"Accept: */*",
            b"Connection: keep-alive",
            b"Connection: close",
            b"Connection: X-Hop",
            b"X-Hop: 1",
            b"TE: trailers",
            b"Upgrade: websocket",
            b"Cookie: a=b; c=d",
            b"Via: 1.0 other",
            b"Expect: 100-continue",
            b"Content-Length: 0",
            b"Content-Length: 3",
            b"Proxy-Authorization: Basic YTpi",
            b"Transfer-Encoding: chunked",
            b"X-Text: caf\xe9",
        ]
    ),
    max_size=6,
)
TARGETS = st.sampled_from(
    [
        b"/",
        b"/a?b",
        b"http://a.example/",
        b"http://a.example/y?z=/",
        b"http://a.example",
        b"http://a.example?q/",
        b"http://a.example:80/",
        b"http://a.example//b",
        b"http://a.example/%zz",
        b"http://a.example@b/",
        b"http://A.example:80/x",
        b"HTTP://a.example/x",
        b"https://a.example/x",
        b"http://b.example/",
        b"*",
    ]
)


def head_of(method: bytes, target: bytes, fields: list[bytes], *, minor: bytes = b"1") -> bytes:
    line = b"%b %b HTTP/1.%b" % (method, target, minor)
    return b"\r\n".join([line, b"Host: a.example", *fields, b"", b""])


def outcome(known: KnownHeads, head: bytes) -> Request | HttpFault:
    try:
        return known.read_request(head)
    except HttpProtocolError as error:
        return error.fault


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"GET", b"HEAD", b"DELETE", b"POST", b"OPTIONS", b"TRACE"]),
            TARGETS,
            FIELDS,
            st.sampled_from([b"0", b"1"]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_a_request_reads_the_same_whatever_was_read_before(
    wanted: list[tuple[bytes, bytes, list[bytes], bytes]],
) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    for method, target, fields, minor in wanted * 2:
        head = head_of(method, target, fields, minor=minor)
        assert outcome(shared, head) == outcome(KnownHeads(DEFAULT_BOUNDS), head)


LINES = [
    b"GET http://a.example/x HTTP/1.1",
    b"GET http://a.example/x HTTP/1.0",
    b"GET http://a.example/x HTTP/1.2",
    b"GET http://a.example/x HTTP/1.1 ",
    b"GET  http://a.example/x HTTP/1.1",
    b"GET http://a.example/x",
    b"GET http://a.example/x y HTTP/1.1",
    b"GET http://a.example/x\ty HTTP/1.1",
    b"GET http://a.example/x\ny HTTP/1.1",
    b"GET http://a.example/x\ry HTTP/1.1",
    b"GET http://a.example/x\x00 HTTP/1.1",
    b"GET http://a.example/x\xe9 HTTP/1.1",
    b"GET http://a.examplex HTTP/1.1",
    b"get http://a.example/x HTTP/1.1",
    b"GET\thttp://a.example/x HTTP/1.1",
    b" GET http://a.example/x HTTP/1.1",
    b"",
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_before_known_fields_is_read_as_strictly_as_any(line: bytes) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    for target in (b"http://a.example/", b"http://a.example/"):
        assert isinstance(outcome(shared, head_of(b"GET", target, [])), Request)
    head = b"%b\r\nHost: a.example\r\n\r\n" % line
    assert outcome(shared, head) == outcome(KnownHeads(DEFAULT_BOUNDS), head)


@given(st.sampled_from([b"GET", b"HEAD", b"DELETE"]), TARGETS, FIELDS)
def test_known_fields_go_on_as_the_serializer_writes_them(
    method: bytes, target: bytes, fields: list[bytes]
) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    head = head_of(method, target, fields)
    for _ in range(2):
        request = outcome(shared, head)
        if not isinstance(request, Request) or request.known is None:
            return
        (wanted,) = Http1Client().send(to_server(request, b"gate"))
        assert request.known.written(request, b"gate", is_changed=False) == wanted


def test_what_was_handed_out_is_its_owners_to_change() -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    head = head_of(b"GET", b"/", [b"X-A: 1"])
    first = shared.read_request(head)
    first.fields.set(b"X-A", b"2")
    assert shared.read_request(head).fields.first(b"x-a") == b"1"


@pytest.mark.parametrize("known_first", [True, False])
def test_bounds_hold_for_known_fields_too(*, known_first: bool) -> None:
    shared = KnownHeads(HttpBounds(target_bytes_max=16))
    if known_first:
        shared.read_request(head_of(b"GET", b"/", []))
    long = head_of(b"GET", b"/" + b"a" * 16, [])
    assert outcome(shared, long) is HttpFault.TARGET_TOO_LONG


RESPONSES = [
    # what comes as one piece, and whether it is taken as one
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok", True),
    (b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n", True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\n\r\nok", False),
    (b"HTTP/1.1 204 No\r\n\r\n", False),
    (b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", False),
    (b"HTTP/1.1 103 Hints\r\n\r\n", False),
]


@pytest.mark.parametrize(("wire", "is_whole"), RESPONSES)
def test_whole_responses_are_taken_as_one_and_go_on_as_the_serializer_writes_them(
    wire: bytes, *, is_whole: bool
) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    request = shared.read_request(head_of(b"GET", b"/", []))
    for _ in range(2):
        client = Http1Client(known=shared)
        client.send_whole(request)
        known = client.receive_whole(wire)
        assert (known is not None) is is_whole
        if known is None:
            continue
        assert client.is_reusable
        server = Http1Server()
        server.receive_data(head_of(b"GET", b"/", []))
        assert isinstance(server.next_event(), Request)
        server.next_event()
        going = to_client(known.response, b"gate")
        going.fields.remove(*NOT_PASSED)
        assert server.send(going) == (known.forwarded(b"gate"),)


def test_what_is_not_taken_as_a_whole_is_read_as_ever() -> None:
    client = Http1Client()
    client.send_whole(KnownHeads(DEFAULT_BOUNDS).read_request(head_of(b"GET", b"/", [])))
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"
    assert client.receive_whole(wire) is None
    client.receive_data(wire)
    assert isinstance(client.next_event(), Response)


def test_a_whole_request_is_answered_by_a_whole_answer_once() -> None:
    server = Http1Server()
    assert server.receive_whole(head_of(b"GET", b"/", [])) is not None
    assert server.takes_whole
    assert not server.send_whole(), "nothing is to be said of an end"
    with pytest.raises(BadContext):
        server.send_whole()
    assert server.receive_whole(head_of(b"GET", b"/b", [])) is not None


@pytest.mark.parametrize(
    "wire",
    [
        head_of(b"GET", b"/", []) + b"GET",
        head_of(b"GET", b"/", [])[:-1],
        head_of(b"POST", b"/", [b"Content-Length: 1"]),
        b"",
        b"G",
        b"GET",
        b"GET ",
    ],
)
def test_only_exactly_one_request_without_a_body_is_taken_as_a_whole(wire: bytes) -> None:
    assert Http1Server().receive_whole(wire) is None


def test_a_whole_answer_behind_close_is_the_last() -> None:
    server = Http1Server()
    server.receive_whole(head_of(b"GET", b"/", [b"Connection: close"]))
    assert server.takes_whole
    assert not server.must_close
    assert server.send_whole(), "its head has to say so"
    assert server.must_close
    assert server.receive_whole(head_of(b"GET", b"/b", [])) is None


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([b"X-New", b"Accept", b"User-Agent", b"Via", b"Alt-Svc", b"X-Text"]),
        st.sampled_from([b"", b"1", b"a, b", None]),
    ),
    max_size=4,
)


def change(message: Request | Response, changes: list[tuple[bytes, bytes | None]]) -> None:
    for name, value in changes:
        if value is None:
            message.fields.remove(name)
        else:
            message.fields.set(name, value)


@given(st.sampled_from([b"GET", b"HEAD", b"DELETE"]), TARGETS, FIELDS, CHANGES)
def test_changed_fields_go_on_as_the_serializer_writes_them(
    method: bytes, target: bytes, fields: list[bytes], changes: list[tuple[bytes, bytes | None]]
) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    head = head_of(method, target, fields)
    for _ in range(2):
        request = outcome(shared, head)
        if not isinstance(request, Request) or request.known is None:
            return
        change(request, changes)
        (wanted,) = Http1Client().send(to_server(request, b"gate"))
        assert wanted == request.known.written(request, b"gate", is_changed=True)


@pytest.mark.parametrize(("version", "via"), [(b"1.1", b"1.1 other"), (b"1.0", b"")])
@given(changes=CHANGES)
def test_a_changed_response_goes_on_as_the_serializer_writes_it(
    version: bytes, via: bytes, changes: list[tuple[bytes, bytes | None]]
) -> None:
    shared = KnownHeads(DEFAULT_BOUNDS)
    request = shared.read_request(head_of(b"GET", b"/", []))
    fields = b"Connection: keep-alive\r\nAlt-Svc: h3\r\nX-Text: a\r\nVia: %b\r\n" % via
    head = b"HTTP/%b 200\r\nContent-Length: 2\r\n%b\r\n" % (version, fields)
    before = None
    for _ in range(2):
        known = shared.read_response(head, request)
        assert known is not None
        before = before or known.forwarded(b"gate")
        response = known.copy()
        assert response == known.response
        change(response, changes)
        server = Http1Server()
        server.receive_data(head_of(b"GET", b"/", []))
        assert isinstance(server.next_event(), Request)
        server.next_event()
        going = to_client(response, b"gate")
        going.fields.remove(*NOT_PASSED)
        assert server.send(going) == (known.forwarded_as(response.fields, b"gate"),)
        assert known.forwarded(b"gate") == before
