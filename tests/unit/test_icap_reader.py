"""IcapReader: answers in whatever pieces they come, and everything that is no answer."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocols.icap_reader import (
    HttpHead,
    IcapBody,
    IcapEnd,
    IcapEvent,
    IcapHead,
    IcapReader,
)

HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
RESPONSE = HttpHead("HTTP/1.1 200 OK", 200, {"content-type": "text/plain"})


def answer(line: bytes, *fields: bytes, rest: bytes = b"") -> bytes:
    return b"\r\n".join([b"ICAP/1.0 " + line, *fields, b"", b""]) + rest


def modified(body: bytes, line: bytes = b"200 OK", *fields: bytes, http: bytes = HTTP) -> bytes:
    place = b"Encapsulated: res-hdr=0, res-body=%d" % len(http)
    return answer(line, *fields, place, rest=http + body)


def read(data: bytes, cuts: tuple[int, ...] = ()) -> list[IcapEvent]:
    reader = IcapReader()
    reader.expect()
    events: list[IcapEvent] = []
    edges = sorted({0, *(one for one in cuts if one < len(data)), len(data)})
    for start, end in itertools.pairwise(edges):
        for event in reader.receive_data(data[start:end]):
            last = events[-1] if events else None
            if isinstance(event, IcapBody) and isinstance(last, IcapBody):
                events[-1] = IcapBody(last.data + event.data)
            else:
                events.append(event)
    return events


CASES: list[tuple[bytes, list[IcapEvent]]] = [
    (
        answer(b"204 No Content", b'ISTag: "x-1"'),
        [IcapHead(204, "No Content", {"istag": '"x-1"'}), IcapEnd()],
    ),
    (answer(b"204"), [IcapHead(204, "", {}), IcapEnd()]),
    (
        answer(b"100 Continue") + answer(b"204 Unmodified"),
        [IcapHead(100, "Continue", {}), IcapHead(204, "Unmodified", {}), IcapEnd()],
    ),
    (
        answer(b"200 OK", b"Methods: RESPMOD", b"Encapsulated: null-body=0"),
        [
            IcapHead(200, "OK", {"methods": "RESPMOD", "encapsulated": "null-body=0"}),
            IcapEnd(),
        ],
    ),
    (
        modified(b"5\r\nhello\r\n0\r\n\r\n"),
        [
            IcapHead(
                200,
                "OK",
                {"encapsulated": f"res-hdr=0, res-body={len(HTTP)}"},
                None,
                RESPONSE,
                True,
            ),
            IcapBody(b"hello"),
            IcapEnd(),
        ],
    ),
    (
        modified(b"3\r\nhel\r\n00002; x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n"),
        [
            IcapHead(
                200,
                "OK",
                {"encapsulated": f"res-hdr=0, res-body={len(HTTP)}"},
                None,
                RESPONSE,
                True,
            ),
            IcapBody(b"hello"),
            IcapEnd(),
        ],
    ),
    (
        modified(b"1\r\nx\r\n0; use-original-body=17\r\n\r\n", b"206 Partial Content"),
        [
            IcapHead(
                206,
                "Partial Content",
                {"encapsulated": f"res-hdr=0, res-body={len(HTTP)}"},
                None,
                RESPONSE,
                True,
            ),
            IcapBody(b"x"),
            IcapEnd(17),
        ],
    ),
    (
        answer(b"200 OK", b"Encapsulated: req-hdr=0, null-body=18", rest=b"GET / HTTP/1.1\r\n\r\n"),
        [
            IcapHead(
                200,
                "OK",
                {"encapsulated": "req-hdr=0, null-body=18"},
                HttpHead("GET / HTTP/1.1", 0, {}),
            ),
            IcapEnd(),
        ],
    ),
    (
        answer(b"200 OK", b"X-Violations-Found: 1", b"\t-", b"\tEicar", b"Server: a", b"Server: b"),
        [IcapHead(200, "OK", {"x-violations-found": "1 - Eicar", "server": "a, b"}), IcapEnd()],
    ),
    (
        answer(b"404 Service not found", b"Connection: close"),
        [IcapHead(404, "Service not found", {"connection": "close"}), IcapEnd()],
    ),
]


@pytest.mark.parametrize(("data", "events"), CASES)
def test_an_answer_is_told_the_same_wherever_it_is_cut(
    data: bytes, events: list[IcapEvent]
) -> None:
    assert read(data) == events
    for cut in range(len(data)):
        assert read(data, (cut,)) == events
    assert read(data, tuple(range(len(data)))) == events


HOSTILE = [
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"ICAP/1.1 200 OK\r\n\r\n",
    b"ICAP/1.0 20 OK\r\n\r\n",
    b"ICAP/1.0 2000 OK\r\n\r\n",
    b"ICAP/1.0  200 OK\r\n\r\n",
    b"icap/1.0 200 OK\r\n\r\n",
    b"ICAP/1.0 101 Switching\r\n\r\n",
    answer(b"200 OK", b"No colon here"),
    answer(b"200 OK", b": no name"),
    answer(b"200 OK", b"A\x00B: c"),
    answer(b"200 OK", b"A: b\x01"),
    answer(b"200 OK", b"A: b\rC: d"),
    answer(b"200 OK", b" Folded: from nothing"),
    answer(b"200 OK", *[b"A: b"] * 101),
    answer(b"200 OK", b"A: " + b"x" * 17_000),
    b"ICAP/1.0 200 OK\r\nA: " + b"x" * 17_000,
    answer(b"200 OK", b"ISTag: a", b"ISTag: b"),
    answer(b"200 OK", b"Encapsulated: res-body=0", b"Encapsulated: null-body=0"),
    answer(b"200 OK", b"Encapsulated: res-hdr=1, res-body=10"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, res-body=0"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, res-body=-1"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, res-body=4294967296"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, res-body=99999999999999999999"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, res-body=65537"),
    answer(b"200 OK", b"Encapsulated: res-body=0, res-hdr=10"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0"),
    answer(b"200 OK", b"Encapsulated: res-hdr=0, req-body=10"),
    answer(b"200 OK", b"Encapsulated: req-hdr=0, req-hdr=5, req-body=10"),
    answer(b"200 OK", b"Encapsulated: "),
    answer(b"200 OK", b"Encapsulated: x"),
    answer(b"100 Continue", b"Encapsulated: res-hdr=0, res-body=10"),
    answer(b"204 No", b"Encapsulated: res-hdr=0, null-body=%d" % len(HTTP), rest=HTTP),
    modified(b"0\r\n\r\n", http=HTTP[:-2] + b"x\n"),
    modified(b"0\r\n\r\n", http=b"HTTP/2 200 OK\r\n\r\n"),
    modified(b"0\r\n\r\n", http=b"GET / HTTP/1.1\r\n\r\n"),
    modified(b"0\r\n\r\n", http=b"HTTP/1.1 200 OK\r\nno field\r\n\r\n"),
    modified(b"0x5\r\nhello\r\n0\r\n\r\n"),
    modified(b"-1\r\n"),
    modified(b"+5\r\nhello\r\n0\r\n\r\n"),
    modified(b" 5\r\nhello\r\n0\r\n\r\n"),
    modified(b"\r\nhello\r\n0\r\n\r\n"),
    modified(b"ffffffffffffffff\r\nhello"),
    modified(b"4\r\nhello\r\n0\r\n\r\n"),
    modified(b"5\r\nhelloX0\r\n\r\n"),
    modified(b"5;" + b"x" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    modified(b"5" + b"x" * 300),
    modified(b"5\nhello\r\n0\r\n\r\n"),
    modified(b"0; ieof\r\n\r\n"),
    modified(b"0; use-original-body=1\r\n\r\n"),
    modified(b"0; use-original-body=x\r\n\r\n", b"206 Partial Content"),
    modified(b"0\r\nbad trailer\r\n\r\n"),
    modified(b"0\r\n" + b"A: b\r\n" * 5000),
    answer(b"204 No Content") + b"x",
    answer(b"204 No Content") + answer(b"204 No Content"),
    modified(b"5\r\nhello\r\n0\r\n\r\nmore"),
]


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_answer_is_refused_wherever_it_is_cut(data: bytes) -> None:
    """S3."""
    for cuts in ((), tuple(range(len(data))) if len(data) < 2000 else (1, 100), (len(data) // 2,)):
        with pytest.raises(ProtocolError):
            read(data, cuts)


@pytest.mark.parametrize(("data", "_events"), CASES)
def test_a_connection_that_ends_in_the_middle_is_no_answer(
    data: bytes, _events: list[IcapEvent]
) -> None:
    """S3."""
    for cut in range(len(data)):
        reader = IcapReader()
        reader.expect()
        events = reader.receive_data(data[:cut]) if cut else []
        assert not any(isinstance(one, IcapEnd) for one in events)
        with pytest.raises(ProtocolError, match="before its answer was whole"):
            reader.receive_data(b"")


def test_what_comes_unasked_is_found_before_the_next_question() -> None:
    reader = IcapReader()
    reader.expect()
    reader.receive_data(answer(b"204 No Content"))
    assert reader.is_idle
    with pytest.raises(ProtocolError, match="more than was asked"):
        reader.receive_data(b"I")


def test_one_answer_after_the_other_is_read_on_a_connection() -> None:
    reader = IcapReader()
    for _ in range(3):
        reader.expect()
        assert not reader.is_idle
        assert reader.receive_data(answer(b"204 No Content"))[-1] == IcapEnd()
        assert reader.is_idle


def test_a_second_question_before_the_answer_is_a_fault() -> None:
    reader = IcapReader()
    reader.expect()
    with pytest.raises(ProtocolError):
        reader.expect()


def test_a_body_is_told_as_it_comes_and_kept_nowhere() -> None:
    reader = IcapReader()
    reader.expect()
    reader.receive_data(modified(b"10000000\r\n"))
    for _ in range(100):
        assert reader.receive_data(b"x" * 65536) == [IcapBody(b"x" * 65536)]
        assert not reader._data


@given(
    st.one_of(st.binary(max_size=400), st.sampled_from([data for data, _ in CASES])),
    st.binary(max_size=20),
    st.integers(0, 400),
    st.lists(st.integers(0, 500), max_size=4),
)
def test_any_bytes_are_an_answer_or_a_protocol_error(
    data: bytes, put: bytes, at: int, cuts: list[int]
) -> None:
    data = data[:at] + put + data[at:]
    whole: object
    try:
        whole = read(data)
    except ProtocolError:
        whole = None
    try:
        assert read(data, tuple(cuts)) == whole
    except ProtocolError:
        assert whole is None
