"""Group H of the hostile cases, as responses: one line a case, each at every cut of its input."""

from __future__ import annotations

import pytest

from sluicegate.protocols.http1 import HttpFault, Request, Response, Target
from sluicegate.protocols.http1.fields import Fields
from tests.unit.http1.http1_kit import GET, every_cut, fault_of, fetch, responses_of

F = HttpFault
OK = b"HTTP/1.1 200 OK\r\n"
TE = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = Request(
    b"GET", Target.origin(b"/"), Fields([(b"Host", b"a.example")]), upgrade=(b"websocket",)
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"


def ok(lines: bytes, body: bytes = b"") -> bytes:
    return OK + lines + b"\r\n" + body


#: Refused as heads: no event may come before the fault.
HEADS: list[tuple[str, bytes, HttpFault]] = [
    ("H1", ok(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), F.LENGTH_AND_CODING),
    ("H1", ok(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), F.LENGTH_AND_CODING),
    ("H2", ok(b"Content-Length: 4\r\nContent-Length: 4\r\n"), F.LENGTH_REPEATED),
    ("H2", ok(b"Content-Length: 4\r\nContent-Length: 5\r\n"), F.LENGTH_REPEATED),
    ("H2", ok(b"Content-Length: 4, 4\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length: +4\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length: -1\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length: 0x4\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length: 4_0\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length:  4\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length:\r\n"), F.LENGTH_MALFORMED),
    ("H2", ok(b"Content-Length: 18446744073709551616\r\n"), F.LENGTH_MALFORMED),
    ("H3", ok(b"Transfer-Encoding: xchunked\r\n"), F.CODING_UNKNOWN),
    ("H3", ok(b"Transfer-Encoding: gzip, chunked\r\n"), F.CODING_UNKNOWN),
    ("H3", ok(b"Transfer-Encoding: ,chunked\r\n"), F.CODING_MALFORMED),
    ("H3", ok(b"Transfer-Encoding: chunked,\r\n"), F.CODING_MALFORMED),
    ("H3", ok(b"Transfer-Encoding: chunked, identity\r\n"), F.CODING_REPEATED),
    ("H3", ok(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), F.CODING_REPEATED),
    ("H3", ok(b"Transfer-Encoding: \x0bchunked\r\n"), F.CONTROL_CHARACTER),
    ("H3", ok(b"Transfer-Encoding: chunked;q=1\r\n"), F.CODING_MALFORMED),
    ("H3", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", F.CODING_IN_1_0),
    ("H3", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", F.CODING_WITHOUT_BODY),
    ("H3", b"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n", F.CODING_WITHOUT_BODY),
    ("H3", b"HTTP/1.1 103 E\r\nContent-Length: 4\r\n\r\n", F.LENGTH_WITHOUT_BODY),
    ("H3", b"HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", F.LENGTH_WITHOUT_BODY),
    ("H6", b"HTTP/1.1 200 OK\nX: y\n\n", F.BARE_LF),
    ("H6", ok(b"X: y\nContent-Length: 0\r\n"), F.BARE_LF),
    ("H6", ok(b"X: y\rContent-Length: 0\r\n"), F.BARE_CR),
    ("H6", ok(b"X: a\0b\r\n"), F.NUL),
    ("H6", ok(b"X\0: a\r\n"), F.NUL),
    ("H6", ok(b"X: a\x1bb\r\n"), F.CONTROL_CHARACTER),
    ("H6", ok(b"X: \xa0a\r\n"), F.FIELD_EDGE),
    ("H6", ok(b"X: a\x85\r\n"), F.FIELD_EDGE),
    ("H6", ok(b"X\xe9: a\r\n"), F.FIELD_NAME),
    ("H6", ok(b": a\r\n"), F.FIELD_NAME),
    ("H6", ok(b"X : a\r\n"), F.FIELD_NAME),
    ("H6", ok(b"no colon\r\n"), F.FIELD_NO_COLON),
    ("H6", ok(b" X: a\r\n"), F.FIELD_FOLDED),
    ("H6", ok(b"X: a\r\n folded\r\n"), F.FIELD_FOLDED),
    ("H7", b"HTTP/1.10 200 OK\r\n\r\n", F.VERSION),
    ("H7", b"HTTP/2.0 200 OK\r\n\r\n", F.VERSION_UNSUPPORTED),
    ("H7", b"HTTP/1.2 200 OK\r\n\r\n", F.VERSION_UNSUPPORTED),
    ("H7", b"HTTP/1. 200 OK\r\n\r\n", F.VERSION),
    ("H7", b"http/1.1 200 OK\r\n\r\n", F.VERSION),
    ("H7", b"ICY 200 OK\r\n\r\n", F.VERSION),
    ("H7", b"\r\nHTTP/1.1 200 OK\r\n\r\n", F.VERSION),
    ("H7", b"<html>\r\n\r\n", F.VERSION),
    ("H14", ok(b"Connection: Content-Length\r\n"), F.CONNECTION_PROTECTED),
    ("H14", ok(b"Connection: Set-Cookie\r\n"), F.CONNECTION_PROTECTED),
    ("H14", ok(b"Connection: a b\r\n"), F.CONNECTION),
    ("H15", b"HTTP/1.1 20 OK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1 2000 OK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1 099 OK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1 +20 OK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1  200 OK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1\t200 OK\r\n\r\n", F.VERSION),
    ("H15", b"HTTP/1.1 200\tOK\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1\r\n\r\n", F.STATUS_LINE),
    ("H15", b"HTTP/1.1 200 O\0K\r\n\r\n", F.NUL),
    ("H15", b"HTTP/1.1 200 OK\rX: y\r\n\r\n", F.BARE_CR),
    ("H15", OK + OK + b"\r\n", F.FIELD_NO_COLON),
    ("H15", ok(b"X: y\r\nHTTP/1.1 200 OK\r\n"), F.FIELD_NO_COLON),
    ("H15", ok(b"X: y\r\nHTTP/1.1 200 OK: z\r\n"), F.FIELD_NAME),
    ("H15", SWITCH + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", F.UPGRADE_UNASKED),
]

#: Refused behind the head: the response was told, its end was not, or nothing behind it is.
BODIES: list[tuple[str, bytes, HttpFault]] = [
    ("H4", TE + b"0x3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3 \r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"10000000000000003\r\nabc\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3;a\nabc\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3\nabc\r\n0\r\n\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3;a=\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3\r\nabcXY0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"0\r\n\n", F.BARE_LF),
    ("H5", TE + b"0\r\nContent-Length: 3\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nSet-Cookie: a\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nX: y\r\n folded\r\n\r\n", F.FIELD_FOLDED),
    ("H5", TE + b"0\r\n" + b"X: y\r\n" * 33 + b"\r\n", F.TRAILERS_TOO_LARGE),
    ("H15", ok(b"Content-Length: 0\r\n") + OK, F.UNSOLICITED),
    ("H15", ok(b"Content-Length: 2\r\n", b"hi!"), F.UNSOLICITED),
    ("H15", TE + b"0\r\n\r\nx", F.UNSOLICITED),
    ("H15", b"HTTP/1.1 204 No\r\n\r\nbody", F.UNSOLICITED),
    ("H15", b"HTTP/1.1 304 Not\r\nContent-Length: 4\r\n\r\nbody", F.UNSOLICITED),
    ("H15", b"HTTP/1.1 100 C\r\n\r\n" * 17, F.INFORMATIONAL_FLOOD),
    ("H15", b"HTTP/1.1 103 E\r\nLink: <a>\r\n\r\n" * 17, F.INFORMATIONAL_FLOOD),
]


def names(table: list[tuple[str, bytes, HttpFault]]) -> list[str]:
    return [f"{case}-{number}-{fault.code}" for number, (case, _, fault) in enumerate(table)]


@pytest.mark.parametrize(("case", "data", "fault"), HEADS, ids=names(HEADS))
def test_head_is_refused_before_any_event_wherever_it_is_cut(
    case: str, data: bytes, fault: HttpFault
) -> None:
    for cuts in every_cut(data):
        assert fetch(data, cuts) == [fault]


@pytest.mark.parametrize(("case", "data", "fault"), BODIES, ids=names(BODIES))
def test_what_follows_a_head_is_refused_wherever_it_is_cut(
    case: str, data: bytes, fault: HttpFault
) -> None:
    uncut = fetch(data)
    assert fault_of(uncut) is fault
    assert len([one for one in responses_of(uncut) if not one.is_informational]) <= 1
    for cuts in every_cut(data):
        assert fetch(data, cuts) == uncut


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", F.UPGRADE_UNASKED),
        (b"Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n", F.UPGRADE_UNASKED),
        (b"Upgrade: websocket\r\n", F.UPGRADE_UNASKED),
        (b"Connection: Upgrade\r\n", F.UPGRADE),
        (b"", F.UPGRADE),
        (
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n",
            F.LENGTH_WITHOUT_BODY,
        ),
    ],
)
def test_101_must_be_for_what_was_offered(lines: bytes, fault: HttpFault) -> None:
    data = SWITCH + lines + b"\r\nraw"

    for cuts in every_cut(data):
        assert fetch(data, cuts, request=UPGRADE) == [fault]


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (b"HEAD", ok(b"Content-Length: 4\r\n", b"body")),
        (b"HEAD", TE + b"0\r\n\r\n"),
        (b"HEAD", ok(b"", b"body")),
    ],
)
def test_body_behind_a_response_to_head_answers_nothing(method: bytes, data: bytes) -> None:
    request = Request(method, Target.origin(b"/"), Fields([(b"Host", b"a.example")]))
    uncut = fetch(data, request=request)

    assert fault_of(uncut) is F.UNSOLICITED
    for cuts in every_cut(data):
        assert fetch(data, cuts, request=request) == uncut


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: y",
        b"HTTP/1.1 100 C\r\n\r\n",
        ok(b"Content-Length: 4\r\n", b"abc"),
        TE,
        TE + b"3\r\nab",
        TE + b"3\r\nabc\r\n",
        TE + b"0\r\n",
        TE + b"0\r\nX: y\r\n",
    ],
)
def test_end_of_the_connection_inside_a_message_is_no_end_of_the_message(data: bytes) -> None:
    for cuts in every_cut(data):
        seen = fetch(data, cuts, ends=True)
        assert fault_of(seen) is F.TRUNCATED
        assert ("end",) not in seen


def test_every_row_of_the_group_that_a_response_can_show_has_cases() -> None:
    shown = {case for case, _, _ in HEADS + BODIES}

    assert shown == {f"H{row}" for row in (1, 2, 3, 4, 5, 6, 7, 14, 15)}


def test_what_is_refused_of_a_server_is_502_for_the_client() -> None:
    from sluicegate.errors import Side
    from sluicegate.protocols.http1 import HttpProtocolError

    error = HttpProtocolError(F.CODING_UNKNOWN, Side.SERVER)

    assert error.status == 502
    assert fetch(ok(b"", b"all"), request=GET, ends=True)[1:] == [
        ("Body", b"all"),
        ("end",),
        "EndOfStream",
    ]
    assert isinstance(fetch(OK + b"\r\n")[0], Response)
