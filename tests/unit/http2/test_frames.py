"""Group I1 of the hostile cases: the connection and stream errors of RFC 9113, one line a case."""

from __future__ import annotations

import pytest

from sluicegate.protocols.http1 import Fields, Request, Response, Target
from sluicegate.protocols.http2 import PREFACE, ErrorCode, Http2Bounds, Http2Fault, StreamReset
from tests.unit.http2.http2_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    client,
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
OPEN = HELLO + head(1, POST, ends=False)
"""Stream 1 is open."""
HALF = HELLO + head(1, GET)
"""Stream 1 is half closed: the client has said everything."""

#: (section of RFC 9113, what comes, the fault): everything ends there.
CONNECTION_ERRORS: list[tuple[str, bytes, Http2Fault]] = [
    ("3.4", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", F.PREFACE),
    ("3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", F.PREFACE),
    ("3.4", b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", F.PREFACE),
    ("3.4", PREFACE + head(1, GET), F.PREFACE),
    ("3.4", PREFACE + raw(PING, 0, 0, b"12345678"), F.PREFACE),
    ("3.4", PREFACE + raw(SETTINGS, ACK, 0), F.PREFACE),
    ("3.4", PREFACE + raw(WINDOW_UPDATE, 0, 0, word(1)), F.PREFACE),
    ("4.2", HELLO + b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", F.FRAME_TOO_LONG),
    ("4.2", HELLO + b"\xff\xff\xff\x04\x00\x00\x00\x00\x00", F.FRAME_TOO_LONG),
    ("4.2", HELLO + b"\x00\x40\x01\xee\x00\x00\x00\x00\x00", F.FRAME_TOO_LONG),
    (
        "4.3",
        HELLO + raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff"),
        F.COMPRESSION,
    ),
    ("4.3", HELLO + raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"), F.COMPRESSION),
    ("4.3", HELLO + raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\xfe"), F.COMPRESSION),
    ("4.3", HELLO + raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe2\x1f"), F.COMPRESSION),
    ("4.3", HELLO + raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x7f"), F.COMPRESSION),
    (
        "4.3",
        HELLO + raw(HEADERS, END_STREAM, 1, literal(GET)) + raw(PING, 0, 0, bytes(8)),
        F.FRAME_ORDER,
    ),
    ("4.3", HELLO + raw(HEADERS, END_STREAM, 1, literal(GET)) + head(3, GET), F.FRAME_ORDER),
    ("4.3", HELLO + raw(HEADERS, 0, 1, literal(GET)) + data(1, b"x"), F.FRAME_ORDER),
    ("4.3", HELLO + raw(HEADERS, 0, 1, literal(GET)) + raw(99, 0, 1), F.FRAME_ORDER),
    (
        "4.3",
        HELLO + raw(HEADERS, 0, 1, b"") + raw(CONTINUATION, END_HEADERS, 3, literal(GET)),
        F.FRAME_ORDER,
    ),
    ("5.1", HELLO + data(1, b"x"), F.STREAM_IDLE),
    ("5.1", HELLO + raw(RST_STREAM, 0, 1, word(8)), F.STREAM_IDLE),
    ("5.1", HELLO + raw(WINDOW_UPDATE, 0, 1, word(1)), F.STREAM_IDLE),
    ("5.1", HELLO + raw(WINDOW_UPDATE, 0, 2, word(1)), F.STREAM_IDLE),
    ("5.1", HELLO + raw(RST_STREAM, 0, 2, word(8)), F.STREAM_IDLE),
    ("5.1", HALF + raw(RST_STREAM, 0, 1, word(8)) + data(1, b"x"), F.STREAM_CLOSED),
    ("5.1", HALF + raw(RST_STREAM, 0, 1, word(8)) + head(1, GET), F.STREAM_CLOSED),
    ("5.1.1", HELLO + head(2, GET), F.STREAM_ID),
    ("5.1.1", HELLO + head(5, GET) + head(3, GET), F.STREAM_CLOSED),
    ("6.1", HELLO + data(0, b"x"), F.FRAME_STREAM),
    ("6.1", OPEN + raw(DATA, PADDED, 1, b"\x05abcd"), F.PADDING),
    ("6.1", OPEN + raw(DATA, PADDED, 1, b""), F.FRAME_SIZE),
    ("6.1", OPEN + raw(DATA, PADDED, 1, b"\x01"), F.PADDING),
    ("6.2", HELLO + head(0, GET), F.FRAME_STREAM),
    ("6.2", HELLO + raw(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + literal(GET)), F.PADDING),
    ("6.2", HELLO + raw(HEADERS, END_HEADERS | PADDED, 1, b""), F.FRAME_SIZE),
    ("6.2", HELLO + raw(HEADERS, END_HEADERS | PRIORITIZED, 1, b"\x00\x00"), F.FRAME_SIZE),
    (
        "5.3",
        HELLO + raw(HEADERS, END_HEADERS | PRIORITIZED, 1, word(1) + b"\x00" + literal(GET)),
        F.DEPENDENCY,
    ),
    ("6.3", HELLO + raw(PRIORITY, 0, 0, bytes(5)), F.FRAME_STREAM),
    ("6.3", HELLO + raw(PRIORITY, 0, 1, bytes(4)), F.FRAME_SIZE),
    ("5.3", HELLO + raw(PRIORITY, 0, 1, word(1) + b"\x00"), F.DEPENDENCY),
    ("6.4", HELLO + raw(RST_STREAM, 0, 0, word(8)), F.FRAME_STREAM),
    ("6.4", OPEN + raw(RST_STREAM, 0, 1, b"\x00\x00\x08"), F.FRAME_SIZE),
    ("6.5", HELLO + raw(SETTINGS, 0, 1), F.FRAME_STREAM),
    ("6.5", HELLO + raw(SETTINGS, ACK, 0, setting(3, 1)), F.FRAME_SIZE),
    ("6.5", HELLO + raw(SETTINGS, 0, 0, b"\x00\x03\x00"), F.FRAME_SIZE),
    ("6.5.2", hello(setting(2, 2)), F.SETTING),
    ("6.5.2", hello(setting(4, 1 << 31)), F.WINDOW_OVERFLOW),
    ("6.5.2", hello(setting(5, 16383)), F.SETTING),
    ("6.5.2", hello(setting(5, 1 << 24)), F.SETTING),
    ("8441", hello(setting(8, 2)), F.SETTING),
    ("6.6", HELLO + raw(PUSH_PROMISE, END_HEADERS, 1, word(2) + literal(GET)), F.PUSH),
    ("6.7", HELLO + raw(PING, 0, 1, bytes(8)), F.FRAME_STREAM),
    ("6.7", HELLO + raw(PING, 0, 0, bytes(7)), F.FRAME_SIZE),
    ("6.7", HELLO + raw(PING, 0, 0, bytes(9)), F.FRAME_SIZE),
    ("6.8", HELLO + raw(GOAWAY, 0, 1, bytes(8)), F.FRAME_STREAM),
    ("6.8", HELLO + raw(GOAWAY, 0, 0, bytes(7)), F.FRAME_SIZE),
    ("6.9", HELLO + raw(WINDOW_UPDATE, 0, 0, word(0)), F.WINDOW_ZERO),
    ("6.9", HELLO + raw(WINDOW_UPDATE, 0, 0, b"\x00\x00\x01"), F.FRAME_SIZE),
    ("6.9.1", HELLO + raw(WINDOW_UPDATE, 0, 0, word((1 << 31) - 1)), F.WINDOW_OVERFLOW),
    (
        "6.9.2",
        OPEN
        + raw(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1 - 65535))
        + raw(SETTINGS, 0, 0, setting(4, 65536)),
        F.WINDOW_OVERFLOW,
    ),
    ("6.10", HELLO + raw(CONTINUATION, END_HEADERS, 1, literal(GET)), F.FRAME_ORDER),
    ("6.10", HALF + raw(CONTINUATION, END_HEADERS, 1, literal(GET)), F.FRAME_ORDER),
    ("6.10", HELLO + raw(CONTINUATION, END_HEADERS, 0, literal(GET)), F.FRAME_ORDER),
]


@pytest.mark.parametrize("step", [1 << 30, 1, 7], ids=["whole", "bytes", "sevens"])
@pytest.mark.parametrize(
    ("section", "came", "fault"),
    CONNECTION_ERRORS,
    ids=[f"{place}-{case[0]}-{case[2].code}" for place, case in enumerate(CONNECTION_ERRORS)],
)
def test_error_of_the_connection_ends_it_with_its_code(
    section: str, came: bytes, fault: Http2Fault, step: int
) -> None:
    del section
    end = server()

    assert feed_to_fault(end, came, step=step) == fault.code

    assert gone_away(end) == fault.error_code
    assert end.next_event() is None


#: (section, what comes behind the hello, the stream's fault): the others go on.
STREAM_ERRORS: list[tuple[str, bytes, Http2Fault]] = [
    ("5.1", head(1, GET) + data(1, b"x"), F.STREAM_CLOSED),
    ("5.1", head(1, GET) + head(1, GET), F.STREAM_CLOSED),
    ("5.1", head(1, GET) + data(1, b"", ends=True), F.STREAM_CLOSED),
    ("6.9", head(1, GET) + raw(WINDOW_UPDATE, 0, 1, word(0)), F.WINDOW_ZERO),
    ("6.9.1", head(1, GET) + raw(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1)), F.WINDOW_OVERFLOW),
    ("8.1", head(1, POST, ends=False) + head(1, [(b"x-end", b"1")], ends=False), F.TRAILERS),
    ("8.1", head(1, POST, ends=False) + head(1, [(b":path", b"/")]), F.PSEUDO_LATE),
    ("8.1", head(1, POST, ends=False) + head(1, [(b"X-End", b"1")]), F.FIELD_NAME),
    ("8.1", head(1, POST, ends=False) + head(1, [(b"content-length", b"1")]), F.TRAILER_FORBIDDEN),
    ("8.1", head(1, POST, ends=False) + head(1, [(b"host", b"b.example")]), F.TRAILER_FORBIDDEN),
    (
        "8.1",
        head(1, POST, ends=False) + head(1, [(b"transfer-encoding", b"chunked")]),
        F.TRAILER_FORBIDDEN,
    ),
    (
        "8.1.1",
        head(1, [*POST, (b"content-length", b"2")], ends=False) + data(1, b"abc"),
        F.LENGTH_WRONG,
    ),
    (
        "8.1.1",
        head(1, [*POST, (b"content-length", b"2")], ends=False) + data(1, b"a", ends=True),
        F.LENGTH_WRONG,
    ),
    (
        "8.1.1",
        head(1, [*POST, (b"content-length", b"2")], ends=False) + head(1, [(b"x-end", b"1")]),
        F.LENGTH_WRONG,
    ),
    ("8.1.1", head(1, GET, ends=False) + data(1, b"a", ends=True), F.LENGTH_WRONG),
    ("6.9.1", head(1, POST, ends=False) + data(1, b"x" * 16384) * 17, F.WINDOW_EXCEEDED),
]


@pytest.mark.parametrize("step", [1 << 30, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(
    ("section", "came", "fault"),
    STREAM_ERRORS,
    ids=[f"{place}-{case[0]}-{case[2].code}" for place, case in enumerate(STREAM_ERRORS)],
)
def test_error_of_a_stream_ends_that_stream_alone(
    section: str, came: bytes, fault: Http2Fault, step: int
) -> None:
    del section
    if step == 1 and len(came) > 20_000:
        came = came[:0] or came  # a byte at a time it is the same, and slow
        step = 1000
    end = server(bounds=Http2Bounds(connection_window_bytes=1 << 20))

    events = feed(end, HELLO + came, step=step)
    after = feed(end, head(3, GET))

    resets = [event for event in events if isinstance(event, StreamReset)]
    assert [(one.stream, one.fault) for one in resets] == [(1, fault)]
    assert (RST_STREAM, 0, 1, word(fault.error_code)) in sent(end)
    assert shown(after)[0][:2] == ("request", 3)


def test_more_than_the_window_of_the_connection_ends_it() -> None:
    end = server(bounds=Http2Bounds(connection_window_bytes=1 << 17, stream_window_bytes=1 << 18))
    feed(end, OPEN)

    assert feed_to_fault(end, data(1, b"x" * 16384) * 9) == F.WINDOW_EXCEEDED.code
    assert gone_away(end) == ErrorCode.FLOW_CONTROL_ERROR


def test_frames_of_unknown_types_and_unknown_settings_are_passed_over() -> None:
    end = server()

    events = feed(end, hello(setting(0x1A2A, 7)) + raw(0xBB, 0xFF, 0, b"grease") + head(1, GET))

    assert [kind for kind, *_ in shown(events)] == ["request"]


def test_reserved_bit_of_a_stream_is_not_looked_at() -> None:
    came = bytearray(head(1, GET))
    came[5] |= 0x80
    assert shown(feed(server(), HELLO + bytes(came)))[0][:2] == ("request", 1)


def test_ping_is_answered_with_its_own_bytes_and_an_answer_is_not() -> None:
    end = server()
    feed(end, HELLO)
    sent(end)

    feed(end, raw(PING, 0, 0, b"12345678") + raw(PING, ACK, 0, b"87654321"))

    assert sent(end) == [(PING, ACK, 0, b"12345678")]


def test_settings_are_acknowledged_and_ours_come_first() -> None:
    end = server()
    first = sent(end)
    feed(end, HELLO)

    assert first[0][0] == SETTINGS
    assert sent(end) == [(SETTINGS, ACK, 0, b"")]


def test_frames_on_a_stream_that_we_reset_are_dropped_and_given_back() -> None:
    end = server()
    feed(end, OPEN)
    end.reset(1, ErrorCode.CANCEL)
    sent(end)

    # More than the connection's window in all: it is given back though nobody reads it.
    for _ in range(100):
        assert feed(end, data(1, b"x" * 16384)) == []
    assert feed(end, head(1, [(b"x-end", b"1")])) == []
    assert feed(end, raw(WINDOW_UPDATE, 0, 1, word(9)) + raw(RST_STREAM, 0, 1, word(8))) == []
    assert any(kind == WINDOW_UPDATE and not stream for kind, _, stream, _ in sent(end))


def test_head_in_many_frames_with_padding_and_priority_is_one_head() -> None:
    block = literal([*GET, (b"x-long", b"v" * 300)])
    first = b"\x03" + word(0) + b"\x10" + block[:20] + bytes(3)
    came = raw(HEADERS, END_STREAM | PADDED | PRIORITIZED, 1, first)
    came += raw(CONTINUATION, 0, 1, block[20:50]) + raw(CONTINUATION, END_HEADERS, 1, block[50:])

    for step in (1 << 30, 1):
        [event] = shown(feed(server(), HELLO + came, step=step))
        assert event[:2] == ("request", 1)
        assert (b"x-long", b"v" * 300) in event[3]  # type: ignore[operator]


def test_padding_counts_for_the_window_and_is_given_back() -> None:
    end = server()
    feed(end, OPEN)
    sent(end)

    for _ in range(60):
        events = feed(end, raw(DATA, PADDED, 1, b"\xff" + b"x" + bytes(255)))
        assert shown(events) == [("data", 1, b"x")]
        end.consume(1, 1)
    for _ in range(1100):
        feed(end, raw(DATA, PADDED, 1, b"\xff" + b"x" + bytes(255)))
        end.consume(1, 1)

    updates = [stream for kind, _, stream, _ in sent(end) if kind == WINDOW_UPDATE]
    assert 1 in updates


def test_requests_end_their_connection_only_between_frames() -> None:
    whole = server()
    feed(whole, HELLO + head(1, GET))
    whole.receive_end()

    cut = server()
    feed(cut, HELLO + head(1, GET)[:-1])
    with pytest.raises(Exception, match="in the middle of a frame"):
        cut.receive_end()


# -- what servers send ---------------------------------------------------------------------------

ASKED = Request(b"GET", Target.origin(b"/"), Fields([(b"Host", b"a.example")]))
OK = [(b":status", b"200")]
FROM_SERVER: list[tuple[str, bytes, Http2Fault]] = [
    ("preface", head(1, OK), F.PREFACE),
    (
        "push",
        raw(SETTINGS, 0, 0) + raw(PUSH_PROMISE, END_HEADERS, 1, word(2) + literal(GET)),
        F.PUSH,
    ),
    ("even-stream", raw(SETTINGS, 0, 0) + head(2, OK), F.STREAM_ID),
    ("idle-stream", raw(SETTINGS, 0, 0) + head(3, OK), F.STREAM_ID),
    ("idle-data", raw(SETTINGS, 0, 0) + data(3, b"x"), F.STREAM_IDLE),
    ("enable-push", raw(SETTINGS, 0, 0, setting(2, 1)), F.SETTING),
    ("answered-twice", raw(SETTINGS, 0, 0) + head(1, OK) + head(1, OK), F.STREAM_CLOSED),
    ("data-behind-the-end", raw(SETTINGS, 0, 0) + head(1, OK) + data(1, b"x"), F.STREAM_CLOSED),
]


@pytest.mark.parametrize("step", [1 << 30, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(("name", "came", "fault"), FROM_SERVER, ids=[c[0] for c in FROM_SERVER])
def test_error_of_a_servers_connection_ends_it(
    name: str, came: bytes, fault: Http2Fault, step: int
) -> None:
    del name
    end = client()
    end.send_head(ASKED, is_last=True)

    assert feed_to_fault(end, came, step=step) == fault.code
    assert gone_away(end) == fault.error_code


OF_ONE_RESPONSE: list[tuple[str, bytes, Http2Fault]] = [
    ("data-first", data(1, b"x"), F.BODY_WITHOUT_HEAD),
    (
        "data-behind-1xx",
        head(1, [(b":status", b"103")], ends=False) + data(1, b"x"),
        F.BODY_WITHOUT_HEAD,
    ),
    ("1xx-that-ends", head(1, [(b":status", b"103")]), F.INFORMATIONAL_END),
    ("101", head(1, [(b":status", b"101")], ends=False), F.STATUS_101),
    ("1xx-flood", head(1, [(b":status", b"103")], ends=False) * 17, F.INFORMATIONAL_FLOOD),
    (
        "longer",
        head(1, [*OK, (b"content-length", b"2")], ends=False) + data(1, b"abc"),
        F.LENGTH_WRONG,
    ),
    (
        "shorter",
        head(1, [*OK, (b"content-length", b"2")], ends=False) + data(1, b"a", ends=True),
        F.LENGTH_WRONG,
    ),
    ("nothing", head(1, [*OK, (b"content-length", b"2")]), F.LENGTH_WRONG),
    ("body-of-204", head(1, [(b":status", b"204")], ends=False) + data(1, b"a"), F.LENGTH_WRONG),
    ("body-of-304", head(1, [(b":status", b"304")], ends=False) + data(1, b"a"), F.LENGTH_WRONG),
    (
        "length-of-204",
        head(1, [(b":status", b"204"), (b"content-length", b"3")]),
        F.LENGTH_WITHOUT_BODY,
    ),
    (
        "trailers-that-do-not-end",
        head(1, OK, ends=False) + head(1, [(b"a", b"b")], ends=False),
        F.TRAILERS,
    ),
    ("status-in-trailers", head(1, OK, ends=False) + head(1, OK), F.PSEUDO_LATE),
    ("no-status", head(1, [(b"server", b"x")]), F.PSEUDO_MISSING),
    ("empty-head", head(1, []), F.PSEUDO_MISSING),
    ("method", head(1, [(b":method", b"GET")]), F.PSEUDO_UNKNOWN),
    ("status-twice", head(1, [*OK, *OK]), F.PSEUDO_REPEATED),
    ("path-behind", head(1, [*OK, (b":path", b"/")]), F.PSEUDO_UNKNOWN),
    ("status-late", head(1, [(b"server", b"x"), *OK]), F.PSEUDO_MISSING),
    ("status-words", head(1, [(b":status", b"200 OK")]), F.STATUS),
    ("status-short", head(1, [(b":status", b"20")]), F.STATUS),
    ("status-sign", head(1, [(b":status", b"+20")]), F.STATUS),
    ("connection", head(1, [*OK, (b"connection", b"close")]), F.FIELD_OF_CONNECTION),
    (
        "transfer-encoding",
        head(1, [*OK, (b"transfer-encoding", b"chunked")]),
        F.FIELD_OF_CONNECTION,
    ),
    ("upgrade", head(1, [*OK, (b"upgrade", b"h2c")]), F.FIELD_OF_CONNECTION),
    ("upper-case", head(1, [*OK, (b"Server", b"x")]), F.FIELD_NAME),
    ("line-end", head(1, [*OK, (b"server", b"x\r\nset-cookie: a=b")]), F.FIELD_VALUE),
    ("nul", head(1, [*OK, (b"server", b"x\x00")]), F.FIELD_VALUE),
    ("length-list", head(1, [*OK, (b"content-length", b"1, 1")], ends=False), F.LENGTH_MALFORMED),
    (
        "length-twice",
        head(1, [*OK, (b"content-length", b"1"), (b"content-length", b"1")], ends=False),
        F.LENGTH_REPEATED,
    ),
]


@pytest.mark.parametrize("step", [1 << 30, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(
    ("name", "came", "fault"), OF_ONE_RESPONSE, ids=[c[0] for c in OF_ONE_RESPONSE]
)
def test_malformed_response_ends_its_own_stream_alone(
    name: str, came: bytes, fault: Http2Fault, step: int
) -> None:
    del name
    end = client()
    end.send_head(ASKED, is_last=True)
    end.send_head(ASKED, is_last=True)

    events = feed(end, raw(SETTINGS, 0, 0) + came + head(3, OK), step=step)

    seen = shown(events)
    assert ("reset", 1, fault.error_code, fault.code) in seen
    assert seen[-1][:3] == ("response", 3, 200)
    assert (RST_STREAM, 0, 1, word(fault.error_code)) in sent(end)


def test_servers_bounds_on_streams_are_kept() -> None:
    end = client()
    feed(end, raw(SETTINGS, 0, 0, setting(3, 2)))

    assert end.has_room
    end.send_head(ASKED, is_last=True)
    end.send_head(ASKED, is_last=True)
    assert not end.has_room
    feed(end, head(1, OK))
    assert end.has_room


def test_server_that_leaves_gets_no_further_requests_and_answers_those_that_it_took() -> None:
    end = client()
    for _ in range(2):
        end.send_head(ASKED, is_last=True)

    events = feed(end, raw(SETTINGS, 0, 0) + raw(GOAWAY, 0, 0, word(1) + word(0)) + head(1, OK))

    assert not end.has_room
    assert shown(events)[0] == ("leaves", 1, 0)
    assert shown(events)[1][:3] == ("response", 1, 200)


def test_gate_that_leaves_answers_what_it_took_and_looks_at_nothing_more() -> None:
    end = server()
    feed(end, HELLO + head(1, GET))
    end.leave()
    sent(end)

    assert feed(end, head(3, GET)) == []
    end.send_head(1, Response(204), is_last=True)
    assert [kind for kind, *_ in sent(end)] == [HEADERS]
