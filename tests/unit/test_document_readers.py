"""Readers of documents: what is in them comes out, and no damage makes them raise anything else."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocols.compound_file import CompoundFile
from sluicegate.protocols.data_urls import data_urls
from sluicegate.protocols.mail_parts import mail_parts
from sluicegate.protocols.office_macros import (
    compound_traits,
    package_traits,
    part_traits,
    workbook_has_macro_sheet,
)
from sluicegate.protocols.onenote_files import onenote_files
from sluicegate.protocols.pdf_scripts import pdf_streams, pdf_traits
from sluicegate.protocols.powerpoint_objects import powerpoint_objects
from sluicegate.protocols.rtf_objects import rtf_objects

from .container_kit import compound, mail, onenote, pdf, rtf, uuencoded

CONTENT = b"Some content, and not too short for a stream. " * 120


_FOUND_BYTES_MAX = 1 << 20


def compound_streams(data: bytes) -> list[bytes]:
    file = CompoundFile(data)
    return [file.read(stream) for stream in file.streams]


def named(found: Iterable[tuple[str, bytes]]) -> list[bytes]:
    return [content for _, content in found]


READERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "compound": (compound_streams, compound({"a": CONTENT, "b": b"short", "c": CONTENT * 3})),
    "pdf": (
        lambda data: [one.content for one in pdf_streams(data, bytes_max=1 << 20)],
        pdf(CONTENT),
    ),
    "mail": (lambda data: named(mail_parts(data)), mail(CONTENT)),
    "uuencode": (lambda data: named(mail_parts(data)), uuencoded(CONTENT)),
    "rtf": (lambda data: named(rtf_objects(data)), rtf(CONTENT)),
    "onenote": (lambda data: named(onenote_files(data)), onenote(CONTENT)),
    "powerpoint": (
        lambda data: list(powerpoint_objects(data, bytes_max=1 << 20)),
        b"x" + b"\x10\0\x11\x10" + struct.pack("<II", 0xFFFF, 0) + zlib.compress(CONTENT),
    ),
    "data url": (
        lambda data: list(data_urls(data)),
        b'<a href="data:a/b;base64,' + base64.b64encode(CONTENT) + b'">',
    ),
}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_in_a_document_comes_out(kind: str) -> None:
    read, document = READERS[kind]
    assert any(CONTENT in one for one in read(document))


@pytest.mark.parametrize("kind", READERS)
def test_a_document_that_is_cut_is_read_as_far_as_it_goes_or_refused(kind: str) -> None:
    read, document = READERS[kind]
    step = max(1, len(document) // 700)
    for cut in range(0, len(document), step):
        try:
            found = read(document[:cut])
        except (ProtocolError, LimitExceeded):
            continue
        assert sum(map(len, found)) <= 2 * len(CONTENT) * 4


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(sorted(READERS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=9),
)
def test_no_damage_raises_anything_else(kind: str, places: list[tuple[float, int]]) -> None:
    read, document = READERS[kind]
    damaged = bytearray(document)
    for place, value in places:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        found = read(bytes(damaged))
    except (ProtocolError, LimitExceeded):
        return
    assert sum(map(len, found)) <= _FOUND_BYTES_MAX


@settings(max_examples=150, deadline=None)
@given(header=st.binary(min_size=504, max_size=504), rest=st.binary(max_size=2048))
def test_no_header_of_a_compound_file_raises_anything_else(header: bytes, rest: bytes) -> None:
    try:
        found = compound_streams(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + header + rest)
    except (ProtocolError, LimitExceeded):
        return
    assert sum(map(len, found)) <= _FOUND_BYTES_MAX


# -- compound files --------------------------------------------------------------------------------


def patched(offset: int, value: int, size: int = 4) -> bytes:
    document = bytearray(READERS["compound"][1])
    document[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(document)


#: Of the first stream's second sector in the table of sectors, which is sector 0.
_CHAIN = 512 + 4 * 1


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "no header"),
        (patched(28, 0xFFFF, 2), "no header"),
        (patched(30, 10, 2), "sectors of no known size"),
        (patched(_CHAIN, 1), "runs in a circle"),
        (patched(_CHAIN, 0x00FFFFF0), "a circle or out of it"),
        (patched(_CHAIN, 0xFFFFFFFE), "ends too early"),
        (patched(44, 7), "table of sectors is damaged"),
        (patched(48, 0xFFFFFFFE), "no root"),
    ],
)
def test_a_compound_file_whose_tables_lie_is_refused(document: bytes, hint: str) -> None:
    with pytest.raises(ProtocolError, match=hint):
        compound_streams(document)


def test_a_directory_that_runs_in_a_circle_is_refused() -> None:
    document = bytearray(compound({"a": b"x", "b": b"y"}))
    # The right sibling of the second stream: the first one.
    second = len(document) - 512 + 128 * 2
    document[second + 72 : second + 76] = (1).to_bytes(4, "little")
    with pytest.raises(ProtocolError, match="circle"):
        compound_streams(bytes(document))


# -- PDF -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        (b"<</Type/Catalog>>", set()),
        (b"/JavaScript", {"pdf-script"}),
        (b"/JS(1)", {"pdf-script"}),
        (b"/J#53 (1)", {"pdf-script"}),
        (b"/#4a#61#76aScript", {"pdf-script"}),
        (b"/JSON", set()),
        (b"/JavaScriptless", set()),
        (b"/Launch", {"pdf-launch"}),
        (b"/SubmitForm", {"pdf-launch"}),
        (b"/EmbeddedFile", {"pdf-embedded-file"}),
        (b"/RichMedia", {"pdf-rich-media"}),
        (b"/Encrypt 5 0 R", {"encrypted"}),
    ],
)
def test_names_of_a_pdf_file_are_read_as_readers_read_them(text: bytes, traits: set[str]) -> None:
    assert pdf_traits(text) == traits


@pytest.mark.parametrize(
    ("dictionary", "packed"),
    [
        (b"", CONTENT),
        (b"/Filter/FlateDecode", zlib.compress(CONTENT)),
        (b"/Filter [/FlateDecode]", zlib.compress(CONTENT)),
        (b"/Filter/Fl", zlib.compress(CONTENT)),
        (b"/Filter/Flate#44ecode", zlib.compress(CONTENT)),
        (b"/Filter/ASCIIHexDecode", CONTENT.hex().encode() + b">"),
        (b"/Filter/ASCII85Decode", base64.a85encode(CONTENT) + b"~>"),
        (b"/Filter[/ASCIIHexDecode/FlateDecode]", zlib.compress(CONTENT).hex().encode() + b">"),
    ],
)
def test_streams_of_a_pdf_file_are_unpacked(dictionary: bytes, packed: bytes) -> None:
    document = b"1 0 obj\n<<%s>>\nstream\n%s\nendstream" % (dictionary, packed)
    (stream,) = pdf_streams(document, bytes_max=1 << 20)
    assert stream.content.removesuffix(b"\n") == CONTENT
    assert not stream.is_opaque


def test_a_picture_in_a_pdf_file_is_given_as_it_stands() -> None:
    (stream,) = pdf_streams(pdf(b"\xff\xd8\xff", b"/Filter/DCTDecode"), bytes_max=100)
    assert (stream.content[:3], stream.is_opaque) == (b"\xff\xd8\xff", True)


def test_streams_of_a_pdf_file_end_at_a_bound() -> None:
    with pytest.raises(LimitExceeded):
        list(pdf_streams(pdf(bytes(1 << 20)), bytes_max=100_000))
    damaged = b"<</Filter/FlateDecode>>\nstream\nno deflate at all\nendstream"
    with pytest.raises(ProtocolError, match="damaged"):
        list(pdf_streams(damaged, bytes_max=99))


# -- Office ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "traits"),
    [
        (["WordDocument"], set()),
        (["Macros/VBA/dir", "Macros/VBA/Module1"], {"macros"}),
        (["_VBA_PROJECT_CUR/VBA/_VBA_PROJECT"], {"macros"}),
        (["EncryptedPackage", "EncryptionInfo"], {"encrypted"}),
        (["ObjectPool/1/\\x01Ole10Native"], {"embedded-object"}),
    ],
)
def test_streams_of_a_document_give_code_away(streams: list[str], traits: set[str]) -> None:
    assert compound_traits(streams) == traits


@pytest.mark.parametrize(
    ("names", "traits"),
    [
        (["word/document.xml"], set()),
        (["word/vbaProject.bin"], {"macros"}),
        (["WORD/VBAPROJECT.BIN"], {"macros"}),
        (["xl/macrosheets/sheet1.xml"], {"macros"}),
        (["Basic/Standard/Module1.xml"], {"macros"}),
        (["Basic/script-lc.xml", "Basic/Standard/script-lb.xml"], set()),
        (["Scripts/python/a.py"], {"macros"}),
        (["word/embeddings/oleObject1.bin"], {"embedded-object"}),
        (["word/activeX/activeX1.xml"], {"activex"}),
    ],
)
def test_parts_of_a_package_give_code_away(names: list[str], traits: set[str]) -> None:
    assert package_traits(names) == traits


def relation(kind: str, mode: str = ' TargetMode="External"') -> bytes:
    return f'<Relationship Id="a" Type="http://x/relationships/{kind}" Target="y"{mode}/>'.encode()


@pytest.mark.parametrize(
    ("name", "content", "traits"),
    [
        ("word/_rels/a.rels", relation("attachedTemplate"), {"remote-template"}),
        ("word/_rels/a.rels", relation("oleObject"), {"remote-template"}),
        ("word/_rels/a.rels", relation("hyperlink"), set()),
        ("word/_rels/a.rels", relation("attachedTemplate", ""), set()),
        ("word/a.xml", relation("attachedTemplate"), set()),
        ("[Content_Types].xml", b"application/vnd.ms-office.vbaProject", {"macros"}),
        ("word/document.xml", b"<w:instrText> DDEAUTO c:\\\\x", {"dde"}),
        ("word/document.xml", b"<w:instrText>DATE", set()),
        ("xl/externalLinks/a.xml", b'<ddeLink ddeService="cmd"', {"dde"}),
    ],
)
def test_a_part_gives_away_what_runs(name: str, content: bytes, traits: set[str]) -> None:
    assert part_traits(name, content) == traits


@pytest.mark.parametrize(
    ("kind", "is_macro"), [(b"\0", False), (b"\1", True), (b"\2", False), (b"\6", False)]
)
def test_a_sheet_of_macros_is_told_by_its_type(kind: bytes, is_macro: bool) -> None:
    start = b"\x09\x08\x10\0" + bytes(16)
    sheet = b"\x85\0\x0c\0" + bytes(4) + b"\0" + kind + b"\4\0Name\0"
    assert workbook_has_macro_sheet(start + sheet) == is_macro


# -- mail, RTF, pages ------------------------------------------------------------------------------


def test_each_mail_of_an_mbox_is_read() -> None:
    one = mail(CONTENT).partition(b"\n")[2]
    box = b"From a Sat Jan  1 00:00:00 2022\n" + one + b"\nFrom b Sat Jan  1 00:00:00 2022\n" + one
    assert named(mail_parts(box)).count(CONTENT) == 2


@pytest.mark.parametrize(
    ("document", "content"),
    [
        (rb"{\rt{\object\objdata 4d5a}}", b"MZ"),
        (rb"{\rtf1{\object{\*\objdata 4\bin0 d5a}}}", b"MZ"),
        (rb"{\rtf1{\object{\*\objdata {\x 4d}5 a}}}", b"MZ"),
        (b"{\\rtf1{\\object{\\*\\objdata 4d\r\n\t5a", b"MZ"),
        (rb"{\rtf1{\object{\*\objdata 4\'11d5a}}}", b"MZ"),
        (rb"{\rtf1{\pict\wmetafile8 4d5a}}", b"MZ"),
    ],
)
def test_digits_in_an_object_of_rtf_count_wherever_they_stand(
    document: bytes, content: bytes
) -> None:
    assert content in named(rtf_objects(document))[0]


@pytest.mark.parametrize(
    "text",
    [
        b'<img src="data:image/png;base64,aGVsbG8=">',
        b"url(data:;base64,aGVsbG8)",
        b"DATA:text/plain;charset=utf-8;BASE64,aGVs\n  bG8=",
        b"data:a/b;base64,aGVs%0AbG8%3D'",
    ],
)
def test_files_in_data_urls_are_decoded(text: bytes) -> None:
    assert list(data_urls(text)) == [b"hello"]
