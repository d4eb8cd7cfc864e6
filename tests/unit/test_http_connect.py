"""HTTP CONNECT: one strict head, raw destinations, credentials, answers that reflect nothing."""

from __future__ import annotations

import base64
import http.client
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import BadContext, ProtocolError
from sluicegate.protocol_limits import (
    CONNECT_FIELDS_MAX,
    CONNECT_HEAD_BYTES_MAX,
    CONNECT_LINE_BYTES_MAX,
)
from sluicegate.protocols.entry import Credentials, Destination, HostKind
from sluicegate.protocols.http_connect import HttpConnectParser, HttpConnectRequest
from sluicegate.protocols.http_connect_answer import ConnectAnswer, encode_connect_answer
from tests.unit.entry_kit import CUTS, EARLY_MAX, fragments, hint_of, run

HOST = b"Host: a.example:443\r\n"
MALFORMED = encode_connect_answer(ConnectAnswer.MALFORMED)


def head(*fields: bytes, line: bytes = b"CONNECT a.example:443 HTTP/1.1") -> bytes:
    return b"".join(one + b"\r\n" for one in (line, *fields)) + b"\r\n"


def request_of(data: bytes) -> HttpConnectRequest:
    [request, _] = run(HttpConnectParser(), data)
    assert isinstance(request, HttpConnectRequest)
    return request


def target(text: bytes, version: bytes = b"HTTP/1.0") -> bytes:
    return head(line=b"CONNECT " + text + b" " + version)


@pytest.mark.parametrize(
    ("text", "kind", "host", "port"),
    [
        (b"a.example:443", HostKind.TEXT, b"a.example", 443),
        (b"A.Example.:1", HostKind.TEXT, b"A.Example.", 1),
        (b"a_b.example:65535", HostKind.TEXT, b"a_b.example", 65535),
        (b"127.0.0.1:80", HostKind.TEXT, b"127.0.0.1", 80),
        (b"0x7f.1:80", HostKind.TEXT, b"0x7f.1", 80),
        (b"2130706433:80", HostKind.TEXT, b"2130706433", 80),
        (b"%61.example:80", HostKind.TEXT, b"%61.example", 80),
        (b"%2561.example:80", HostKind.TEXT, b"%2561.example", 80),
        (b"..:80", HostKind.TEXT, b"..", 80),
        (b"[::1]:80", HostKind.BRACKETED, b"::1", 80),
        (b"[fe80::1%25lo]:80", HostKind.BRACKETED, b"fe80::1%25lo", 80),
        (b"[a.example]:80", HostKind.BRACKETED, b"a.example", 80),
    ],
)
def test_host_text_is_split_off_raw(text: bytes, kind: HostKind, host: bytes, port: int) -> None:
    assert request_of(target(text)).destination == Destination(kind, host, port)


@pytest.mark.parametrize(
    "text",
    [
        b"a.example", b"a.example:", b"a.example:0", b"a.example:65536", b"a.example:99999",
        b"a.example:+80", b"a.example:080", b"a.example:80,443", b"a.example:8_0",
        b"a.example:0x50",
        b"a.example:100000", b"a.example:-80", b":80", b"[]:80", b"[::1]", b"[::1]80", b"[::1:80",
        b"::1:80", b"fe80::1:80", b"[::1]]:80", b"[[::1]]:80", b"x[::1]:80", b"[::1]x:80",
        b"allowed@evil:80", b"evil#@allowed:80", b"evil\\@allowed:80", b"a:b@evil:80",
        b"a.example,b.example:80", b"a.example;b:80", b"a.example#:80", b"a.example:80#f",
        b"a.example?:80", b"a.example:80?q", b"a.example/:80", b"a.example:80/", b"*:80", b"*",
        b"http://a.example:80/", b"//a.example:80", b"a.example:80:443", b"a'example:80",
        b"a!b:80", b"(a):80", b"a&b:80", b"a=b:80", b"a$b:80", b"a+b:80", b'"a":80', b"<a>:80",
        b"a|b:80", b"a^b:80", b"{a}:80", b"a`b:80",
    ],
)  # fmt: skip
def test_target_that_is_not_host_and_port_is_refused(text: bytes) -> None:
    hint = hint_of(HttpConnectParser, target(text))

    assert hint == "the target is not host:port" or "port is above 65535" in hint


