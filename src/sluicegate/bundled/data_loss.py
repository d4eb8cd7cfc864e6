"""Data loss: refuses what carries secrets out, or delivers it with the secrets masked.

A content filter: the gate holds each object, and this looks through all of it, also through what
encodes it. What a secret looks like is known to ``protocols.secrets``. The invariant: what could
not be looked through to its end (too deep, too costly, too large to be masked) is refused unless an
operator wrote otherwise; and no record and no answer has any part of a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, BinaryIO, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import override

from sluicegate.errors import LimitExceeded
from sluicegate.filterapi import (
    ContentFilter,
    ContentScanner,
    ContentVerdict,
    Direction,
    Refuse,
    Release,
    Replace,
    ScanOutcome,
    Transfer,
    TransferOffer,
    Unpacked,
)
from sluicegate.protocol_limits import SECRET_VALUES_MAX
from sluicegate.protocols.archives import ArchiveOutcome, look_inside
from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, archive_kind
from sluicegate.protocols.secrets import (
    KINDS,
    Kind,
    Search,
    SecretPatterns,
    Sighting,
    mask,
    own_kind,
)

from .settings import FilterSettings, Network, is_among

__all__ = ["DataLoss", "DataLossSettings", "OwnPattern"]


def _check_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"one of: {', '.join(KINDS)}")
    return name


ArchiveKind = Literal["zip", "tar", "gzip", "bzip2", "xz"]
KindName = Annotated[str, AfterValidator(_check_kind)]
_Count = Annotated[int, Field(ge=1, le=SECRET_VALUES_MAX)]

DEFAULT_KINDS: Final = tuple(name for name, one in KINDS.items() if one.is_default)


class OwnPattern(FilterSettings):
    """``[[filter.settings.patterns]]`` of ``data_loss``: something of your own to look for."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9 -]{0,39}$", examples=["project code"])
    """What records call it."""
    pattern: str = Field(min_length=1, max_length=1000, examples=["PRJ-[A-Z]{2,4}-[0-9]{6}"])
    """A regular expression of literals, classes, groups, alternatives and bounded repetition; it
    matches whole words."""
    ignore_case: bool = False
    """Whether ``A`` in the pattern matches ``a``, too."""
    count_min: _Count = 1
    """How many different ones an object may not have."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.kind()
        return self

    def kind(self) -> Kind:
        """Return it as a kind."""
        return own_kind(
            self.name, self.pattern, ignores_case=self.ignore_case, count_min=self.count_min
        )


class DataLossSettings(FilterSettings):
    """``[filter.settings]`` of ``data_loss``."""

    kinds: tuple[KindName, ...] = Field(
        default=DEFAULT_KINDS, examples=[["payment-card", "private-key"]]
    )
    """What is looked for; all kinds are in the how-to."""
    patterns: tuple[OwnPattern, ...] = ()
    """What of your own is looked for, too."""
    counts_min: Mapping[KindName, _Count] = Field(
        default_factory=dict[str, int], examples=[{"payment-card": 5}]
    )
    """How many different ones of a kind an object may not have; 1 where nothing is said, and 50 for
    ``email-list``."""
    directions: tuple[Direction, ...] = Field(default=(Direction.UPLOAD,), min_length=1)
    """Which way objects move that are looked at."""
    action: Literal["refuse", "redact"] = "refuse"
    """What becomes of an object with secrets: nobody gets it, or its receiver gets it with each of
    them masked (``9`` for digits, ``X`` and ``x`` for letters), in the same length."""
    redact_bytes_max: int = Field(default=4 << 20, ge=1, le=64 << 20)
    """Larger objects with secrets are refused where they should be masked: it is done in memory,
    about twenty times the object."""
    unread: Literal["refuse", "release"] = "refuse"
    """What becomes of an object that could not be looked through to its end."""
    archives: tuple[ArchiveKind, ...] = Field(
        default=("zip", "tar", "gzip", "bzip2", "xz"), examples=[["zip", "gzip"]]
    )
    """The kinds of archives to look into; documents of Office are ZIP files. Empty looks into
    none."""
    other_archives: Literal["pass", "refuse"] = "refuse"
    """What becomes of archives into which is not looked, also inside others: those left out above,
    and the kinds that ``exe_block`` names."""
    scanner: str = Field(default="", max_length=100, examples=["yara"])
    """A scanner of kind ``yara`` that opens objects in its processes: everything that it knows to
    open, and the texts of PDF files. Without one, the archives above are opened by the filter."""
    exempt_clients: tuple[Network, ...] = Field(default=(), examples=[["10.1.2.0/24"]])
    """Clients whose objects are not looked at."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [*self.kinds, *(one.name for one in self.patterns)]
        twice = {one for one in names if names.count(one) > 1}
        if twice:
            raise ValueError(f"is named twice: {', '.join(sorted(twice))}")
        if not names:
            raise ValueError("it looks for nothing: name kinds or patterns")
        if self.scanner and self.model_fields_set & {"archives", "other_archives"}:
            raise ValueError("archives are opened by the scanner: its own table says which")
        if idle := set(self.counts_min) - set(self.kinds):
            raise ValueError(f"counts_min is about kinds that are not looked for: {sorted(idle)}")
        return self


