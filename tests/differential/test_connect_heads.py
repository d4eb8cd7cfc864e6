"""Whatever CONNECT head we accept, other implementations read as we do, to the last byte.

llhttp (Node's parser, in aiohttp) and Python's ``http.server`` are the others. They accept more
than we do; that is why only what we accept is compared.
"""

from __future__ import annotations

import asyncio
import http.server
import io
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocols.http_connect import HttpConnectParser, HttpConnectRequest


def accepted(data: bytes) -> tuple[HttpConnectRequest, bytes] | None:
    parser = HttpConnectParser()
    parser.receive_data(data)
    try:
        request = parser.next_event()
    except ProtocolError:
        return None
    return (request, parser.take_early_data()) if request is not None else None


def read_by_llhttp(data: bytes) -> tuple[str, str, list[tuple[bytes, bytes]], bytes]:
    async def read() -> Any:
        loop = asyncio.get_running_loop()
        return HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(data)

    [(message, _)], is_upgraded, rest = asyncio.run(read())
    assert is_upgraded
    fields = [(name.lower(), value) for name, value in message.raw_headers]
    return message.method, message.path, fields, rest


class Handler(http.server.BaseHTTPRequestHandler):
    """The standard library's reading of a request, without a socket."""

    def __init__(self, data: bytes) -> None:
        self.rfile = io.BytesIO(data)
        self.raw_requestline = self.rfile.readline(65537)
        self.error_code = 0
        assert self.parse_request(), f"http.server answers {self.error_code}"

    def send_error(self, code: int, *_: Any) -> None:
        self.error_code = code


HOSTS = st.sampled_from(
    ["a.example", "A.example.", "192.0.2.7", "[2001:db8::1]", "[::1]", "x_y.example"]
)
PORTS = st.integers(1, 65535)
NAMES = st.sampled_from(["X", "x-y", "X-Agent", "Proxy-Connection", "!#$%&'*+-.^_`|~"])
VALUES = st.text("".join(map(chr, [9, *range(32, 127)])), max_size=20)
FIELDS = st.lists(st.builds("{}:{}\r\n".format, NAMES, VALUES).map(str.encode), max_size=5).map(
    b"".join
)
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.sampled_from(
            [
                b"", b" ", b"\t", b"\r", b"\n", b"\0", b":", b",", b"\x0b", b"\xa0", b"\r\n", b"1",
                b"\r\n ",
            ]
        ),
    ),
    max_size=2,
)  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    authority = f"{draw(HOSTS)}:{draw(PORTS)}".encode()
    minor = draw(st.sampled_from([b"0", b"1"]))
    data = b"CONNECT %s HTTP/1.%s\r\nHost: %s\r\n%s\r\n" % (
        authority, minor, authority, draw(FIELDS),
    )  # fmt: skip
    for place, put in draw(MUTATIONS):
        data = data[:place] + put + data[place + (0 if put else 1) :]
    return data + draw(st.sampled_from([b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"]))


@given(heads())
def test_others_read_what_we_accept_as_we_do(data: bytes) -> None:
    ours = accepted(data)
    if ours is None:
        return
    request, early = ours
    target = data.split(b" ")[1].decode()

    method, path, fields, rest = read_by_llhttp(data)
    assert (method, path) == ("CONNECT", target)
    assert [field for field in fields if field[0] != b"proxy-authorization"] == list(request.fields)
    assert rest == early

    handler = Handler(data)
    assert (handler.command, handler.path) == ("CONNECT", target)
    assert handler.rfile.read() == early
    standard = [(name.lower().encode(), value.encode()) for name, value in handler.headers.items()]
    assert [(name, value.strip(b" \t")) for name, value in standard] == list(request.fields)


@pytest.mark.parametrize("host", ["a.example", "[::1]"])
def test_generator_makes_heads_that_are_accepted(host: str) -> None:
    data = f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    assert accepted(data) is not None
    assert read_by_llhttp(data)[1] == f"{host}:443"
