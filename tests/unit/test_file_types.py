"""FileTypes: which kinds and traits refuse an object, and which settings let them pass."""

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.bundled.file_types import FileTypes, FileTypesSettings
from sluicegate.filterapi import (
    Contents,
    Direction,
    FoundPart,
    ScanOutcome,
    ScanResult,
    Transfer,
    TransferOffer,
    Unpacked,
)
from sluicegate.testing import check_content_filter, inspect_object

CLEAN = ScanResult(ScanOutcome.CLEAN, "", "yara 1")


class Telling:
    """A content scanner that says what it was told to say."""

    name = "yara"

    def __init__(self, *parts: FoundPart, result: ScanResult = CLEAN) -> None:
        self.contents = Contents(result, parts)
        self.asked = 0

    async def version(self) -> str:
        return "yara 1"

    async def scan(self, transfer: Transfer) -> ScanResult:
        return (await self.examine(transfer)).result

    async def examine(self, transfer: Transfer) -> Contents:
        self.asked += 1
        return self.contents

    async def unpack(self, transfer: Transfer) -> Unpacked:
        raise AssertionError("nobody reads what is inside")


def part(kind: str, path: str = "", named: str = "", within: str = "", *traits: str) -> FoundPart:
    return FoundPart(path, kind, named, within, 10, 1, traits)


def judged(scanner: Telling, offer: TransferOffer | None = None, **settings: Any) -> str:
    """Return why an object is refused; empty if it is released."""
    chosen = FileTypesSettings(scanner="yara", **settings)
    options = {"offer": offer} if offer is not None else {}
    found = inspect_object(FileTypes(chosen), b"some", scanners={"yara": scanner}, **options)
    return found.reason if found.outcome == "refused" else ""


@pytest.mark.parametrize(
    ("parts", "settings", "reason"),
    [
        ([part("text")], {}, ""),
        ([part("pdf"), part("text", "stream 1", "", "pdf")], {}, ""),
        ([part("pe")], {}, "pe executable"),
        ([part("elf", "a.zip/tool", "", "zip"), part("zip")], {}, "elf executable (a.zip/tool)"),
        ([part("msi")], {}, "msi installer"),
        ([part("lnk")], {}, "lnk shortcut"),
        ([part("text", "", "powershell")], {}, "powershell script by its name"),
        ([part("text", "", "pe")], {}, "pe executable by its name"),
        ([part("pe")], {"deny": ["script"]}, ""),
        ([part("pe")], {"deny": ["pe"]}, "pe executable"),
        ([part("elf")], {"deny": ["pe"]}, ""),
        ([part("iso9660")], {"deny": ["disk-image"]}, "iso9660 disk-image"),
        # What installers hold are programs: who lets them pass lets them pass.
        ([part("pe", "f", "", "msi"), part("msi")], {"deny": ["executable"]}, ""),
        ([part("pe", "f", "", "zip"), part("zip")], {"deny": ["executable"]}, "pe executable (f)"),
        ([part("png")], {"allow": ["image"]}, ""),
        ([part("png")], {"allow": ["png"]}, ""),
        ([part("gif")], {"allow": ["png"]}, "gif image, which is not among those allowed"),
        ([part("unknown")], {"allow": ["image"]}, "unknown, which is not among those allowed"),
        (
            [part("gif", "a.gif", "", "zip"), part("zip")],
            {"allow": ["zip", "document"]},
            "gif image, which is not among those allowed (a.gif)",
        ),
        ([part("gif", "word/a.gif", "", "docx"), part("docx")], {"allow": ["document"]}, ""),
        (
            [part("png", "", "", "", "name-mismatch")],
            {},
            "png image, which its name says it is not",
        ),
        (
            [part("pdf", "", "", "", "type-mismatch")],
            {},
            "pdf document, which its MIME type says it is not",
        ),
        ([part("png", "", "", "", "name-differs")], {}, ""),
        (
            [part("png", "", "", "", "name-differs")],
            {"mismatch": "kind"},
            "png image, and its name says another kind",
        ),
        ([part("png", "", "", "", "name-mismatch")], {"mismatch": "release"}, ""),
        # Parts of documents and programs have names of their own kind.
        ([part("unknown", "x.png", "", "docx", "name-mismatch"), part("docx")], {}, ""),
        (
            [part("unknown", "x.png", "", "zip", "name-mismatch"), part("zip")],
            {},
            "unknown, which its name says it is not (x.png)",
        ),
        (
            [part("zip", "", "", "", "lure-name")],
            {},
            "zip archive whose name pretends another extension",
        ),
        ([part("zip", "", "", "", "lure-name")], {"lures": "release"}, ""),
        ([part("doc", "", "", "", "macros")], {}, "doc document with macros"),
        ([part("doc", "", "", "", "macros")], {"macros": "release"}, ""),
        (
            [part("docx", "", "", "", "remote-template")],
            {},
            "docx document with a template that is fetched from elsewhere",
        ),
        ([part("pdf", "", "", "", "pdf-script")], {}, "pdf document with JavaScript"),
        ([part("pdf", "", "", "", "pdf-script")], {"pdf_scripts": "release"}, ""),
        ([part("gif", "", "", "", "embedded-pe")], {}, "gif image with a Windows program in it"),
        ([part("gif", "", "", "", "appended-zip")], {}, "gif image that is a ZIP file, too"),
        ([part("gif", "", "", "", "appended-zip")], {"embedded": "release"}, ""),
        ([part("pe", "", "", "", "appended-zip")], {"deny": []}, ""),
    ],
)
def test_what_is_in_an_object_decides_so(
    parts: list[FoundPart], settings: dict[str, Any], reason: str
) -> None:
    assert judged(Telling(*parts), **settings) == reason