class _MemberLook:
    """Looks through one member of an archive (``archives.MemberLook``)."""

    def __init__(
        self, search: Search, members: Search, is_refused: Callable[[Search], bool]
    ) -> None:
        self._search = search
        self._members = members
        #: Counts what all members have.
        self._is_refused = is_refused

    def begin(self, head: bytes) -> str | None:
        del head
        return None

    def feed(self, chunk: bytes) -> str | None:
        self._search.feed(chunk)
        return self._found()

    def finish(self) -> str | None:
        self._search.finish()
        return self._found()

    def _found(self) -> str | None:
        self._members.absorb(self._search)
        return "enough" if self._is_refused(self._members) else None


class DataLoss(ContentFilter):
    """Looks for secrets."""

    name = "data_loss"
    Settings = DataLossSettings

    def __init__(self, settings: DataLossSettings | None = None) -> None:
        self._settings = settings or DataLossSettings()
        kinds = [KINDS[name] for name in self._settings.kinds]
        kinds += [one.kind() for one in self._settings.patterns]
        self._patterns = SecretPatterns(kinds, self._settings.counts_min)

    @property
    @override
    def scanners(self) -> tuple[str, ...]:
        return (self._settings.scanner,) if self._settings.scanner else ()

    @property
    @override
    def content_scanners(self) -> tuple[str, ...]:
        return self.scanners

    @override
    async def verdict_version(self, transfer: Transfer) -> str | None:
        # Who is exempt is so by address, not by what the bytes are; and what is harmless alone may
        # be the rest of a secret.
        if self._is_passed(transfer) or transfer.offer.preceding:
            return None
        if not self._settings.scanner:
            return ""
        return await self._scanner(transfer).version() or None

    def _scanner(self, transfer: Transfer) -> ContentScanner:
        scanner = transfer.connection.firewall.scanner(self._settings.scanner)
        if not isinstance(scanner, ContentScanner):
            raise TypeError(f"the scanner {scanner.name!r} cannot tell what is in an object")
        return scanner

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        if self._is_passed(transfer):
            return Release()
        unpacked: Unpacked | None = None
        if self._settings.scanner:
            unpacked = await self._scanner(transfer).unpack(transfer)
        async with transfer.open() as file:
            with file.blocking_file() as opened:
                return await transfer.run_blocking(
                    self._judge_with_seam, opened, transfer.size, transfer.offer, unpacked
                )

    def _is_passed(self, transfer: Transfer) -> bool:
        settings = self._settings
        return transfer.offer.direction not in settings.directions or is_among(
            transfer.connection.client_address, settings.exempt_clients
        )

    # -- on a thread of the pool -----------------------------------------------------------------

    def _judge_with_seam(
        self, file: BinaryIO, size: int, offer: TransferOffer, unpacked: Unpacked | None
    ) -> ContentVerdict:
        """Judge an object by itself, and then together with what went the same way before it."""
        verdict = self._judge(file, size, offer, unpacked)
        if not offer.preceding or isinstance(verdict, Refuse):
            return verdict
        joined = Search(self._patterns)
        try:
            joined.feed(offer.preceding)
            if isinstance(verdict, Replace):
                joined.feed(verdict.body)
                joined.finish()
            else:
                file.seek(0)
                self._look_through(file, joined)
        except LimitExceeded as error:
            if self._settings.unread == "refuse":
                return Refuse(f"it cannot be looked through for secrets: {error}")
        if joined.reached:
            # Its beginning has gone, so nothing of it can be masked.
            return Refuse(f"{_described(joined.reached)}, cut into several messages")
        return verdict

    def _judge(
        self, file: BinaryIO, size: int, offer: TransferOffer, unpacked: Unpacked | None
    ) -> ContentVerdict:
        search, members = Search(self._patterns), Search(self._patterns)
        try:
            self._look_through(file, search)
            if self._is_refused(search):
                obstacle = ""
            elif unpacked is None:
                obstacle = self._look_inside(file, members, offer.is_text)
            else:
                obstacle = self._look_at(unpacked, members)
        except LimitExceeded as error:
            obstacle = str(error)
        search.absorb(members)
        found = search.reached
        if obstacle and (found or self._settings.unread == "refuse"):
            what = f"{_described(found)}; the rest " if found else "it "
            return Refuse(f"{what}cannot be looked through for secrets: {obstacle}")
        if not found:
            return Release()
        if self._settings.action == "refuse":
            return Refuse(_described(found))
        if any(one.kind.name in members.sightings for one in found):
            return Refuse(
                f"{_described(found)}, inside an archive or a document, where it cannot be masked"
            )
        return self._redacted(file, size, found)

    def _look_through(self, file: BinaryIO, search: Search) -> None:
        """Look through an object; where what was found refuses it, not through the rest."""
        while piece := file.read(_PIECE_BYTES):
            if self._is_refused(search):
                return
            search.feed(piece)
        search.finish()

    def _is_refused(self, search: Search) -> bool:
        return self._settings.action == "refuse" and bool(search.reached)

    def _look_at(self, unpacked: Unpacked, members: Search) -> str:
        """Look through what a scanner has unpacked; return why that is not all, or empty."""
        for _, data in unpacked.members:
            look = _MemberLook(Search(self._patterns), members, self._is_refused)
            for at in range(0, len(data), _PIECE_BYTES):
                if look.feed(data[at : at + _PIECE_BYTES]):
                    return ""
            if look.finish():
                return ""
        result = unpacked.result
        return "" if result.outcome is ScanOutcome.CLEAN else f"{result.outcome}: {result.reason}"

    def _look_inside(self, file: BinaryIO, members: Search, is_text: bool) -> str:
        """Look through the members of an archive; return why that cannot be done, or empty."""
        file.seek(0)
        kind = archive_kind(file.read(HEAD_BYTES_NEEDED))
        if kind is None:
            return ""
        if kind not in self._settings.archives:
            is_passed = self._settings.other_archives == "pass"
            return "" if is_passed else f"{kind} archive, into which is not looked"
        if is_text:
            # The receiver converts line ends, and then has another archive than the one here.
            return f"{kind} archive in ASCII mode: use binary mode (TYPE I)"
        found = look_inside(
            file,
            kind,
            lambda: _MemberLook(Search(self._patterns, kind), members, self._is_refused),
            kinds=self._settings.archives,
            passes_others=self._settings.other_archives == "pass",
        )
        if found.outcome in {ArchiveOutcome.CLEAN, ArchiveOutcome.FOUND}:
            return ""
        where = f" ({found.member})" if found.member else ""
        return f"{kind} archive: {found.reason}{where}"

    def _redacted(self, file: BinaryIO, size: int, found: Sequence[Sighting]) -> ContentVerdict:
        what, bound = _described(found), self._settings.redact_bytes_max
        if size > bound:
            return Refuse(f"{what}; too large to be masked: {size} bytes, redact_bytes_max {bound}")
        file.seek(0)
        try:
            body = mask(file.read(), self._patterns, {one.kind.name for one in found})
        except LimitExceeded as error:
            return Refuse(f"{what}; cannot be masked: {error}")
        return Refuse(f"{what}, where it cannot be masked") if body is None else Replace(body)


def _described(found: Sequence[Sighting]) -> str:
    """Say what was found, and nothing of it: ``2 payment cards (base64), 1 private key``."""
    return "secrets: " + ", ".join(
        f"{len(one.values)} x {one.kind.title}" + (f" ({one.where})" if one.where else "")
        for one in found
    )


_PIECE_BYTES: Final = 256 << 10
