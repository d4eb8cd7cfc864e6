"""Server-sent events: read as browsers read them, wherever the stream is cut, and written again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.server_sent_events import (
    EventStreamError,
    EventStreamReader,
    ServerSentEvent,
)

Event = ServerSentEvent


def read(*pieces: bytes, bound: int = 1000) -> list[ServerSentEvent]:
    reader = EventStreamReader(bound)
    found: list[ServerSentEvent] = []
    for piece in pieces:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not None:
            found.append(event)
    return found


STREAMS = [
    (b"data: one\n\n", [Event("one")]),
    (b"data:one\n\n", [Event("one")]),
    (b"data:  two spaces\n\n", [Event(" two spaces")]),
    (b"data: one\ndata: two\n\n", [Event("one\ntwo")]),
    (b"data\n\n", [Event("")]),
    (b"data\ndata\n\n", [Event("\n")]),
    (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [Event("a"), Event("b"), Event("c")]),
    (b"event: add\ndata: 73857293\nid: 7\nretry: 3000\n\n", [Event("73857293", "add", "7", 3000)]),
    (b": keep alive\n\n", [Event(comments=(" keep alive",))]),
    (b"\xef\xbb\xbfdata: marked\n\n", [Event("marked")]),
    (b"data: \xef\xbb\xbfinside\n\n", [Event("\ufeffinside")]),
    (b"\n\n\n\ndata: x\n\n\n\n", [Event("x")]),
    (b"unknown: field\n\ndata: y\n\n", [Event("y")]),
    (b"retry: soon\nid: a\0b\ndata: z\n\n", [Event("z")]),
    (b"id\ndata: reset\n\n", [Event("reset", id="")]),
    (b"data: no \xff text\n\n", [Event("no \ufffd text")]),
    (b"data: cut off", []),
    (b"data: a: b:c\n\n", [Event("a: b:c")]),
    ("data: é\u2028\x85\x0b\n\n".encode(), [Event("é\u2028\x85\x0b")]),
]


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_j6_streams_read_as_in_the_table_wherever_they_are_cut(
    stream: bytes, events: list[ServerSentEvent]
) -> None:
    assert read(stream) == events
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for cut in range(len(stream)):
        assert read(stream[:cut], stream[cut:]) == events


TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
EVENTS = st.builds(
    ServerSentEvent,
    st.none() | st.lists(TEXT, min_size=1).map("\n".join),
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | st.integers(0, 10**9),
    st.lists(TEXT, max_size=2).map(tuple),
).filter(lambda one: one != Event())


@given(events=st.lists(EVENTS, max_size=5))
def test_what_is_written_reads_back(events: list[ServerSentEvent]) -> None:
    stream = b"".join(one.to_bytes() for one in events)
    assert read(stream, bound=1 << 20) == events


@given(data=st.binary(max_size=100), cut=st.integers(0, 100))
def test_arbitrary_bytes_raise_nothing_and_cuts_change_nothing(data: bytes, cut: int) -> None:
    stream = data.replace(b"\x01", b"\n").replace(b"\x02", b"\r\n") + b"\ndata: end\n\n"
    assert read(stream[:cut], stream[cut:]) == read(stream)


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 1001, b"data: x\n" * 200, b":" + b"c" * 2000, b"a" * 1001 + b"\n\n"],
)
def test_an_event_without_an_end_is_refused(stream: bytes) -> None:
    with pytest.raises(EventStreamError, match="larger than 1000"):
        read(stream)
    with pytest.raises(EventStreamError, match="larger than 1000"):
        read(*(stream[at : at + 1] for at in range(len(stream))))


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "a\nb"},
        {"event": "a\rb"},
        {"id": "a\nb"},
        {"id": "a\0b"},
        {"comments": ("a\nb",)},
        {"data": "a\rb"},
        {"retry_ms": -1},
    ],
)
def test_an_event_that_would_be_two_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ServerSentEvent(**fields)  # type: ignore[arg-type]
