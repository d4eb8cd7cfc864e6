"""Content adaptation: has a scanner look at objects, and delivers what it puts in their place.

A content filter for services that change what they are shown (ICAP): that strip macros, mask data,
put a warning in front. The invariant: what is delivered is the object that the scanner left alone,
or the body that it gave in its place, whole; everything else is refused unless an operator wrote
otherwise.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from typing_extensions import override

from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Refuse,
    Release,
    Replace,
    ScanOutcome,
    Transfer,
)

from .settings import FilterSettings

__all__ = ["ContentAdaptation", "ContentAdaptationSettings"]


class ContentAdaptationSettings(FilterSettings):
    """``[filter.settings]`` of ``content_adaptation``."""

    scanner: str = Field(min_length=1, examples=["proxy-av"])
    """The name of a ``[[scanner]]`` table, of kind ``icap``."""
    not_scanned: Literal["refuse", "release"] = "refuse"
    """What becomes of an object that it did not look at, or not to its end: an error, no answer in
    time, nobody there, a limit, too large a body in its place."""


class ContentAdaptation(ContentFilter):
    """Asks one scanner."""

    name = "content_adaptation"
    Settings = ContentAdaptationSettings

    def __init__(self, settings: ContentAdaptationSettings) -> None:
        self._settings = settings

    @property
    @override
    def scanners(self) -> tuple[str, ...]:
        return (self._settings.scanner,)

    @override
    async def verdict_version(self, transfer: Transfer) -> str | None:
        if self._settings.not_scanned == "release":
            # What nobody looked at is to be looked at when somebody can.
            return None
        firewall = transfer.connection.firewall
        return await firewall.scanner(self._settings.scanner).version() or None

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        name = self._settings.scanner
        result = await transfer.connection.firewall.scanner(name).scan(transfer)
        match result.outcome:
            case ScanOutcome.CLEAN:
                return Release()
            case ScanOutcome.MODIFIED if result.body is not None:
                return Replace(result.body)
            case ScanOutcome.NOT_SCANNED if self._settings.not_scanned == "release":
                return Release()
            case outcome:
                return Refuse(f"{outcome.value}: {result.reason} ({name})")
