"""What an ICAP server is asked, and what it may say of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocols.icap import (
    IcapMethod,
    IcapOptions,
    IcapTarget,
    InnerMessage,
    chunk,
    options_of,
    options_request,
    request_head,
    url_of,
)

TARGET = IcapTarget("192.0.2.7", 1344, "avscan?mode=simple")


def test_options_are_asked_for_by_the_url_of_the_service() -> None:
    assert options_request(TARGET) == (
        b"OPTIONS icap://192.0.2.7:1344/avscan?mode=simple ICAP/1.0\r\nHost: 192.0.2.7:1344\r\n\r\n"
    )


def test_a_download_is_a_response_to_a_request() -> None:
    message = InnerMessage(IcapMethod.RESPMOD, "ftp://h/a%20b", "GET", "text/plain", 7)
    assert request_head(TARGET, message, preview_bytes=4, allows=(204, 206)) == (
        b"RESPMOD icap://192.0.2.7:1344/avscan?mode=simple ICAP/1.0\r\n"
        b"Host: 192.0.2.7:1344\r\n"
        b"Allow: 204, 206\r\n"
        b"Preview: 4\r\n"
        b"Encapsulated: req-hdr=0, res-hdr=39, res-body=103\r\n\r\n"
        b"GET ftp://h/a%20b HTTP/1.1\r\nHost: h\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n"
    )


def test_an_upload_is_a_request() -> None:
    message = InnerMessage(IcapMethod.REQMOD, "http://h/u", "PUT", "", 0)
    assert request_head(TARGET, message, preview_bytes=None, allows=()) == (
        b"REQMOD icap://192.0.2.7:1344/avscan?mode=simple ICAP/1.0\r\n"
        b"Host: 192.0.2.7:1344\r\n"
        b"Encapsulated: req-hdr=0, req-body=95\r\n\r\n"
        b"PUT http://h/u HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("protocol", "name", "url"),
    [
        ("ftp", "dir/file name.txt", "ftp://h/dir/file%20name.txt"),
        ("ftp", "/abs", "ftp://h/abs"),
        ("ftp", "a\r\nEncapsulated: x", "ftp://h/a%0D%0AEncapsulated%3A%20x"),
        ("ftp", "Grüße?a#b", "ftp://h/Gr%C3%BC%C3%9Fe%3Fa%23b"),
        ("http", "http://example.org/a?b=c%20d", "http://example.org/a?b=c%20d"),
        ("http", "https://example.org/a b\r\nX: y", "https://example.org/a%20b%0D%0AX:%20y"),
        ("F T\r\nP", "x", "unknown://h/x"),
    ],
)
def test_a_name_becomes_a_url_and_nothing_else(protocol: str, name: str, url: str) -> None:
    assert url_of(protocol, "h", name) == url


@given(st.text(), st.text(), st.text())
def test_nothing_of_an_object_gets_out_of_its_place(protocol: str, name: str, kind: str) -> None:
    message = InnerMessage(IcapMethod.RESPMOD, url_of(protocol, "h", name), "GET", kind, 1)
    (_, request), (_, response) = message.heads()
    assert request.count(b"\r\n") == 3
    assert response.count(b"\r\n") == 4
    assert request.count(b"\n") == 3
    assert response.count(b"\n") == 4
    assert len(request.split(b"\r\n")[0].split(b" ")) == 3


def test_a_chunk_says_its_size() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"methods": "RESPMOD"}, IcapOptions(frozenset({IcapMethod.RESPMOD}))),
        (
            {
                "methods": "RESPMOD, reqmod",
                "istag": '"abc"',
                "service": "Scanner 1",
                "options-ttl": "3600",
                "max-connections": "7",
                "preview": "1024",
                "allow": "204, 206",
                "transfer-preview": "*",
                "transfer-complete": "ZIP, exe",
                "transfer-ignore": "jpg",
            },
            IcapOptions(
                frozenset(IcapMethod),
                "abc",
                "Scanner 1",
                3600.0,
                7,
                1024,
                allows_204=True,
                allows_206=True,
                complete_extensions=frozenset({"zip", "exe"}),
            ),
        ),
        (
            {"methods": "REQMOD", "preview": "99999999", "options-ttl": "999999999"},
            IcapOptions(frozenset({IcapMethod.REQMOD}), ttl_s=86400.0, preview_bytes=65536),
        ),
    ],
)
def test_options_are_read_within_bounds(fields: dict[str, str], options: IcapOptions) -> None:
    assert options_of(fields) == options


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"methods": ""},
        {"methods": "FILEMOD"},
        {"methods": "RESPMOD", "preview": "-1"},
        {"methods": "RESPMOD", "preview": "x"},
        {"methods": "RESPMOD", "options-ttl": "1e9"},
        {"methods": "RESPMOD", "max-connections": "٣"},
    ],
)
def test_options_that_make_no_sense_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        options_of(fields)
