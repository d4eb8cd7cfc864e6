"""What the first bytes of a client say, and when they are enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.detect import DETECT_BYTES_MAX, EntryProtocol, detect_protocol

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize(
    ("data", "protocol", "needed"),
    [
        (b"\x04\x01\0\x50", EntryProtocol.SOCKS4, 1),
        (b"\x05\x01\0", EntryProtocol.SOCKS5, 1),
        (b"CONNECT a.example:443 HTTP/1.1\r\n", EntryProtocol.HTTP_CONNECT, 8),
        (b"PROXY TCP4 192.0.2.1", EntryProtocol.PROXY_V1, 6),
        (V2 + b"\x21\x11", EntryProtocol.PROXY_V2, 12),
        (HELLO, EntryProtocol.TLS, 6),
        (b"\x16\x03\x00\x40\x00\x01\x00", EntryProtocol.TLS, 6),
        (b"GET / HTTP/1.1\r\n", EntryProtocol.HTTP, 4),
        (b"connect a:1", EntryProtocol.UNKNOWN, 1),
        (b"CONNECTED ", EntryProtocol.HTTP, 10),
        (b"CONNECT\ta:1", EntryProtocol.UNKNOWN, 8),
        (b"COPY / HTTP/1.1\r\n", EntryProtocol.HTTP, 5),
        (b"UPDATEREDIRECTREF / HTTP", EntryProtocol.HTTP, 12),
        (b"GET\t/", EntryProtocol.UNKNOWN, 4),
        (b"GET\r\n", EntryProtocol.UNKNOWN, 4),
        (b"PROXIED!", EntryProtocol.UNKNOWN, 8),
        (b"\r\nCONNECT a:1", EntryProtocol.UNKNOWN, 3),
        (b"\r\n\r\n\0\r\nQUIT\r\n", EntryProtocol.UNKNOWN, 12),
        (b"SSH-2.0-x\r\n", EntryProtocol.UNKNOWN, 5),
        (b"\x16\x02\x00", EntryProtocol.UNKNOWN, 2),
        (b"\x16\x03\x05", EntryProtocol.UNKNOWN, 3),
        (b"\x16\x03\x01\x40\x01\x01", EntryProtocol.UNKNOWN, 5),
        (b"\x16\x03\x01\x02\x00\x02", EntryProtocol.UNKNOWN, 6),
        (b"\x80\x2e\x01\x00\x02", EntryProtocol.UNKNOWN, 1),
        (b"\0", EntryProtocol.UNKNOWN, 1),
    ],
)
def test_first_bytes_name_the_protocol_as_soon_as_it_is_sure(
    data: bytes, protocol: EntryProtocol, needed: int
) -> None:
    answers = [detect_protocol(data[:length]) for length in range(len(data) + 1)]

    assert answers == [None] * needed + [protocol] * (len(data) + 1 - needed)
    assert needed <= DETECT_BYTES_MAX


@given(
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda head, cut, rest: head[:cut] + rest,
            st.sampled_from([b"CONNECT ", b"PROXY ", V2, HELLO]),
            st.integers(0, 14),
            st.binary(max_size=14),
        ),
    )
)
def test_an_answer_never_changes_and_always_comes(data: bytes) -> None:
    answers = [detect_protocol(bytearray(data[:length])) for length in range(len(data) + 1)]

    decided = [answer for answer in answers if answer is not None]
    assert len(set(decided)) <= 1
    assert answers == [None] * (len(answers) - len(decided)) + decided
    assert len(data) < DETECT_BYTES_MAX or decided
