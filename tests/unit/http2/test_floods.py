"""Group I3 of the hostile cases: floods of HTTP/2, each with the bound that ends it."""

from __future__ import annotations

import pytest

from sluicegate.protocols.http1 import CHUNKED, Response
from sluicegate.protocols.http2 import ErrorCode, Http2Bounds, Http2Fault, Http2ProtocolError
from tests.unit.http2.http2_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    data,
    feed,
    feed_to_fault,
    gone_away,
    head,
    hello,
    literal,
    raw,
    sent,
    server,
    setting,
    shown,
    word,
)

F = Http2Fault
HELLO = hello()
BAD = [*GET, (b"X", b"y")]


def streams(count: int, *, behind: bytes = b"", fields: list[tuple[bytes, bytes]] = GET) -> bytes:
    """So many requests, each with a frame behind it that names its stream."""
    came = b""
    for place in range(count):
        number = 2 * place + 1
        came += head(number, fields) + behind.replace(b"\x00\x00\x00\x01", word(number), 1)
    return came


RESET = raw(RST_STREAM, 0, 1, word(8))
ZERO_WINDOW = raw(WINDOW_UPDATE, 0, 1, word(0))
OVERFLOW = raw(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1))

FLOODS: list[tuple[str, bytes, Http2Fault]] = [
    ("rapid-reset", HELLO + streams(201, behind=RESET), F.RESET_FLOOD),
    ("made-you-reset-by-window-0", HELLO + streams(201, behind=ZERO_WINDOW), F.RESET_FLOOD),
    ("made-you-reset-by-overflow", HELLO + streams(201, behind=OVERFLOW), F.RESET_FLOOD),
    ("made-you-reset-by-data", HELLO + streams(201, behind=raw(DATA, 0, 1, b"x")), F.RESET_FLOOD),
    (
        "made-you-reset-by-head",
        HELLO + streams(201, behind=raw(HEADERS, 5, 1, literal(GET))),
        F.RESET_FLOOD,
    ),
    ("malformed-heads", HELLO + streams(201, fields=BAD), F.RESET_FLOOD),
    ("streams-beyond-the-bound", HELLO + streams(301), F.RESET_FLOOD),
    ("10^5-streams", HELLO + streams(2000), F.RESET_FLOOD),
    (
        "continuations",
        HELLO + raw(HEADERS, 0, 1, b"") + raw(CONTINUATION, 0, 1, b"\x00") * 9,
        F.TOO_MANY_CONTINUATIONS,
    ),
    (
        "empty-continuations",
        HELLO + raw(HEADERS, 0, 1, b"") + raw(CONTINUATION, 0, 1) * 9,
        F.TOO_MANY_CONTINUATIONS,
    ),
    (
        "large-continuations",
        HELLO + raw(HEADERS, 0, 1, b"x" * 16384) + raw(CONTINUATION, 0, 1, b"x" * 16384) * 4,
        F.BLOCK_TOO_LARGE,
    ),
    ("settings", HELLO + raw(SETTINGS, 0, 0) * 501, F.CONTROL_FLOOD),
    ("settings-acks", HELLO + raw(SETTINGS, ACK, 0) * 501, F.CONTROL_FLOOD),
    (
        "many-settings",
        hello(*[setting(0x1000 + place, 1) for place in range(33)]),
        F.TOO_MANY_SETTINGS,
    ),
    ("pings", HELLO + raw(PING, 0, 0, bytes(8)) * 501, F.CONTROL_FLOOD),
    ("ping-acks", HELLO + raw(PING, ACK, 0, bytes(8)) * 501, F.CONTROL_FLOOD),
    ("priorities", HELLO + raw(PRIORITY, 0, 1, bytes(5)) * 501, F.CONTROL_FLOOD),
    ("unknown-frames", HELLO + raw(0x42, 0, 0, b"x") * 501, F.CONTROL_FLOOD),
    ("window-updates", HELLO + raw(WINDOW_UPDATE, 0, 0, word(1)) * 501, F.CONTROL_FLOOD),
    (
        "window-updates-of-a-stream",
        HELLO + head(1, GET) + raw(WINDOW_UPDATE, 0, 1, word(1)) * 501,
        F.CONTROL_FLOOD,
    ),
    (
        "window-updates-of-the-dead",
        HELLO + head(1, GET) + RESET + raw(WINDOW_UPDATE, 0, 1, word(1)) * 501,
        F.CONTROL_FLOOD,
    ),
    ("empty-data", HELLO + head(1, POST, ends=False) + data(1, b"") * 101, F.EMPTY_FLOOD),
    (
        "padding-alone",
        HELLO + head(1, POST, ends=False) + raw(DATA, PADDED, 1, b"\x09" + bytes(9)) * 101,
        F.EMPTY_FLOOD,
    ),
]


