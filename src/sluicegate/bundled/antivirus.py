"""Antivirus: refuses what a scanner finds, and what no scanner could look at.

A content filter: the gate holds each object, and this asks the configured scanners about it, one
after the other. The invariant: an object is released only if each of them looked at all of it and
found nothing; whatever else is let through is so by an operator's written word.
"""

from __future__ import annotations

from typing import Literal, assert_never

from pydantic import Field
from typing_extensions import override

from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Refuse,
    Release,
    ScanOutcome,
    ScanResult,
    Transfer,
)

from .settings import FilterSettings

__all__ = ["Antivirus", "AntivirusSettings"]

Choice = Literal["refuse", "release"]


class AntivirusSettings(FilterSettings):
    """``[filter.settings]`` of ``antivirus``."""

    scanners: tuple[str, ...] = Field(min_length=1, examples=[["clamd"]])
    """Names of ``[[scanner]]`` tables; each is asked, until one finds something."""
    encrypted: Choice = "refuse"
    """What becomes of an object of which a part is encrypted."""
    corrupt: Choice = "refuse"
    """What becomes of an object of which a part is damaged, or is a container that cannot be
    opened."""
    over_limit: Choice = "refuse"
    """What becomes of an object that is larger or deeper than the scanner is to look, or holds
    more."""
    not_scanned: Choice = "refuse"
    """What becomes of an object that a scanner did not look at, or not to its end: an error, no
    answer in time, nobody there, a limit that clamd reached."""
    keep_verdicts: bool = True
    """Whether the same bytes need not be scanned again while every scanner has the same signatures,
    for at most ``verdicts_kept_s``. Signatures other than the official ones change unnoticed."""


class Antivirus(ContentFilter):
    """Asks scanners."""

    name = "antivirus"
    runs_beside = True
    Settings = AntivirusSettings

    def __init__(self, settings: AntivirusSettings) -> None:
        self._settings = settings

    @property
    @override
    def scanners(self) -> tuple[str, ...]:
        return self._settings.scanners

    @override
    async def verdict_version(self, transfer: Transfer) -> str | None:
        if not self._settings.keep_verdicts or self._settings.not_scanned == "release":
            # What nobody looked at is to be looked at when somebody can.
            return None
        firewall = transfer.connection.firewall
        versions = [await firewall.scanner(name).version() for name in self._settings.scanners]
        return "\n".join(versions) if all(versions) else None

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        firewall = transfer.connection.firewall
        for name in self._settings.scanners:
            result = await firewall.scanner(name).scan(transfer)
            reason = self._objection(result)
            if reason:
                return Refuse(f"{reason} ({name})")
        return Release()

    def _objection(self, result: ScanResult) -> str:
        """Return why an answer refuses an object; empty if it does not."""
        outcome, settings = result.outcome, self._settings
        match outcome:
            case ScanOutcome.CLEAN:
                return ""
            case ScanOutcome.FOUND:
                return f"malware: {result.reason}"
            case ScanOutcome.MODIFIED:
                return f"modified: {result.reason}; that is for content_adaptation to deliver"
            case ScanOutcome.ENCRYPTED:
                is_let, word = settings.encrypted == "release", "encrypted"
            case ScanOutcome.CORRUPT:
                is_let, word = settings.corrupt == "release", "cannot be looked into"
            case ScanOutcome.OVER_LIMIT:
                is_let, word = settings.over_limit == "release", "over a limit"
            case ScanOutcome.NOT_SCANNED:
                is_let, word = settings.not_scanned == "release", "not scanned"
            case _:
                assert_never(outcome)
        return "" if is_let else f"{word}: {result.reason}"
