"""Walk: one object, looked at down to the last member of its archives.

``server`` makes one per object. Everything that has bytes (the object, members, streams of
documents) goes the same way: rules, kind, claims, traits, and in again if it is a container. The
invariant: ``CLEAN`` means that every byte that could be unpacked was shown to the rules, and that
nothing was left closed.

A fault (encrypted, damaged) ends its container and not the walk: what stands beside it is looked
at all the same, because an operator may let the one pass and not the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

import yara_x

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocols.compound_file import CompoundFile
from sluicegate.protocols.data_urls import data_urls
from sluicegate.protocols.file_kinds import (
    CLOSED_KINDS,
    KIND_HEAD_BYTES,
    KIND_TAIL_BYTES,
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
from sluicegate.protocols.office_macros import (
    compound_traits,
    package_traits,
    part_traits,
    workbook_has_macro_sheet,
)
from sluicegate.protocols.pdf_scripts import pdf_traits
from sluicegate.protocols.pdf_text import pdf_texts
from sluicegate.scan.messages import ArchiveBounds, PartFacts
from sluicegate.scan_limits import SCAN_PARTS_MAX
from sluicegate.scan_outcome import ScanOutcome

from .budget import Budget
from .faults import Encrypted, Found, Unopenable
from .openers import OPENERS, Members, open_appended, zip_names
from .yara_rules import YaraRules

__all__ = ["Report", "Walk"]

Forward = Callable[[str, bytes], None]


@dataclass(slots=True)
class Report:
    """What came of an object."""

    outcome: ScanOutcome = ScanOutcome.CLEAN
    reason: str = ""
    parts: list[PartFacts] = field(default_factory=list[PartFacts])


@dataclass(slots=True)
class _Item:
    """Bytes that are being looked at."""

    data: bytes
    path: tuple[str, ...]
    name: str
    depth: int
    within: str = ""
    kind: str = ""
    traits: set[str] = field(default_factory=set[str])
    is_opened: bool = False

    @property
    def where(self) -> str:
        return "/".join(self.path)[-_WHERE_CHARACTERS_MAX:]


class Walk:
    """One object; ``examine`` once."""

    def __init__(
        self,
        bounds: ArchiveBounds,
        rules: YaraRules,
        *,
        passes_closed: Collection[str] = (),
        forward: Forward | None = None,
        has_texts: bool = False,
    ) -> None:
        """Make one.

        Args:
            bounds: How much is unpacked.
            rules: What is looked for.
            passes_closed: Kinds of containers that may stay closed.
            forward: Told of each member that is no container itself.
            has_texts: Whether it is also told of documents inside, and of what they show.
        """
        self._budget = Budget(bounds)
        self._rules = rules
        self._passes_closed = passes_closed
        self._forward = forward
        self._has_texts = has_texts
        self._forwarded = 0
        self._faults: dict[ScanOutcome, str] = {}
        self._parts: dict[tuple[str, str, str, tuple[str, ...]], PartFacts] = {}
        self._where = ""

    def examine(
        self, data: bytes, name: str, content_type: str, *, is_text: bool = False
    ) -> Report:
        """Look at an object.

        Args:
            data: All of it.
            name: As its protocol calls it.
            content_type: As its protocol said; empty if unknown.
            is_text: Whether its receiver converts line ends: then it is also looked at as that may
                come out.
        """
        report = Report()
        try:
            for received in _as_received(data) if is_text else (data,):
                self._look(_Item(received, (), name, 0), content_type)
        except Found as found:
            report.outcome, report.reason = ScanOutcome.FOUND, self._placed(str(found))
        except LimitExceeded as error:
            self._note(ScanOutcome.OVER_LIMIT, str(error))
        except MemoryError:
            self._note(ScanOutcome.OVER_LIMIT, "memory_bytes_max reached")
        except (yara_x.ScanError, yara_x.TimeoutError) as error:
            self._note(ScanOutcome.NOT_SCANNED, f"rules: {error}")
        if report.outcome is ScanOutcome.CLEAN:
            for outcome in _WORST_FIRST:
                if outcome in self._faults:
                    report.outcome, report.reason = outcome, self._faults[outcome]
                    break
        report.parts = list(self._parts.values())
        return report

    # -- one item ------------------------------------------------------------------------------

    def _look(self, item: _Item, content_type: str = "") -> None:
        self._where = item.where
        rule = self._rules.find(item.data)
        if rule:
            raise Found(rule)
        item.kind = file_kind(item.data[:KIND_HEAD_BYTES], item.data[-KIND_TAIL_BYTES:])
        is_zip = item.kind == "zip"
        names: list[str] = []
        for members in (self._inside(item), self._appended(item), self._in_urls(item)):
            self._look_into(item, members, names)
        if is_zip:
            item.traits |= package_traits(names)
            item.kind = zip_kind(names)
        self._note_claims(item, content_type)
        self._finish(item)

    def _look_into(self, item: _Item, members: Members, names: list[str]) -> None:
        """Look at each member; what is wrong with one way in does not close the others."""
        kind = item.kind
        try:
            for name, content in members:
                names.append(name)
                if kind == "zip":
                    item.traits |= part_traits(name, content)
                self._look(_child(item, name or _unpacked_name(item.name), content))
                self._where = item.where
        except Encrypted as error:
            item.traits.add("encrypted")
            self._note(ScanOutcome.ENCRYPTED, str(error))
        except Unopenable as error:
            self._note(ScanOutcome.CORRUPT, f"{kind}: {error}")
        except ProtocolError as error:
            self._note(ScanOutcome.CORRUPT, f"{kind}: {error.hint}")

    def _inside(self, item: _Item) -> Members:
        """Give what is inside an item."""
        kind = item.kind
        opener = OPENERS.get(kind)
        if opener is None:
            if kind in CLOSED_KINDS and kind not in self._passes_closed:
                raise Unopenable("into which nobody can look")
            return
        self._budget.check_depth(item.depth + 1)
        item.is_opened = True
        self._note_document(item)
        if kind == "zip":
            # Before its members are looked at, which are told with what they stand in.
            item.kind = zip_kind(zip_names(item.data))
        if kind != "pdf" or "encrypted" not in item.traits:
            yield from opener(item.data, self._budget)
            if kind == "pdf" and self._has_texts:
                for text in pdf_texts(item.data, bytes_max=self._budget.room):
                    self._show(f"{item.where}/text".lstrip("/"), text)

    def _in_urls(self, item: _Item) -> Members:
        """Give the files that a text has in URLs."""
        if family_of(item.kind) not in _TEXTUAL:
            return
        for number, content in enumerate(data_urls(item.data)):
            self._budget.check_depth(item.depth + 1)
            self._budget.take_entry()
            yield f"data URL {number}", self._budget.collect((content,))

    def _appended(self, item: _Item) -> Members:
        """Give what a second reader finds in the same bytes: a polyglot, a self-extractor."""
        if item.kind in _WHOLE or item.kind in ZIP_KINDS:
            return
        appended = open_appended(item.data, self._budget, is_container=item.is_opened)
        if appended is None:
            return
        kind, members = appended
        self._budget.check_depth(item.depth + 1)
        is_program = family_of(item.kind) in _PROGRAMS
        try:
            for name, content in members:
                item.traits.add(f"appended-{kind}")
                yield name, content
        except Unopenable:
            # Programs that unpack archives carry their marks; the program itself was looked at.
            if not is_program:
                raise

    def _note_document(self, item: _Item) -> None:
        """Look for what runs in a document, where its own structure tells."""
        if item.kind == "ole":
            compound = CompoundFile(item.data)
            paths = [one.path for one in compound.streams]
            item.traits |= compound_traits(paths)
            item.kind = compound_kind(paths, compound.class_id)
            for stream in compound.streams:
                if stream.path.lower() in _WORKBOOKS and workbook_has_macro_sheet(
                    compound.read(stream)
                ):
                    item.traits.add("macros")
            if "encrypted" in item.traits:
                self._note(ScanOutcome.ENCRYPTED, "an encrypted document")
        elif item.kind == "pdf":
            item.traits |= pdf_traits(item.data)
            if "encrypted" in item.traits:
                self._note(ScanOutcome.ENCRYPTED, "an encrypted PDF file")

    def _note_claims(self, item: _Item, content_type: str) -> None:
        """Hold what an item is against what it is said to be."""
        by_name = contradiction(item.kind, claimed_by_name(item.name))
        if by_name:
            item.traits.add(f"name-{by_name}")
        by_type = contradiction(item.kind, claimed_by_type(content_type))
        if by_type:
            item.traits.add(f"type-{by_type}")
        if has_lure(item.name):
            item.traits.add("lure-name")

    def _finish(self, item: _Item) -> None:
        """Note what an item is; everything inside it was looked at."""
        self._where = item.where
        if family_of(item.kind) not in _MAY_EMBED and item.kind not in OPENERS:
            embedded = embedded_kind(item.data)
            if embedded:
                item.traits.add(f"embedded-{embedded}")
        self._add_part(item)
        is_shown = not item.is_opened or (self._has_texts and item.kind in _DOCUMENTS)
        if item.depth and is_shown:
            self._show(item.where, item.data)

    def _show(self, where: str, data: bytes) -> None:
        """Have others look at something, too."""
        if self._forward is None:
            return
        self._forwarded += len(data)
        bound = self._budget.bounds.forwarded_bytes_max
        if self._forwarded > bound:
            raise LimitExceeded("forwarded_bytes_max", bound)
        self._forward(where, data)

    def _add_part(self, item: _Item) -> None:
        named = named_kind(item.name)
        key = (item.kind, named, item.within, tuple(sorted(item.traits)))
        known = self._parts.get(key)
        if known is not None:
            known.count += 1
            return
        if len(self._parts) >= SCAN_PARTS_MAX:
            raise LimitExceeded("SCAN_PARTS_MAX", SCAN_PARTS_MAX)
        size = len(item.data)
        self._parts[key] = PartFacts(
            item.where, item.kind, named, item.within, size, 1, list(key[3])
        )

    def _note(self, outcome: ScanOutcome, cause: str) -> None:
        self._faults.setdefault(outcome, self._placed(cause))

    def _placed(self, text: str) -> str:
        text = text[:_WHERE_CHARACTERS_MAX]
        return f"{text} in {self._where}" if self._where else text


def _as_received(data: bytes) -> Iterator[bytes]:
    """Give what a text may become: servers and clients differ in which CR they drop."""
    yield data
    if b"\r" in data:
        yield data.replace(b"\r\n", b"\n")
        yield data.replace(b"\r", b"")


def _child(item: _Item, name: str, content: bytes) -> _Item:
    return _Item(content, (*item.path, name), name, item.depth + 1, item.kind)


def _unpacked_name(name: str) -> str:
    """Return what is left of a name when the coding is undone.

    >>> _unpacked_name("a.tar.gz"), _unpacked_name("a.tgz"), _unpacked_name("a")
    ('a.tar', 'a.tar', 'a')
    """
    stem, dot, extension = name.rpartition(".")
    if not dot:
        return name
    return stem + ".tar" if extension.lower() in _TAR_SHORT else stem


_TAR_SHORT: Final = frozenset({"tgz", "tbz", "tbz2", "txz", "tzst", "taz"})
_WORKBOOKS: Final = frozenset({"workbook", "book"})
_WHOLE: Final = frozenset({"zip", "tar", "gzip", "bzip2", "xz"})
"""Containers whose readers are our own, and refuse what stands around them."""
_TEXTUAL: Final = frozenset({"web", "text", "script", "mail", "data"})
_DOCUMENTS: Final = frozenset({"pdf", "mail", "rtf", "onenote"})
"""Containers with a text of their own beside what is in them."""
_PROGRAMS: Final = frozenset({"executable", "script"})
_MAY_EMBED: Final = frozenset({"executable", "archive", "disk-image", "installer", "empty", "mail"})
_WORST_FIRST: Final = (
    ScanOutcome.NOT_SCANNED,
    ScanOutcome.OVER_LIMIT,
    ScanOutcome.CORRUPT,
    ScanOutcome.ENCRYPTED,
)
_WHERE_CHARACTERS_MAX: Final = 300
