r"""What kind of file some bytes are, by their content alone.

Scanner processes ask it about objects and everything inside them; ``file_names`` says what a name
or a MIME type claims. The invariant: a kind is named only where the bytes carry its mark, so what
is ``unknown`` is nothing that a system would start by its content.

It stands on ``executables`` (what the kernel or a loader would start, and archives) and adds what
people open: documents, images, disk images, shortcuts. What is a ZIP file by its mark may be a
document or a program by its members: ``zip_kind`` tells, and ``compound_kind`` for OLE files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from sluicegate.protocols.executables import archive_kind, executable_kind
from sluicegate.protocols.text_kinds import text_kind

__all__ = [
    "CLOSED_KINDS",
    "FAMILIES",
    "KIND_HEAD_BYTES",
    "KIND_TAIL_BYTES",
    "ZIP_KINDS",
    "compound_kind",
    "embedded_kind",
    "family_of",
    "file_kind",
    "zip_kind",
]

KIND_HEAD_BYTES: Final = 40 << 10
"""How much of a file's beginning decides: ISO 9660 has its mark behind 32 KiB."""

KIND_TAIL_BYTES: Final = 512
"""How much of its end: disk images of Apple and Connectix have their mark there."""

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "executable": (
        "pe",
        "dos",
        "elf",
        "mach-o",
        "mach-o-fat",
        "java-class",
        "dex",
        "wasm",
        "python-bytecode",
    ),
    "script": (
        "script",
        "powershell",
        "batch",
        "vbscript",
        "jscript",
        "windows-script",
        "hta",
        "applescript",
        "registry",
        "shell-script",
    ),
    "installer": ("msi", "deb", "rpm", "apk", "jar", "appx", "xar", "xpi"),
    "shortcut": ("lnk", "url", "desktop-entry", "library-ms", "settings-ms", "scf"),
    "disk-image": (
        "iso9660",
        "udf",
        "vhd",
        "vhdx",
        "vmdk",
        "qcow2",
        "dmg",
        "wim",
        "squashfs",
        "vdi",
    ),
    "archive": (
        "zip",
        "tar",
        "gzip",
        "bzip2",
        "xz",
        "7z",
        "rar",
        "cab",
        "zstd",
        "lz4",
        "lzop",
        "lzip",
        "lzma",
        "compress",
        "arj",
        "lha",
        "ace",
        "ar",
        "cpio",
        "szdd",
        "binhex",
        "tnef",
        "warc",
        "sis",
    ),
    "document": (
        "pdf",
        "postscript",
        "rtf",
        "ole",
        "doc",
        "xls",
        "ppt",
        "msg",
        "publisher",
        "visio",
        "docx",
        "xlsx",
        "pptx",
        "xlsb",
        "visio-xml",
        "opendocument",
        "epub",
        "onenote",
        "chm",
        "djvu",
        "xps",
    ),
    "web": ("html", "xml", "svg"),
    "mail": ("mail",),
    "image": (
        "png",
        "jpeg",
        "gif",
        "webp",
        "bmp",
        "tiff",
        "ico",
        "psd",
        "heif",
        "jpeg2000",
        "jpegxl",
        "emf",
    ),
    "audio": ("mp3", "wav", "flac", "ogg", "midi", "aac", "aiff"),
    "video": ("mp4", "matroska", "avi", "mpeg", "flv", "asf"),
    "font": ("truetype", "opentype", "woff", "woff2"),
    "data": ("sqlite", "pcap", "flash", "json"),
    "text": ("text",),
    "empty": ("empty",),
    "unknown": ("unknown",),
}
"""Kinds by family; rules may name either."""

ZIP_KINDS: Final = frozenset(
    {
        "zip",
        "docx",
        "xlsx",
        "xlsb",
        "pptx",
        "visio-xml",
        "xps",
        "opendocument",
        "epub",
        "jar",
        "apk",
    }
    | {"appx", "xpi"}
)
"""Kinds that are ZIP files with certain members."""

