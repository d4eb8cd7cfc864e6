"""Scanners as filters reach them where connections are traced: their time is a step.

``service`` hands them out. The invariant: filters are answered exactly what the scanner answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.filterapi import ContentScanner, Scanner, ScanOutcome

from .steps import request_of

if TYPE_CHECKING:
    from sluicegate.filterapi import Contents, ScanResult, Transfer, Unpacked

    from .steps import StepRecords

__all__ = ["traced_scanner"]


def traced_scanner(scanner: Scanner, steps: StepRecords) -> Scanner:
    """Return a scanner whose time is recorded; where nothing is traced, itself."""
    if not steps.ratio:
        return scanner
    if isinstance(scanner, ContentScanner):
        return _TracedContentScanner(scanner, steps)
    return _TracedScanner(scanner, steps)


class _TracedScanner:
    """One that says what it found."""

    __slots__ = ("_inner", "_steps")

    def __init__(self, inner: Scanner, steps: StepRecords) -> None:
        self._inner = inner
        self._steps = steps

    @property
    def name(self) -> str:
        return self._inner.name

    async def version(self) -> str:
        return await self._inner.version()

    async def scan(self, transfer: Transfer) -> ScanResult:
        begun = self._steps.now()
        result = await self._inner.scan(transfer)
        self._note(transfer, begun, result)
        return result

    def _note(self, transfer: Transfer, begun: float, result: ScanResult) -> None:
        is_lacking = result.outcome is ScanOutcome.NOT_SCANNED
        self._steps.write(
            transfer.connection.id,
            "scan",
            self._steps.now() - begun,
            scanner=self._inner.name,
            request=request_of(transfer.offer),
            reason=result.reason if is_lacking else "",
        )


class _TracedContentScanner(_TracedScanner):
    """One that also says what is inside."""

    __slots__ = ("_content",)

    def __init__(self, inner: ContentScanner, steps: StepRecords) -> None:
        super().__init__(inner, steps)
        self._content = inner

    async def examine(self, transfer: Transfer) -> Contents:
        begun = self._steps.now()
        contents = await self._content.examine(transfer)
        self._note(transfer, begun, contents.result)
        return contents

    async def unpack(self, transfer: Transfer) -> Unpacked:
        begun = self._steps.now()
        unpacked = await self._content.unpack(transfer)
        self._note(transfer, begun, unpacked.result)
        return unpacked