@pytest.mark.parametrize(
    "byte", [bytes((one,)) for one in range(256) if not 0x30 <= one <= 0x7A and one not in b"%-.~"]
)
def test_byte_that_no_host_has_is_refused_wherever_it_stands(byte: bytes) -> None:
    for host in (byte + b"a.example", b"a" + byte + b"example", b"a.example" + byte):
        assert hint_of(HttpConnectParser, target(host + b":80"))
    assert hint_of(HttpConnectParser, target(b"[::1" + byte + b"]:80"))


@pytest.mark.parametrize(
    "host", ["\uff41.example", "a\u3002example", "\u2460.example", "ex\u0430mple.com"]
)
def test_host_beyond_ascii_is_refused(host: str) -> None:
    assert "above 126" in hint_of(HttpConnectParser, target(host.encode() + b":80"))


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT a.example:443",
        b"CONNECT  a.example:443 HTTP/1.1",
        b"CONNECT a.example:443  HTTP/1.1",
        b"CONNECT a.example:443 HTTP/1.1 ",
        b" CONNECT a.example:443 HTTP/1.1",
        b"CONNECT\ta.example:443 HTTP/1.1",
        b"CONNECT a.example:443\tHTTP/1.1",
        b"CONNECT a.exam ple:443 HTTP/1.1",
        b"CONNECT a.example: 443 HTTP/1.1",
        b"CONNECT a.example:443 HTTP/1.10",
        b"CONNECT a.example:443 HTTP/2.0",
        b"CONNECT a.example:443 HTTP/0.9",
        b"CONNECT a.example:443 HTTP/1.",
        b"CONNECT a.example:443 HTTP/1.2",
        b"CONNECT a.example:443 http/1.1",
        b"CONNECT a.example:443 HTTP/01.1",
        b"connect a.example:443 HTTP/1.1",
        b"CONNECT: a.example:443 HTTP/1.1",
        b"CON(NECT a.example:443 HTTP/1.1",
        b"GET a.example:443 HTTP/1.1",
        b"GET http://a.example/ HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"",
        b"X" * 10240 + b" a.example:443 HTTP/1.1",
        b"CONNECT " + b"a" * 65536 + b":443 HTTP/1.1",
    ],
)
def test_request_line_that_is_not_an_exact_connect_is_refused(line: bytes) -> None:
    assert hint_of(HttpConnectParser, head(HOST[:-2], line=line))


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (b"Host: a.example:443\n\r\n", "LF without CR"),
        (b"Host: a.example:443\r\n\n", "LF without CR"),
        (b"Host: a.example:443\r\r\n\r\n", "control character"),
        (b"Host: a.ex\rample:443\r\n\r\n", "control character"),
        (b"X: a\0b\r\n\r\n", "control character"),
        (b"X\0: a\r\n\r\n", "control character"),
        (b"X: a\x0bb\r\n\r\n", "control character"),
        (b"X: a\x7f\r\n\r\n", "control character"),
        (b"X: \xa0a\r\n\r\n", "above 126"),
        (b"X: a\x85\r\n\r\n", "above 126"),
        (b"X\xe9: a\r\n\r\n", "above 126"),
        (b": a\r\n\r\n", "not a token"),
        (b"Host : a.example:443\r\n\r\n", "not a token"),
        (b"Host\t: a.example:443\r\n\r\n", "not a token"),
        (b"X Y: a\r\n\r\n", "not a token"),
        (b"X[]: a\r\n\r\n", "not a token"),
        (b"no colon\r\n\r\n", "no colon"),
        (b" Host: a.example:443\r\n\r\n", "white space"),
        (b"\tHost: a.example:443\r\n\r\n", "white space"),
        (HOST + b" folded\r\n\r\n", "white space"),
        (HOST + b"X: a\r\n\tfolded\r\n\r\n", "white space"),
        (HOST + b"\xa0X: a\r\n\r\n", "above 126"),
        (HOST + b"Content-Length: 5\r\n\r\nhello", "content-length"),
        (HOST + b"Content-Length: 0\r\n\r\n", "content-length"),
        (HOST + b"content-length:\r\n\r\n", "content-length"),
        (HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
        (HOST + b"TRANSFER-ENCODING: identity\r\n\r\n", "transfer-encoding"),
        (HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", "content-length"),
        (HOST + b"Expect: 100-continue\r\n\r\n", "expect"),
        (b"\r\n", "exactly one Host"),
        (HOST + HOST + b"\r\n", "exactly one Host"),
        (HOST + b"hOST: a.example\r\n\r\n", "exactly one Host"),
        (b"Host:\r\n\r\n", "does not name the target"),
        (b"Host: evil.example:443\r\n\r\n", "does not name the target"),
        (b"Host: a.example:80\r\n\r\n", "does not name the target"),
        (b"Host: a.example:0443\r\n\r\n", "does not name the target"),
        (b"Host: a.example:\r\n\r\n", "does not name the target"),
        (b"Host: a.example.\r\n\r\n", "does not name the target"),
        (b"Host: a.example/\r\n\r\n", "does not name the target"),
        (b"Host: user@a.example\r\n\r\n", "does not name the target"),
        (b"Host: a.example:443, b.example\r\n\r\n", "does not name the target"),
    ],
)
def test_head_that_others_might_read_otherwise_is_refused(lines: bytes, word: str) -> None:
    assert word in hint_of(HttpConnectParser, b"CONNECT a.example:443 HTTP/1.1\r\n" + lines)


