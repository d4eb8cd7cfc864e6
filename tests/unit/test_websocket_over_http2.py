"""Extended CONNECT and upgrades: what each says of the other, and both ends of a stream of it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import BadContext
from sluicegate.protocols.http1 import NO_BODY, Fields, Request, Response, Target
from sluicegate.protocols.http1.writing import write_request
from sluicegate.protocols.http2 import (
    BodyPiece,
    ErrorCode,
    Http2Client,
    Http2Server,
    RequestBegan,
    ResponseBegan,
    ServedAs,
    StreamEnded,
    StreamReset,
)
from sluicegate.protocols.http2.connection import Http2Connection
from sluicegate.protocols.websocket import (
    Handshake,
    accept_of,
    as_extended_connect,
    as_stream_answer,
    as_switched,
    as_upgrade,
    is_proven,
)
from tests.unit.http2.http2_kit import feed

NONCE = bytes(range(16))
KEY = base64.b64encode(NONCE)
SERVED = ServedAs(is_proxy=False, protocols=frozenset({b"websocket"}))


def ends(served: ServedAs = SERVED) -> tuple[Http2Client, Http2Server]:
    """Return both ends of a connection that have said their settings."""
    asker, answerer = Http2Client(), Http2Server(served)
    for _ in range(2):
        carry(asker, answerer)
        carry(answerer, asker)
    return asker, answerer


def carry(source: Http2Connection, sink: Http2Connection, step: int = 1 << 30) -> list[object]:
    return [*feed(sink, b"".join(map(bytes, source.take_output())), step=step)]


def upgrade(*more: tuple[bytes, bytes]) -> Request:
    """Return an upgrade as a client of HTTP/1.1 asks for it."""
    fields = [
        (b"Host", b"a.example"),
        (b"Sec-WebSocket-Key", KEY),
        (b"Sec-WebSocket-Version", b"13"),
        *more,
    ]
    return Request(b"GET", Target.origin(b"/chat"), Fields(fields), upgrade=(b"websocket",))


def asked(
    step: int = 1 << 30, *more: tuple[bytes, bytes]
) -> tuple[Http2Client, Http2Server, Request]:
    """Ask on a stream; return both ends, and the upgrade that the other end makes of it."""
    asker, answerer = ends()
    going, protocol = as_extended_connect(upgrade(*more))
    assert asker.send_head(going, is_last=False, protocol=protocol) == 1
    [began] = carry(asker, answerer, step)
    assert isinstance(began, RequestBegan)
    assert (began.request.method, began.protocol, began.is_whole) == (
        b"CONNECT",
        b"websocket",
        False,
    )
    return asker, answerer, as_upgrade(began.request, began.protocol, NONCE)


@pytest.mark.parametrize("step", [1, 7, 1 << 30])
def test_an_upgrade_is_the_same_one_behind_a_stream(step: int) -> None:
    more = (b"Sec-WebSocket-Protocol", b"chat"), (b"Cookie", b"a=b")
    _, _, request = asked(step, *more)
    assert (request.method, request.upgrade, request.framing) == (b"GET", (b"websocket",), NO_BODY)
    fields = {name.lower(): value for name, value in request.fields.items()}
    assert fields[b"sec-websocket-key"] == KEY
    assert fields[b"sec-websocket-version"] == b"13"
    assert (fields[b"sec-websocket-protocol"], fields[b"cookie"]) == (b"chat", b"a=b")
    wire = write_request(request, closes=False)
    assert wire.startswith(b"GET /chat HTTP/1.1\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in wire


def test_keys_are_of_http_1_alone() -> None:
    """RFC 8441 section 5: they are not sent, and not looked at."""
    going, _ = as_extended_connect(upgrade())
    assert going.fields.first(b"sec-websocket-key") is None
    request = Request(b"CONNECT", going.target, Fields([(b"sec-websocket-key", b"guessed")]))
    assert as_upgrade(request, b"websocket", NONCE).fields.all(b"sec-websocket-key") == [KEY]
    assert as_upgrade(request, b"other", NONCE).fields.all(b"sec-websocket-key") == []


@pytest.mark.parametrize("step", [1, 9, 1 << 30])
def test_what_switches_carries_bytes_both_ways_and_ends_each_by_itself(step: int) -> None:
    asker, answerer, request = asked()
    switched = Response(
        101, fields=Fields([(b"Sec-WebSocket-Accept", accept_of(KEY))]), upgrade=(b"websocket",)
    )
    assert is_proven(request, switched)
    answerer.send_head(1, as_stream_answer(switched))
    assert answerer.send_data(1, b"hello") == 5
    came = carry(answerer, asker, step)
    head = came[0]
    assert isinstance(head, ResponseBegan)
    assert (head.response.status, head.is_whole) == (200, False)
    assert head.response.fields.first(b"sec-websocket-accept") is None
    assert head.response.fields.first(b"content-length") is None
    assert b"".join(bytes(one.data) for one in came if isinstance(one, BodyPiece)) == b"hello"
    back = as_switched(head.response, upgrade())
    assert (back.status, back.upgrade) == (101, (b"websocket",))
    assert is_proven(upgrade(), back)
    assert Handshake(upgrade()).agree(back) is None

    assert asker.send_data(1, b"x" * 70_000) == 70_000
    asker.send_end(1)
    came = carry(asker, answerer, step)
    assert sum(len(one.data) for one in came if isinstance(one, BodyPiece)) == 70_000
    assert isinstance(came[-1], StreamEnded)
    answerer.consume(1, 70_000)
    assert answerer.send_data(1, b"late") == 4
    answerer.send_end(1)
    came = carry(answerer, asker)
    assert [bytes(one.data) for one in came if isinstance(one, BodyPiece)] == [b"late"]
    assert not asker.streams
    assert not answerer.streams


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_is_no_success_is_an_answer_as_others_are(status: int) -> None:
    asker, answerer, _ = asked()
    answerer.send_head(1, Response(status, framing=NO_BODY), is_last=True)
    [head] = carry(answerer, asker)
    assert isinstance(head, ResponseBegan)
    assert as_switched(head.response, upgrade()) is head.response


def test_a_reset_is_told_with_its_code() -> None:
    asker, answerer, _ = asked()
    asker.reset(1, ErrorCode.CANCEL)
    assert carry(asker, answerer) == [StreamReset(1, 8)]


def test_nothing_is_asked_that_was_not_announced() -> None:
    asker, _ = ends(ServedAs(is_proxy=False))
    assert not asker.takes_protocols
    going, protocol = as_extended_connect(upgrade())
    with pytest.raises(BadContext):
        asker.send_head(going, is_last=False, protocol=protocol)
    assert not asker.streams


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ([(b"Sec-WebSocket-Accept", accept_of(KEY))], True),
        ([], False),
        ([(b"Sec-WebSocket-Accept", accept_of(b"other"))], False),
        ([(b"Sec-WebSocket-Accept", accept_of(KEY))] * 2, False),
    ],
)
def test_a_server_proves_that_it_has_read_the_key(
    fields: list[tuple[bytes, bytes]], *, is_one: bool
) -> None:
    assert is_proven(upgrade(), Response(101, fields=Fields(fields))) is is_one


@given(st.lists(st.integers(1, 200_000), max_size=8), st.integers(1, 50_000))
def test_windows_hold_for_what_has_switched(pieces: list[int], step: int) -> None:
    """What is sent is what the other end has let, and all of it arrives in order."""
    asker, answerer, _ = asked()
    answerer.send_head(1, Response(200))
    carry(answerer, asker)
    sent = got = 0
    for size in pieces:
        left = size
        for _ in range(64):
            taken = answerer.send_data(1, bytes(left))
            sent, left = sent + taken, left - taken
            for one in carry(answerer, asker, step):
                assert isinstance(one, BodyPiece)
                got += len(one.data)
                asker.consume(1, one.size)
            carry(asker, answerer)
            if not left:
                break
        assert not left
    assert got == sent == sum(pieces)
