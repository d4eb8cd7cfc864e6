"""Header rewriting and size limits."""

from __future__ import annotations

import gzip

import pytest
from pydantic import ValidationError

from sluicegate.bundled.header_rewriting import HeaderRewriting, HeaderRewritingSettings
from sluicegate.bundled.size_limit import SizeLimit, SizeLimitSettings
from sluicegate.testing import PlayedExchange, exchange_web

REQUEST = (
    b"GET http://WWW.Example:8080/a HTTP/1.1\r\nHost: WWW.Example:8080\r\n"
    b"X-A: one\r\nX-A: two\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nSet-Cookie: a=1; Path=/\r\n"
    b"Set-Cookie: b=2; Secure\r\nX-Powered-By: PHP\r\n\r\n"
)


def play(*rules: dict[str, object]) -> PlayedExchange:
    chosen = HeaderRewritingSettings.model_validate({"rules": rules})
    return exchange_web(HeaderRewriting(chosen), REQUEST, RESPONSE)


def rule(on: str, action: str, name: str, value: str = "", **more: object) -> dict[str, object]:
    return {"on": on, "action": action, "name": name, "value": value, **more}


@pytest.mark.parametrize(
    ("one", "name", "values"),
    [
        (rule("request", "set", "X-A", "three"), b"x-a", [b"three"]),
        (rule("request", "set", "X-A", "three", if_absent=True), b"x-a", [b"one", b"two"]),
        (rule("request", "set", "X-B", "three", if_absent=True), b"x-b", [b"three"]),
        (rule("request", "add", "X-A", "three"), b"x-a", [b"one", b"two", b"three"]),
        (rule("request", "remove", "x-a"), b"x-a", []),
        (rule("request", "edit", "X-A", r"<\1>", pattern="(o)"), b"x-a", [b"<o>ne", b"tw<o>"]),
        (rule("request", "edit", "X-A", "", pattern="^one$"), b"x-a", [b"", b"two"]),
        (rule("request", "edit", "X-None", "x", pattern="y"), b"x-none", []),
        (rule("request", "set", "X-C", "${client}"), b"x-c", [b"10.1.1.1"]),
        (rule("request", "set", "X-C", "${scheme}://${host}:${port} $$5"), b"x-c",
         [b"http://www.example:8080 $5"]),
        (rule("request", "set", "X-C", "<${user}>"), b"x-c", [b"<>"]),
        (rule("request", "set", "X-C", "${exchange}"), b"x-c", [b"x-1"]),
        (rule("response", "set", "X-A", "three"), b"x-a", [b"one", b"two"]),
    ],
)  # fmt: skip
def test_what_a_rule_does_to_a_request(
    one: dict[str, object], name: bytes, values: list[bytes]
) -> None:
    seen = play(one)
    assert seen.verdict == "passed"
    assert seen.request is not None
    assert seen.request.fields.all(name) == values


@pytest.mark.parametrize(
    ("one", "name", "values"),
    [
        (rule("response", "remove", "X-Powered-By"), b"x-powered-by", []),
        (rule("response", "remove", "X-Powered-By", statuses=[404]), b"x-powered-by", []),
        (rule("response", "remove", "X-Powered-By", statuses=[200]), b"x-powered-by", [b"PHP"]),
        (rule("response", "edit", "Set-Cookie", "; HttpOnly", pattern="$"), b"set-cookie",
         [b"a=1; Path=/; HttpOnly", b"b=2; Secure; HttpOnly"]),
        (rule("response", "set", "Strict-Transport-Security", "max-age=1"),
         b"strict-transport-security", [b"max-age=1"]),
    ],
)  # fmt: skip
def test_what_a_rule_does_to_a_response(
    one: dict[str, object], name: bytes, values: list[bytes]
) -> None:
    seen = play(one)
    assert seen.response is not None
    assert seen.response.fields.all(name) == values


