"""FileTypes: refuses objects for what they are, whatever they are called.

A content filter: the gate holds each object, and this asks a scanner of kind ``yara`` what it and
everything inside it is, by content. The invariant: an object is released only if the scanner looked
at all of it, and nothing in it is of a kind, or has a trait, that the settings refuse.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field
from typing_extensions import override

from sluicegate.filterapi import (
    ContentFilter,
    Contents,
    ContentScanner,
    ContentVerdict,
    FoundPart,
    Refuse,
    Release,
    ScanOutcome,
    Transfer,
)
from sluicegate.protocols.file_kinds import FAMILIES, family_of

from .exempting import ExemptingSettings

__all__ = ["FileTypes", "FileTypesSettings"]

Choice = Literal["refuse", "release"]


def _check_kind(kind: str) -> str:
    if kind in FAMILIES or family_of(kind) != "unknown":
        return kind
    raise ValueError(f"a kind of file or a family of kinds; families: {', '.join(FAMILIES)}")


Kind = Annotated[str, AfterValidator(_check_kind)]
"""A kind of ``protocols.file_kinds``, or a family of kinds."""


class FileTypesSettings(ExemptingSettings):
    """``[filter.settings]`` of ``file_types``."""

    scanner: str = Field(examples=["yara"])
    """Name of a ``[[scanner]]`` of kind ``yara``."""
    deny: tuple[Kind, ...] = Field(
        default=("executable", "script", "installer", "shortcut"),
        examples=[["executable", "iso9660"]],
    )
    """Kinds and families that are refused, also inside archives and documents, by their content or
    by a name for which systems would start them."""
    allow: tuple[Kind, ...] = Field(default=(), examples=[["document", "image", "zip"]])
    """Kinds and families that pass; everything else is refused, also inside archives. Empty: what
    is not denied passes."""
    mismatch: Literal["family", "kind", "release"] = "family"
    """When a content is refused that is not what its name or MIME type says: for another family
    (a program called a picture), also for another kind (PNG called JPEG), or never."""
    lures: Choice = "refuse"
    """What becomes of names that pretend another extension: ``invoice.pdf.exe``."""
    macros: Choice = "refuse"
    """What becomes of Office documents with macros (VBA, Excel 4), ActiveX, DDE, or a template that
    is fetched from elsewhere."""
    pdf_scripts: Choice = "refuse"
    """What becomes of PDF files with JavaScript, or actions that start or send something."""
    embedded: Choice = "refuse"
    """What becomes of pictures, documents and texts with a program or an archive in or behind their
    own bytes."""
    encrypted: Choice = "refuse"
    """What becomes of an object of which a part is encrypted."""
    corrupt: Choice = "refuse"
    """What becomes of an object of which a part is damaged, or is a container that cannot be
    opened."""
    over_limit: Choice = "refuse"
    """What becomes of an object that is larger or deeper than the scanner is to look, or holds
    more."""


class FileTypes(ContentFilter):
    """Refuses kinds of files."""

    name = "file_types"
    runs_beside = True
    Settings = FileTypesSettings

    def __init__(self, settings: FileTypesSettings) -> None:
        self._settings = settings
        self._traits = _refused_traits(settings)
        choices = {
            ScanOutcome.ENCRYPTED: settings.encrypted,
            ScanOutcome.CORRUPT: settings.corrupt,
            ScanOutcome.OVER_LIMIT: settings.over_limit,
        }
        self._let = {outcome for outcome, choice in choices.items() if choice == "release"}

    @property
    @override
    def scanners(self) -> tuple[str, ...]:
        return (self._settings.scanner,)

    @property
    @override
    def content_scanners(self) -> tuple[str, ...]:
        return (self._settings.scanner,)

    @override
    async def verdict_version(self, transfer: Transfer) -> str | None:
        if self._settings.exempts(transfer):
            return None
        version = await transfer.connection.firewall.scanner(self._settings.scanner).version()
        offer = transfer.offer
        # What a name and a type claim is part of the verdict.
        claims = f"{offer.content_type}\n{offer.name}"
        return f"{version}\n{claims}" if version else None

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        if self._settings.exempts(transfer):
            return Release()
        scanner = transfer.connection.firewall.scanner(self._settings.scanner)
        if not isinstance(scanner, ContentScanner):
            raise TypeError(f"the scanner {scanner.name!r} cannot tell what is in an object")
        contents = await scanner.examine(transfer)
        reason = self._objection(contents)
        if not reason and transfer.offer.is_text:
            reason = _objection_to_text(contents)
        return Refuse(reason) if reason else Release()

    def _objection(self, contents: Contents) -> str:
        result = contents.result
        # What is in it says more than that it was not looked at to its end.
        for part in contents.parts:
            objection = self._objection_to(part)
            if objection:
                return f"{objection} ({part.path})" if part.path else objection
        if result.outcome is ScanOutcome.CLEAN or result.outcome in self._let:
            return ""
        return f"{_WORDS[result.outcome]}: {result.reason}"

    def _objection_to(self, part: FoundPart) -> str:
        settings = self._settings
        kinds = [part.kind, *([part.named] if part.named else ())]
        if family_of(part.within) != "installer":
            for kind in kinds:
                if kind in settings.deny or family_of(kind) in settings.deny:
                    by_name = " by its name" if kind != part.kind else ""
                    return f"{_described(kind)}{by_name}"
        is_of_itself = family_of(part.within) in _TRANSPARENT
        if settings.allow and is_of_itself:
            for kind in kinds:
                if kind not in settings.allow and family_of(kind) not in settings.allow:
                    return f"{_described(kind)}, which is not among those allowed"
        for trait in part.traits:
            words = self._traits.get(trait)
            if words and (is_of_itself or trait not in _CLAIMS) and not _is_usual(part, trait):
                return words.format(_described(part.kind))
        return ""


def _objection_to_text(contents: Contents) -> str:
    """Refuse what a conversion of line ends makes something else of."""
    for part in contents.parts:
        if not part.path and family_of(part.kind) not in _TEXTS and part.kind not in _TEXT_KINDS:
            return f"{_described(part.kind)} in ASCII mode: use binary mode (TYPE I)"
    return ""


_TEXTS: Final = frozenset({"text", "web", "mail", "script", "shortcut", "empty"})
_TEXT_KINDS: Final = frozenset({"json", "rtf", "postscript", "pdf"})


def _refused_traits(settings: FileTypesSettings) -> dict[str, str]:
    """Return the traits that refuse an object, with the words for it; the kind comes in."""
    refused: dict[str, str] = {}
    for is_refused, traits in (
        (settings.macros == "refuse", _MACROS),
        (settings.pdf_scripts == "refuse", _PDF_SCRIPTS),
        (settings.embedded == "refuse", _EMBEDDED),
        (settings.lures == "refuse", _LURES),
        (settings.mismatch != "release", _MISMATCHES),
        (settings.mismatch == "kind", _DIFFERENCES),
    ):
        if is_refused:
            refused |= traits
    return refused


def _is_usual(part: FoundPart, trait: str) -> bool:
    """Tell whether programs and installers have it: archives behind them, programs inside."""
    return trait in _EMBEDDED and family_of(part.kind) in {"executable", "installer"}


def _described(kind: str) -> str:
    family = family_of(kind)
    return kind if family == kind else f"{kind} {family}"


_MACROS: Final = {
    "macros": "{} with macros",
    "activex": "{} with ActiveX controls",
    "dde": "{} that starts programs by DDE",
    "remote-template": "{} with a template that is fetched from elsewhere",
}
_PDF_SCRIPTS: Final = {
    "pdf-script": "{} with JavaScript",
    "pdf-launch": "{} with an action that starts, sends or imports something",
    "pdf-rich-media": "{} with rich media",
}
_EMBEDDED: Final = {
    "embedded-pe": "{} with a Windows program in it",
    "embedded-elf": "{} with a Linux program in it",
    "appended-zip": "{} that is a ZIP file, too",
    "appended-7z": "{} with a 7z archive behind it",
    "appended-rar": "{} with a rar archive behind it",
    "appended-cab": "{} with a cabinet behind it",
}
_LURES: Final = {"lure-name": "{} whose name pretends another extension"}
_MISMATCHES: Final = {
    "name-mismatch": "{}, which its name says it is not",
    "type-mismatch": "{}, which its MIME type says it is not",
}
_DIFFERENCES: Final = {
    "name-differs": "{}, and its name says another kind",
    "type-differs": "{}, and its MIME type says another kind",
}
_CLAIMS: Final = frozenset({*_MISMATCHES, *_DIFFERENCES})
_TRANSPARENT: Final = frozenset({"unknown", "archive", "disk-image", "mail"})
"""Families of containers whose members count as files of their own; nothing is unknown, too."""
_WORDS: Final = {
    ScanOutcome.FOUND: "malware",
    ScanOutcome.ENCRYPTED: "encrypted",
    ScanOutcome.CORRUPT: "cannot be looked into",
    ScanOutcome.OVER_LIMIT: "over a limit",
    ScanOutcome.NOT_SCANNED: "not looked at",
}
