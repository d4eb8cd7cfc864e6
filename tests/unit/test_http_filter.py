"""The HTTP filter: each knob, one line a case, and bodies cut everywhere."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate.bundled.http_filter import HttpFilter, HttpFilterSettings
from sluicegate.bundled.http_signatures import BodyScan, Signature
from sluicegate.testing import PlayedExchange, exchange_web


def play(
    chosen: dict[str, object],
    line: str = "GET / HTTP/1.1",
    *fields: str,
    body: bytes = b"",
    answer: bytes = b"",
    answer_fields: tuple[str, ...] = (),
    piece_bytes: int = 0,
) -> PlayedExchange:
    length = (f"Content-Length: {len(body)}",) if body else ()
    head = "\r\n".join([line, "Host: www.example", *length, *fields, "", ""])
    lines = "\r\n".join(
        ["HTTP/1.1 200 OK", f"Content-Length: {len(answer)}", *answer_fields, "", ""]
    )
    web_filter = HttpFilter(HttpFilterSettings.model_validate(chosen))
    return exchange_web(
        web_filter,
        head.encode("latin-1") + body,
        lines.encode("latin-1") + answer,
        piece_bytes=piece_bytes,
    )


def get(target: str) -> str:
    return f"GET {target} HTTP/1.1"


METHOD = "the method is not allowed by the HTTP filter"
EXTENSION = "the extension is not allowed by the HTTP filter"
AMBIGUOUS = "the path has more than one part with an extension"
TWICE = "the URL changes when it is decoded twice"
LONG_URL = "the URL is longer than the HTTP filter allows"
LONG_QUERY = "the query is longer than the HTTP filter allows"
HIGH = "the URL has bytes beyond ASCII"


@pytest.mark.parametrize(
    ("chosen", "line", "status", "reason"),
    [
        ({}, get("/a?b"), 200, ""),
        # Methods.
        ({"methods_allowed": ["GET"]}, get("/"), 200, ""),
        ({"methods_allowed": ["GET"]}, "HEAD / HTTP/1.1", 405, METHOD),
        ({"methods_denied": ["TRACE"]}, "TRACE / HTTP/1.1", 405, METHOD),
        ({"methods_allowed": ["GET"], "methods_denied": ["GET"]}, get("/"), 405, METHOD),
        # Extensions.
        ({"extensions_denied": [".exe"]}, get("/a.exe"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.EXE?x"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a%2eexe"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.e%78e"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.exe;v=1"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.exe."), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.exe%20"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.exe::$DATA"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a.exe%00.txt"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/.exe"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/a%5cb.exe"), 403, EXTENSION),
        ({"extensions_denied": [".exe"]}, get("/exe"), 200, ""),
        ({"extensions_denied": [".exe"]}, get("/a.exe.txt"), 200, ""),
        ({"extensions_denied": [".exe"]}, get("/a?b=c.exe"), 200, ""),
        ({"extensions_allowed": [".html"]}, get("/a.html"), 200, ""),
        ({"extensions_allowed": [".html"]}, get("/a"), 200, ""),
        ({"extensions_allowed": [".html"]}, get("/a.php"), 403, EXTENSION),
        ({"ambiguous_extensions": "refuse"}, get("/a.exe/b"), 403, AMBIGUOUS),
        ({"ambiguous_extensions": "refuse"}, get("/a.exe%2fb"), 403, AMBIGUOUS),
        ({"ambiguous_extensions": "refuse"}, get("/a/b.txt"), 200, ""),
        ({}, get("/a.exe/b"), 200, ""),
        ({}, "OPTIONS * HTTP/1.1", 200, ""),
        # Normalization and high bits.
        ({}, get("/a%2541"), 403, TWICE),
        ({}, get("/a?b=%2541"), 403, TWICE),
        ({}, get("/a?b=%25zz"), 200, ""),
        ({}, get("/100%25"), 200, ""),
        ({"normalization": "pass"}, get("/a%2541"), 200, ""),
        ({"high_bit": "refuse"}, get("/%c3%a9"), 403, HIGH),
        ({"high_bit": "refuse"}, get("/a?b=%ff"), 403, HIGH),
        ({"high_bit": "refuse"}, get("/a%7f"), 200, ""),
        ({}, get("/%c3%a9"), 200, ""),
        # Sizes.
        ({"url_bytes_max": 8}, get("/1234567"), 200, ""),
        ({"url_bytes_max": 8}, get("/12345678"), 414, LONG_URL),
        ({"query_bytes_max": 3}, get("/aaaaaa?123"), 200, ""),
        ({"query_bytes_max": 3}, get("/?1234"), 414, LONG_QUERY),
        ({"headers_bytes_max": 64}, get("/"), 200, ""),
        (
            {"headers_bytes_max": 64},
            get("/" + "a" * 64),
            431,
            "the headers are larger than the HTTP filter allows",
        ),
    ],
)  # fmt: skip
def test_what_a_url_may_be(chosen: dict[str, object], line: str, status: int, reason: str) -> None:
    seen = play(chosen, line)
    assert (seen.status, seen.reason) == (status, reason)
    assert (seen.request is None) == bool(reason)


def test_no_refusal_tells_what_the_client_sent() -> None:
    for line in (get("/secret.exe"), get("/secret%2541"), "SECRET / HTTP/1.1"):
        seen = play({"extensions_denied": [".exe"], "methods_denied": ["SECRET"]}, line)
        assert seen.verdict == "refused"
        assert "secret" not in seen.reason.lower()
        assert "secret" in seen.detail.lower()


def signature(place: str, text: str = "evil", **more: object) -> dict[str, object]:
    return {"signatures": [{"name": "S", "place": place, "text": text, **more}]}


IN_URL = "the HTTP filter found 'S' in the URL"
IN_HEADERS = "the HTTP filter found 'S' in the headers"
IN_BODY = "the HTTP filter found 'S' in the body"


@pytest.mark.parametrize(
    ("chosen", "line", "fields", "reason"),
    [
        (signature("url"), get("/evil"), (), IN_URL),
        (signature("url"), get("/EVIL"), (), IN_URL),
        (signature("url"), get("/ev%69l"), (), IN_URL),
        (signature("url", "%69"), get("/ev%69l"), (), IN_URL),
        (signature("url", ignore_case=False), get("/EVIL"), (), ""),
        (signature("url", "\u00e9"), get("/%C3%A9"), (), IN_URL),
        (signature("url"), get("/"), ("X: evil",), ""),
        (signature("request-header"), get("/"), ("X: is evil",), IN_HEADERS),
        (signature("request-header"), get("/"), ("X-Evil: a",), IN_HEADERS),
        (signature("request-header", header="Y"), get("/"), ("X: evil",), ""),
        (signature("request-header", header="y"), get("/"), ("Y: a", "Y: evil"), IN_HEADERS),
        (signature("response-header"), get("/"), ("X: evil",), ""),
        ({"request_headers_denied": ["X-Bad"]}, get("/"), ("x-bad: 1",),
         "the HTTP filter does not allow the header X-Bad"),
    ],
)  # fmt: skip
def test_signatures_and_headers_of_requests(
    chosen: dict[str, object], line: str, fields: tuple[str, ...], reason: str
) -> None:
    assert play(chosen, line, *fields).reason == reason


@pytest.mark.parametrize(
    ("chosen", "fields", "reason", "server"),
    [
        (signature("response-header"), ("X: evil",), IN_HEADERS, None),
        (signature("request-header"), ("X: evil",), "", None),
        ({"response_headers_denied": ["X-Debug"]}, ("X-Debug: 1",),
         "the HTTP filter does not allow the header X-Debug", None),
        ({}, ("Server: Apache/2",), "", b"Apache/2"),
        ({"server_header": ""}, ("Server: Apache/2",), "", None),
        ({"server_header": "web"}, ("Server: Apache/2",), "", b"web"),
        ({"server_header": "web"}, (), "", b"web"),
    ],
)  # fmt: skip
def test_headers_of_responses(
    chosen: dict[str, object], fields: tuple[str, ...], reason: str, server: bytes | None
) -> None:
    seen = play(chosen, answer_fields=fields)
    assert seen.reason == reason
    if seen.response is not None:
        assert seen.response.fields.first(b"server") == server


@pytest.mark.parametrize("piece_bytes", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("chosen", "body", "is_refused"),
    [
        (signature("x-body"), b"is EVIL", True),
        (signature("x-body"), b"is ev il", False),
        (signature("x-body", from_byte=3), b"is evil", True),
        (signature("x-body", from_byte=4), b"is evil", False),
        (signature("x-body", to_byte=7), b"is evil", True),
        (signature("x-body", to_byte=6), b"is evil", False),
        (signature("x-body"), b"x" * 96 + b"evil", True),
        (signature("x-body"), b"x" * 97 + b"evil", False),
        (signature("x-body", "", hex="00ff"), b"a\x00\xff", True),
        (signature("x-body"), "\ufeffis EVIL".encode("utf-16-le"), True),
        (signature("x-body"), "is evil".encode("utf-16-be"), True),
        (signature("x-body", to_byte=12), "is evil".encode("utf-16-be"), False),
        (signature("x-body", "", hex="6576696c"), "is evil".encode("utf-16-be"), False),
    ],
)  # fmt: skip
def test_signatures_in_bodies(
    chosen: dict[str, object], body: bytes, is_refused: bool, piece_bytes: int
) -> None:
    chosen["signatures"][0]["place"] = "request-body"  # type: ignore[index]
    seen = play(chosen, "POST / HTTP/1.1", body=body, piece_bytes=piece_bytes)
    assert seen.reason == (IN_BODY if is_refused else "")
    assert seen.request_body == (b"" if is_refused else body)
    chosen["signatures"][0]["place"] = "response-body"  # type: ignore[index]
    seen = play(chosen, answer=body, piece_bytes=piece_bytes)
    assert (seen.reason, seen.status) == ((IN_BODY, 403) if is_refused else ("", 200))
    assert seen.body == (b"" if is_refused else body)


def test_a_signature_is_found_in_a_body_that_is_compressed() -> None:
    chosen = signature("response-body")
    coded = gzip.compress(b"is evil")
    assert play(chosen, answer=coded, answer_fields=("Content-Encoding: gzip",)).reason == IN_BODY


def test_a_slice_of_a_body_is_refused_where_bodies_are_searched() -> None:
    seen = exchange_web(
        HttpFilter(HttpFilterSettings.model_validate(signature("response-body"))),
        response=b"HTTP/1.1 206 Part\r\nContent-Length: 1\r\nContent-Range: bytes 1-1/9\r\n\r\nx",
    )
    assert (seen.verdict, seen.reason) == ("refused", "a part of an object")


def test_readers_of_streams_have_every_piece_that_is_no_beginning() -> None:
    chosen = HttpFilterSettings.model_validate(signature("response-body", to_byte=5000))
    seen = exchange_web(
        HttpFilter(chosen),
        response=b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n6\r\ndata e\r\n3\r\nvil\r\n0\r\n\r\n",
    )
    assert (seen.verdict, seen.reason, seen.body) == ("refused", IN_BODY, b"data ")


@pytest.mark.parametrize("piece_bytes", [0, 1, 3, 5])
@pytest.mark.parametrize(
    ("executables", "body", "is_refused"),
    [
        ("windows", b"MZ\x90\x00 rest", True),
        ("windows", b"MZ", True),
        ("windows", b"M", False),
        ("windows", b" MZ\x90", False),
        ("windows", b"\x7fELF\x02", False),
        ("all", b"\x7fELF\x02", True),
        ("all", b"\xca\xfe\xba\xbe\x00\x00\x00\x02" + b"\0" * 60, True),
        ("all", b"\xca\xfe\xba\xbe\x00\x00\x00\x41" + b"\x01" * 60, False),
        ("all", b"hello", False),
        ("pass", b"MZ\x90\x00", False),
    ],
)
def test_executables_in_responses(
    executables: str, body: bytes, is_refused: bool, piece_bytes: int
) -> None:
    seen = play({"executables": executables}, answer=body, piece_bytes=piece_bytes)
    assert (seen.verdict == "refused") is is_refused
    assert seen.body == (b"" if is_refused else body)


@pytest.mark.parametrize("piece_bytes", [0, 1, 4])
def test_size_of_a_body(piece_bytes: int) -> None:
    chosen = {"body_bytes_max": 5}
    line = "POST / HTTP/1.1"
    assert play(chosen, line, body=b"12345", piece_bytes=piece_bytes).status == 200
    assert play(chosen, line, body=b"123456", piece_bytes=piece_bytes).status == 413
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n"
    )
    web_filter = HttpFilter(HttpFilterSettings.model_validate(chosen))
    seen = exchange_web(web_filter, chunked, piece_bytes=piece_bytes)
    assert (seen.verdict, seen.status) == ("refused", 413)
    assert not seen.request_body or seen.response is None


PARTS = st.lists(
    st.sampled_from([b"e", b"ev", b"evil", b"EVI", b"x", b"\0\xff", b"yy"]), max_size=30
)


@settings(max_examples=300, deadline=None)
@given(
    PARTS.map(b"".join),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 20),
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
)
def test_what_is_found_does_not_depend_on_the_cuts(
    body: bytes, sizes: list[int], start: int, length: int, ignore_case: bool, is_stream: bool
) -> None:
    wanted = Signature.model_validate(
        {
            "name": "S",
            "place": "response-body",
            "text": "evil",
            "from_byte": start,
            "to_byte": start + 4 + length,
            "ignore_case": ignore_case,
        }
    )
    scan = BodyScan([wanted], "pass", is_stream=is_stream)
    held, passed, at, turn, found = b"", b"", 0, 0, ""
    while not found and at <= len(body):
        piece = body[at : at + sizes[turn % len(sizes)]]
        is_last = not piece
        at, turn, held = at + len(piece) or at, turn + 1, held + piece
        answer = scan.judge(held, is_last=is_last)
        if isinstance(answer, str):
            found = answer
        else:
            passed, held = passed + held[:answer], held[answer:]
            if is_last:
                break
            if is_stream:
                assert len(held) < 4
    searched = body[start : start + 4 + length]
    is_there = b"evil" in (searched.lower() if ignore_case else searched)
    assert (found == "S") is is_there
    if is_there:
        # Nothing of it has gone on.
        first = start + (searched.lower() if ignore_case else searched).find(b"evil")
        assert len(passed) <= first
    else:
        assert passed == body


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods_allowed": ["get"]},
        {"extensions_denied": ["exe"]},
        {"extensions_denied": [".EXE"]},
        {"request_headers_denied": ["X Y"]},
        {"server_header": "a\r\nb"},
        {"server_header": " a"},
        {"url_bytes_max": 0},
        {"unknown": 1},
        signature("url", ""),
        signature("url", "a", hex="00"),
        signature("url", "", hex="0"),
        signature("url", header="X"),
        signature("response-body", "abcdef", to_byte=5),
        signature("response-body", to_byte=1 << 20),
        signature("elsewhere"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_when_they_are_read(
    wrong: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        HttpFilterSettings.model_validate(wrong)
