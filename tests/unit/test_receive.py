"""The line buffer: what is a line, what is refused, and that cuts and bounds never matter."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError, Side
from sluicegate.protocols.receive import LineBuffer, LineEnds, escape_iac

LINE_MAX = 40

FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xff\xff",
        b"\xff\xf4",
        b"\xf2",
        b"ABOR",
        b"a b",
        b"x",
    ]
)
STREAMS = st.one_of(st.lists(FRAGMENTS, max_size=30).map(b"".join), st.binary(max_size=200))


def lines_of(data: bytes, ends: LineEnds, cuts: list[int] = []) -> list[object]:  # noqa: B006
    """Feed the pieces; return the contents, then the hint of the error if there was one."""
    buffer = LineBuffer(Side.CLIENT, line_bytes_max=LINE_MAX, line_ends=ends)
    borders = [0, *sorted(cuts), len(data)]
    found: list[object] = []
    try:
        for start, end in itertools.pairwise(borders):
            buffer.receive_data(data[start:end])
            while (line := buffer.next_line()) is not None:
                found.append(line.content)
            assert buffer.partial_bytes <= LINE_MAX
    except ProtocolError as error:
        found.append(error.hint)
    return found


@pytest.mark.parametrize(
    ("data", "contents"),
    [
        (b"NOOP\r\n", [b"NOOP"]),
        (b"NOOP\r\nPWD\r\nUN", [b"NOOP", b"PWD"]),
        (b"\r\n", [b""]),
        (b"RETR \xff\xff\r\n", [b"RETR \xff"]),
        (b"RETR \xff\xff\xff\xff\r\n", [b"RETR \xff\xff"]),
        (b"\xff\xf4\xff\xf2ABOR\r\n", [b"ABOR"]),
        (b"\xff\xf2ABOR\r\n", [b"ABOR"]),
        (b"\xff\xf1\xff\xf5ABOR\r\n", [b"ABOR"]),
        (b"\xff\xf4\xffABOR\r\n", [b"ABOR"]),
        (b"\xff\xf4\xff\xff\r\n", [b"\xff"]),
    ],
)
def test_strict_lines_read_as_in_the_table(data: bytes, contents: list[bytes]) -> None:
    assert lines_of(data, LineEnds.STRICT) == contents


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"USER a\nDELE b\r\n", "LF without CR"),
        (b"NOOP\r\r\n", "CR"),
        (b"RETR a\rb\r\n", "CR"),
        (b"RETR a\r\0b\r\n", "CR"),
        (b"RETR a\0b\r\n", "NUL"),
        (b"RE\xff\xf4TR a\r\n", "Telnet"),
        (b"ABOR\xff\r\n", "Telnet"),
        (b"RETR \xff\xff\xff\r\n", "Telnet"),
        (b"\xff\xfb\x01ABOR\r\n", "Telnet"),
        (b"\xff\xfa\x01\xff\xf0ABOR\r\n", "Telnet"),
        (b"\xffABOR\r\n", "Telnet"),
        (b"x" * (LINE_MAX + 1), "longer than 40 bytes"),
    ],
)
def test_ambiguous_lines_are_refused_with_a_reason(data: bytes, word: str) -> None:
    *before, hint = lines_of(data, LineEnds.STRICT)

    assert before == []
    assert word in str(hint)


@pytest.mark.parametrize(
    ("data", "contents"),
    [
        (b"220 a\n220 b\r\n220 c\r\r\n", [b"220 a", b"220 b", b"220 c"]),
        (b"220 a\rb\n", ["a CR stands inside a line"]),
        (b"220 a\0b\n", ["a NUL stands inside a line"]),
    ],
)
def test_lenient_lines_end_where_clients_end_them(data: bytes, contents: list[object]) -> None:
    assert lines_of(data, LineEnds.LENIENT) == contents


def test_the_first_error_is_final() -> None:
    buffer = LineBuffer(Side.SERVER, line_bytes_max=LINE_MAX, line_ends=LineEnds.STRICT)
    buffer.receive_data(b"a\nb\r\n")
    with pytest.raises(ProtocolError) as first:
        buffer.next_line()

    buffer.receive_data(b"NOOP\r\n")

    with pytest.raises(ProtocolError) as second:
        buffer.next_line()
    assert second.value is first.value
    assert second.value.side is Side.SERVER


def test_raw_bytes_keep_what_was_received() -> None:
    buffer = LineBuffer(Side.CLIENT, line_bytes_max=LINE_MAX, line_ends=LineEnds.STRICT)
    buffer.receive_data(b"\xff\xf4\xff\xf2ABOR\r\n")

    line = buffer.next_line()

    assert line is not None
    assert line.raw == b"\xff\xf4\xff\xf2ABOR\r\n"


@given(STREAMS, st.lists(st.integers(0, 200), max_size=8), st.sampled_from(LineEnds))
def test_every_cut_gives_the_same_lines(data: bytes, cuts: list[int], ends: LineEnds) -> None:
    cuts = [min(cut, len(data)) for cut in cuts]

    assert lines_of(data, ends, cuts) == lines_of(data, ends)


@given(STREAMS, st.sampled_from(LineEnds))
def test_no_line_holds_what_peers_read_differently(data: bytes, ends: LineEnds) -> None:
    for content in lines_of(data, ends):
        if isinstance(content, bytes):
            assert len(content) <= LINE_MAX
            assert not set(content) & set(b"\r\n\0")


@given(st.binary(max_size=18).filter(lambda text: not set(text) & set(b"\r\n\0")))
def test_escaped_content_reads_back(content: bytes) -> None:
    assert lines_of(escape_iac(content) + b"\r\n", LineEnds.STRICT) == [content]