@pytest.mark.parametrize("step", [1 << 30, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(("name", "came", "fault"), FLOODS, ids=[flood[0] for flood in FLOODS])
def test_flood_ends_its_connection(name: str, came: bytes, fault: Http2Fault, step: int) -> None:
    del name
    end = server()

    assert feed_to_fault(end, came, step=step if len(came) < 30_000 else 1000) == fault.code
    assert gone_away(end) == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(("name", "came", "fault"), FLOODS, ids=[flood[0] for flood in FLOODS])
def test_output_that_a_flood_causes_is_bounded(name: str, came: bytes, fault: Http2Fault) -> None:
    del name, fault
    end = server()

    feed_to_fault(end, came)

    assert sum(len(piece) for piece in end.take_output()) < 32 << 10


def test_hpack_bomb_is_refused_before_it_is_unpacked() -> None:
    # One field of 4,000 bytes in the table, then named again and again: 1 byte each.
    first = raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    bomb = raw(HEADERS, END_HEADERS | END_STREAM, 3, b"\xbe" * 16000)

    end = server()
    assert feed_to_fault(end, HELLO + first + bomb) == F.BLOCK_TOO_LARGE.code


def test_table_that_a_client_offers_makes_ours_no_larger() -> None:
    end = server()
    feed(end, hello(setting(1, (1 << 32) - 1)) + head(1, GET))

    assert end._encoder.header_table_size == 4096


def test_windows_of_one_byte_are_served_for_a_while_only() -> None:
    end = server()
    feed(end, hello(setting(4, 1)) + head(1, GET))
    end.send_head(1, Response(200, framing=CHUNKED))
    sent(end)
    body = b"x" * 1000

    # RFC 9113 section 6.9.2: what the window lets is sent.
    assert end.send_data(1, body) == 1
    assert sent(end) == [(DATA, 0, 1, b"x")]

    with pytest.raises(Http2ProtocolError) as raised:  # noqa: PT012 - it is a loop that ends
        for _ in range(200):
            feed(end, raw(WINDOW_UPDATE, 0, 1, word(1)))
            assert end.send_data(1, body) == 1
    assert raised.value.fault is F.TINY_WINDOW
    assert gone_away(end) == ErrorCode.ENHANCE_YOUR_CALM


def test_windows_that_became_smaller_than_what_was_sent_are_waited_for() -> None:
    end = server()
    feed(end, HELLO + head(1, GET))
    end.send_head(1, Response(200, framing=CHUNKED))
    assert end.send_data(1, b"x" * 70_000) == 65535

    feed(end, raw(SETTINGS, 0, 0, setting(4, 10)) + raw(WINDOW_UPDATE, 0, 0, word(100_000)))
    assert not end.has_window_for(1, 1)
    feed(end, raw(WINDOW_UPDATE, 0, 1, word(65525 + 7)))
    assert end.has_window_for(1, 8)
    assert end.send_data(1, b"x" * 8) == 7


def test_whoever_waits_for_room_is_told_by_what_it_wants_to_send() -> None:
    """What is left of a window may do for a little, and is waited with for much."""
    end = server()
    feed(end, HELLO + head(1, GET))
    end.send_head(1, Response(200, framing=CHUNKED))
    assert end.send_data(1, b"x" * 65_530) == 65_530
    assert end.has_window_for(1, 5)
    assert not end.has_window_for(1, 6)
    assert end.send_data(1, b"x" * 6) == 0
    update = raw(WINDOW_UPDATE, 0, 1, word(65_530)) + raw(WINDOW_UPDATE, 0, 0, word(65_530))
    feed(end, update)
    assert end.has_window_for(1, 6)
    assert end.send_data(1, b"x" * 6) == 6
    assert end.has_window_for(3, 6), "what is over takes everything"


def test_what_takes_its_time_is_no_flood() -> None:
    end = server()
    feed(end, HELLO)
    for second in range(1, 200):
        feed(end, raw(PING, 0, 0, bytes(8)) * 15, now=float(second))
        number = 2 * second - 1
        asked = head(number, GET) + raw(RST_STREAM, 0, number, word(8))
        assert feed(end, asked, now=float(second)) != []
    assert gone_away(end) is None


def test_frames_with_bytes_pay_for_frames_of_control() -> None:
    end = server()
    feed(end, HELLO + head(1, POST, ends=False))
    for _ in range(2000):
        feed(end, data(1, b"x") + raw(PING, 0, 0, bytes(8)) + raw(WINDOW_UPDATE, 0, 0, word(1)))
        end.consume(1, 1)
    assert gone_away(end) is None


def test_streams_beyond_the_bound_are_refused_and_those_within_it_go_on() -> None:
    end = server(bounds=Http2Bounds(streams_max=2))
    events = feed(end, HELLO + streams(3))

    assert [one[:2] for one in shown(events)] == [("request", 1), ("request", 3)]
    assert (RST_STREAM, 0, 5, word(ErrorCode.REFUSED_STREAM)) in sent(end)
    end.send_head(1, Response(204), is_last=True)
    assert shown(feed(end, head(7, GET)))[0][:2] == ("request", 7)


def test_head_of_a_refused_stream_is_decompressed_all_the_same() -> None:
    # What is indexed in it is named later: tables would differ.
    end = server(bounds=Http2Bounds(streams_max=1))
    indexed = b"\x40\x03x-a\x01b"
    came = head(1, GET) + raw(HEADERS, END_HEADERS | END_STREAM, 3, literal(GET) + indexed)
    feed(end, HELLO + came)
    end.send_head(1, Response(204), is_last=True)

    [event] = shown(feed(end, raw(HEADERS, END_HEADERS | END_STREAM, 5, literal(GET) + b"\xbe")))
    assert (b"x-a", b"b") in event[3]  # type: ignore[operator]
