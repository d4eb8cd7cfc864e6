"""Multipart bodies: one reading, or none (group K6)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocol_limits import MULTIPART_PARTS_MAX
from sluicegate.protocols.multipart import (
    MultipartError,
    MultipartReader,
    PartBegin,
    PartData,
    PartEnd,
    multipart_boundary,
)

BOUNDARY = b"x1"
Part = tuple[dict[bytes, bytes], bytes]


def body(*parts: bytes, boundary: bytes = BOUNDARY, end: bytes = b"\r\n") -> bytes:
    lines = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return lines + b"--%b--" % boundary + end


def field(name: bytes, data: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name, data)


def read(pieces: list[bytes], boundary: bytes = BOUNDARY) -> list[Part]:
    reader = MultipartReader(boundary)
    found: list[Part] = []
    is_open = False
    for piece in pieces:
        for event in reader.receive(piece):
            match event:
                case PartBegin(fields):
                    assert not is_open
                    is_open = True
                    found.append((fields, b""))
                case PartData(data):
                    assert data
                    found[-1] = (found[-1][0], found[-1][1] + data)
                case PartEnd():
                    assert is_open
                    is_open = False
    reader.finish()
    return found


def outcome(pieces: list[bytes]) -> list[Part] | str:
    try:
        return read(pieces)
    except MultipartError:
        return "refused"


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(one, len(data)) for one in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


datas = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"-", b"--", b"x1", b"\r\n--x", b"1", b""]), max_size=8
).map(b"".join)


@given(st.lists(datas, min_size=1, max_size=4), st.lists(st.integers(0, 300), max_size=8))
def test_parts_are_read_the_same_for_every_cut(parts: list[bytes], at: list[int]) -> None:
    whole = body(*(field(b"f", part) for part in parts))
    found = outcome([whole])
    assert outcome(cut(whole, at)) == found
    if not any(b"--x1" in part for part in parts):
        assert found != "refused"
        assert [data for _, data in found] == parts
    else:
        assert found == "refused"


@given(st.binary(max_size=120), st.lists(st.integers(0, 130), max_size=6))
def test_arbitrary_bytes_have_one_outcome_for_every_cut(data: bytes, at: list[int]) -> None:
    for whole in (data, b"--x1\r\n" + data, body(field(b"f", b""))[:-8] + data):
        assert outcome(cut(whole, at)) == outcome([whole])


def test_every_byte_alone_is_enough() -> None:
    whole = body(field(b"a", b"one\r\n"), field(b"b", b""), field(b"c", b"\r\n-"))
    parts = read([whole[n : n + 1] for n in range(len(whole))])
    assert [data for _, data in parts] == [b"one\r\n", b"", b"\r\n-"]


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"--x1--\r\n",
        body(field(b"a", b"x"))[:-3],
        b"preamble\r\n" + body(field(b"a", b"x")),
        b"\r\n" + body(field(b"a", b"x")),
        body(field(b"a", b"x")) + b"epilogue",
        body(field(b"a", b"x"), end=b"\n"),
        body(field(b"a", b"x\n--x1\r\nfoo")),
        body(field(b"a", b"x--x1")),
        body(field(b"a", b"x\r\n--x12")),
        body(field(b"a", b"x\r\n--x1 \r\n")),
        body(field(b"a", b"x")).replace(b"\r\n", b"\n"),
        body(b"\r\nno fields"),
        body(b"Content-Disposition form-data\r\n\r\nx"),
        body(b"A: b\r\n folded\r\n\r\nx"),
        body(b"A: b\r\na: c\r\n\r\nx"),
        body(b"A : b\r\n\r\nx"),
        body(b"A: b\0\r\n\r\nx"),
        body(b"A: b\nB: c\r\n\r\nx"),
        body(b"Content-Transfer-Encoding: base64\r\n\r\nTVo="),
        body(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=4D"),
        body(b"Content-Type: multipart/mixed; boundary=y\r\n\r\nx"),
        body(b"A: " + b"x" * 9000 + b"\r\n\r\nx"),
        body(b"".join(b"A%d: b\r\n" % n for n in range(17)) + b"\r\nx"),
        body(*[field(b"a", b"")] * (MULTIPART_PARTS_MAX + 1)),
    ],
)
def test_what_servers_read_differently_is_refused(whole: bytes) -> None:
    assert outcome([whole]) == "refused"


def test_as_many_parts_as_allowed_are_read() -> None:
    assert len(read([body(*[field(b"a", b"")] * MULTIPART_PARTS_MAX)])) == MULTIPART_PARTS_MAX


def test_the_fields_of_a_part_are_told() -> None:
    ((fields, data),) = read([body(b"A: b \r\ncontent-type:\ttext/plain\r\n\r\nx")])
    assert fields == {b"a": b"b ", b"content-type": b"text/plain"}
    assert data == b"x"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"text/plain; boundary=x", None),
        (b"", None),
        (b"multipart/form-data; boundary=x1", b"x1"),
        (b"Multipart/Form-Data;charset=utf-8; Boundary=x1", b"x1"),
        (b'multipart/related; type="a/b"; boundary="x y"; start=z', b"x y"),
        (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
    ],
)
def test_a_boundary_is_found(content_type: bytes, boundary: bytes | None) -> None:
    assert multipart_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=" + b"x" * 71,
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary*=utf-8''a; boundary=b",
        b"multipart/form-data; boundary = a",
        b'multipart/form-data; boundary="a ',
        b'multipart/form-data; boundary="a "',
        b'multipart/form-data; boundary="a\\b"',
        b"multipart/form-data, boundary=a",
        b"multipart/form-data; boundary=a b",
    ],
)
def test_a_boundary_that_can_be_read_in_two_ways_is_refused(content_type: bytes) -> None:
    with pytest.raises(MultipartError):
        multipart_boundary(content_type)


def test_a_hostile_type_takes_no_time() -> None:
    hostile = b"multipart/form-data" + b'; a="b"' * 5000 + b"; boundary"
    with pytest.raises(MultipartError):
        multipart_boundary(hostile)
