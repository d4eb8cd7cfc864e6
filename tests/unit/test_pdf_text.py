"""The text of PDF pages: in whatever pieces, escapes and codes it stands."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocols.pdf_text import pdf_texts

CARD = b"4111 1111 1111 1111"


def stream(content: bytes, *, is_packed: bool = True) -> bytes:
    packed = zlib.compress(content) if is_packed else content
    words = b"/Filter/FlateDecode" if is_packed else b""
    return b"1 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (
        words,
        len(packed),
        packed,
    )


def table(body: str) -> bytes:
    return stream(f"/CIDInit begin begincmap\n{body}\nendcmap".encode())


def texts(*streams: bytes, bytes_max: int = 1 << 20) -> list[bytes]:
    return list(pdf_texts(b"%PDF-1.7\n" + b"".join(streams), bytes_max=bytes_max))


@pytest.mark.parametrize(
    "page",
    [
        b"BT /F1 12 Tf (4111 1111 1111 1111) Tj ET",
        b"BT [(4111 11) -12 (11 1111 1111)] TJ ET",
        b"BT [(4111)-250(1111)-250(1111)-250.5(1111)]TJ ET",
        b"BT (4111 1111 ) Tj 20 0 Td (1111 1111) Tj ET",
        b"BT (4) Tj 5 0 Td (1) Tj 5 0 Td (11 1111 1111 1111) Tj ET",
        b"BT (4111 1111) ' (1111 1111) ' ET",
        b'BT 1 2 (4111 1111 1111 1111) " ET',
        b"BT <34313131 20 31313131 20 31313131 20 31313131> Tj ET",
        b"BT (4\\061\\61\\061 1111\\\n 1111 1111) Tj ET",
        b"BT ((a) 4111 1111 1111 1111 (b)) Tj ET",
        b"BT % (a comment\n(4111 1111 1111 1111)Tj ET",
        b"q BT 1 0 0 1 3 4 Tm(4111 1111 1111 1111)Tj T* ET Q",
    ],
)
def test_a_text_is_read_in_whatever_pieces_it_is_shown(page: bytes) -> None:
    found = texts(stream(page))
    assert any(CARD in one or CARD.replace(b" ", b"") in one for one in found), found


RANGE = "1 beginbfrange\n<0013> <001C> <0030>\nendbfrange\n1 beginbfchar\n<0003> <0020>\nendbfchar"
CODES = b"<00170014001400140003001400140014001400030014001400140014000300140014 00140014>"


@pytest.mark.parametrize(
    "body",
    [
        RANGE,
        RANGE.replace("<0013> <001C> <0030>", "<0014> <0017> [<0031> <0032> <0033> <0034>]"),
        RANGE.replace("<0013> <001C> <0030>", "<0013> <0014> <0030>\n<0017><0017><0034>"),
    ],
)
def test_codes_of_a_font_are_read_by_its_table_wherever_it_stands(body: str) -> None:
    page = stream(b"BT /F4 9 Tf " + CODES + b" Tj ET")
    other = table("1 beginbfchar\n<0017> <0041>\nendbfchar")
    assert CARD in b"|".join(texts(page, table(body)))
    assert CARD in b"|".join(texts(other, table(body), page))


def test_codes_of_one_byte_are_read_too() -> None:
    codes = "2 beginbfrange\n<21> <2A> <0030>\n<01> <01> <0020>\nendbfrange"
    shown = b"<25222222 01 22222222 01 22222222 01 22222222>"
    assert CARD in b"|".join(texts(table(codes), stream(b"BT " + shown + b"Tj ET")))


def test_what_shows_nothing_gives_nothing() -> None:
    assert texts(stream(b"1 0 0 1 0 0 cm /Im1 Do"), stream(bytes(range(256)))) == []


@pytest.mark.parametrize(
    ("streams", "limit"),
    [
        ((table("1 beginbfrange\n<0000> <ffffffff> <0041>\nendbfrange"),), "PDF_CODES_MAX"),
        ((table("1 beginbfchar\n<01> <0041>\nendbfchar"),) * 201, "PDF_FONTS_MAX"),
        ((stream(b"(" + b"a" * 4000 + b") Tj"),), "bytes_max"),
    ],
)
def test_what_is_too_much_is_a_limit(streams: tuple[bytes, ...], limit: str) -> None:
    with pytest.raises(LimitExceeded) as refused:
        texts(*streams, bytes_max=50_000 if limit == "PDF_FONTS_MAX" else 4000)
    assert refused.value.limit == limit


PIECES = st.sampled_from(
    [
        b"(", b")", b"\\", b"<", b">", b"[", b"]", b"Tj", b"TJ", b"'", b"-300", b" ", b"Td", b"BT",
        b"begincmap", b"beginbfchar", b"endbfchar", b"beginbfrange", b"endbfrange", b"<00>",
        b"<0041>", b"%", b"\n", b"\\12", b"ab",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=4)), max_size=60))
def test_any_page_is_read_or_refused(pieces: list[bytes]) -> None:
    content = b" (x) Tj " + b"".join(pieces)
    try:
        found = texts(stream(content), stream(b"begincmap" + content))
    except (LimitExceeded, ProtocolError):
        return
    assert sum(map(len, found)) <= 1 << 20
