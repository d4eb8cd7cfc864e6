"""Content codings: one reading of every coded body, whatever the cut, within bounds (group K)."""

from __future__ import annotations

import gzip
import itertools
import random
import sys
import zlib
from collections.abc import Callable, Sequence

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.content_coding import (
    Coding,
    CodingBounds,
    CodingError,
    CodingFault,
    ContentDecoder,
    accepted_codings,
    content_codings,
    narrow_accept_encoding,
)
from sluicegate.protocols.content_coding.stage import PIECE_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, DEFLATE, BROTLI, ZSTD = Coding
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
RANDOM = random.Random(4).randbytes(300_000)
TEXT = b"".join(b"line %d of a text that packs well\n" % n for n in range(20_000))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def packed_gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


PACKERS: dict[Coding, Callable[[bytes], bytes]] = {
    GZIP: packed_gzip,
    DEFLATE: zlib.compress,
    BROTLI: lambda data: brotli.compress(data, quality=5),
    ZSTD: zstd.compress,
}


def pack(data: bytes, codings: Sequence[Coding]) -> bytes:
    for coding in codings:
        data = PACKERS[coding](data)
    return data


def decode(
    codings: Sequence[Coding], pieces: Sequence[bytes], bounds: CodingBounds | None = None
) -> bytes:
    decoder = ContentDecoder(codings, bounds or CodingBounds())
    decoded = []
    for piece in pieces:
        decoder.receive(piece)
        while taken := decoder.take():
            assert len(taken) <= 2 * PIECE_BYTES
            decoded.append(taken)
    decoder.finish()
    return b"".join(decoded)


def outcome(
    codings: Sequence[Coding], pieces: Sequence[bytes], bounds: CodingBounds | None = None
) -> bytes | CodingFault:
    try:
        return decode(codings, pieces, bounds)
    except CodingError as error:
        return error.fault


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(one, len(data)) for one in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


stacks = st.lists(st.sampled_from(list(Coding)), min_size=1, max_size=4)
cuts = st.lists(st.integers(0, 4000), max_size=12)


@given(stacks, st.binary(max_size=3000), cuts)
def test_every_cut_of_every_stack_decodes_to_what_was_coded(
    codings: list[Coding], data: bytes, at: list[int]
) -> None:
    assert decode(codings, cut(pack(data, codings), at)) == data


@pytest.mark.parametrize("coding", list(Coding))
@pytest.mark.parametrize("data", [b"", b"x", RANDOM, TEXT], ids=["empty", "one", "random", "text"])
def test_each_byte_alone_decodes_like_all_at_once(coding: Coding, data: bytes) -> None:
    packed = pack(data[:20_000], [coding])
    assert decode([coding], [packed[n : n + 1] for n in range(len(packed))]) == data[:20_000]
    assert decode([coding], [pack(data, [coding])]) == data


@given(st.sampled_from(list(Coding)), st.binary(max_size=200), cuts)
def test_arbitrary_bytes_have_one_outcome_for_every_cut(
    coding: Coding, data: bytes, at: list[int]
) -> None:
    assert outcome([coding], cut(data, at)) == outcome([coding], [data])


@given(st.sampled_from([GZIP, DEFLATE]), st.data())
def test_a_changed_byte_never_gives_other_bytes_where_a_checksum_shows_it(
    coding: Coding, data: st.DataObject
) -> None:
    packed = bytearray(pack(TEXT[:400], [coding]))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    found = outcome([coding], [bytes(packed)])
    assert found == TEXT[:400] or isinstance(found, CodingFault)


@pytest.mark.parametrize("coding", list(Coding))
def test_no_beginning_of_a_body_is_whole(coding: Coding) -> None:
    packed = pack(b"some words, some more words", [coding])
    for end in range(1, len(packed)):
        assert outcome([coding], [packed[:end]]) is CodingFault.TRUNCATED, end


@pytest.mark.parametrize("coding", list(Coding))
def test_a_body_of_no_bytes_is_empty_in_every_coding(coding: Coding) -> None:
    assert decode([coding], []) == b""
    assert decode([coding], [b""]) == b""


@pytest.mark.parametrize(
    ("codings", "body"),
    [
        ([GZIP], packed_gzip(b"one") + b"tail"),
        ([GZIP], packed_gzip(b"one") + b"\0"),
        ([GZIP], packed_gzip(b"one") + packed_gzip(b"two")),
        ([GZIP], b"plain text"),
        ([GZIP], zlib.compress(b"zlib")),
        ([GZIP], packed_gzip(b"one")[:-8] + b"\0" * 8),
        ([DEFLATE], zlib.compress(b"one") + b"x"),
        ([DEFLATE], raw_deflate(b"one") + b"x"),
        ([DEFLATE], zlib.compress(b"one")[:-4] + b"\0" * 4),
        ([DEFLATE], packed_gzip(b"one")),
        # A raw stored block that begins like zlib's header: it is zlib, and wrong.
        ([DEFLATE], b"\x78\x9c\x01\x63\xfexx"),
        ([BROTLI], PACKERS[BROTLI](b"one") + b"x"),
        ([BROTLI], PACKERS[BROTLI](b"one") * 2),
        ([BROTLI], packed_gzip(b"one")),
        ([ZSTD], zstd.compress(b"one") + b"tail"),
        ([ZSTD], b"plain text"),
        ([GZIP, BROTLI], PACKERS[BROTLI](packed_gzip(b"one") * 2)),
        ([BROTLI, GZIP], packed_gzip(b"no brotli in it")),
    ],
)
def test_what_is_not_exactly_one_stream_is_refused(codings: list[Coding], body: bytes) -> None:
    for pieces in ([body], [body[n : n + 1] for n in range(len(body))]):
        assert outcome(codings, pieces) is CodingFault.MALFORMED


