"""What is accepted: how it is read, what it is normalised to, and that writing it reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.entry import HostKind
from sluicegate.protocols.http1 import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Authority,
    Body,
    EndOfMessage,
    Framing,
    Http1Client,
    Http1Server,
    HttpBounds,
    HttpFault,
    Request,
    Response,
    Target,
    TargetForm,
)
from sluicegate.protocols.http1.fields import Fields
from tests.unit.http1.http1_kit import (
    body_of,
    every_cut,
    fault_of,
    fetch,
    requests_of,
    responses_of,
    serve,
)

HOST = b"Host: a.example\r\n"


def one(data: bytes, **options: object) -> Request:
    for cuts in every_cut(data):
        seen = serve(data, cuts, **options)  # type: ignore[arg-type]  # the kit's options
        assert fault_of(seen) is None, seen
        assert ("end",) in seen or any(isinstance(e, tuple) and e[0] == "end" for e in seen)
    [request] = requests_of(serve(data, **options))  # type: ignore[arg-type]  # as above
    return request


@pytest.mark.parametrize(
    ("target", "form", "written", "for_origin"),
    [
        (b"/", TargetForm.ORIGIN, b"/", b"/"),
        (b"//x//", TargetForm.ORIGIN, b"//x//", b"//x//"),
        (b"/a/../b;c=d,e", TargetForm.ORIGIN, b"/a/../b;c=d,e", b"/a/../b;c=d,e"),
        (b"/%2e%00%C3", TargetForm.ORIGIN, b"/%2e%00%C3", b"/%2e%00%C3"),
        (b"/[a]|b?{}|\\^`[]%", TargetForm.ORIGIN, b"/[a]|b?{}|\\^`[]%", b"/[a]|b?{}|\\^`[]%"),
        (b"/?http://b.example/", TargetForm.ORIGIN, b"/?http://b.example/", b"/?http://b.example/"),
        (b"http://a.example", TargetForm.ABSOLUTE, b"http://a.example/", b"/"),
        (b"HTTP://A.Example/x?y", TargetForm.ABSOLUTE, b"http://A.Example/x?y", b"/x?y"),
        (b"http://a.example?y", TargetForm.ABSOLUTE, b"http://a.example/?y", b"/?y"),
        (b"http://a.example:80/", TargetForm.ABSOLUTE, b"http://a.example:80/", b"/"),
        (b"http://a.example//x", TargetForm.ABSOLUTE, b"http://a.example//x", b"//x"),
        (b"https://a.example/", TargetForm.ABSOLUTE, b"https://a.example/", b"/"),
    ],
)
def test_targets_read_as_in_the_table(
    target: bytes, form: TargetForm, written: bytes, for_origin: bytes
) -> None:
    request = one(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

    assert request.target.form is form
    assert bytes(request.target) == written
    assert bytes(request.target.as_origin()) == for_origin
    assert request.authority is not None
    assert request.authority.host.lower() == b"a.example"


def test_options_and_connect_have_forms_of_their_own() -> None:
    asterisk = one(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
    absolute = one(b"OPTIONS http://a.example HTTP/1.1\r\n" + HOST + b"\r\n")
    tunnel = one(b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n")

    assert bytes(asterisk.target) == b"*"
    assert bytes(absolute.target) == b"http://a.example"
    assert bytes(absolute.target.as_origin()) == b"*"
    assert tunnel.authority == Authority(HostKind.TEXT, b"a.example", 443)
    assert bytes(tunnel.target) == b"a.example:443"


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        (b"a.example", Authority(HostKind.TEXT, b"a.example")),
        (b"A.Example.:8080", Authority(HostKind.TEXT, b"A.Example.", 8080)),
        (b"127.0.0.1:1", Authority(HostKind.TEXT, b"127.0.0.1", 1)),
        (b"0x7f.1", Authority(HostKind.TEXT, b"0x7f.1")),
        (b"[::1]", Authority(HostKind.BRACKETED, b"::1")),
        (b"[fe80::1%25lo]:80", Authority(HostKind.BRACKETED, b"fe80::1%25lo", 80)),
    ],
)
def test_host_is_split_off_raw(text: bytes, authority: Authority) -> None:
    request = one(b"GET / HTTP/1.1\r\nHost: " + text + b"\r\n\r\n")

    assert request.authority == authority
    assert bytes(authority) == text


@pytest.mark.parametrize(
    ("lines", "framing", "body"),
    [
        (b"\r\n", NO_BODY, b""),
        (b"Content-Length: 0\r\n\r\n", Framing.of_length(0), b""),
        (b"content-length:4\r\n\r\nabcd", Framing.of_length(4), b"abcd"),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CHUNKED, b""),
        (b"transfer-encoding:CHUNKED\r\n\r\n3\r\nabc\r\n00\r\n\r\n", CHUNKED, b"abc"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n0000000001\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n",
            CHUNKED,
            b"a0123456789",
        ),
        (
            b'Transfer-Encoding: chunked\r\n\r\n3;a;b=c;d="e\\"f;g"\r\nabc\r\n0;x\r\n\r\n',
            CHUNKED,
            b"abc",
        ),
    ],
)
def test_bodies_of_requests_read_as_in_the_table(
    lines: bytes, framing: Framing, body: bytes
) -> None:
    data = b"POST / HTTP/1.1\r\n" + HOST + lines

    assert one(data).framing == framing
    assert body_of(serve(data)) == body


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"HEAD"])
def test_operator_may_let_any_method_have_a_body(method: bytes) -> None:
    data = method + b" / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nabcd"

    assert one(data, bounds=HttpBounds(lets_any_method_have_a_body=True)).framing.length == 4
    assert fault_of(serve(data)) is HttpFault.LENGTH_WITHOUT_BODY


def test_trailers_come_with_the_end() -> None:
    data = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nGrpc-Status: 0\r\nX:\t y \r\n\r\n"
    )
    for cuts in every_cut(data):
        assert serve(data, cuts)[-1] == ("end", (b"Grpc-Status", b"0"), (b"X", b"y"))


def test_what_belongs_to_the_connection_is_parted_from_the_fields() -> None:
    request = one(
        b"GET / HTTP/1.1\r\nA: 1\r\nConnection: keep-alive, X-Hop,, te\r\nX-Hop: 2\r\n"
        b"Keep-Alive: 5\r\n"
        b"Proxy-Connection: close\r\nTE: trailers, deflate\r\nProxy-Authorization: Basic YTpi\r\n"
        b"hOST: a.example\r\nContent-Length: 0\r\na:\t3 \r\nUpgrade: h2c\r\n\r\n"
    )

    assert request.fields.items() == [(b"hOST", b"a.example"), (b"A", b"1"), (b"a", b"3")]
    assert request.fields.all(b"a") == [b"1", b"3"]
    assert {name for name, _ in request.hop_fields} == {
        b"Connection", b"X-Hop", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Proxy-Authorization",
        b"Content-Length", b"Upgrade",
    }  # fmt: skip
    assert request.accepts_trailers
    assert request.upgrade == ()
    assert not request.wants_close


@pytest.mark.parametrize(
    ("version", "connection", "wants_close"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"Connection: close\r\n", True),
        (b"1.1", b"Connection: keep-alive\r\nConnection: Close\r\n", True),
        (b"1.0", b"", True),
        (b"1.0", b"Connection: Keep-Alive\r\n", False),
        (b"1.0", b"Proxy-Connection: keep-alive\r\n", True),
    ],
)
def test_persistence_follows_version_and_connection(
    version: bytes, connection: bytes, wants_close: bool
) -> None:
    request = one(b"GET / HTTP/" + version + b"\r\n" + HOST + connection + b"\r\n")

    assert request.wants_close is wants_close
    assert request.is_http_1_1 is (version == b"1.1")


@pytest.mark.parametrize(
    ("data", "expects"),
    [
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na",
            True,
        ),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n\r\n", False),
        (
            b"POST / HTTP/1.0\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            False,
        ),
        (b"POST / HTTP/1.0\r\n" + HOST + b"Expect: else\r\n\r\n", False),
    ],
)
def test_expectation_counts_where_a_body_follows(data: bytes, expects: bool) -> None:
    request = one(data)

    assert request.expects_continue is expects
    assert (b"expect" in request.fields) is expects


def test_http_1_0_may_lack_host() -> None:
    assert one(b"GET / HTTP/1.0\r\n\r\n").authority is None
    assert str(one(b"GET http://b.example/ HTTP/1.0\r\n\r\n").authority) == "b.example"


@pytest.mark.parametrize("method", [b"GET", b"PROPFIND", b"M-SEARCH", b"X_NEW", b"PLAY", b"!"])
def test_any_method_of_upper_case_is_read(method: bytes) -> None:
    assert one(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n").method == method


def test_bytes_above_127_inside_values_are_kept() -> None:
    request = one(b"GET / HTTP/1.1\r\n" + HOST + b"X: caf\xc3\xa9 \xa0 b\xff\r\n\r\n")

    assert request.fields.first(b"X") == b"caf\xc3\xa9 \xa0 b\xff"


@pytest.mark.parametrize(
    ("data", "framing", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Framing.of_length(2), b"hi"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", Framing.of_length(2), b"hi"),
        (
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            CHUNKED,
            b"hi",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nall of it", UNTIL_CLOSE, b"all of it"),
        (b"HTTP/1.1 404 Not  Found \r\n\r\n", UNTIL_CLOSE, b""),
        (b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", NO_BODY, b""),
        (b"HTTP/1.1 304 Not\r\nContent-Length: 4\r\n\r\n", Framing.of_length(4), b""),
        (b"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED, b""),
        (b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", Framing.of_length(0), b""),
        (
            b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
            NO_BODY,
            b"",
        ),
    ],
)
def test_responses_read_as_in_the_table(data: bytes, framing: Framing, body: bytes) -> None:
    for cuts in every_cut(data):
        seen = fetch(data, cuts, ends=True)
        assert fault_of(seen) is None
        assert responses_of(seen)[-1].framing == framing
        assert body_of(seen) == body
        assert seen[-2:] == [("end",), "EndOfStream"]


def test_length_of_a_2xx_to_connect_is_ignored() -> None:
    connect = Request(
        b"CONNECT",
        Target.connect(Authority(HostKind.TEXT, b"a.example", 443)),
        Fields([(b"Host", b"a.example:443")]),
    )
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x16\x03\x01"

    for cuts in every_cut(data):
        seen = fetch(data, cuts, request=connect)
        assert seen[1:] == ["Upgraded", ("RawData", b"\x16\x03\x01")]


TOKENS = st.text("abcXYZ-_.!~0189", min_size=1, max_size=12).map(str.encode)
VALUES = st.text("".join(map(chr, [9, *range(32, 127), 0xC3, 0xE9])), max_size=20).map(
    lambda text: text.strip(" \t").encode("latin-1")
)
FIELDS = st.lists(st.tuples(TOKENS.map(b"X-%b".__mod__), VALUES), max_size=8)
BODIES = st.lists(st.binary(min_size=1, max_size=50), max_size=5)
CUTS = st.lists(st.integers(0, 600), max_size=8)


@given(
    st.sampled_from([b"POST", b"PUT", b"PATCH", b"REPORT"]),
    st.sampled_from([b"/", b"/a?b=c", b"//x", b"/%41;d"]),
    FIELDS,
    BODIES,
    st.booleans(),
    FIELDS,
    CUTS,
)
def test_written_requests_read_back(  # noqa: PLR0917 - what Hypothesis draws
    method: bytes,
    path: bytes,
    fields: list[tuple[bytes, bytes]],
    bodies: list[bytes],
    is_chunked: bool,
    trailers: list[tuple[bytes, bytes]],
    cuts: list[int],
) -> None:
    framing = CHUNKED if is_chunked else Framing.of_length(sum(map(len, bodies)))
    sent = Request(
        method, Target.origin(path), Fields([(b"Host", b"a.example"), *fields]), framing,
    )  # fmt: skip
    client = Http1Client()
    pieces = [*client.send(sent)]
    for body in bodies:
        pieces += client.send(Body(body))
    pieces += client.send(EndOfMessage(Fields(trailers)))

    seen = serve(b"".join(pieces), cuts)

    [read] = requests_of(seen)
    assert (read.method, read.target, read.fields, read.framing) == (
        method, sent.target, sent.fields, framing,
    )  # fmt: skip
    assert body_of(seen) == b"".join(bodies)
    assert seen[-1] == ("end", *(trailers if is_chunked else ()))


@given(
    st.sampled_from([200, 206, 404, 500]),
    st.sampled_from([b"", b"Fine by me"]),
    FIELDS,
    BODIES,
    st.sampled_from(["length", "chunked", "close"]),
    CUTS,
)
def test_written_responses_read_back(
    status: int,
    reason: bytes,
    fields: list[tuple[bytes, bytes]],
    bodies: list[bytes],
    how: str,
    cuts: list[int],
) -> None:
    framing = {
        "length": Framing.of_length(sum(map(len, bodies))),
        "chunked": CHUNKED,
        "close": UNTIL_CLOSE,
    }[how]  # fmt: skip
    server = Http1Server()
    server.receive_data(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert isinstance(server.next_event(), Request)
    assert server.next_event() == EndOfMessage()
    pieces = [*server.send(Response(status, reason, Fields(fields), framing))]
    for body in bodies:
        pieces += server.send(Body(body))
    pieces += server.send(EndOfMessage())

    seen = fetch(b"".join(pieces), cuts)

    [read] = responses_of(seen)
    assert read.status == status
    assert read.reason == (reason or read.reason)
    assert read.fields == Fields(fields)
    assert read.framing == (CHUNKED if how == "close" else framing)
    assert body_of(seen) == b"".join(bodies)
    assert seen[-1] == ("end",)


WORDS = st.sampled_from(
    [
        b"GET ", b"POST ", b"/", b"http://a.example", b" HTTP/1.1\r\n", b"\r\n", b"\n", b"\r", b" ",
        HOST, b"GET / HTTP/1.1\r\n" + HOST, b"Content-Length: 3\r\n", b"X: y\r\n", b":",
        b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n", b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
        b"Connection: close\r\n", b"\0", b"\xff", b"a" * 40, b"Expect: 100-continue\r\n", b";a=b",
    ]
)  # fmt: skip
STREAMS = st.one_of(st.lists(WORDS, max_size=14).map(b"".join), st.binary(max_size=300))
SMALL = HttpBounds(
    head_bytes_max=120, target_bytes_max=30, field_bytes_max=50, fields_max=4,
    chunk_extensions_bytes_max=8, trailer_bytes_max=60, trailers_max=2, pipeline_bytes_max=400,
)  # fmt: skip


@given(STREAMS, CUTS, st.booleans())
def test_every_cut_of_any_bytes_gives_the_same_events_and_only_protocol_errors(
    data: bytes, cuts: list[int], ends: bool
) -> None:
    assert serve(data, cuts, bounds=SMALL, ends=ends) == serve(data, bounds=SMALL, ends=ends)
    assert fetch(data, cuts, bounds=SMALL, ends=ends) == fetch(data, bounds=SMALL, ends=ends)


@given(STREAMS)
def test_no_bound_is_passed(data: bytes) -> None:
    for event in serve(data, bounds=SMALL) + fetch(data, bounds=SMALL):
        if isinstance(event, Request):
            assert len(bytes(event.target)) <= 30 + 1  # a slash may be added
            assert len(event.fields) <= 4
        if isinstance(event, Request | Response):
            assert all(len(n) + len(v) <= 50 for n, v in event.fields)
