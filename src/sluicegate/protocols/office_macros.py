r"""Whether an Office document carries code that runs: VBA, Excel 4 macros, remote templates.

``examination`` asks it about the parts of OLE and OOXML documents. The invariant: it looks for the
places where code must stand to be run, not for what the code says, so no obfuscation hides it.

OLE documents keep VBA in a storage with the streams ``dir`` and ``_VBA_PROJECT`` (MS-OVBA 2.2);
OOXML documents in a part that is such a file; Excel 4 macros are sheets of their own type (MS-XLS
2.4.28, ``BoundSheet8``), in OOXML parts below ``xl/macrosheets``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from typing import Final

__all__ = ["compound_traits", "package_traits", "part_traits", "workbook_has_macro_sheet"]


def compound_traits(streams: Collection[str]) -> frozenset[str]:
    """Return what the streams of an OLE document give away.

    >>> sorted(compound_traits(["WordDocument", "Macros/VBA/dir", "Macros/VBA/_VBA_PROJECT"]))
    ['macros']
    """
    lowered = {one.lower() for one in streams}
    traits: set[str] = set()
    last = {one.rpartition("/")[2] for one in lowered}
    if "_vba_project" in last or any(one.endswith("vba/dir") for one in lowered):
        traits.add("macros")
    if last & {"encryptedpackage", "encryptioninfo", "encryptedsummary"}:
        traits.add("encrypted")
    if last & {"\\x01ole10native", "package"}:
        traits.add("embedded-object")
    return frozenset(traits)


def workbook_has_macro_sheet(stream: bytes) -> bool:
    """Tell whether the ``Workbook`` stream of an Excel document has a sheet of Excel 4 macros.

    Sheets are announced by ``BoundSheet8`` records in front of the first sheet's own records.
    """
    at = 0
    while at + _RECORD.size <= len(stream):
        kind, size = _RECORD.unpack_from(stream, at)
        if kind == _BOUND_SHEET and stream[at + _RECORD.size + _SHEET_KIND_AT :][:1] == b"\x01":
            return True
        at += _RECORD.size + size
    return False


def package_traits(names: Collection[str]) -> frozenset[str]:
    """Return what the names of the parts of an OOXML or OpenDocument file give away.

    >>> sorted(package_traits(["word/document.xml", "word/vbaProject.bin"]))
    ['macros']
    """
    lowered = {one.lower() for one in names}
    traits: set[str] = set()
    if any(_MACRO_PART.search(one) for one in lowered):
        traits.add("macros")
    if any("/embeddings/oleobject" in one for one in lowered):
        traits.add("embedded-object")
    if any("/activex/" in one for one in lowered):
        traits.add("activex")
    return frozenset(traits)


def part_traits(name: str, content: bytes) -> frozenset[str]:
    """Return what one part of an OOXML file gives away: code under another name, remote parts.

    Args:
        name: Of the part.
        content: All of it.
    """
    lowered = name.lower()
    traits: set[str] = set()
    if lowered == "[content_types].xml" and _MACRO_TYPE.search(content):
        traits.add("macros")
    if lowered.endswith(".rels") and _REMOTE_RUN.search(content):
        traits.add("remote-template")
    if lowered.endswith((".xml", ".bin")) and _DDE.search(content):
        traits.add("dde")
    return frozenset(traits)


_RECORD: Final = struct.Struct("<HH")
_BOUND_SHEET: Final = 0x0085
#: After four bytes of place and one of visibility.
_SHEET_KIND_AT: Final = 5

_MACRO_PART: Final = re.compile(
    r"vbaproject\.bin$|vbadata\.xml$|/macrosheets/|/dialogsheets/"
    # OpenDocument: Basic libraries and scripts
    r"|^basic/.+/(?!script-l[bc]\.xml$).+\.xml$|^scripts/"
)
_MACRO_TYPE: Final = re.compile(
    rb"application/vnd\.ms-office\.vbaProject|application/vnd\.ms-excel\.(?:intl)?macrosheet",
    re.IGNORECASE,
)
_REMOTE_RUN: Final = re.compile(
    rb"<Relationship\b(?=[^>]{0,4096}\bTargetMode\s{0,9}=\s{0,9}[\"']External)"
    rb"(?=[^>]{0,4096}/relationships/(?:attachedTemplate|oleObject|frame|subDocument|externalLinkPath\b))",
    re.IGNORECASE,
)
_DDE: Final = re.compile(
    rb"<w:instrText[^>]{0,200}>\s{0,99}DDE(?:AUTO)?\s|<ddeLink\s", re.IGNORECASE
)