CLOSED_KINDS: Final = frozenset(
    {
        "arj", "ace", "lzop", "szdd", "binhex", "tnef", "sis", "chm", "udf", "vhd", "vhdx", "vmdk",
        "qcow2", "vdi", "dmg", "wim", "squashfs",
    }
)  # fmt: skip
"""Kinds that hold files and that scanner processes do not open."""

_FAMILY_OF: Final = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}


def family_of(kind: str) -> str:
    """Return the family of a kind; ``unknown`` for what is no kind.

    >>> family_of("pe"), family_of("docx"), family_of("nonsense")
    ('executable', 'document', 'unknown')
    """
    return _FAMILY_OF.get(kind, "unknown")


def file_kind(head: bytes, tail: bytes = b"") -> str:
    r"""Name the kind of a file.

    Args:
        head: Its first ``KIND_HEAD_BYTES``, or all of it.
        tail: Its last ``KIND_TAIL_BYTES``, or all of it.

    >>> file_kind(b"%PDF-1.7\n"), file_kind(b"MZ\x90"), file_kind(b"Hello.\n"), file_kind(b"")
    ('pdf', 'dos', 'text', 'empty')
    """
    if not head:
        return "empty"
    return (
        executable_kind(head, scripts=True)
        or _marked_kind(head, tail)
        or archive_kind(head)
        or _volume_kind(head)
        or text_kind(head)
        or "unknown"
    )


def _marked_kind(head: bytes, tail: bytes) -> str:
    for kind, offset, magic in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    for kind, matches in _TESTS:
        if matches(head):
            return kind
    for kind, magic in _TAIL_MAGICS:
        if len(tail) >= KIND_TAIL_BYTES and tail[-KIND_TAIL_BYTES:].startswith(magic):
            return kind
    return ""


_TAIL_MAGICS: Final = (("dmg", b"koly"), ("vhd", b"conectix"))


def _volume_kind(head: bytes) -> str:
    """Tell the images of optical disks, in sectors of 2,048 bytes and in raw ones of 2,352."""
    for at in (0x8001, 0x9319):
        mark = head[at : at + 5]
        if mark in _VOLUME_MARKS:
            return _VOLUME_MARKS[mark]
    return ""


_VOLUME_MARKS: Final = {b"CD001": "iso9660", b"BEA01": "udf", b"NSR02": "udf", b"NSR03": "udf"}


def zip_kind(names: Collection[str]) -> str:
    """Name the kind of a ZIP file by the names of its members.

    >>> zip_kind(["[Content_Types].xml", "word/document.xml"]), zip_kind(["a.txt"])
    ('docx', 'zip')
    """
    lowered = {name.lower().lstrip("/") for name in names}
    if "[content_types].xml" in lowered:
        kind = _open_package_kind(lowered)
        if kind:
            return kind
    for kind, wanted in _ZIP_MEMBERS:
        if any(group <= lowered for group in wanted):
            return kind
    return "jar" if any(name.endswith(".class") for name in lowered) else "zip"


def _open_package_kind(lowered: set[str]) -> str:
    for folder, kind in _OPC_FOLDERS:
        if any(name.startswith(folder) for name in lowered):
            return "xlsb" if kind == "xlsx" and "xl/workbook.bin" in lowered else kind
    return ""


_ZIP_MEMBERS: Final = (
    ("apk", ({"androidmanifest.xml"},)),
    ("appx", ({"appxmanifest.xml"}, {"appxmetadata/appxbundlemanifest.xml"})),
    ("opendocument", ({"mimetype", "content.xml"},)),
    ("epub", ({"mimetype", "meta-inf/container.xml"},)),
    ("xpi", ({"meta-inf/mozilla.rsa"}, {"install.rdf"})),
    ("jar", ({"meta-inf/manifest.mf"},)),
)
"""Members that make a ZIP file something else; one of the groups is enough."""

_OPC_FOLDERS: Final = (
    ("word/", "docx"),
    ("xl/", "xlsx"),
    ("ppt/", "pptx"),
    ("visio/", "visio-xml"),
    ("documents/", "xps"),
)


