"""HTTP/2 for every cut of its input, for any bytes, and against the ``h2`` package."""

from __future__ import annotations

import itertools
import random
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
    WindowUpdated,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.protocols.http1 import CHUNKED, Fields, Framing, Request, Response, Target
from sluicegate.protocols.http2 import (
    BodyPiece,
    Http2Client,
    Http2ProtocolError,
    Http2Server,
    RequestBegan,
    ResponseBegan,
)
from sluicegate.protocols.http2 import StreamEnded as Ended
from tests.unit.http2.http2_kit import (
    GET,
    PING,
    POST,
    PROXY,
    RST_STREAM,
    SITE,
    WINDOW_UPDATE,
    client,
    data,
    feed,
    head,
    hello,
    raw,
    server,
    setting,
    shown,
    word,
)

CONVERSATION = (
    hello(setting(4, 100_000), setting(8, 1))
    + head(1, [*GET, (b"accept", b"*/*")])
    + head(3, [*POST, (b"content-length", b"5")], ends=False)
    + data(3, b"ab")
    + raw(PING, 0, 0, bytes(8))
    + head(5, POST, ends=False)
    + data(5, b"x" * 300)
    + data(3, b"cde", ends=True)
    + raw(WINDOW_UPDATE, 0, 1, word(10))
    + head(7, [*GET, (b"Bad", b"x")])
    + head(5, [(b"x-sum", b"1")])
    + head(9, GET)
    + raw(RST_STREAM, 0, 9, word(8))
    + head(11, GET)
)


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(CONVERSATION)]
    end = server()
    events = []
    for start, stop in itertools.pairwise(borders):
        events += feed(end, CONVERSATION[start:stop])

    assert shown(events) == shown(feed(server(), CONVERSATION))


def test_every_single_cut_gives_the_same_events() -> None:
    whole = shown(feed(server(), CONVERSATION))
    assert len(whole) == 14
    for place in range(1, len(CONVERSATION)):
        end = server()
        events = feed(end, CONVERSATION[:place]) + feed(end, CONVERSATION[place:])
        assert shown(events) == whole


def check_exhausted(end: Http2Server | Http2Client, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            feed(end, piece)
    except Http2ProtocolError:
        assert end.next_event() is None


FRAMES = st.builds(
    raw,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 5, 2, 7, (1 << 31) - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.just(head(1, GET)[9:]),
        st.just(head(1, POST)[9:]),
        st.sampled_from([word(0), word(1), word((1 << 31) - 1), bytes(8), setting(4, 0)]),
    ),
)


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=30))
def test_any_frames_are_events_or_the_end_of_the_connection(frames: list[bytes]) -> None:
    check_exhausted(server(), [hello(), *frames])
    check_exhausted(server(PROXY), [hello() + b"".join(frames)])
    end = client()
    end.send_head(
        Request(b"GET", Target.origin(b"/"), Fields([(b"Host", b"a.example")])), is_last=False
    )
    check_exhausted(end, [raw(4, 0, 0), *frames])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_nothing_else_is_raised(came: bytes) -> None:
    check_exhausted(server(), [came])
    check_exhausted(server(), [hello(), came])
    check_exhausted(client(), [raw(4, 0, 0), came])


NAME = st.sampled_from([b"x-a", b"accept", b"cookie", b"host", b"te", b"X", b"a b", b":path", b"a"])
VALUE = st.one_of(
    st.sampled_from([b"a.example", b"trailers", b"", b"a\r\nb"]), st.binary(max_size=6)
)


@settings(max_examples=300)
@given(st.permutations([*GET, (b"x", b"y")]), st.lists(st.tuples(NAME, VALUE), max_size=4))
def test_whatever_is_taken_can_be_written_as_http_1(
    begin: list[tuple[bytes, bytes]], rest: list[tuple[bytes, bytes]]
) -> None:
    for served in (SITE, PROXY):
        for event in feed(server(served), hello() + head(1, [*begin, *rest])):
            if isinstance(event, RequestBegan):
                # The constructor checks every one of them again, as filters' own are.
                items = [item for item in event.request.fields if item[0] != b"content-length"]
                assert list(Fields(items)) == items


# -- another's implementation --------------------------------------------------------------------


class Peer:
    """The ``h2`` package at the other end."""

    def __init__(self, end: Http2Server | Http2Client, *, is_client: bool) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=is_client, header_encoding=None))
        self.h2.initiate_connection()
        self.end = end
        self.seen: list[Event] = []
        self.ours: list[Any] = []

    def exchange(self, chance: random.Random) -> None:
        """Carry what each has to say to the other, cut anywhere, until there is nothing more."""
        while True:
            mine = b"".join(bytes(piece) for piece in self.end.take_output())
            theirs = self.h2.data_to_send()
            if not mine and not theirs:
                return
            for piece in cut(mine, chance):
                self.take(self.h2.receive_data(piece))
            for piece in cut(theirs, chance):
                self.ours += feed(self.end, piece)

    def take(self, events: list[Event]) -> None:
        """Note what it saw, and give back at once what it received."""
        self.seen += events
        for event in events:
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)


