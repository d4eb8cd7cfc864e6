r"""PDF files: what is packed inside, and whether something of it runs (ISO 32000).

``examination`` asks it. The invariant: names are compared as readers do (``#4A`` is ``J``), also in
object streams, and a stream that cannot be unpacked makes the file damaged, not harmless.

It reads no cross-reference table, since that is what is forged; every ``stream`` in the bytes is
looked at, reachable or not.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import Final

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocol_limits import PDF_STREAMS_MAX

__all__ = ["PdfStream", "pdf_streams", "pdf_traits"]


class PdfStream:
    """One stream: what stands in front of it, and its unpacked bytes."""

    __slots__ = ("content", "dictionary", "is_opaque")

    def __init__(self, dictionary: bytes, content: bytes, *, is_opaque: bool) -> None:
        self.dictionary = dictionary
        #: Names in it are plain.
        self.content = content
        self.is_opaque = is_opaque
        #: Whether a filter is left on it that only images have.


def pdf_traits(data: bytes) -> frozenset[str]:
    """Return what names in a file (or an object stream of one) give away.

    >>> sorted(pdf_traits(b"<</S/JavaScript /J#53 (app.alert)>>"))
    ['pdf-script']
    """
    plain = _plain_names(data)
    return frozenset(trait for trait, pattern in _TRAITS if pattern.search(plain))


def pdf_streams(data: bytes, *, bytes_max: int) -> Iterator[PdfStream]:
    """Give every stream of a file, unpacked.

    Args:
        data: The file.
        bytes_max: Of all streams together.

    Raises:
        ProtocolError: One is damaged.
        LimitExceeded: There are too many, or too much comes out.
    """
    given = 0
    for count, match in enumerate(_STREAM.finditer(data)):
        if count >= PDF_STREAMS_MAX:
            raise LimitExceeded("PDF_STREAMS_MAX", PDF_STREAMS_MAX)
        dictionary = _plain_names(_dictionary_before(data, match.start()))
        end = data.find(b"endstream", match.end())
        packed = data[match.end() : end if end >= 0 else len(data)]
        content, is_opaque = _unpack(packed, dictionary, bytes_max - given)
        given += len(content)
        yield PdfStream(dictionary, content, is_opaque=is_opaque)


def _dictionary_before(data: bytes, at: int) -> bytes:
    start = data.rfind(b"obj", max(0, at - _DICTIONARY_BYTES_MAX), at)
    return data[start if start >= 0 else max(0, at - _DICTIONARY_BYTES_MAX) : at]


def _plain_names(data: bytes) -> bytes:
    """Replace the escapes that names may be written with (7.3.5)."""
    if b"#" not in data:
        return data
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), data)


def _unpack(packed: bytes, dictionary: bytes, bytes_max: int) -> tuple[bytes, bool]:
    """Undo the filters that stand in front of a stream, outermost first."""
    if bytes_max < len(packed):
        raise LimitExceeded("bytes_max", bytes_max)
    named = _FILTER.search(dictionary)
    if named is None:
        return packed, False
    content = packed
    for name in _NAME.findall(named[1]):
        if name in _INFLATED:
            content = _inflate(content, bytes_max)
        elif name in _HEX:
            content = _from_hex(content)
        elif name in _ASCII85:
            content = _from_ascii85(content)
        else:
            return content, True
    return content, False


def _inflate(packed: bytes, bytes_max: int) -> bytes:
    """Unpack a deflate stream; what follows its end is padding, which writers differ in."""
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(packed.lstrip(b"\r\n"), max(1, bytes_max))
    except zlib.error as error:
        raise ProtocolError("a stream of a PDF file is damaged") from error
    if decoder.unconsumed_tail:
        raise LimitExceeded("bytes_max", bytes_max)
    return content


def _from_hex(text: bytes) -> bytes:
    digits = b"".join(text.partition(b">")[0].split())
    try:
        return binascii.unhexlify(digits + b"0" * (len(digits) % 2))
    except binascii.Error as error:
        raise ProtocolError("a stream of a PDF file is no hexadecimal text") from error


def _from_ascii85(text: bytes) -> bytes:
    body = text.strip().removeprefix(b"<~").partition(b"~>")[0]
    try:
        return base64.a85decode(body)
    except ValueError as error:
        raise ProtocolError("a stream of a PDF file is no text of base 85") from error


_DICTIONARY_BYTES_MAX: Final = 4096
_STREAM: Final = re.compile(rb">>\s{0,9}stream\r?\n")
_ESCAPE: Final = re.compile(rb"#([0-9a-fA-F]{2})")
_FILTER: Final = re.compile(rb"/Filter\s{0,99}(\[[^\]]{0,400}\]|/[A-Za-z0-9]{1,40})")
_NAME: Final = re.compile(rb"/([A-Za-z0-9]{1,40})")
_INFLATED: Final = (b"FlateDecode", b"Fl")
_HEX: Final = (b"ASCIIHexDecode", b"AHx")
_ASCII85: Final = (b"ASCII85Decode", b"A85")

_END: Final = rb"(?![A-Za-z0-9_.-])"
_TRAITS: Final = (
    ("pdf-script", re.compile(rb"/(?:JavaScript|JS)" + _END)),
    ("pdf-launch", re.compile(rb"/(?:Launch|ImportData|SubmitForm)" + _END)),
    ("pdf-embedded-file", re.compile(rb"/EmbeddedFiles?" + _END)),
    ("pdf-rich-media", re.compile(rb"/(?:RichMedia|3D)" + _END)),
    ("encrypted", re.compile(rb"/Encrypt" + _END)),
)