def compound_kind(streams: Collection[str], class_id: bytes) -> str:
    """Name the kind of an OLE compound file by its streams and the class of its root.

    Args:
        streams: Paths of its streams.
        class_id: CLSID of the root entry, 16 bytes as they stand in the file.
    """
    known = _CLASSES.get(class_id)
    if known is not None:
        return known
    lowered = {name.lower() for name in streams}
    for name, kind in _STREAMS:
        if name in lowered:
            return kind
    if any(name.startswith("__substg1.0_") for name in lowered):
        return "msg"
    return "ole"


_CLASSES: Final = {
    # {000C1084-…}, {000C1086-…}, {000C1082-…}: installer package, patch, transform
    bytes.fromhex("84100c0000000000c000000000000046"): "msi",
    bytes.fromhex("86100c0000000000c000000000000046"): "msi",
    bytes.fromhex("82100c0000000000c000000000000046"): "msi",
}
_STREAMS: Final = (
    ("worddocument", "doc"),
    ("workbook", "xls"),
    ("book", "xls"),
    ("powerpoint document", "ppt"),
    ("visiodocument", "visio"),
    ("quill/quillsub/contents", "publisher"),
)


def embedded_kind(data: bytes) -> str:
    r"""Name an executable that stands somewhere inside other bytes; empty if there is none.

    Found are PE files (by both of their marks, so that chance finds none in a gigabyte) and ELF
    files, at any offset but the first.

    >>> embedded_kind(b"GIF89a" + b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0" + bytes(20))
    'pe'
    """
    at = data.find(b"PE\0\0")
    while at >= 0:
        if _points_back(data, at):
            return "pe"
        at = data.find(b"PE\0\0", at + 1)
    at = data.find(b"\x7fELF", 1)
    while at >= 0:
        # Class, byte order and version (System V ABI, chapter 4): 1 or 2, 1 or 2, 1.
        if data[at + 4 : at + 7] in _ELF_IDENTS and data[at + 9 : at + 16] == bytes(7):
            return "elf"
        at = data.find(b"\x7fELF", at + 1)
    return ""


_ELF_IDENTS: Final = tuple(bytes((bits, order, 1)) for bits in (1, 2) for order in (1, 2))
_STUB_BYTES_MAX: Final = 4096
"""Between the two headers; linkers write 64 to 512."""


def _points_back(data: bytes, at: int) -> bool:
    """Tell whether a DOS header stands in front of a PE header and points to it."""
    start = data.rfind(b"MZ", max(1, at - _STUB_BYTES_MAX), at)
    while start > 0:
        if int.from_bytes(data[start + 0x3C : start + 0x40], "little") == at - start:
            return True
        start = data.rfind(b"MZ", max(1, at - _STUB_BYTES_MAX), start)
    return False


def _is_riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _is_base_media(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in _HEIF_BRANDS
    # Segments of a stream (ISO 14496-12) begin with what a whole file has further on.
    return head[4:8] in _SEGMENT_BOXES


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


_HEIF_BRANDS: Final = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"hevc")


_SEGMENT_BOXES: Final = (b"styp", b"sidx", b"moof", b"moov", b"mdat")


def _is_aac(head: bytes) -> bool:
    """Tell an ADTS stream (ISO 13818-7): sync, layer 0, a sampling rate that exists."""
    return head[:2] in _ADTS and len(head) > 2 and (head[2] >> 2 & 0x0F) < 13  # noqa: PLR2004 - as above


_ADTS: Final = (b"\xff\xf1", b"\xff\xf0", b"\xff\xf9", b"\xff\xf8")


def _is_mp3(head: bytes) -> bool:
    if head[:3] == b"ID3":
        return True
    # MPEG audio, layer III, with a bit rate and a sampling rate that exist.
    return (
        len(head) > 3  # noqa: PLR2004 - a whole frame header
        and head[0] == 0xFF  # noqa: PLR2004 - sync
        and head[1] in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)
        and head[2] & 0xF0 not in (0, 0xF0)
        and head[2] & 0x0C != 0x0C  # noqa: PLR2004 - sampling rate
    )


def _is_java_class(head: bytes) -> bool:
    # ``executable_kind`` has taken the fat Mach-O files with the same magic.
    return head[:4] == b"\xca\xfe\xba\xbe"


