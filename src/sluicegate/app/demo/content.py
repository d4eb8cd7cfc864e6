"""What the demonstration's objects consist of; all of it is made at run time.

The servers have them as files; the largest is made while it is sent, by its seed alone. The
invariant: nothing here can run, and no byte of it is on disk before a demonstration begins.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import Final

__all__ = [
    "CARD_FORM",
    "LARGE_BYTES",
    "LARGE_PATH",
    "UPLOADS",
    "clean_content",
    "eicar_zip_content",
    "elf_content",
    "large_blocks",
    "large_digest",
    "pe_content",
]

LARGE_BYTES: Final = 1 << 30

LARGE_PATH: Final = "large/1-gib.bin"
"""Where the web server has them."""

UPLOADS: Final = "uploads"
"""The folder in which it stores what it is sent."""

CARD_FORM: Final = b"name=Ann+Example&card=4111+1111+1111+1111&amount=12"
"""A form with a number that payment processors publish for tests: nobody's card."""


def clean_content() -> bytes:
    """Return 64 MiB in which there is nothing to find."""
    title = b"Sluicegate demonstration\n"
    return title + os.urandom(_CLEAN_BYTES - len(title))


def pe_content() -> bytes:
    """Return the headers of a Windows executable, with nothing in it that could run."""
    header = bytearray(b"MZ" + bytes(126))
    header[0x3C] = len(header)
    return bytes(header) + b"PE\0\0" + bytes(_EXECUTABLE_BYTES)


def elf_content() -> bytes:
    """Return the identification of a Linux executable, with nothing in it that could run."""
    return b"\x7fELF\x02\x01\x01" + bytes(_EXECUTABLE_BYTES)


def eicar_zip_content() -> bytes:
    """Return an archive with the file by which virus scanners are tested (EICAR, 2006)."""
    # In two parts, so that no scanner takes this module for the file.
    test_file = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("readme.txt", "The other member of this archive is the EICAR test file.\n")
        file.writestr("inner/test.com", test_file)
    return archive.getvalue()


def large_blocks(seed: bytes) -> Iterator[bytes]:
    """Make ``LARGE_BYTES`` that do not repeat, in blocks of 1 MiB, by their seed."""
    block = bytearray(hashlib.shake_256(seed).digest(_BLOCK_BYTES))
    for number in range(LARGE_BYTES // _BLOCK_BYTES):
        block[:8] = number.to_bytes(8, "big")
        yield bytes(block)


def large_digest(seed: bytes) -> str:
    """Return the SHA-256 of what ``large_blocks`` makes, hexadecimal."""
    digest = hashlib.sha256()
    for block in large_blocks(seed):
        digest.update(block)
    return digest.hexdigest()


_BLOCK_BYTES: Final = 1 << 20
_CLEAN_BYTES: Final = 64 << 20
_EXECUTABLE_BYTES: Final = 300_000
