r"""What executables and archives look like by their first bytes.

``exe_block`` asks it about the head of a held object, ``archives`` about each member. The
invariant: what some system would run is never named harmless because its header is unusual; the
price is that a text which begins with ``MZ`` is taken for a DOS program.

=============  =============================================  ==================================
kind           first bytes                                    source
=============  =============================================  ==================================
``pe``         ``MZ`` and ``PE\0\0`` where 0x3C points        PE/COFF specification, Microsoft
``dos``        ``MZ`` or ``ZM`` otherwise (also NE, LE, LX)   the same, MS-DOS stub; both orders
                                                              are taken by DOS
``elf``        7F ``ELF``                                     System V ABI, chapter 4
``mach-o``     FEEDFACE, FEEDFACF, either byte order          Apple ``mach-o/loader.h``
``mach-o-fat`` CAFEBABE, CAFEBABF, either byte order; a       Apple ``mach-o/fat.h``
               Java class file (JVM specification, section
               4.1) begins like the first and is told apart
``script``     ``#!``, only if asked for                      Linux ``fs/binfmt_script.c``
=============  =============================================  ==================================
"""

from __future__ import annotations

import struct

from sluicegate.protocols.tar_members import is_tar_header

__all__ = ["HEAD_BYTES_NEEDED", "archive_kind", "executable_kind"]

HEAD_BYTES_NEEDED = 16384
"""How much of a file's head decides: the page in which macOS on ARM looks for the architectures of
a fat file. A shorter head is a shorter file."""


def executable_kind(head: bytes, *, scripts: bool = False) -> str | None:
    r"""Name the kind of executable that a file beginning with ``head`` is; None if it is none.

    ``head`` is the first ``HEAD_BYTES_NEEDED`` bytes of the file, or the whole of a shorter one.

    >>> executable_kind(b"MZ\x90\x00"), executable_kind(b"#!/bin/sh"), executable_kind(b"")
    ('dos', None, None)
    """
    if head[:2] in (b"MZ", b"ZM"):
        return "pe" if _has_pe_header(head) else "dos"
    kind = _EXECUTABLE_MAGICS.get(head[:4])
    if kind is not None:
        return kind
    if head[:4] == _FAT_OR_JAVA:
        return None if _is_java_class(head) else "mach-o-fat"
    if scripts and head[:2] == b"#!":
        return "script"
    return None


def archive_kind(head: bytes) -> str | None:
    """Name the kind of archive or compressed file; None if it is none that is known.

    ``archives.INSPECTABLE_KINDS`` says into which of them can be looked.
    """
    for kind, offset, magic in _ARCHIVE_MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    for kind, matches in _ARCHIVE_TESTS:
        if matches(head):
            return kind
    # Tar files older than POSIX have no magic.
    return "tar" if is_tar_header(head[:512]) else None


def _has_pe_header(head: bytes) -> bool:
    if len(head) < _DOS_HEADER_BYTES:
        return False
    offset = int.from_bytes(head[0x3C:0x40], "little")
    return head[offset : offset + 4] == b"PE\0\0"


def _is_java_class(head: bytes) -> bool:
    """Tell a Java class from a fat Mach-O file, which share a magic.

    After it stand minor and major version of a class (45 or more), or the count of architectures.
    A count of 45 is absurd, but macOS takes as many as fit into a page and ignores those of unknown
    processors; so only a table that XNU would refuse (``bsd/kern/mach_fat.c``) makes a class.
    """
    if len(head) < _FAT_HEADER_BYTES:
        return False
    count = int.from_bytes(head[4:8], "big")
    if count < _JAVA_VERSION_MIN:
        return False
    free_from = _FAT_HEADER_BYTES + count * _FAT_ARCH.size
    if free_from > len(head):
        return True
    table = head[_FAT_HEADER_BYTES:free_from]
    for start, size in sorted((start, size) for start, size in _FAT_ARCH.iter_unpack(table)):
        if start < free_from:
            return True
        free_from = start + size
    return free_from > _FAT_SIZE_MAX


