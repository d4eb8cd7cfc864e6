"""Kinds of files: by their bytes, by their names, and by what is held against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.file_kinds import (
    FAMILIES,
    KIND_HEAD_BYTES,
    ZIP_KINDS,
    compound_kind,
    embedded_kind,
    family_of,
    file_kind,
    zip_kind,
)
from sluicegate.protocols.file_names import (
    claimed_by_name,
    claimed_by_type,
    contradiction,
    has_lure,
    named_kind,
)

PE = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(20)


def at(offset: int, mark: bytes) -> bytes:
    return bytes(offset) + mark + bytes(20)


HEADS: dict[str, list[bytes]] = {
    "pe": [PE],
    "dos": [b"MZ" + bytes(70), b"ZM" + bytes(70)],
    "elf": [b"\x7fELF\x02\x01\x01"],
    "mach-o": [b"\xcf\xfa\xed\xfe" + bytes(9)],
    "mach-o-fat": [b"\xca\xfe\xba\xbe\0\0\0\2"],
    "java-class": [b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(2000)],
    "dex": [b"dex\n035\0"],
    "wasm": [b"\0asm\1\0\0\0"],
    "python-bytecode": [b"\xa7\x0d\r\n\0\0\0\0" + bytes(20), b"\xf3\x0d\r\n\1\0\0\0" + bytes(20)],
    "script": [b"#!/bin/sh\n", b"#! /usr/bin/env python3\n"],
    "batch": [b"@echo off\r\n", b"ECHO OFF\r\n"],
    "windows-script": [b"<job><script>", b'<?xml version="1.0"?>\n<package>', b"<scriptlet>"],
    "hta": [b"<html><head><HTA:APPLICATION id=x>"],
    "registry": [b"Windows Registry Editor Version 5.00", "REGEDIT4".encode("utf-16")],
    "lnk": [b"\x4c\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"],
    "url": [b"[InternetShortcut]\r\nURL=x", b"[{000214A0-0000-0000-C000-000000000046}]"],
    "desktop-entry": [b"[Desktop Entry]\nExec=x", b"#!\n"[2:] + b"# x\n[Desktop Entry]\n"],
    "library-ms": [b'<?xml version="1.0"?><libraryDescription xmlns="x">'],
    "settings-ms": [b"<PCSettings>"],
    "scf": [b"[Shell]\r\nCommand=2"],
    "deb": [b"!<arch>\ndebian-binary   "],
    "rpm": [b"\xed\xab\xee\xdb"],
    "xar": [b"xar!"],
    "iso9660": [at(0x8001, b"CD001"), at(0x9319, b"CD001")],
    "udf": [at(0x8001, b"BEA01")],
    "vhd": [b"conectix"],
    "vhdx": [b"vhdxfile"],
    "vmdk": [b"KDMV", b"# Disk DescriptorFile"],
    "qcow2": [b"QFI\xfb"],
    "vdi": [at(64, b"\x7f\x10\xda\xbe")],
    "wim": [b"MSWIM\0\0\0"],
    "squashfs": [b"hsqs"],
    "zip": [b"PK\3\4", b"PK\5\6"],
    "gzip": [b"\x1f\x8b\x08"],
    "7z": [b"7z\xbc\xaf\x27\x1c"],
    "rar": [b"Rar!\x1a\7"],
    "cab": [b"MSCF"],
    "cpio": [b"070701", b"\xc7\x71" + bytes(30)],
    "szdd": [b"SZDD\x88\xf0'3"],
    "tnef": [b"\x78\x9f\x3e\x22"],
    "warc": [b"WARC/1.0\r\n"],
    "pdf": [b"%PDF-1.7", b"\n" * 500 + b"%PDF-1.4"],
    "postscript": [b"%!PS-Adobe"],
    "rtf": [b"{\\rtf1", b"{\\rt"],
    "ole": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
    "onenote": [bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3")],
    "chm": [b"ITSF"],
    "djvu": [b"AT&TFORM"],
    "html": [b"<!DOCTYPE html>", b"  <html>", b"<!-- x --><head>", b"\xef\xbb\xbf<body>"],
    "xml": [b'<?xml version="1.0"?><a>'],
    "svg": [b"<svg xmlns=x>", b'<?xml version="1.0"?>\n<!-- x -->\n<svg>'],
    "mail": [b"From a Sat Jan  1", b"Received: x", b"From: a\nTo: b\nMIME-Version: 1.0\n"],
    "png": [b"\x89PNG\r\n\x1a\n"],
    "jpeg": [b"\xff\xd8\xff\xe0"],
    "gif": [b"GIF89a"],
    "webp": [b"RIFF\0\0\0\0WEBP"],
    "bmp": [b"BM\0\0\0\0\0\0\0\0"],
    "tiff": [b"II*\0", b"MM\0*"],
    "ico": [b"\0\0\1\0\1\0"],
    "heif": [b"\0\0\0\x18ftypheic"],
    "mp3": [b"ID3\4", b"\xff\xfb\x90\x64"],
    "wav": [b"RIFF\0\0\0\0WAVE"],
    "flac": [b"fLaC"],
    "ogg": [b"OggS"],
    "mp4": [b"\0\0\0\x18ftypisom", b"\0\0\0\x18stypmsdh", b"\0\0\0\x2cmoof"],
    "aac": [b"\xff\xf1\x50\x80"],
    "matroska": [b"\x1a\x45\xdf\xa3"],
    "avi": [b"RIFF\0\0\0\0AVI "],
    "truetype": [b"\0\1\0\0\0"],
    "woff2": [b"wOF2"],
    "sqlite": [b"SQLite format 3\0"],
    "pcap": [b"\xd4\xc3\xb2\xa1"],
    "flash": [b"CWS\x0a"],
    "json": [b'{"a": 1}', b"[[1]]"],
    "text": [b"Hello.\n", "Grüße\n".encode(), "Grüße\n".encode("utf-16"), b"a\xe9b latin"],
    "empty": [b""],
    "unknown": [b"\1\2\3\4", bytes(100)],
}


@pytest.mark.parametrize(
    ("kind", "head"), [(kind, head) for kind, heads in HEADS.items() for head in heads]
)
def test_a_kind_is_told_by_its_first_bytes(kind: str, head: bytes) -> None:
    assert file_kind(head[:KIND_HEAD_BYTES]) == kind
    assert family_of(kind) in FAMILIES


@pytest.mark.parametrize(("kind", "mark"), [("dmg", b"koly"), ("vhd", b"conectix")])
def test_some_kinds_are_told_by_their_last_bytes(kind: str, mark: bytes) -> None:
    tail = mark.ljust(512, b"\0")
    assert file_kind(b"\1\2\3", tail) == kind
    assert file_kind(b"\1\2\3", tail[1:]) == "unknown"


@given(st.binary(max_size=400))
def test_every_file_has_a_kind_of_a_family(head: bytes) -> None:
    kind = file_kind(head, head[-512:])
    assert kind in FAMILIES[family_of(kind)]


def test_each_kind_has_one_family() -> None:
    kinds = [kind for kinds in FAMILIES.values() for kind in kinds]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) >= ZIP_KINDS
    assert not (set(FAMILIES) & set(kinds)) - {"script", "mail", "text", "empty", "unknown"}


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a.txt"], "zip"),
        (["[Content_Types].xml", "word/document.xml"], "docx"),
        (["[content_types].xml", "/xl/workbook.xml"], "xlsx"),
        (["[Content_Types].xml", "xl/workbook.bin"], "xlsb"),
        (["[Content_Types].xml", "ppt/a.xml"], "pptx"),
        (["[Content_Types].xml"], "zip"),
        (["mimetype", "content.xml"], "opendocument"),
        (["mimetype", "META-INF/container.xml"], "epub"),
        (["META-INF/MANIFEST.MF"], "jar"),
        (["a/B.class"], "jar"),
        (["META-INF/MANIFEST.MF", "AndroidManifest.xml"], "apk"),
        (["AppxManifest.xml", "[Content_Types].xml"], "appx"),
    ],
)
def test_a_zip_file_is_what_its_members_make_of_it(names: list[str], kind: str) -> None:
    assert zip_kind(names) == kind


@pytest.mark.parametrize(
    ("streams", "kind"),
    [
        (["WordDocument"], "doc"),
        (["Workbook"], "xls"),
        (["PowerPoint Document"], "ppt"),
        (["__substg1.0_001A001F"], "msg"),
        (["Other"], "ole"),
    ],
)
def test_an_ole_file_is_what_its_streams_make_of_it(streams: list[str], kind: str) -> None:
    assert compound_kind(streams, bytes(16)) == kind
    assert compound_kind(streams, bytes.fromhex("84100c0000000000c000000000000046")) == "msi"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PE, ""),
        (b"x" + PE, "pe"),
        (b"MZ" * 500 + b"x" + PE, "pe"),
        (b"x" + PE.replace(b"PE\0\0", b"PE\0\1"), ""),
        (b"xPE\0\0" * 100, ""),
        (b"x\x7fELF\x02\x01\x01" + bytes(20), "elf"),
        (b"x\x7fELF\x09\x01\x01" + bytes(20), ""),
        (b"\x7fELF in a text", ""),
    ],
)
def test_a_program_inside_other_bytes_is_found(data: bytes, kind: str) -> None:
    """L2."""
    assert embedded_kind(data) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("run.ps1", "powershell"),
        ("RUN.PS1", "powershell"),
        ("a.tar/run.bat", "batch"),
        ("a\\b.cmd", "batch"),
        ("x.vbs ", "vbscript"),
        ("x.vbs...", "vbscript"),
        ("x.txt:y.ps1", ""),
        ("x.js:$DATA", "jscript"),
        ("x.scr", "pe"),
        ("letter.txt", ""),
        (".bashrc", ""),
        ("ps1", ""),
        ("", ""),
    ],
)
def test_what_systems_start_by_name_is_known_by_name(name: str, kind: str) -> None:
    assert named_kind(name) == kind


@pytest.mark.parametrize(
    ("kind", "name", "how"),
    [
        ("jpeg", "a.jpg", ""),
        ("png", "a.jpg", "differs"),
        ("pe", "a.jpg", "mismatch"),
        ("unknown", "a.jpg", "mismatch"),
        ("empty", "a.jpg", ""),
        ("pe", "a", ""),
        ("pe", "a.xyz", ""),
        ("html", "a.doc", ""),
        ("docx", "a.zip", ""),
        ("zip", "a.docx", "mismatch"),
        ("json", "a.txt", ""),
        ("pe", "a.txt", "mismatch"),
        ("gzip", "a.tar.gz", ""),
        ("zip", "a.tar.gz", "differs"),
    ],
)
def test_a_content_is_held_against_its_name(kind: str, name: str, how: str) -> None:
    """K8."""
    assert contradiction(kind, claimed_by_name(name)) == how


@pytest.mark.parametrize(
    ("kind", "content_type", "how"),
    [
        ("png", "image/png", ""),
        ("png", "IMAGE/PNG ; a=b", ""),
        ("pe", "image/png", "mismatch"),
        ("pe", "application/octet-stream", ""),
        ("pe", "x-unknown/y", ""),
        ("pe", "", ""),
        ("text", "text/html", ""),
        ("pdf", "text/html", "mismatch"),
    ],
)
def test_a_content_is_held_against_its_mime_type(kind: str, content_type: str, how: str) -> None:
    """K8."""
    assert contradiction(kind, claimed_by_type(content_type)) == how


@pytest.mark.parametrize(
    ("name", "is_lure"),
    [
        ("invoice.pdf.exe", True),
        ("invoice.pdf   .scr", True),
        ("a.jpg.lnk", True),
        ("photo.png.iso", True),
        ("setup.exe", False),
        ("setup-1.2.exe", False),
        ("a.tar.gz", False),
        ("notes.txt.pdf", False),
        ("a\u202egpj.exe", True),
        ("folder.pdf/setup.exe", False),
    ],
)
def test_names_that_lure_are_told(name: str, is_lure: bool) -> None:
    assert has_lure(name) == is_lure
