"""Heads of files: which are executables, which archives, and which only look like one."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, archive_kind, executable_kind

PE = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0" + bytes(20)
JAVA = (
    bytes.fromhex("cafebabe0000003d001d0a000200030700040c0005000601")
    + b"\x00\x10java/lang/Object" * 200
)


def fat(count: int, entries: list[tuple[int, int]], magic: int = 0xCAFEBABE) -> bytes:
    """A fat Mach-O header whose entries have these offsets and sizes."""
    arches = [struct.pack(">5I", 0x01000007, n, *entry, 12) for n, entry in enumerate(entries)]
    return struct.pack(">2I", magic, count) + b"".join(arches)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (PE, "pe"),
        (b"MZ", "dos"),
        (b"MZ is how this text begins", "dos"),
        (b"ZM" + bytes(100), "dos"),
        (PE[:60] + struct.pack("<I", 0xFFFFFFF0), "dos"),
        (b"\x7fELF", "elf"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "elf"),
        (b"\xfe\xed\xfa\xce", "mach-o"),
        (b"\xce\xfa\xed\xfe", "mach-o"),
        (b"\xfe\xed\xfa\xcf", "mach-o"),
        (b"\xcf\xfa\xed\xfe", "mach-o"),
        (b"\xca\xfe\xba\xbf" + bytes(8), "mach-o-fat"),
        (b"\xbe\xba\xfe\xca" + bytes(8), "mach-o-fat"),
        (fat(2, [(4096, 100), (8192, 100)]), "mach-o-fat"),
        (b"\xca\xfe\xba\xbe", "mach-o-fat"),
        (b"\xca\xfe\xba\xbe\x00\x00\x00\x2c", "mach-o-fat"),
    ],
)
def test_executable_is_known_by_its_head(head: bytes, kind: str) -> None:
    assert executable_kind(head) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"M",
        b"Z",
        b"mz",
        b"\x7fEL",
        b" MZ",
        b"plain text",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        bytes(600),
        JAVA,
    ],
)
def test_other_files_are_none(head: bytes) -> None:
    assert executable_kind(head, scripts=True) is None


def test_scripts_count_only_if_asked_for() -> None:
    assert executable_kind(b"#!/bin/sh\n") is None
    assert executable_kind(b"#!/bin/sh\n", scripts=True) == "script"
    assert executable_kind(b" #!/bin/sh\n", scripts=True) is None


@pytest.mark.parametrize("count", [45, 52, 65, 204, 818])
def test_fat_file_that_claims_a_java_version_is_told_by_its_table(count: int) -> None:
    header_bytes = 8 + 20 * count
    runs = fat(count, [(header_bytes + n, 0) for n in range(count - 1)] + [(1 << 20, 100)])

    assert len(runs) <= HEAD_BYTES_NEEDED
    assert executable_kind(runs + b"x") == "mach-o-fat"


@pytest.mark.parametrize(
    "entries",
    [
        [(4096, 100)] * 51 + [(100, 10)],
        [(4096 + n, 2) for n in range(52)],
        [(0xFFFFFFFF, 1)] + [(4096, 0)] * 51,
        [(4096, 0)] * 51,
    ],
    ids=["slice in the header", "slices overlap", "slice passes 4 GiB", "table is cut"],
)
def test_table_that_macos_refuses_is_a_class(entries: list[tuple[int, int]]) -> None:
    assert executable_kind(fat(52, entries)) is None


def test_this_interpreter_is_an_executable() -> None:
    with Path(sys.executable).open("rb") as file:
        assert executable_kind(file.read(HEAD_BYTES_NEEDED)) == "elf"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"BZh9\x17rE8P\x90", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07\x01\x00", "rar"),
        (b"MSCF" + bytes(4), "cab"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"!<arch>\n", "ar"),
        (b"\x1f\x9d\x90", "compress"),
        (b"\x1f\x9d\x91", None),
        (b"\x60\xea\x2c\x00\x22", "arj"),
        (b"\x60\xea\x00\x00\x22", None),
        (b"\x20\x00-lh5-", "lha"),
        (b"a -link- of words", None),
        (b"\x5d\0\0\x80\0" + b"\xff" * 8, "lzma"),
        (b"]\0\0\0\0" + bytes(8), None),
        (b"MSWIM\0\0\0", "wim"),
        (b"PK00PK\x03\x04", "zip"),
        (b"", None),
        (b"PK", None),
        (b"BZh is a name", None),
        (bytes(512), None),
        (b"x" * 512, None),
    ],
)
def test_archive_is_known_by_its_head(head: bytes, kind: str | None) -> None:
    assert archive_kind(head) == kind


@pytest.mark.parametrize("has_magic", [True, False])
def test_tar_is_known_with_and_without_magic(has_magic: bool) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    head = bytearray(file.getvalue()[:512])
    if not has_magic:
        head[257:265] = bytes(8)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)

    assert archive_kind(bytes(head)) == "tar"


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"MZ", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbe\0\0\0\x34"]),
)
def test_any_head_has_an_answer(rest: bytes, magic: bytes) -> None:
    kind = executable_kind(magic + rest)

    assert kind is None or not magic.startswith(b"MZ") or kind in ("pe", "dos")
    archive_kind(magic + rest)


@given(st.sampled_from([PE, b"\x7fELF", fat(1, [(4096, 9)])]), st.binary(max_size=100))
def test_what_follows_the_head_hides_nothing(head: bytes, rest: bytes) -> None:
    assert executable_kind(head + rest) == executable_kind(head)