def test_rules_are_done_one_after_the_other() -> None:
    seen = play(
        rule("request", "set", "X-B", "1"),
        rule("request", "edit", "X-B", "2", pattern="1"),
        rule("request", "add", "X-B", "3"),
    )
    assert seen.request is not None
    assert seen.request.fields.all(b"x-b") == [b"2", b"3"]


def test_an_edit_that_makes_no_value_refuses() -> None:
    seen = play(rule("request", "edit", "X-A", " ", pattern="one"))
    assert (seen.verdict, seen.reason) == ("refused", "a header that was edited cannot be sent")


@pytest.mark.parametrize(
    "wrong",
    [
        rule("request", "set", "Host", "a"),
        rule("request", "set", "Content-Length", "5"),
        rule("response", "add", "Transfer-Encoding", "chunked"),
        rule("request", "remove", "Connection"),
        rule("request", "set", "X", "a\r\nY: b"),
        rule("request", "set", "X", "\u20ac"),
        rule("request", "set", "X"),
        rule("request", "remove", "X", "a"),
        rule("request", "set", "X Y", "a"),
        rule("request", "set", "X", "${path}"),
        rule("request", "set", "X", "$5"),
        rule("request", "edit", "X", "a"),
        rule("request", "set", "X", "a", pattern="b"),
        rule("request", "edit", "X", "a", pattern="("),
        rule("request", "edit", "X", r"\2", pattern="(a)"),
        rule("request", "set", "X", "a", statuses=[200]),
        rule("response", "set", "X", "a", statuses=[99]),
        rule("request", "add", "X", "a", if_absent=True),
        rule("both", "set", "X", "a"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_when_it_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HeaderRewritingSettings.model_validate({"rules": [wrong]})


# -- size limits -----------------------------------------------------------------------------------


def limited(request: bytes, response: bytes, **chosen: int) -> PlayedExchange:
    web_filter = SizeLimit(SizeLimitSettings.model_validate(chosen))
    return exchange_web(web_filter, request, response, piece_bytes=2)


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345"
POST_CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"
OK_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [POST, POST_CHUNKED])
@pytest.mark.parametrize("response_bytes", [OK, OK_CHUNKED])
@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({}, ""),
        ({"request_body_bytes_max": 5, "response_body_bytes_max": 5}, ""),
        ({"request_body_bytes_max": 4}, "the request's body is too large"),
        ({"response_body_bytes_max": 4}, "the response's body is too large"),
    ],
)
def test_a_body_above_its_bound_does_not_arrive(
    request_bytes: bytes, response_bytes: bytes, chosen: dict[str, int], reason: str
) -> None:
    seen = limited(request_bytes, response_bytes, **chosen)
    assert seen.reason == reason
    if reason:
        # What is declared is refused before a byte; what is not is broken off.
        assert seen.trailers is None
        is_declared = response_bytes is OK if "response" in reason else request_bytes is POST
        body = seen.body if "response" in reason else seen.request_body
        assert len(body) <= (0 if is_declared else 4)
    else:
        assert (seen.request_body, seen.body) == (b"12345", b"12345")


def test_headers_are_measured_in_both_directions() -> None:
    long = b"X: " + b"a" * 80 + b"\r\n\r\n"
    seen = limited(b"GET / HTTP/1.1\r\nHost: a\r\n" + long, OK, request_headers_bytes_max=64)
    assert (seen.status, seen.reason) == (431, "the request's headers are too large")
    seen = limited(POST, b"HTTP/1.1 204 No\r\n" + long, response_headers_bytes_max=64)
    assert (seen.status, seen.reason) == (502, "the response's headers are too large")


def test_what_is_measured_is_what_travels() -> None:
    coded = gzip.compress(b"a" * 10_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded)
    seen = limited(POST, head + coded, response_body_bytes_max=1000)
    assert (seen.verdict, seen.body) == ("passed", coded)