def cut(came: bytes, chance: random.Random) -> list[bytes]:
    pieces = []
    while came:
        size = chance.randint(1, max(1, len(came)))
        pieces.append(came[:size])
        came = came[size:]
    return pieces


def test_clients_of_another_implementation_are_served() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        peer = Peer(end := server(), is_client=True)
        bodies = {}
        for place in range(8):
            number = peer.h2.get_next_available_stream_id()
            body = bodies[number] = chance.randbytes(chance.choice([0, 1, 500, 20_000]))
            peer.h2.send_headers(number, [*POST, (b"x-n", b"%d" % place)])
            peer.exchange(chance)
            for start in range(0, len(body), 16_000):
                peer.h2.send_data(number, body[start : start + 16_000])
                peer.exchange(chance)
            if place % 2:
                peer.h2.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
            else:
                peer.h2.end_stream(number)
            peer.exchange(chance)
            answer(end, number, body)
            peer.exchange(chance)

        assert gathered(peer.ours, BodyPiece) == bodies
        answered: dict[int, bytes] = dict.fromkeys(bodies, b"")
        for event in peer.seen:
            if isinstance(event, DataReceived):
                answered[event.stream_id] += event.data
        assert answered == {number: body[::-1] for number, body in bodies.items()}
        assert sum(isinstance(one, TrailersReceived) for one in peer.seen) == 8
        assert sum(isinstance(one, InformationalResponseReceived) for one in peer.seen) == 8
        assert sum(isinstance(one, Ended) for one in peer.ours) == 8


def gathered(events: list[Any], kind: type[BodyPiece]) -> dict[int, bytes]:
    bodies: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, RequestBegan | ResponseBegan):
            bodies.setdefault(event.stream, b"")
        elif isinstance(event, kind):
            bodies[event.stream] += bytes(event.data)
    return bodies


def answer(end: Http2Server, number: int, body: bytes) -> None:
    end.consume(number, len(body))
    end.send_head(number, Response(103, fields=Fields([(b"Link", b"</x>")])))
    end.send_head(number, Response(200, framing=CHUNKED))
    assert end.send_data(number, body[::-1]) == len(body)
    end.send_end(number, Fields([(b"X-Done", b"yes")]))


def test_servers_of_another_implementation_are_asked() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        peer = Peer(end := client(), is_client=False)
        peer.exchange(chance)
        bodies = {}
        for _ in range(8):
            body = chance.randbytes(chance.choice([0, 1, 500, 20_000]))
            fields = Fields([(b"Host", b"a.example"), (b"Authorization", b"Basic eDp5")])
            request = Request(b"PUT", Target.origin(b"/x"), fields, Framing.of_length(len(body)))
            number = end.send_head(request, is_last=not body)
            bodies[number] = body
            if body:
                assert end.send_data(number, body) == len(body)
                end.send_end(number)
            peer.exchange(chance)
            peer.h2.send_headers(number, [(b":status", b"200"), (b"server", b"x")])
            for start in range(0, len(body), 16_000):
                peer.h2.send_data(number, body[start : start + 16_000])
            peer.h2.end_stream(number)
            peer.exchange(chance)
            end.consume(number, len(body))
            peer.exchange(chance)

        assert gathered(peer.ours, BodyPiece) == bodies
        received: dict[int, bytes] = dict.fromkeys(bodies, b"")
        for event in peer.seen:
            if isinstance(event, DataReceived):
                received[event.stream_id] += event.data
        assert received == bodies
        heads = [one for one in peer.seen if isinstance(one, RequestReceived)]
        assert all((b":authority", b"a.example") in one.headers for one in heads)
        assert sum(isinstance(one, StreamEnded) for one in peer.seen) == 8


def test_large_bodies_go_at_the_pace_of_the_other_implementations_windows() -> None:
    chance = random.Random(1)
    peer = Peer(end := server(), is_client=True)
    peer.h2.send_headers(1, GET, end_stream=True)
    peer.exchange(chance)
    end.send_head(1, Response(200, framing=CHUNKED))
    body = chance.randbytes(1 << 20)
    left = body
    received = b""
    while left:
        left = left[end.send_data(1, left) :]
        peer.exchange(chance)
        for event in peer.seen:
            if isinstance(event, DataReceived):
                received += event.data
        peer.seen.clear()
        peer.exchange(chance)
    end.send_end(1)
    peer.exchange(chance)

    assert received == body
    assert any(isinstance(one, StreamEnded) for one in peer.seen)
    assert not any(isinstance(one, ResponseReceived | WindowUpdated) for one in peer.ours)
