"""Looking into archives: what is found, what is refused, and that limits hold."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols import archive_streams
from sluicegate.protocols.archives import (
    INSPECTABLE_KINDS,
    ArchiveLimits,
    ArchiveOutcome,
    Finding,
    executables_inside,
)
from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, archive_kind

Items = Iterable[tuple[str, bytes]]
PE = b"MZ" + b"x" * 100
TEXT = b"nothing to see here\n" * 50
PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, lzma.compress]


def zipped(items: Items, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in items:
            archive.writestr(name, content)
    return file.getvalue()


def tarred(items: Items, layout: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=layout) as archive:
        for name, content in items:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def look(archive: bytes, limits: ArchiveLimits | None = None, *, scripts: bool = False) -> Finding:
    kind = archive_kind(archive[:HEAD_BYTES_NEEDED])
    assert kind is not None
    return executables_inside(io.BytesIO(archive), kind, limits=limits, scripts=scripts)


def tar_header(name: bytes, size: int | bytes, kind: bytes = b"0") -> bytes:
    size_field = b"%011o\0" % size if isinstance(size, int) else size
    header = bytearray(512)
    header[: len(name)] = name
    header[124:136] = size_field
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


TAR_END = bytes(1024)


# What is found.


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_executable_in_a_zip_file_is_found(method: int) -> None:
    finding = look(zipped([("a.txt", TEXT), ("d/", b""), ("d/setup.txt", PE)], method))

    assert (finding.outcome, finding.member) == (ArchiveOutcome.EXECUTABLE, "d/setup.txt")
    assert (finding.entries, finding.reason) == (3, "dos executable")
    assert not finding.is_clean


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_executable_in_a_tar_file_is_found(layout: int) -> None:
    name = "long/" * 20 + "name"

    finding = look(tarred([("a", TEXT), (name, b"\x7fELF")], layout))

    assert (finding.outcome, finding.member) == (ArchiveOutcome.EXECUTABLE, name)


@pytest.mark.parametrize("pack", PACKERS)
def test_packed_executable_is_found(pack: Callable[[bytes], bytes]) -> None:
    assert look(pack(PE)).outcome is ArchiveOutcome.EXECUTABLE


@pytest.mark.parametrize("pack", PACKERS)
def test_executable_in_a_packed_tar_file_is_found(pack: Callable[[bytes], bytes]) -> None:
    finding = look(pack(tarred([("a", TEXT), ("b", PE)])))

    assert (finding.outcome, finding.member) == (ArchiveOutcome.EXECUTABLE, "b")


def test_executable_in_archives_inside_archives_is_found() -> None:
    inner = gzip.compress(tarred([("in.zip", zipped([("e", PE)]))]))

    finding = look(zipped([("x.tar.gz", inner)]))

    assert (finding.outcome, finding.member) == (ArchiveOutcome.EXECUTABLE, "x.tar.gz/in.zip/e")


def test_scripts_are_found_if_asked_for() -> None:
    archive = zipped([("run", b"#!/bin/sh\n")])

    assert look(archive).is_clean
    assert look(archive, scripts=True).reason == "script executable"


@pytest.mark.parametrize(
    "archive",
    [
        zipped([]),
        zipped([("a", TEXT), ("b", b""), ("d/", b"")]),
        zipped([("a", TEXT)], zipfile.ZIP_STORED),
        zipped([("in.zip", zipped([("a", TEXT)]))], zipfile.ZIP_STORED),
        tarred([("a", TEXT), ("b", b"")]),
        gzip.compress(TEXT) + gzip.compress(TEXT) + bytes(100),
        bz2.compress(TEXT) + bz2.compress(TEXT),
        lzma.compress(TEXT) + lzma.compress(TEXT) + bytes(4),
        gzip.compress(zipped([("a", TEXT)])),
        tar_header(b"a", 5) + padded(b"hello") + tar_header(b"dir", 0, b"5") + TAR_END,
        tar_header(b"a", b"\x80" + bytes(10) + b"\x05") + padded(b"hello") + TAR_END,
    ],
)
def test_harmless_archive_is_clean(archive: bytes) -> None:
    finding = look(archive)

    assert (finding.outcome, finding.reason, finding.member) == (ArchiveOutcome.CLEAN, "", "")


def test_zip_file_written_to_a_pipe_is_clean() -> None:
    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", TEXT)
        with archive.open("b", "w", force_zip64=True) as member:
            member.write(TEXT)

    assert look(pipe.written).is_clean


def test_name_of_a_member_is_printable() -> None:
    finding = look(zipped([("a\r\n\x1b[2J.exe", PE)]))

    assert finding.member == r"a\r\n\x1b[2J.exe"


def test_scratch_file_is_the_callers_and_is_closed() -> None:
    opened: list[io.BytesIO] = []

    def open_scratch() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[-1]

    archive = io.BytesIO(gzip.compress(zipped([("e", PE)])))
    finding = executables_inside(archive, "gzip", open_scratch=open_scratch)

    assert finding.outcome is ArchiveOutcome.EXECUTABLE
    assert [file.closed for file in opened] == [True]
    assert not archive.closed


# What is refused as unreadable.


def edited(archive: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in archive
    return archive.replace(old, new, count)


def with_hidden_member() -> bytes:
    """A local header and its data, in front of the directory, that the directory leaves out."""
    hidden, shown = zipped([("evil", PE)], 0), zipped([("a", TEXT)], 0)
    body_end = shown.index(b"PK\x01\x02")
    extra = hidden[: hidden.index(b"PK\x01\x02")]
    moved = bytearray(shown[body_end:])
    end = moved.index(b"PK\x05\x06")
    struct.pack_into("<I", moved, end + 16, body_end + len(extra))
    return shown[:body_end] + extra + bytes(moved)


def with_wrong_size() -> bytes:
    """A deflated executable that claims to be empty: zipfile shows nothing, others unpack it."""
    archive = bytearray(zipped([("evil", PE)]))
    at = archive.index(b"PK\x01\x02")
    struct.pack_into("<I", archive, 14, 0)
    struct.pack_into("<I", archive, 22, 0)
    struct.pack_into("<I", archive, at + 16, 0)
    struct.pack_into("<I", archive, at + 24, 0)
    return bytes(archive)


def with_overlap() -> bytes:
    """Two directory entries for one member, as in the better zip bomb (Fifield, 2019)."""
    archive = zipped([("a", TEXT)])
    at, end = archive.index(b"PK\x01\x02"), archive.index(b"PK\x05\x06")
    entry = archive[at:end]
    tail = bytearray(archive[end:])
    struct.pack_into("<2HI", tail, 8, 2, 2, 2 * len(entry))
    return archive[:at] + entry * 2 + bytes(tail)


def with_second_end() -> bytes:
    archive = bytearray(zipped([("a", TEXT)]))
    comment = zipped([])
    struct.pack_into("<H", archive, len(archive) - 2, len(comment))
    return bytes(archive) + comment


ZIP = zipped([("a", TEXT), ("b", TEXT)])
TAR = tarred([("a", TEXT), ("b", TEXT)])


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(ZIP[:-1], id="zip cut"),
        pytest.param(ZIP[:30], id="zip head only"),
        pytest.param(ZIP + b"x", id="zip with a tail"),
        pytest.param(b"PK\x03\x04" + ZIP, id="zip with a head"),
        pytest.param(with_hidden_member(), id="member not in the directory"),
        pytest.param(with_wrong_size(), id="member larger than it says"),
        pytest.param(with_overlap(), id="overlapping members"),
        pytest.param(with_second_end(), id="two end records"),
        pytest.param(edited(ZIP, b"\x08\x00", b"\x09\x00"), id="unknown method"),
        pytest.param(zipped([("a", TEXT)], zipfile.ZIP_LZMA), id="method without bounds"),
        pytest.param(edited(ZIP, b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"), id="flags"),
        pytest.param(ZIP[:30] + b"c" + ZIP[31:], id="names differ"),
        pytest.param(ZIP[:14] + b"\0\0\0\0" + ZIP[18:], id="checksums differ"),
        pytest.param(ZIP[:40] + b"\xff\xff" + ZIP[42:], id="data damaged"),
        pytest.param(TAR[:3072], id="tar without its end"),
        pytest.param(TAR[:1000], id="tar cut"),
        pytest.param(TAR + b"x", id="tar with a tail"),
        pytest.param(TAR + TAR, id="tar after tar"),
        pytest.param(TAR[:1536] + b"x" + TAR[1537:], id="tar header damaged"),
        pytest.param(tar_header(b"l", 512, b"1") + padded(PE) + TAR_END, id="link with data"),
        pytest.param(tar_header(b"s", 512, b"S") + padded(PE) + TAR_END, id="sparse"),
        pytest.param(tar_header(b"a", b"-0000000001\0") + TAR_END, id="negative size"),
        pytest.param(tar_header(b"a", b"\xff" * 12) + TAR_END, id="negative binary size"),
        pytest.param(tar_header(b"a", 8 << 30) + TAR_END, id="size beyond the end"),
        pytest.param(
            tar_header(b"x", 12, b"x") + padded(b"12 size=abc\n") + TAR_END, id="pax size"
        ),
        pytest.param(tar_header(b"x", 9, b"x") + padded(b"99 a=bcd\n") + TAR_END, id="pax length"),
        pytest.param(tar_header(b"x", 9, b"x") + padded(b"00 a=bcd\n") + TAR_END, id="pax zero"),
        pytest.param(tar_header(b"x", 9, b"g") + padded(b"9 size=5\n") + TAR_END, id="pax global"),
        pytest.param(gzip.compress(TEXT)[:-1], id="gzip cut"),
        pytest.param(gzip.compress(TEXT) + b"junk", id="gzip with a tail"),
        pytest.param(gzip.compress(TEXT)[:-8] + bytes(8), id="gzip checksum"),
        pytest.param(bz2.compress(TEXT)[:-1], id="bzip2 cut"),
        pytest.param(lzma.compress(TEXT)[:-1], id="xz cut"),
        pytest.param(zipped([("a.7z", b"7z\xbc\xaf\x27\x1c")]), id="7z inside"),
        pytest.param(b"Rar!\x1a\x07\x00", id="rar"),
    ],
)
def test_archive_that_readers_may_read_differently_is_unreadable(archive: bytes) -> None:
    finding = look(archive)

    assert finding.outcome is ArchiveOutcome.UNREADABLE
    assert finding.reason


def test_encrypted_member_is_named_as_such() -> None:
    archive = bytearray(zipped([("a", TEXT)]))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1

    assert "encrypted" in look(bytes(archive)).reason


def test_pax_size_overrides_the_header() -> None:
    """Reading by the header alone would take the executable for a header that is damaged."""
    header = tar_header(b"x", 12, b"x") + padded(b"12 size=512\n")
    archive = header + tar_header(b"e", 0) + padded(PE) + TAR_END

    finding = look(archive)

    assert (finding.outcome, finding.member) == (ArchiveOutcome.EXECUTABLE, "e")


# Limits.

STEEP = ArchiveLimits(ratio_floor_bytes=1000, ratio_max=50)


@pytest.mark.parametrize(
    ("archive", "limits", "name"),
    [
        (zipped([("a", b""), ("b", b""), ("c", b"")]), ArchiveLimits(entries_max=2), "ENTRIES"),
        (tarred([("a", b""), ("b", b""), ("c", b"")]), ArchiveLimits(entries_max=2), "ENTRIES"),
        (gzip.compress(b"x" * 5000), ArchiveLimits(bytes_max=4999), "BYTES"),
        (zipped([("a", b"x" * 3000), ("b", b"x" * 3000)]), ArchiveLimits(bytes_max=5000), "BYTES"),
        (gzip.compress(bytes(1 << 20)), STEEP, "RATIO"),
        (zipped([("a", bytes(1 << 20))]), STEEP, "RATIO"),
        (gzip.compress(gzip.compress(gzip.compress(TEXT))), ArchiveLimits(depth_max=2), "DEPTH"),
        (gzip.compress(ZIP), ArchiveLimits(scratch_bytes_max=100), "SCRATCH"),
        (tar_header(b"x", 1 << 20, b"x") + TAR_END, ArchiveLimits(), "HEADER"),
    ],
)  # fmt: skip
def test_limit_is_named_in_the_finding(archive: bytes, limits: ArchiveLimits, name: str) -> None:
    finding = look(archive, limits)

    assert finding.outcome is ArchiveOutcome.OVER_LIMIT
    assert name in finding.reason


def test_bomb_is_unpacked_no_further_than_the_limit() -> None:
    limits = ArchiveLimits(bytes_max=1 << 20)

    finding = look(gzip.compress(bytes(20 << 20)), limits)

    assert finding.outcome is ArchiveOutcome.OVER_LIMIT
    assert finding.unpacked_bytes <= limits.bytes_max + archive_streams.CHUNK_BYTES


def test_large_zip_directory_is_not_read() -> None:
    class Counting(io.BytesIO):
        read_max = 0

        def read(self, size: int | None = -1, /) -> bytes:
            taken = super().read(size)
            self.read_max = max(self.read_max, len(taken))
            return taken

    directory = bytes(9 << 20)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    file = Counting(directory + end)

    finding = executables_inside(file, "zip")

    assert "DIRECTORY" in finding.reason
    assert file.read_max < 100_000


def test_xz_stream_that_needs_much_memory_is_over_limit() -> None:
    # The dictionary's size stands in the block header; this one unpacks to a single byte.
    small = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    header = bytearray(small[12:24])
    header[4] = 37  # 768 MiB (xz file format 5.3.1)
    header[8:12] = struct.pack("<I", zlib.crc32(bytes(header[:8])))

    finding = look(small[:12] + bytes(header) + small[24:])

    assert (finding.outcome, "MEMORY" in finding.reason) == (ArchiveOutcome.OVER_LIMIT, True)


# Properties.

CONTENTS = st.sampled_from([b"", TEXT, b"x" * 600, bytes(512)])
ITEMS = st.lists(CONTENTS, min_size=1, max_size=4).map(
    lambda contents: [(f"f{n}", content) for n, content in enumerate(contents)]
)
MAKERS = st.sampled_from(
    [
        zipped,
        tarred,
        lambda items: gzip.compress(tarred(items)),
        lambda items: zipped([("in.tar", tarred(items))]),
        lambda items: tarred([("in.zip", zipped(items)), ("x", TEXT)]),
    ]
)


@given(MAKERS, ITEMS, st.none() | st.integers(0, 4))
def test_clean_exactly_if_no_member_is_executable(
    make: Callable[[Items], bytes], items: list[tuple[str, bytes]], at: int | None
) -> None:
    if at is not None:
        items = [*items[:at], ("e", PE), *items[at:]]

    finding = look(make(items))

    expected = ArchiveOutcome.CLEAN if at is None else ArchiveOutcome.EXECUTABLE
    assert finding.outcome is expected


@given(MAKERS, ITEMS, st.data())
def test_damaged_archive_with_an_executable_is_never_clean_where_python_reads_it(
    make: Callable[[Items], bytes], items: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    archive = bytearray(make([*items, ("e", PE)]))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] = data.draw(st.integers(0, 255))
    kind = archive_kind(bytes(archive[:HEAD_BYTES_NEEDED]))

    if kind in INSPECTABLE_KINDS:
        finding = executables_inside(io.BytesIO(bytes(archive)), str(kind))
        assert finding.outcome is not ArchiveOutcome.CLEAN or not holds_executable(bytes(archive))


@given(st.sampled_from(sorted(INSPECTABLE_KINDS)), st.binary(max_size=1000))
def test_arbitrary_bytes_give_a_finding(kind: str, archive: bytes) -> None:
    finding = executables_inside(io.BytesIO(archive), kind)

    assert finding.is_clean is (finding.outcome is ArchiveOutcome.CLEAN)


@given(
    st.sampled_from(["gzip", "bzip2", "xz"]),
    st.binary(max_size=3000),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_unpacking_is_the_same_for_every_cut(kind: str, content: bytes, cuts: list[int]) -> None:
    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    packed = pack(content) + pack(content)
    borders = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    chunks = [packed[start:end] for start, end in itertools.pairwise(borders)]

    unpacked = archive_streams.unpack(archive_streams.CODECS[kind], chunks, lambda *_: None)

    assert b"".join(unpacked) == content * 2


def holds_executable(archive: bytes) -> bool:
    """What an unpacker of the standard library finds."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            return any(is_or_holds(file.read(name)) for name in file.namelist())
    except Exception:
        return holds_executable_as_tar(archive)


def holds_executable_as_tar(archive: bytes) -> bool:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as file:
            members = [file.extractfile(member) for member in file if member.isreg()]
            return any(is_or_holds(member.read()) for member in members if member)
    except Exception:
        return False


def is_or_holds(content: bytes) -> bool:
    return content == PE or (len(content) > 200 and holds_executable(content))