def _is_compress(head: bytes) -> bool:
    """Tell ``compress`` output: two bytes are too few for a magic, its flags tell the rest."""
    if head[:2] != b"\x1f\x9d" or len(head) < 3:  # noqa: PLR2004 - magic and flags
        return False
    return head[2] & 0x60 == 0 and 9 <= head[2] & 0x1F <= 16  # noqa: PLR2004 - bits of a code


def _is_arj(head: bytes) -> bool:
    """Tell ARJ by its magic and the sizes of its main header (ARJ technical information)."""
    if head[:2] != b"\x60\xea" or len(head) < 5:  # noqa: PLR2004 - magic and two sizes
        return False
    return 30 <= head[4] <= int.from_bytes(head[2:4], "little") <= 2600  # noqa: PLR2004 - as above


def _is_lha(head: bytes) -> bool:
    return head[2:4] == b"-l" and head[6:7] == b"-" and head[4:5] in b"hz"


def _is_lzma(head: bytes) -> bool:
    """Tell LZMA without a container: properties, a power of two, a size that is known or not."""
    if head[:1] != b"\x5d" or len(head) < 13:  # noqa: PLR2004 - the whole header
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    is_power = dictionary >= 1 << 12 and dictionary & (dictionary - 1) == 0
    return is_power and (head[5:13] == b"\xff" * 8 or head[10:13] == bytes(3))


_EXECUTABLE_MAGICS = {
    b"\x7fELF": "elf",
    b"\xfe\xed\xfa\xce": "mach-o",
    b"\xce\xfa\xed\xfe": "mach-o",
    b"\xfe\xed\xfa\xcf": "mach-o",
    b"\xcf\xfa\xed\xfe": "mach-o",
    b"\xca\xfe\xba\xbf": "mach-o-fat",
    b"\xbf\xba\xfe\xca": "mach-o-fat",
    b"\xbe\xba\xfe\xca": "mach-o-fat",
}
_FAT_OR_JAVA = b"\xca\xfe\xba\xbe"
#: cputype and cpusubtype (skipped), offset, size, align (skipped).
_FAT_ARCH = struct.Struct(">8xII4x")
_FAT_HEADER_BYTES = 8
_FAT_SIZE_MAX = 0xFFFFFFFF
#: JDK 1.0.2.
_JAVA_VERSION_MIN = 45
_DOS_HEADER_BYTES = 64

_ARCHIVE_MAGICS = (
    # PKWARE APPNOTE 4.3: local header, end record of an empty file, split marker
    ("zip", 0, b"PK\x03\x04"),
    ("zip", 0, b"PK\x05\x06"),
    ("zip", 0, b"PK\x07\x08"),
    ("zip", 0, b"PK00PK\x03\x04"),  # a split that turned out to need one part
    ("gzip", 0, b"\x1f\x8b\x08"),  # RFC 1952, deflate
    ("bzip2", 4, b"1AY&SY"),  # after BZh and the level: a block,
    ("bzip2", 4, b"\x17rE8P\x90"),  # or the end of an empty file
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("tar", 257, b"ustar"),  # POSIX pax, GNU
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("rar", 0, b"RE~^"),
    ("cab", 0, b"MSCF"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),  # RFC 8878
    ("lz4", 0, b"\x04\x22\x4d\x18"),
    ("lz4", 0, b"\x02\x21\x4c\x18"),  # before the frame format
    ("lzop", 0, b"\x89LZO\0\r\n\x1a\n"),
    ("lzip", 0, b"LZIP"),
    ("ar", 0, b"!<arch>\n"),
    ("rpm", 0, b"\xed\xab\xee\xdb"),
    ("cpio", 0, b"07070"),
    ("ace", 7, b"**ACE**"),
    ("wim", 0, b"MSWIM\0\0\0"),
    ("xar", 0, b"xar!"),
    ("squashfs", 0, b"hsqs"),
)
_ARCHIVE_TESTS = (
    ("compress", _is_compress),
    ("arj", _is_arj),
    ("lha", _is_lha),
    ("lzma", _is_lzma),
)