def test_a_coding_of_which_an_inner_coding_gets_nothing_is_refused() -> None:
    assert outcome([BROTLI, GZIP], [packed_gzip(b"")]) is CodingFault.TRUNCATED


@given(st.binary(max_size=300), cuts)
def test_raw_deflate_is_read_as_clients_read_it(data: bytes, at: list[int]) -> None:
    assert decode([DEFLATE], cut(raw_deflate(data), at)) == data


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), cuts)
def test_frames_of_zstd_are_read_one_behind_the_other(frames: list[bytes], at: list[int]) -> None:
    body = SKIPPABLE.join(zstd.compress(frame) for frame in frames) + SKIPPABLE
    assert decode([ZSTD], cut(body, at)) == b"".join(frames)


def test_frames_of_zstd_are_counted() -> None:
    body = zstd.compress(b"") * 11
    assert outcome([ZSTD], [body], CodingBounds(frames_max=10)) is CodingFault.MALFORMED


@pytest.mark.parametrize("window_log", [24, 27])
def test_a_zstd_window_that_browsers_refuse_is_refused(window_log: int) -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    body = packer.compress(b"x" * 100) + packer.flush()
    assert outcome([ZSTD], [body]) is CodingFault.MALFORMED


@pytest.mark.parametrize("coding", list(Coding))
def test_a_bomb_is_refused_long_before_it_is_unpacked(coding: Coding) -> None:
    bomb = pack(b"\0" * (64 << 20), [coding])
    bounds = CodingBounds(ratio_floor_bytes=1 << 20)
    decoder = ContentDecoder([coding], bounds)
    given_bytes: list[int] = []

    def unpack() -> None:
        for start in range(0, len(bomb), 100):
            decoder.receive(bomb[start : start + 100])
            while piece := decoder.take():
                given_bytes.append(len(piece))

    with pytest.raises(CodingError) as refused:
        unpack()
    assert refused.value.fault is CodingFault.BOMB
    assert sum(given_bytes) <= 1 << 20


def test_a_bomb_in_a_bomb_is_refused_by_what_its_outer_coding_makes() -> None:
    bomb = pack(pack(b"\0" * (64 << 20), [GZIP]) * 1, [GZIP])
    assert len(bomb) < 1000
    bounds = CodingBounds(ratio_floor_bytes=1 << 20)
    assert outcome([GZIP, GZIP], [bomb], bounds) is CodingFault.BOMB


def test_an_absolute_bound_holds_whatever_the_ratio() -> None:
    body = pack(RANDOM, [GZIP])
    assert outcome([GZIP], [body], CodingBounds(bytes_max=1000)) is CodingFault.TOO_LARGE
    assert outcome([GZIP], [body], CodingBounds(bytes_max=len(RANDOM))) == RANDOM


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        ([b""], ()),
        ([b" , "], ()),
        ([b"identity"], ()),
        ([b"gzip"], (GZIP,)),
        ([b"X-GZip"], (GZIP,)),
        ([b"gzip, br"], (GZIP, BROTLI)),
        ([b"gzip", b"zstd"], (GZIP, ZSTD)),
        ([b"deflate\t,,\tdeflate"], (DEFLATE, DEFLATE)),
    ],
)
def test_codings_are_listed_in_the_order_in_which_they_were_applied(
    values: list[bytes], codings: tuple[Coding, ...]
) -> None:
    assert content_codings(values) == codings


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([b"compress"], CodingFault.UNKNOWN),
        ([b"dcb"], CodingFault.UNKNOWN),
        ([b"gzip, foo"], CodingFault.UNKNOWN),
        ([b"identity, gzip"], CodingFault.UNKNOWN),
        ([b"gzip;q=1"], CodingFault.FIELD_MALFORMED),
        ([b"gzip br"], CodingFault.FIELD_MALFORMED),
        ([b"gzip\x0b"], CodingFault.FIELD_MALFORMED),
        ([b"gzip, " * 6], CodingFault.TOO_MANY),
    ],
)
def test_what_is_no_list_of_known_codings_is_refused(
    values: list[bytes], fault: CodingFault
) -> None:
    with pytest.raises(CodingError) as refused:
        content_codings(values)
    assert refused.value.fault is fault


@pytest.mark.parametrize(
    ("values", "narrowed", "accepted"),
    [
        ([], b"identity", set()),
        ([b"gzip, deflate, br, zstd"], b"gzip, deflate, br, zstd", set(Coding)),
        ([b"gzip, dcb, dcz, br;q=0.5"], b"gzip, br;q=0.5", {GZIP, BROTLI}),
        ([b"gzip;q=0, x-gzip"], b"gzip;q=0, x-gzip", {GZIP}),
        ([b"gzip;q=0.000"], b"gzip;q=0.000", set()),
        ([b"*"], b"identity", set(Coding)),
        ([b"*, br;q=0"], b"br;q=0", {GZIP, DEFLATE, ZSTD}),
        ([b"identity"], b"identity", set()),
        ([b"foo"], b"identity", set()),
    ],
)
def test_servers_are_asked_only_for_codings_that_can_be_read(
    values: list[bytes], narrowed: bytes, accepted: set[Coding]
) -> None:
    assert narrow_accept_encoding(values) == narrowed
    assert accepted_codings(values) == accepted
