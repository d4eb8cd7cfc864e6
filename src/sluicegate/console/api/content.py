"""What the API can be asked about what looks at content: filters, scanners and held objects.

``operations`` has these in its table. The invariant: numbers are of all workers together.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sluicegate.console.pages.connections import matching
from sluicegate.console.pages.content import find_filters, find_scanners, find_transfers
from sluicegate.gate.views import FilterView, ScannerView, TransferView

from .operation import Called, Operation
from .parameters import CURSOR, FILTER, LIMIT, page_of

__all__ = ["OPERATIONS"]


class Filters(msgspec.Struct):
    """Installed filters, in their order."""

    rows: list[FilterView]
    total: int
    next: int | None
    """The cursor of the next rows; none: there are none."""


class Scanners(msgspec.Struct):
    """Scanners, in the operator's order."""

    rows: list[ScannerView]
    total: int
    next: int | None
    """The cursor of the next rows; none: there are none."""


class Transfers(msgspec.Struct):
    """Held objects, the oldest first."""

    rows: list[TransferView]
    total: int
    """Of those that are known; with a filter, of those that it finds."""
    held: int
    """How many there are in all; the gate tells of the oldest ones."""
    next: int | None
    """The cursor of the next rows; none: there are none."""


def _transfer_text(row: TransferView) -> str:
    """Return what a held object is found by, in lower case."""
    parts = (
        row.connection, row.session, row.client, row.user, row.rule, row.name, row.direction,
        row.protocol, row.stage, row.content_type, *row.filters,
    )  # fmt: skip
    return " ".join(parts).lower()


async def _filters(called: Called) -> Filters:
    rows = await find_filters(called.asked)
    shown, further = page_of(rows, called)
    return Filters(shown, len(rows), further)


async def _scanners(called: Called) -> Scanners:
    rows = await find_scanners(called.asked)
    shown, further = page_of(rows, called)
    return Scanners(shown, len(rows), further)


async def _transfers(called: Called) -> Transfers:
    rows, held = await find_transfers(called.asked)
    found = matching(rows, called.values.get("filter", ""), _transfer_text)
    shown, further = page_of(found, called)
    return Transfers(shown, len(found), held, further)


OPERATIONS: Final = (
    Operation(name="listFilters", path="/filters", summary="Installed filters.",
              answer=_filters, reply=Filters, parameters=(CURSOR, LIMIT)),
    Operation(name="listScanners", path="/scanners", reply=Scanners, answer=_scanners,
              summary="Programs and services that look through held objects.",
              parameters=(CURSOR, LIMIT)),
    Operation(name="listTransfers", path="/transfers", reply=Transfers, answer=_transfers,
              summary="Objects that are held; kill ends the connection of one.",
              parameters=(FILTER, CURSOR, LIMIT)),
)  # fmt: skip