def _is_pdf(head: bytes) -> bool:
    """Tell a PDF file: readers look for its mark in the first 1,024 bytes (ISO 32000, annex)."""
    return b"%PDF-" in head[:1024]


def _is_python_bytecode(head: bytes) -> bool:
    """Tell what CPython 3.7 and newer compile (PEP 552): version, CR LF, flags."""
    return head[2:4] == b"\r\n" and head[1:2] in _PYC_VERSIONS and head[4:8] in _PYC_FLAGS


_PYC_VERSIONS: Final = (b"\x0c", b"\x0d", b"\x0e")
_PYC_FLAGS: Final = tuple(bytes((flag, 0, 0, 0)) for flag in range(4))


_MAGICS: Final = (
    ("ole", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),  # MS-CFB 2.2
    ("lnk", 0, b"\x4c\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"),  # MS-SHLLINK 2.1
    ("onenote", 0, bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3")),  # MS-ONESTORE 2.3.1
    ("rtf", 0, b"{\\rt"),  # Word takes it without the f
    ("postscript", 0, b"%!PS"),
    ("chm", 0, b"ITSF"),
    ("djvu", 0, b"AT&TFORM"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("gif", 0, b"GIF87a"),
    ("gif", 0, b"GIF89a"),
    ("tiff", 0, b"II*\0"),
    ("tiff", 0, b"MM\0*"),
    ("psd", 0, b"8BPS\0"),
    ("ico", 0, b"\0\0\x01\0"),
    ("ico", 0, b"\0\0\x02\0"),
    ("jpeg2000", 0, b"\0\0\0\x0cjP  "),
    ("jpegxl", 0, b"\0\0\0\x0cJXL "),
    ("emf", 40, b" EMF"),
    ("flac", 0, b"fLaC"),
    ("ogg", 0, b"OggS"),
    ("midi", 0, b"MThd"),
    ("aiff", 8, b"AIFF"),
    ("matroska", 0, b"\x1a\x45\xdf\xa3"),
    ("flv", 0, b"FLV\x01"),
    ("asf", 0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
    ("mpeg", 0, b"\0\0\x01\xba"),
    ("mpeg", 0, b"\0\0\x01\xb3"),
    ("truetype", 0, b"\0\x01\0\0\0"),
    ("opentype", 0, b"OTTO"),
    ("woff", 0, b"wOFF"),
    ("woff2", 0, b"wOF2"),
    ("sqlite", 0, b"SQLite format 3\0"),
    ("pcap", 0, b"\xd4\xc3\xb2\xa1"),
    ("pcap", 0, b"\xa1\xb2\xc3\xd4"),
    ("pcap", 0, b"\x0a\x0d\x0d\x0a"),
    ("flash", 0, b"FWS"),
    ("flash", 0, b"CWS"),
    ("flash", 0, b"ZWS"),
    ("dex", 0, b"dex\n"),
    ("wasm", 0, b"\0asm"),
    ("applescript", 0, b"FasdUAS"),
    ("vhd", 0, b"conectix"),
    ("vhdx", 0, b"vhdxfile"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("qcow2", 0, b"QFI\xfb"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("szdd", 0, b"SZDD\x88\xf0'3"),
    ("szdd", 0, b"KWAJ\x88\xf0'\xd1"),
    ("tnef", 0, b"\x78\x9f\x3e\x22"),
    ("warc", 0, b"WARC/"),
    ("sis", 8, b"\x19\x04\x00\x10"),
    ("cpio", 0, b"\xc7\x71"),
    ("cpio", 0, b"\x71\xc7"),
    ("deb", 0, b"!<arch>\ndebian"),
)
_TESTS: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("java-class", _is_java_class),
    ("pdf", _is_pdf),
    ("webp", _is_riff(b"WEBP")),
    ("wav", _is_riff(b"WAVE")),
    ("avi", _is_riff(b"AVI ")),
    ("ico", _is_riff(b"ACON")),
    ("heif", _is_heif),
    ("mp4", _is_base_media),
    ("mp3", _is_mp3),
    ("aac", _is_aac),
    ("bmp", lambda head: head[:2] == b"BM" and head[6:10] == bytes(4)),
    ("python-bytecode", _is_python_bytecode),
)