def test_first_line_may_not_be_empty() -> None:
    assert "empty" in hint_of(HttpConnectParser, b"\r\n" + head(HOST[:-2]))


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (head(b"Host: a.example:443"), ((b"host", b"a.example:443"),)),
        (head(b"host:\tA.EXAMPLE \t"), ((b"host", b"A.EXAMPLE"),)),
        (
            head(b"Host: a.example", b"X-Empty:", b"User-Agent: a\tb  c"),
            ((b"host", b"a.example"), (b"x-empty", b""), (b"user-agent", b"a\tb  c")),
        ),
        (head(line=b"CONNECT a.example:443 HTTP/1.0"), ()),
    ],
)
def test_fields_are_trimmed_and_named_in_lower_case(
    data: bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    request = request_of(data)

    assert request.fields == fields
    assert request.is_http_1_1 is (b"HTTP/1.1" in data)


@pytest.mark.parametrize("host", [b"[::1]", b"[::1]:443", b"[::A]"])
def test_bracketed_targets_have_a_bracketed_host(host: bytes) -> None:
    line = b"CONNECT " + (b"[::a]:443" if b"A" in host else b"[::1]:443") + b" HTTP/1.1"

    assert request_of(head(b"Host: " + host, line=line)).destination.kind is HostKind.BRACKETED
    assert hint_of(HttpConnectParser, head(b"Host: " + host.strip(b"[]"), line=line))


def test_bytes_behind_the_head_are_kept_for_the_tunnel() -> None:
    second = b"CONNECT other.example:80 HTTP/1.1\r\n\r\n"

    [request, early] = run(HttpConnectParser(), head(HOST[:-2]) + second)

    assert str(request) == "CONNECT a.example:443"
    assert early == second


def test_early_bytes_are_bounded() -> None:
    parser = HttpConnectParser(early_bytes_max=EARLY_MAX)

    *_, hint, refusal = run(parser, head(HOST[:-2]) + b"x" * (EARLY_MAX + 1))

    assert hint == "more than 40 bytes came before the answer"
    assert refusal == MALFORMED


def test_bytes_before_the_end_of_the_head_are_nobodys() -> None:
    parser = HttpConnectParser()
    parser.receive_data(b"CONNECT a.example:443 HTTP/1.1\r\n")

    assert parser.next_event() is None
    assert parser.refusal == b""
    with pytest.raises(BadContext):
        parser.take_early_data()


def test_bounds_hold_exactly() -> None:
    line_room = b"X: " + b"a" * (CONNECT_LINE_BYTES_MAX - 3)
    assert request_of(head(HOST[:-2], line_room))
    assert "a line is longer" in hint_of(HttpConnectParser, head(HOST[:-2], line_room + b"a"))

    fill = CONNECT_HEAD_BYTES_MAX - len(head(HOST[:-2], line_room, b"Y: "))
    assert request_of(head(HOST[:-2], line_room, b"Y: " + b"a" * fill))
    over = head(HOST[:-2], line_room, b"Y: " + b"a" * (fill + 1))
    assert "the head is longer" in hint_of(HttpConnectParser, over)

    many = [b"X%d: a" % number for number in range(CONNECT_FIELDS_MAX - 1)]
    assert request_of(head(HOST[:-2], *many))
    assert "fields" in hint_of(HttpConnectParser, head(HOST[:-2], *many, b"Y: a"))


def test_head_that_never_ends_is_refused_before_it_ends() -> None:
    assert "line is longer" in hint_of(HttpConnectParser, b"C" * (CONNECT_LINE_BYTES_MAX + 2))


def basic(text: bytes, scheme: bytes = b"Basic ") -> bytes:
    return b"Proxy-Authorization: " + scheme + base64.b64encode(text)


@pytest.mark.parametrize(
    ("field", "credentials"),
    [
        (basic(b"ann:open sesame"), Credentials(b"ann", b"open sesame")),
        (basic(b"ann:a:b"), Credentials(b"ann", b"a:b")),
        (basic(b"ann:", b"basic  "), Credentials(b"ann", b"")),
        (basic(b":", b"BASIC "), Credentials(b"", b"")),
        (basic("ann:pä".encode()), Credentials(b"ann", "pä".encode())),
        (b"Proxy-Authorization: Bearer abc", None),
        (b"Proxy-Authorization: Negotiate YII=", None),
        (b"Proxy-Authorization: Basicx YTpi", None),
        (b"Proxy-Authorization:", None),
        (b"Authorization: Basic YTpi", None),
    ],
)
def test_basic_credentials_are_decoded(field: bytes, credentials: Credentials | None) -> None:
    request = request_of(head(HOST[:-2], field))

    assert request.credentials == credentials
    assert b"proxy-authorization" not in dict(request.fields)


@pytest.mark.parametrize(
    "field",
    [
        basic(b"no colon"),
        basic(b"ann:a\0b"),
        basic(b"ann:a\nb"),
        basic(b"an\x7fn:a"),
        b"Proxy-Authorization: Basic",
        b"Proxy-Authorization: Basic YTpi YTpi",
        b"Proxy-Authorization: Basic YTpiYw",
        b"Proxy-Authorization: Basic YTpiYx==",
        b"Proxy-Authorization: Basic YTpi=",
        b"Proxy-Authorization: Basic YT-i",
        b"Proxy-Authorization: Basic YTpi, Basic YTpi",
        b"Proxy-Authorization: Basic YTpi\r\nProxy-Authorization: Basic YTpi",
    ],
)
def test_credentials_that_decoders_read_differently_are_refused(field: bytes) -> None:
    assert "Proxy-Authorization" in hint_of(HttpConnectParser, head(HOST[:-2], field))


def test_requests_are_fit_for_logs() -> None:
    request = request_of(head(HOST[:-2], basic(b"ann:secret")))

    shown = f"{request} {request!r}"

    assert "secret" not in shown
    assert base64.b64encode(b"ann:secret").decode() not in shown


class FakeSocket:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@pytest.mark.parametrize("answer", list(ConnectAnswer))
def test_every_answer_reads_back_with_the_standard_client(answer: ConnectAnswer) -> None:
    response = http.client.HTTPResponse(FakeSocket(encode_connect_answer(answer)), method="CONNECT")  # type: ignore[arg-type]
    response.begin()

    assert (response.status, response.reason) == (answer.status, answer.phrase)
    established = answer is ConnectAnswer.ESTABLISHED
    assert (response.headers.items() == []) is established
    if not established:
        assert response.read().decode() == f"{answer.text}\n"
        assert response.headers["Connection"] == "close"
        assert ("Proxy-Authenticate" in response.headers) is (answer.status == 407)


def test_every_status_of_the_contract_exists() -> None:
    assert {answer.status for answer in ConnectAnswer} == {200, 400, 403, 407, 502, 503, 504}


@pytest.mark.parametrize(
    ("reference", "is_shown"),
    [("c-1a2B", True), ("", False), ("<b>", False), ("a\r\nX: y", False), ("x" * 65, False)],
)
def test_reference_is_shown_only_if_it_is_an_identifier(reference: str, is_shown: bool) -> None:
    answer = encode_connect_answer(ConnectAnswer.NOT_ALLOWED, reference)

    assert (b"Reference:" in answer) is is_shown
    assert answer.count(b"\r\n\r\n") == 1


STREAMS = fragments(
    b"CONNECT ", b"a.example:443", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host: a.example\r\n",
    b"Host: a.example:443\r\n", b"CONNECT a.example:443 HTTP/1.1\r\n", b"\r\n\r\n", b"X: y", b" ",
    b"Content-Length: 0\r\n", b"Proxy-Authorization: Basic YTpi\r\n", b"\0", b"\xff", b"z" * 30,
)  # fmt: skip
WORDS = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789.-_%", min_size=1, max_size=40)


def small() -> Any:
    return HttpConnectParser(line_bytes_max=60, head_bytes_max=150, early_bytes_max=EARLY_MAX)


@given(STREAMS, CUTS)
def test_every_cut_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert run(small(), data, cuts) == run(small(), data)


@given(st.lists(st.integers(0, 70), max_size=6), CUTS)
def test_every_cut_reaches_the_same_bound_first(lengths: list[int], cuts: list[int]) -> None:
    data = head(HOST[:-2], *(b"X:" + b"a" * length for length in lengths))

    assert run(small(), data, cuts) == run(small(), data)


@given(STREAMS)
def test_arbitrary_bytes_raise_only_protocol_errors(data: bytes) -> None:
    for found in run(small(), data):
        if isinstance(found, HttpConnectRequest):
            assert 1 <= found.destination.port <= 65535
            assert found.destination.host.isascii()


@given(WORDS, st.integers(1, 65535), st.binary(max_size=EARLY_MAX))
def test_written_requests_read_back(host: str, port: int, early: bytes) -> None:
    authority = f"{host}:{port}".encode()
    data = head(b"Host: " + authority, line=b"CONNECT " + authority + b" HTTP/1.1")

    [request, rest] = run(HttpConnectParser(), data + early)

    assert isinstance(request, HttpConnectRequest)
    assert request.destination == Destination(HostKind.TEXT, host.encode(), port)
    assert rest == early


def test_first_error_is_final() -> None:
    parser = HttpConnectParser()
    parser.receive_data(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ProtocolError) as first:
        parser.next_event()
    parser.receive_data(head(HOST[:-2]))
    with pytest.raises(ProtocolError) as second:
        parser.next_event()
    assert second.value is first.value
    assert parser.refusal == MALFORMED
