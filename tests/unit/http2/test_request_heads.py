"""Group I2 of the hostile cases: what HTTP/2 can say, and HTTP/1 must never be told."""

from __future__ import annotations

import pytest

from sluicegate.protocols.http1 import (
    CHUNKED,
    NO_BODY,
    Fields,
    Framing,
    Http1Server,
    Request,
    Response,
    Target,
)
from sluicegate.protocols.http1.writing import write_request
from sluicegate.protocols.http2 import (
    Http2Bounds,
    Http2Fault,
    MalformedRequest,
    RequestBegan,
    ServedAs,
)
from tests.unit.http2.http2_kit import (
    GET,
    POST,
    PROXY,
    SITE,
    client,
    data,
    feed,
    head,
    hello,
    sent,
    server,
    shown,
)

F = Http2Fault
REST = GET[1:]
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]
WEBSOCKET = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *REST]


def get(*fields: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [*GET, *fields]


def with_path(path: bytes) -> list[tuple[bytes, bytes]]:
    return [*GET[:3], (b":path", path)]


def with_host(text: bytes) -> list[tuple[bytes, bytes]]:
    return [*GET[:2], (b":authority", text), GET[3]]


NAMES: list[tuple[bytes, Http2Fault]] = [
    (b"Accept", F.FIELD_NAME),
    (b"X-A", F.FIELD_NAME),
    (b"", F.FIELD_NAME),
    (b"a b", F.FIELD_NAME),
    (b" a", F.FIELD_NAME),
    (b"a ", F.FIELD_NAME),
    (b"a:", F.FIELD_NAME),
    (b"a:b", F.FIELD_NAME),
    (b"a\r", F.FIELD_NAME),
    (b"a\n", F.FIELD_NAME),
    (b"a\r\nx", F.FIELD_NAME),
    (b"a\x00", F.FIELD_NAME),
    (b"a\t", F.FIELD_NAME),
    (b"a\x7f", F.FIELD_NAME),
    (b"a\xc3\xa9", F.FIELD_NAME),
    (b"a(", F.FIELD_NAME),
    (b"a/b", F.FIELD_NAME),
    (b"a,b", F.FIELD_NAME),
    (b'a"', F.FIELD_NAME),
    (b"transfer-encoding ", F.FIELD_NAME),
    (b"Transfer-Encoding", F.FIELD_NAME),
    (b"Content-Length", F.FIELD_NAME),
    (b":path", F.PSEUDO_LATE),
    (b":authority", F.PSEUDO_LATE),
    (b":method", F.PSEUDO_LATE),
    (b":status", F.PSEUDO_LATE),
    (b":", F.PSEUDO_LATE),
    (b"connection", F.FIELD_OF_CONNECTION),
    (b"keep-alive", F.FIELD_OF_CONNECTION),
    (b"proxy-connection", F.FIELD_OF_CONNECTION),
    (b"transfer-encoding", F.FIELD_OF_CONNECTION),
    (b"upgrade", F.FIELD_OF_CONNECTION),
    (b"http2-settings", F.FIELD_OF_CONNECTION),
    (b"te", F.FIELD_TE),
]

VALUES: list[bytes] = [
    b"a\r",
    b"a\n",
    b"a\r\nHost: b.example",
    b"a\nx: y",
    b"\r\n",
    b"\n",
    b"\r",
    b"a\x00b",
    b"\x00",
    b" a",
    b"a ",
    b"\ta",
    b"a\t",
    b" ",
    b"\t",
    b"a\x0b",
    b"a\x0c",
    b"\x01",
    b"a\x1f",
    b"a\x7f",
    b"\x85a",
    b"a\x85",
    b"\xa0a",
    b"a\xa0",
]

HEADS: list[tuple[str, list[tuple[bytes, bytes]], Http2Fault]] = [
    # Pseudo-fields.
    ("no-method", REST, F.PSEUDO_MISSING),
    ("no-scheme", [GET[0], GET[2], GET[3]], F.PSEUDO_MISSING),
    ("no-path", GET[:3], F.PSEUDO_MISSING),
    ("nothing", [], F.PSEUDO_MISSING),
    ("fields-alone", [(b"host", b"a.example")], F.PSEUDO_MISSING),
    ("status", [(b":status", b"200"), *GET], F.PSEUDO_UNKNOWN),
    ("version", [*GET, (b":version", b"HTTP/2")], F.PSEUDO_UNKNOWN),
    ("host-pseudo", [*GET, (b":host", b"b.example")], F.PSEUDO_UNKNOWN),
    ("upper-pseudo", [*GET[:3], (b":Path", b"/")], F.PSEUDO_UNKNOWN),
    ("method-twice", [GET[0], *GET], F.PSEUDO_REPEATED),
    ("path-twice", [*GET, (b":path", b"/admin")], F.PSEUDO_REPEATED),
    ("path-twice-same", [*GET, GET[3]], F.PSEUDO_REPEATED),
    ("authority-twice", [*GET, (b":authority", b"b.example")], F.PSEUDO_REPEATED),
    ("scheme-twice", [*GET, (b":scheme", b"http")], F.PSEUDO_REPEATED),
    ("path-behind", [*GET[:3], (b"accept", b"*/*"), GET[3]], F.PSEUDO_LATE),
    ("authority-behind", [GET[0], GET[1], GET[3], (b"a", b"b"), GET[2]], F.PSEUDO_LATE),
    # Method.
    ("method-empty", [(b":method", b""), *REST], F.METHOD),
    ("method-lower", [(b":method", b"get"), *REST], F.METHOD),
    ("method-space", [(b":method", b"GET /x HTTP/1.1"), *REST], F.METHOD),
    ("method-line", [(b":method", b"GET / HTTP/1.1\r\nX: y"), *REST], F.METHOD),
    ("method-nul", [(b":method", b"GET\x00"), *REST], F.METHOD),
    ("method-long", [(b":method", b"G" * 33), *REST], F.METHOD),
    # Scheme: what is served here is https.
    ("scheme-http", [GET[0], (b":scheme", b"http"), *GET[2:]], F.SCHEME),
    ("scheme-ftp", [GET[0], (b":scheme", b"ftp"), *GET[2:]], F.SCHEME),
    ("scheme-empty", [GET[0], (b":scheme", b""), *GET[2:]], F.SCHEME),
    ("scheme-upper", [GET[0], (b":scheme", b"HTTPS"), *GET[2:]], F.SCHEME),
    ("scheme-url", [GET[0], (b":scheme", b"https://b.example/"), *GET[2:]], F.SCHEME),
    # Path.
    ("path-empty", with_path(b""), F.PATH),
    ("path-relative", with_path(b"x"), F.PATH),
    ("path-star", with_path(b"*"), F.PATH),
    ("path-space", with_path(b"/a b"), F.PATH),
    ("path-version", with_path(b"/ HTTP/1.1"), F.PATH),
    ("path-line", with_path(b"/\r\nHost: b.example"), F.PATH),
    ("path-lf", with_path(b"/\nx"), F.PATH),
    ("path-nul", with_path(b"/\x00"), F.PATH),
    ("path-tab", with_path(b"/\t"), F.PATH),
    ("path-fragment", with_path(b"/#x"), F.PATH),
    ("path-escape", with_path(b"/%zz"), F.PATH),
    ("path-escape-cut", with_path(b"/%2"), F.PATH),
    ("path-high", with_path(b"/\xff"), F.PATH),
    ("path-url", with_path(b"https://b.example/"), F.PATH),
    ("path-authority", with_path(b"b.example:443"), F.PATH),
    ("path-long", with_path(b"/" + b"a" * 8192), F.PATH_TOO_LONG),
    # Authority and Host.
    ("authority-empty", with_host(b""), F.AUTHORITY),
    ("authority-userinfo", with_host(b"a.example@b.example"), F.AUTHORITY),
    ("authority-path", with_host(b"a.example/x"), F.AUTHORITY),
    ("authority-comma", with_host(b"a.example,b.example"), F.AUTHORITY),
    ("authority-space", with_host(b"a.example "), F.AUTHORITY),
    ("authority-line", with_host(b"a.example\r\nX: y"), F.AUTHORITY),
    ("authority-nul", with_host(b"a.example\x00"), F.AUTHORITY),
    ("authority-port-0", with_host(b"a.example:0"), F.AUTHORITY),
    ("authority-port-65536", with_host(b"a.example:65536"), F.AUTHORITY),
    ("authority-port-plus", with_host(b"a.example:+80"), F.AUTHORITY),
    ("authority-port-080", with_host(b"a.example:080"), F.AUTHORITY),
    ("authority-port-empty", with_host(b"a.example:"), F.AUTHORITY),
    ("authority-v6-bare", with_host(b"::1"), F.AUTHORITY),
    ("authority-query", with_host(b"a.example?x"), F.AUTHORITY),
    ("authority-backslash", with_host(b"b.example\\@a.example"), F.AUTHORITY),
    ("host-other", get((b"host", b"b.example")), F.HOST_DISAGREES),
    ("host-other-port", get((b"host", b"a.example:80")), F.HOST_DISAGREES),
    ("host-dot", get((b"host", b"a.example.")), F.HOST_DISAGREES),
    ("host-empty", get((b"host", b"")), F.AUTHORITY),
    ("host-userinfo", get((b"host", b"a.example@b.example")), F.AUTHORITY),
    ("host-twice", get((b"host", b"a.example"), (b"host", b"a.example")), F.HOST_REPEATED),
    (
        "host-twice-alone",
        [*GET[:2], GET[3], (b"host", b"a.example"), (b"host", b"b.example")],
        F.HOST_REPEATED,
    ),
    ("host-none", [*GET[:2], GET[3]], F.HOST_MISSING),
    # CONNECT.
    ("connect-path", [*CONNECT, (b":path", b"/")], F.CONNECT),
    ("connect-scheme", [*CONNECT, (b":scheme", b"https")], F.CONNECT),
    ("connect-no-authority", [CONNECT[0]], F.PSEUDO_MISSING),
    ("connect-no-port", [CONNECT[0], (b":authority", b"a.example")], F.AUTHORITY),
    ("connect-path-in-authority", [CONNECT[0], (b":authority", b"a.example:443/x")], F.AUTHORITY),
    ("connect-length", [*CONNECT, (b"content-length", b"0")], F.CONNECT),
    ("connect-host", [*CONNECT, (b"host", b"b.example:443")], F.HOST_DISAGREES),
    ("protocol-of-get", [GET[0], (b":protocol", b"websocket"), *REST], F.PROTOCOL),
    (
        "protocol-unknown",
        [(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *REST],
        F.PROTOCOL_NOT_SERVED,
    ),
    ("protocol-empty", [(b":method", b"CONNECT"), (b":protocol", b""), *REST], F.PROTOCOL),
    ("protocol-no-path", WEBSOCKET[:-1], F.PSEUDO_MISSING),
    ("protocol-length", [*WEBSOCKET, (b"content-length", b"4")], F.CONNECT),
    # Lengths.
    ("length-of-nothing", [*POST, (b"content-length", b"4")], F.LENGTH_WRONG),
    ("length-list", [*POST, (b"content-length", b"0, 0")], F.LENGTH_MALFORMED),
    ("length-plus", [*POST, (b"content-length", b"+0")], F.LENGTH_MALFORMED),
    ("length-minus", [*POST, (b"content-length", b"-1")], F.LENGTH_MALFORMED),
    ("length-hex", [*POST, (b"content-length", b"0x0")], F.LENGTH_MALFORMED),
    ("length-octal", [*POST, (b"content-length", b"00")], F.LENGTH_MALFORMED),
    ("length-underscore", [*POST, (b"content-length", b"1_0")], F.LENGTH_MALFORMED),
    ("length-empty", [*POST, (b"content-length", b"")], F.LENGTH_MALFORMED),
    ("length-huge", [*POST, (b"content-length", b"9" * 19)], F.LENGTH_MALFORMED),
    (
        "length-twice",
        [*POST, (b"content-length", b"0"), (b"content-length", b"0")],
        F.LENGTH_REPEATED,
    ),
    # Others.
    ("te-gzip", get((b"te", b"trailers, gzip")), F.FIELD_TE),
    ("te-chunked", get((b"te", b"chunked")), F.FIELD_TE),
    ("expect", [*POST, (b"expect", b"200-ok")], F.EXPECTATION),
    (
        "expect-twice",
        [*POST, (b"expect", b"100-continue"), (b"expect", b"100-continue")],
        F.EXPECTATION,
    ),
    ("max-forwards", [(b":method", b"TRACE"), *REST, (b"max-forwards", b"-1")], F.MAX_FORWARDS),
    (
        "max-forwards-list",
        [(b":method", b"OPTIONS"), *REST, (b"max-forwards", b"1, 0")],
        F.MAX_FORWARDS,
    ),
    ("fields-101", get(*[(b"x", b"y")] * 101), F.TOO_MANY_FIELDS),
    ("field-16k", get((b"x", b"y" * 16384)), F.FIELD_TOO_LARGE),
]

CASES = [
    *(
        (f"name-{place}", get((b"a", b"b"), (name, b"x")), fault)
        for place, (name, fault) in enumerate(NAMES)
    ),
    *((f"value-{value!r}", get((b"x-a", value)), F.FIELD_VALUE) for value in VALUES),
    *((f"cookie-{value!r}", get((b"cookie", value)), F.FIELD_VALUE) for value in VALUES[:9]),
    *HEADS,
]


@pytest.mark.parametrize(("name", "fields", "fault"), CASES, ids=[case[0] for case in CASES])
def test_malformed_head_is_refused_and_its_connection_goes_on(
    name: str, fields: list[tuple[bytes, bytes]], fault: Http2Fault
) -> None:
    del name
    end = server()
    came = head(1, fields)
    assert len(came) < 16384 + 600

    if len(came) <= 16384 + 9:
        events = feed(end, hello() + came + head(3, GET))
    else:
        events = [*feed(end, hello() + in_pieces(1, fields)), *feed(end, head(3, GET))]

    assert shown(events)[0] == ("malformed", 1, fault.code)
    assert shown(events)[1][:2] == ("request", 3)


def in_pieces(stream: int, fields: list[tuple[bytes, bytes]]) -> bytes:
    """A head in HEADERS and CONTINUATION."""
    from tests.unit.http2.http2_kit import (
        CONTINUATION,
        END_HEADERS,
        END_STREAM,
        HEADERS,
        literal,
        raw,
    )

    block = literal(fields)
    return raw(HEADERS, END_STREAM, stream, block[:9000]) + raw(
        CONTINUATION, END_HEADERS, stream, block[9000:]
    )


#: (fields, the target that HTTP/1 is asked for, further fields, how the body ends)
GOOD: list[tuple[str, ServedAs, list[tuple[bytes, bytes]], str, Framing]] = [
    ("get", SITE, GET, "GET /", NO_BODY),
    ("query", SITE, with_path(b"/a?b=c&d=%zz{}"), "GET /a?b=c&d=%zz{}", NO_BODY),
    ("host-alone", SITE, [*GET[:2], GET[3], (b"host", b"a.example")], "GET /", NO_BODY),
    ("host-agrees", SITE, get((b"host", b"A.example:443")), "GET /", NO_BODY),
    (
        "options",
        SITE,
        [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")],
        "OPTIONS *",
        NO_BODY,
    ),
    ("post-empty", SITE, [*POST, (b"content-length", b"0")], "POST /", Framing.of_length(0)),
    ("proxy", PROXY, GET, "GET https://a.example/", NO_BODY),
    (
        "proxy-http",
        PROXY,
        [GET[0], (b":scheme", b"http"), *GET[2:]],
        "GET http://a.example/",
        NO_BODY,
    ),
    ("proxy-connect", PROXY, CONNECT, "CONNECT a.example:443", NO_BODY),
    ("websocket", SITE, WEBSOCKET, "CONNECT /", NO_BODY),
]


@pytest.mark.parametrize(
    ("name", "served", "fields", "line", "framing"), GOOD, ids=[c[0] for c in GOOD]
)
def test_good_head_is_a_request_of_http_1(
    name: str, served: ServedAs, fields: list[tuple[bytes, bytes]], line: str, framing: Framing
) -> None:
    del name
    [event] = feed(server(served), hello() + head(1, fields))

    assert isinstance(event, RequestBegan)
    assert str(event.request) == line
    assert event.request.framing == framing
    assert event.request.authority is not None


def test_length_and_its_absence_are_lengths_and_chunks() -> None:
    fields = [*POST, (b"content-length", b"3")]
    events = feed(server(), hello() + head(1, fields, ends=False) + head(3, POST, ends=False))

    framings = [one.request.framing for one in events if isinstance(one, RequestBegan)]
    assert framings == [Framing.of_length(3), CHUNKED]


def test_crumbs_of_a_cookie_are_one_field_in_http_1() -> None:
    fields = get((b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d"))
    [event] = feed(server(), hello() + head(1, fields))

    assert isinstance(event, RequestBegan)
    assert event.request.fields.all(b"cookie") == [b"a=b; c=d"]


def test_credentials_for_the_proxy_are_its_own() -> None:
    fields = get((b"proxy-authorization", b"Basic eDp5"), (b"te", b"trailers"))
    [event] = feed(server(PROXY), hello() + head(1, fields))

    assert isinstance(event, RequestBegan)
    assert event.request.hop_fields == ((b"proxy-authorization", b"Basic eDp5"),)
    assert b"proxy-authorization" not in event.request.fields
    assert event.request.accepts_trailers


def test_reading_that_is_kept_is_the_reading_of_the_same_fields_only() -> None:
    end = server()
    first = get((b"x", b"y"), (b"cookie", b"a=b"))
    came = hello() + head(1, first) + head(3, get((b"x", b"z"))) + head(5, first)
    events = [one for one in feed(end, came) if isinstance(one, RequestBegan)]

    events[0].request.fields.set(b"x", b"changed")
    assert [one.request.fields.first(b"x") for one in events] == [b"changed", b"z", b"y"]


def test_head_that_does_not_fit_a_rule_is_told_by_its_status() -> None:
    [event] = feed(server(), hello() + head(1, get(*[(b"x", b"y")] * 101)))

    assert isinstance(event, MalformedRequest)
    assert event.fault.status == 431


def test_methods_without_a_body_have_none_unless_it_is_allowed() -> None:
    lenient = Http2Bounds()
    object.__setattr__(lenient.heads, "lets_any_method_have_a_body", True)
    refused = feed(server(), hello() + head(1, get((b"content-length", b"3")), ends=False))
    taken = feed(
        server(bounds=lenient), hello() + head(1, get((b"content-length", b"3")), ends=False)
    )

    assert shown(refused) == [("malformed", 1, F.LENGTH_WITHOUT_BODY.code)]
    assert shown(taken)[0][:2] == ("request", 1)


def test_what_is_accepted_is_one_request_for_our_own_reader_of_http_1() -> None:
    for name, served, fields, _, _ in GOOD:
        if name in {"websocket", "proxy-connect"}:
            continue
        [event] = feed(server(served), hello() + head(1, fields))
        assert isinstance(event, RequestBegan)
        written = write_request(event.request, closes=False)
        reader = Http1Server()
        reader.receive_data(written)
        read = reader.next_event()
        assert isinstance(read, Request)
        assert read.target == event.request.target
        assert list(read.fields) == [
            item for item in event.request.fields if item[0] != b"content-length"
        ]


def test_answers_go_out_in_lower_case_with_their_length() -> None:
    end = server()
    feed(end, hello() + head(1, GET))
    sent(end)
    peer = client()
    peer.send_head(Request(b"GET", Target.origin(b"/"), Fields([(b"Host", b"a")])), is_last=True)
    feed(peer, hello()[24:])

    end.send_head(
        1, Response(200, b"OK", Fields([(b"Server", b"x")]), framing=Framing.of_length(3))
    )
    end.send_data(1, b"abc")
    end.send_end(1, Fields([(b"Grpc-Status", b"0")]))
    events = feed(peer, b"".join(bytes(piece) for piece in end.take_output()))

    assert shown(events) == [
        ("response", 1, 200, ((b"server", b"x"),), Framing.of_length(3), False),
        ("data", 1, b"abc"),
        ("end", 1, ((b"grpc-status", b"0"),)),
    ]


def test_last_data_and_the_end_are_one_frame() -> None:
    end = server()
    feed(end, hello() + head(1, GET))
    end.send_head(1, Response(200, framing=CHUNKED))
    end.send_data(1, b"abc")
    end.send_end(1)

    assert sent(end)[-1] == (0, 1, 1, b"abc")


def test_trailers_of_a_request_reach_its_end() -> None:
    came = head(1, POST, ends=False) + data(1, b"abc") + head(1, [(b"x-sum", b"6")])
    events = shown(feed(server(), hello() + came))

    assert events[1:] == [("data", 1, b"abc"), ("end", 1, ((b"x-sum", b"6"),))]
