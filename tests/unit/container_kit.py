"""Containers made at run time, each with one file inside: what archives and documents carry."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import libarchive

NAME = "inner.bin"


def eicar() -> bytes:
    """The test file of EICAR, put together here so that nobody's scanner finds it in this tree."""
    return rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = NAME) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, method)
    return packed.getvalue()


def package(members: dict[str, bytes]) -> bytes:
    """A ZIP file with these members: an OOXML document, a Java archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()


def tarred(content: bytes, name: str = NAME) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def archived(content: bytes, format_name: str, filter_name: str | None = None) -> bytes:
    """An archive by libarchive."""
    pieces: list[bytes] = []

    def write(data: bytes) -> int:
        pieces.append(bytes(data))
        return len(data)

    with libarchive.custom_writer(write, format_name, filter_name) as archive:
        archive.add_file_from_memory(NAME, len(content), content)
    return b"".join(pieces)


def coded(content: bytes, filter_name: str) -> bytes:
    """A compressed file by libarchive, with no archive in it."""
    pieces: list[bytes] = []

    def write(data: bytes) -> int:
        pieces.append(bytes(data))
        return len(data)

    with libarchive.custom_writer(write, "raw", filter_name) as archive:
        archive.add_file_from_memory(NAME, len(content), content)
    return b"".join(pieces)


def cabinet(content: bytes) -> bytes:
    """A cabinet with one file that is stored (MS-CAB 2)."""
    blocks = [content[at : at + 0x8000] for at in range(0, len(content) or 1, 0x8000)]
    file = struct.pack("<IIHHHH", len(content), 0, 0, 0x5AA5, 0, 0x20) + NAME.encode() + b"\0"
    data = b"".join(struct.pack("<IHH", 0, len(one), len(one)) + one for one in blocks)
    files_at = 36 + 8
    folder = struct.pack("<IHH", files_at + len(file), len(blocks), 0)
    size = files_at + len(file) + len(data)
    header = struct.pack("<4sIIIIIBBHHHHH", b"MSCF", 0, size, 0, files_at, 0, 3, 1, 1, 1, 0, 0, 0)
    return header + folder + file + data


def compound(streams: dict[str, bytes], class_id: bytes = bytes(16)) -> bytes:
    """An OLE file (MS-CFB, version 3) with these streams, each in sectors of its own."""
    sector, fat, body = 512, [0xFFFFFFFD], b""
    entries: list[bytes] = []
    total = 1 + sum(-(-max(len(one), 4096) // sector) for one in streams.values())
    directory_at = total
    number = 1
    names = list(streams)
    for index, name in enumerate(names):
        content = streams[name].ljust(4096, b"\0")
        count = -(-len(content) // sector)
        fat += [*range(number + 1, number + count), 0xFFFFFFFE]
        body += content.ljust(count * sector, b"\0")
        right = index + 2 if index + 1 < len(names) else 0xFFFFFFFF
        entries.append(_entry(name, 2, (right, 0xFFFFFFFF), bytes(16), number, len(content)))
        number += count
    root = _entry("Root Entry", 5, (0xFFFFFFFF, 1), class_id, 0xFFFFFFFE, 0)
    directory = (root + b"".join(entries)).ljust(
        -(-128 * (1 + len(names)) // sector) * sector, b"\0"
    )
    count = len(directory) // sector
    fat += [*range(directory_at + 1, directory_at + count), 0xFFFFFFFE]
    assert len(fat) <= 128, "one sector of the table is enough"
    table = struct.pack("<128I", *fat, *[0xFFFFFFFF] * (128 - len(fat)))
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6, bytes(6), 0, 1,
        directory_at, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0,
    )  # fmt: skip
    header += struct.pack("<109I", 0, *[0xFFFFFFFF] * 108)
    return header + table + body + directory


def _entry(
    name: str, kind: int, links: tuple[int, int], class_id: bytes, start: int, size: int
) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16sIQQIII",
        text, len(text), kind, 1, 0xFFFFFFFF, *links, class_id, 0, 0, 0, start, size, 0,
    )  # fmt: skip


def pdf(content: bytes, dictionary: bytes = b"/Filter/FlateDecode") -> bytes:
    packed = zlib.compress(content) if b"Flate" in dictionary else content
    return b"%%PDF-1.7\n1 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n%%%%EOF\n" % (
        dictionary,
        len(packed),
        packed,
    )


def mail(content: bytes) -> bytes:
    return (
        b"From: a@example.org\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"
        b"Content-Type: application/octet-stream; name=inner.bin\n"
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(content) + b"--b--\n"
    )


def uuencoded(content: bytes) -> bytes:
    lines = [binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45)]
    return b"Received: from a\nSubject: x\n\nbegin 644 inner.bin\n" + b"".join(lines) + b"`\nend\n"


def rtf(content: bytes) -> bytes:
    digits = binascii.hexlify(content)
    lines = b"\n".join(digits[at : at + 63] for at in range(0, len(digits), 63))
    return b"{\\rtf1{\\object{\\*\\objdata " + lines + b"}}}"


def page(content: bytes) -> bytes:
    coded_text = base64.b64encode(content)
    return b'<!doctype html><a href="data:application/octet-stream;base64,' + coded_text + b'">'


def onenote(content: bytes) -> bytes:
    mark = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
    start = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(64)
    return start + mark + struct.pack("<Q12x", len(content)) + content


def powerpoint(content: bytes) -> bytes:
    packed = zlib.compress(content)
    record = b"\x10\0\x11\x10" + struct.pack("<II", len(packed) + 4, len(content)) + packed
    return compound({"PowerPoint Document": record})


def rar(content: bytes) -> bytes:
    """A RAR 4 archive with one file that is stored (technote of RAR 4)."""

    def block(kind: int, flags: int, fields: bytes, data: bytes = b"") -> bytes:
        rest = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest + data

    name = NAME.encode()
    fields = struct.pack(
        "<IIBIIBBHI",
        len(content), len(content), 3, zlib.crc32(content), 0x21, 20, 0x30, len(name), 0o100644,
    )  # fmt: skip
    return (
        b"Rar!\x1a\x07\x00"
        + block(0x73, 0, bytes(6))
        + block(0x74, 0x8000, fields + name, content)
        + block(0x7B, 0x4000, b"")
    )


def rar5(content: bytes) -> bytes:
    """A RAR 5 archive with one file that is stored (technote of RAR 5)."""

    def number(value: int) -> bytes:
        pieces = bytearray()
        while value > 0x7F:
            pieces.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes((*pieces, value))

    def block(body: bytes) -> bytes:
        sized = number(len(body)) + body
        return struct.pack("<I", zlib.crc32(sized)) + sized

    name = NAME.encode()
    file = (
        b"".join(map(number, (2, 2, len(content), 4, len(content), 0o100644)))
        + struct.pack("<I", zlib.crc32(content))
        + b"".join(map(number, (0, 1, len(name))))
        + name
    )
    main = b"".join(map(number, (1, 0, 0)))
    end = b"".join(map(number, (5, 0, 0)))
    return b"Rar!\x1a\x07\x01\x00" + block(main) + block(file) + content + block(end)


def deb(content: bytes) -> bytes:
    """A Debian package: ar with a tar file in it (deb(5))."""

    def member(name: bytes, data: bytes) -> bytes:
        head = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(data))
        return head + data + b"\n" * (len(data) % 2)

    return (
        b"!<arch>\n"
        + member(b"debian-binary", b"2.0\n")
        + member(b"control.tar.gz", gzip.compress(tarred(b"Package: a\n", "control")))
        + member(b"data.tar.xz", lzma.compress(tarred(content)))
    )


def rpm(content: bytes) -> bytes:
    """An RPM package: lead, two headers that say nothing, and a packed cpio archive."""
    lead = b"\xed\xab\xee\xdb\3\0" + bytes(90)
    header = b"\x8e\xad\xe8\1" + bytes(12)
    return lead + header + header + gzip.compress(archived(content, "cpio_newc"))


def lha(content: bytes) -> bytes:
    """An LHA archive, header level 0, with one file that is stored."""
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    name = NAME.encode()
    fields = struct.pack("<5sIIIBB", b"-lh0-", len(content), len(content), 0, 0x20, 0)
    rest = fields + bytes((len(name),)) + name + struct.pack("<H", crc)
    return bytes((len(rest), sum(rest) & 0xFF)) + rest + content + b"\0"


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "zip, stored": lambda content: zipped(content, zipfile.ZIP_STORED),
    "zip, deflated": zipped,
    "zip, bzip2": lambda content: zipped(content, zipfile.ZIP_BZIP2),
    "zip, lzma": lambda content: zipped(content, zipfile.ZIP_LZMA),
    "zip in zip": lambda content: zipped(zipped(content), name="inner.zip"),
    "zip behind a picture": lambda content: b"GIF89a" + bytes(100) + zipped(content),
    "zip behind a program": lambda content: b"MZ" + bytes(100) + zipped(content),
    "tar": tarred,
    "tar, ustar": lambda content: archived(content, "ustar"),
    "tar, pax": lambda content: archived(content, "pax"),
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zstd": lambda content: coded(content, "zstd"),
    "lz4": lambda content: coded(content, "lz4"),
    "lzip": lambda content: coded(content, "lzip"),
    "compress": lambda content: coded(content, "compress"),
    "tar.gz": lambda content: gzip.compress(tarred(content)),
    "tar.bz2": lambda content: bz2.compress(tarred(content)),
    "tar.xz": lambda content: lzma.compress(tarred(content)),
    "tar.zst": lambda content: coded(tarred(content), "zstd"),
    "7z": lambda content: archived(content, "7zip"),
    "7z behind a program": lambda content: b"MZ" + bytes(100) + archived(content, "7zip"),
    "cab": cabinet,
    "iso": lambda content: archived(content, "iso9660"),
    "cpio": lambda content: archived(content, "cpio"),
    "cpio, newc": lambda content: archived(content, "cpio_newc"),
    "ar": lambda content: archived(content, "ar_svr4"),
    "rar": rar,
    "rar 5": rar5,
    "deb": deb,
    "rpm": rpm,
    "lha": lha,
    "xar": lambda content: archived(content, "xar"),
    "warc": lambda content: archived(content, "warc"),
    "ole": lambda content: compound({"Contents": content}),
    "pdf, deflated": pdf,
    "pdf, plain": lambda content: pdf(content, b""),
    "mail, base64": mail,
    "mail, uuencode": uuencoded,
    "rtf": rtf,
    "html": page,
    "onenote": onenote,
    "powerpoint": powerpoint,
    "docx": lambda content: package(
        {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>", "word/a.bin": content}
    ),
}
"""Each makes a container of a content."""