@pytest.mark.parametrize(
    ("outcome", "words", "setting"),
    [
        (ScanOutcome.ENCRYPTED, "encrypted: why", "encrypted"),
        (ScanOutcome.CORRUPT, "cannot be looked into: why", "corrupt"),
        (ScanOutcome.OVER_LIMIT, "over a limit: why", "over_limit"),
        (ScanOutcome.NOT_SCANNED, "not looked at: why", None),
        (ScanOutcome.FOUND, "malware: why", None),
    ],
)
def test_what_was_not_looked_at_to_its_end_is_refused_unless_an_operator_says_otherwise(
    outcome: ScanOutcome, words: str, setting: str | None
) -> None:
    scanner = Telling(part("zip"), result=ScanResult(outcome, "why"))
    assert judged(scanner) == words
    lax = {"encrypted": "release", "corrupt": "release", "over_limit": "release"}
    assert judged(scanner, **lax) == ("" if setting else words)


def test_what_was_seen_before_a_limit_counts_although_limits_may_be_passed() -> None:
    result = ScanResult(ScanOutcome.OVER_LIMIT, "entries_max")
    scanner = Telling(part("pe", "a.exe", "", "zip"), result=result)
    assert judged(scanner, over_limit="release") == "pe executable (a.exe)"


@pytest.mark.parametrize(
    ("name", "is_asked"),
    [("drivers/a.exe", False), ("drivers/../a.exe", True), ("other/a.exe", True)],
)
def test_exempted_names_are_not_looked_at(name: str, is_asked: bool) -> None:
    scanner = Telling(part("pe"))
    offer = TransferOffer(name, Direction.DOWNLOAD, "test")
    assert bool(judged(scanner, offer, exempt_names=["drivers/*"])) == is_asked
    assert (scanner.asked > 0) == is_asked


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", ""),
        ("html", ""),
        ("zip", "zip archive in ASCII mode: use binary mode (TYPE I)"),
        ("unknown", "unknown in ASCII mode: use binary mode (TYPE I)"),
    ],
)
def test_only_texts_pass_where_line_ends_are_converted(kind: str, reason: str) -> None:
    offer = TransferOffer("a", Direction.DOWNLOAD, "ftp", is_text=True)
    assert judged(Telling(part(kind)), offer) == reason


@pytest.mark.parametrize("setting", ["deny", "allow"])
def test_a_kind_that_does_not_exist_is_refused_when_the_files_are_read(setting: str) -> None:
    with pytest.raises(ValueError, match="a family of kinds; families: executable"):
        FileTypesSettings(scanner="yara", **{setting: ["exe"]})


def test_a_scanner_that_cannot_tell_what_is_in_objects_refuses() -> None:
    class Plain:
        name = "clamd"

        async def version(self) -> str:
            return ""

        async def scan(self, transfer: Transfer) -> ScanResult:
            return CLEAN

    chosen = FileTypesSettings(scanner="yara")
    found = inspect_object(FileTypes(chosen), b"some", scanners={"yara": Plain()})
    assert found.outcome == "refused"
    assert "cannot tell what is in an object" in str(found.error)


def test_a_verdict_rests_on_the_name_and_the_type_too() -> None:
    """L10."""
    scanner = Telling(part("text"))
    versions: set[str | None] = set()

    class Asking(FileTypes):
        async def inspect(self, transfer: Transfer) -> Any:
            versions.add(await self.verdict_version(transfer))
            return await super().inspect(transfer)

    for name, content_type in (("a", ""), ("b", ""), ("a", "text/plain"), ("a", "")):
        offer = TransferOffer(name, Direction.DOWNLOAD, "test", content_type=content_type)
        inspect_object(
            Asking(FileTypesSettings(scanner="yara")), b"x", offer=offer, scanners={"yara": scanner}
        )
    assert len(versions) == 3
    assert None not in versions


def test_it_keeps_the_promises_of_content_filters() -> None:
    def make() -> FileTypes:
        return FileTypes(FileTypesSettings(scanner="yara"))

    assert check_content_filter(make, scanners={"yara": Telling(part("text"))})
