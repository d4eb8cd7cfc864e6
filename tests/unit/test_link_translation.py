"""Links of internal servers written as public ones, wherever the text is cut."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate.bundled.link_text import LinkTable, LinkTranslator
from sluicegate.bundled.link_translation import LinkTranslation, LinkTranslationSettings
from sluicegate.testing import PlayedExchange, exchange_web

TABLE = LinkTable(
    {
        "http://web1.corp": "https://www.example.com",
        "http://web1.corp/app/old": "https://www.example.com/new",
        "http://wiki.corp:8080/w": "https://wiki.example.com",
        "https://[2001:db8::1]": "https://six.example.com",
    }
)


def translated(text: bytes, table: LinkTable = TABLE) -> bytes:
    return table.translate(text).written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As pages write them.
        (b"<a href='http://web1.corp/x'>", b"<a href='https://www.example.com/x'>"),
        (b'src="//web1.corp/x.js"', b'src="//www.example.com/x.js"'),
        (b'"http:\\/\\/web1.corp\\/x"', b'"https:\\/\\/www.example.com\\/x"'),
        (b'"\\/\\/web1.corp\\/x"', b'"\\/\\/www.example.com\\/x"'),
        (b"?u=http%3A%2F%2Fweb1.corp%2Fx", b"?u=https%3A%2F%2Fwww.example.com%2Fx"),
        (b"?u=http%3a%2f%2fweb1.corp%2fx", b"?u=https%3A%2F%2Fwww.example.com%2fx"),
        (b"url(http://web1.corp/i.png)", b"url(https://www.example.com/i.png)"),
        (b"HTTP://WEB1.Corp/X", b"https://www.example.com/X"),
        (b"http://web1.corp", b"https://www.example.com"),
        (b"http://web1.corp?q", b"https://www.example.com?q"),
        (b"http://web1.corp#f", b"https://www.example.com#f"),
        (b"http://web1.corp:80/x", b"https://www.example.com/x"),
        (b"http://web1.corp: and", b"https://www.example.com: and"),
        (b"http://wiki.corp:8080/w/a", b"https://wiki.example.com/a"),
        (b"https://[2001:db8::1]/a", b"https://six.example.com/a"),
        # The longest one that stands alone counts.
        (b"http://web1.corp/app/old/x", b"https://www.example.com/new/x"),
        (b"http://web1.corp/app/older", b"https://www.example.com/app/older"),
        (b"http://web1.corp http://web1.corp", b"https://www.example.com https://www.example.com"),
        # What only begins like one.
        (b"http://web1.corporate/x", b"http://web1.corporate/x"),
        (b"http://web1.corp.evil/x", b"http://web1.corp.evil/x"),
        (b"http://web1.corp-x/", b"http://web1.corp-x/"),
        (b"http://web1.corp@evil/", b"http://web1.corp@evil/"),
        (b"http://web1.corp:8080/x", b"http://web1.corp:8080/x"),
        (b"http%3A%2F%2Fweb1.corp%3A8080", b"http%3A%2F%2Fweb1.corp%3A8080"),
        (b"https://web1.corp/x", b"https://web1.corp/x"),
        (b"https%3A%2F%2Fweb1.corp%2Fx", b"https%3A%2F%2Fweb1.corp%2Fx"),
        (b"xhttp://web1.corp/", b"xhttp://web1.corp/"),
        (b"///web1.corp/", b"///web1.corp/"),
        (b"http://wiki.corp:8080/", b"http://wiki.corp:8080/"),
        (b"http://wiki.corp/w", b"http://wiki.corp/w"),
        (b"web1.corp", b"web1.corp"),
        (b"", b""),
    ],
)
def test_links_are_translated_and_what_only_looks_like_one_is_not(
    text: bytes, expected: bytes
) -> None:
    assert translated(text) == expected
    for size in range(1, len(text) + 1):
        assert in_pieces(TABLE, text, size) == expected


def in_pieces(table: LinkTable, text: bytes, *sizes: int) -> bytes:
    """Translate as the filter does: what is not taken is shown again, in front of what follows."""
    translator, held, out, at, turn = LinkTranslator(table), b"", b"", 0, 0
    while at < len(text):
        piece = text[at : at + sizes[turn % len(sizes)]]
        at, turn, held = at + len(piece), turn + 1, held + piece
        written, taken = translator.translate(held, is_last=False)
        out, held = out + written, held[taken:]
        # No more than the longest link, and what decides about it.
        assert len(held) <= 60
    written, taken = translator.translate(held, is_last=True)
    assert taken == len(held)
    return out + written


PARTS = [
    b"http://", b"https://", b"//", b"\\/\\/", b"%3A%2F%2F", b"http", b":", b"/", b"web1.corp",
    b"x", b"wiki.corp:8080", b"/w", b"/app/old", b".", b"8", b"%3a", b"%2F", b" ", b"'",
    b"[2001:db8::1]",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PARTS), max_size=14).map(b"".join),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_it_does_not_matter_where_a_text_is_cut(text: bytes, sizes: list[int]) -> None:
    assert in_pieces(TABLE, text, *sizes) == translated(text)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_text_without_links_is_passed_as_it_is(text: bytes, size: int) -> None:
    if b"web1" not in text.lower() and b"wiki" not in text.lower() and b"2001" not in text:
        assert in_pieces(TABLE, text, size) == text


def test_a_table_without_links_translates_nothing() -> None:
    assert translated(b"http://web1.corp", LinkTable({})) == b"http://web1.corp"


# -- the filter ------------------------------------------------------------------------------------

SETTINGS = {
    "mappings": [
        {"internal": "http://web1.corp", "public": "https://www.example.com"},
        {"internal": "http://web2.corp", "public": "https://www.example.com"},
    ]
}


def play(response: bytes, request: bytes = b"", **changed: object) -> PlayedExchange:
    chosen = LinkTranslationSettings.model_validate({**SETTINGS, **changed})
    request = request or b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
    return exchange_web(LinkTranslation(chosen), request, response, piece_bytes=5)


def answer(body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(b"%b\r\n" % field for field in fields)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), lines, body)


@pytest.mark.parametrize(
    ("content_type", "is_translated"),
    [
        (b"text/html; charset=utf-8", True),
        (b"TEXT/HTML", True),
        (b"text/css", True),
        (b"application/json", True),
        (b"text/html; charset=utf-16le", False),
        (b"text/plain", False),
        (b"image/png", False),
        (b"application/octet-stream", False),
    ],
)
def test_only_text_is_translated(content_type: bytes, is_translated: bool) -> None:
    body = b"see http://web1.corp/x"
    seen = play(answer(body, b"Content-Type: " + content_type, b'ETag: "1"'))
    assert seen.verdict == "passed"
    assert seen.body == (b"see https://www.example.com/x" if is_translated else body)
    assert seen.response is not None
    assert seen.response.framing.is_chunked == is_translated
    assert seen.response.fields.first(b"etag") == (b'W/"1"' if is_translated else b'"1"')


def test_a_coded_page_is_translated_too() -> None:
    body = gzip.compress(b"http://web1.corp/x")
    seen = play(answer(body, b"Content-Type: text/html", b"Content-Encoding: gzip"))
    assert seen.body == b"https://www.example.com/x"


def test_a_page_that_cannot_be_read_passes_as_it_is() -> None:
    seen = play(answer(b"abc", b"Content-Type: text/html", b"Content-Encoding: sdch"))
    assert (seen.verdict, seen.body) == ("passed", b"abc")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Location: http://web1.corp/a", b"https://www.example.com/a"),
        (b"Location: /a", b"/a"),
        (b"Content-Location: http://web2.corp/a", b"https://www.example.com/a"),
        (b"Refresh: 5; url=http://web1.corp/", b"5; url=https://www.example.com/"),
        (b"Link: <http://web1.corp/a>; rel=next", b"<https://www.example.com/a>; rel=next"),
        (b"Set-Cookie: a=b; Domain=web1.corp; Path=/", b"a=b; Domain=www.example.com; Path=/"),
        (b"Set-Cookie: a=b; domain=.WEB1.corp", b"a=b; domain=www.example.com"),
        (b"Set-Cookie: a=b; Domain=other.corp", b"a=b; Domain=other.corp"),
        (b"X-Other: http://web1.corp/a", b"http://web1.corp/a"),
    ],
)
def test_headers_that_hold_links_are_translated(field: bytes, expected: bytes) -> None:
    seen = play(answer(b"", field))
    assert seen.response is not None
    assert seen.response.fields.first(field.partition(b":")[0]) == expected


def test_what_a_browser_says_of_where_it_comes_from_is_translated_back() -> None:
    request = (
        b"POST / HTTP/1.1\r\nHost: www.example.com\r\nOrigin: https://www.example.com\r\n"
        b"Referer: https://www.example.com/form\r\nContent-Length: 0\r\n\r\n"
    )
    seen = play(answer(b""), request)
    assert seen.request is not None
    assert seen.request.fields.first(b"origin") == b"http://web1.corp"
    assert seen.request.fields.first(b"referer") == b"http://web1.corp/form"


def test_bodies_and_cookies_may_be_left_alone() -> None:
    page = answer(
        b"http://web1.corp", b"Content-Type: text/html", b"Set-Cookie: a; Domain=web1.corp"
    )
    seen = play(page, bodies=False, cookies=False)
    assert seen.body == b"http://web1.corp"
    assert seen.response is not None
    assert seen.response.fields.first(b"set-cookie") == b"a; Domain=web1.corp"


@pytest.mark.parametrize(
    "mapping",
    [
        {"internal": "http://a.corp/", "public": "https://a.example"},
        {"internal": "a.corp", "public": "https://a.example"},
        {"internal": "ftp://a.corp", "public": "https://a.example"},
        {"internal": "http://A.corp", "public": "https://a.example"},
        {"internal": "http://a.corp?x", "public": "https://a.example"},
        {"internal": "http://u@a.example", "public": "https://a.example"},
        {"internal": "http://a.corp", "public": "https://a.example/\r\nX: y"},
        {"internal": "http://a.corp:0", "public": "https://a.example"},
    ],
)
def test_a_mapping_that_is_none_is_refused_when_it_is_read(mapping: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        LinkTranslationSettings.model_validate({"mappings": [mapping]})


def test_an_internal_url_is_mapped_once() -> None:
    twice = {"internal": "http://a.corp", "public": "https://a.example"}
    with pytest.raises(ValidationError, match="mapped twice"):
        LinkTranslationSettings.model_validate({"mappings": [twice, twice]})
