"""A parent's answer to CONNECT: one reading, however it is cut, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocol_limits import CONNECT_HEAD_BYTES_MAX, CONNECT_LINE_BYTES_MAX
from sluicegate.protocols.http_connect_reply import ConnectReply


def read(data: bytes, *cuts: int) -> tuple[int | None, bytes] | str:
    """Read pieces; the status with what came behind it (None: more has to come), or why not."""
    reply, at = ConnectReply(), 0
    for end in [*sorted(cuts), len(data)]:
        reply.receive_data(data[at:end])
        at = end
        try:
            status = reply.status()
        except ProtocolError as error:
            return error.hint
        if status is not None:
            return status, reply.early + data[at:]
    return None, b""


READINGS = [
    (b"HTTP/1.1 200 Connection established\r\n\r\n", (200, b"")),
    (b"HTTP/1.0 200 OK\r\nVia: 1.1 parent\r\n\r\n", (200, b"")),
    (b"HTTP/1.1 200\r\n\r\n", (200, b"")),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, b"hello")),
    (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", (407, b"")),
    (b"HTTP/1.1 503 x\r\n\r\npage", (503, b"page")),
    (b"HTTP/1.1 200 OK\r\n", (None, b"")),
    (b"", (None, b"")),
]


@pytest.mark.parametrize(("data", "expected"), READINGS)
def test_answers_are_read_the_same_for_every_cut(
    data: bytes, expected: tuple[int | None, bytes]
) -> None:
    for cut in range(len(data) + 1):
        assert read(data, cut) == expected


REFUSED = [
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 099 x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 2000 x\r\n\r\n",
    b"HTTP/1.1  200 x\r\n\r\n",
    b" HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"SSH-2.0-x\r\n",
    b"HTTP/1.1 200 " + b"x" * CONNECT_LINE_BYTES_MAX + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (CONNECT_HEAD_BYTES_MAX // 6) + b"\r\n",
]


@pytest.mark.parametrize("data", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    whole = read(data)
    assert isinstance(whole, str)
    assert all(read(data, cut) == whole for cut in range(0, len(data), max(1, len(data) // 50)))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_have_one_outcome(data: bytes, cuts: list[int]) -> None:
    assert read(data, *(cut for cut in cuts if cut <= len(data))) == read(data)
