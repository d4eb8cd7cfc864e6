"""What looks at content: filters, scanners, and the objects that wait for their verdict.

The invariant: what failed is said first, with its cause; numbers are of all workers together.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.responses import Response

from sluicegate.audit.search import parse_query
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.link import GateLost
from sluicegate.console.live import Live
from sluicegate.console.paging import part_of
from sluicegate.console.past import PastUnknown
from sluicegate.console.summary import Summary, summary_of
from sluicegate.console.times import times_of
from sluicegate.console_limits import CONSOLE_SEARCH_S
from sluicegate.gate.control_messages import (
    FiltersReply,
    FiltersRequest,
    TransfersReply,
    TransfersRequest,
)
from sluicegate.gate.views import FilterView, ScannerView, TransferView

__all__ = ["ENTRIES", "find_filters", "find_scanners", "find_transfers"]

_FAILURES_MAX: Final = 10
_STAGES: Final = {
    "filling": "arriving",
    "storing": "written to the spool",
    "judging": "being judged",
    "released": "released",
    "delivering": "being delivered",
}


async def find_filters(asked: Asked) -> list[FilterView]:
    """Return the installed filters, in the operator's order.

    Raises:
        GateLost: There was no answer.
    """
    reply = await asked.ask_gate(FiltersRequest())
    if not isinstance(reply, FiltersReply):
        raise GateLost("the gate does not say which filters it has")
    return reply.rows


async def find_scanners(asked: Asked) -> list[ScannerView]:
    """Return the scanners that have processes or services.

    Raises:
        GateLost: There was no answer.
    """
    await asked.console.sampler.look()
    status = asked.console.sampler.status
    if status is None:
        raise GateLost("the gate does not answer")
    return status.scanners


async def find_transfers(asked: Asked) -> tuple[list[TransferView], int]:
    """Return the held objects, the oldest first, and how many there are.

    Raises:
        GateLost: There was no answer.
    """
    reply = await asked.ask_gate(TransfersRequest())
    if not isinstance(reply, TransfersReply):
        raise GateLost("the gate does not say what it holds")
    return reply.rows, reply.total


async def _filters(asked: Asked) -> Response:
    rows = await find_filters(asked)
    failures, unknown = await _latest_failures(asked)
    spent = times_of(rows, "sluicegate_filter_seconds")
    return asked.page("filters.html", rows=rows, spent=spent, failures=failures, unknown=unknown)


async def _latest_failures(asked: Asked) -> tuple[list[Summary], str]:
    """Return what filters failed at lately, the newest first; or why nobody knows."""
    query = parse_query("kind:filter-failure", asked.console.clock.wall())
    try:
        found = await asked.console.past.ask(
            lambda reader: reader.search(query, _FAILURES_MAX, seconds_max=CONSOLE_SEARCH_S)
        )
    except PastUnknown as error:
        return [], str(error)
    return [summary_of(one) for one in found.records], ""


async def _scanners(asked: Asked) -> Response:
    return asked.page("scanners.html", **_scanner_values(await find_scanners(asked)))


async def _live_scanners(asked: Asked) -> Response:
    async def parts() -> AsyncGenerator[str]:
        while True:
            await asked.console.sampler.wait()
            status = asked.console.sampler.status
            if status is not None:
                yield asked.render("scanners_rows.html", **_scanner_values(status.scanners))

    return Live(asked, "scanners", parts())


def _scanner_values(rows: list[ScannerView]) -> dict[str, Any]:
    return {"scanners": rows, "spent": times_of(rows, "sluicegate_scanner_seconds")}


async def _transfers(asked: Asked) -> dict[str, Any]:
    rows, total = await find_transfers(asked)
    return {
        "part": part_of(rows, asked.query("page", "1")),
        "total": total,
        "beyond": total - len(rows),
        "stages": _STAGES,
    }


async def _show_transfers(asked: Asked) -> Response:
    return asked.page("transfers.html", **await _transfers(asked))


async def _live_transfers(asked: Asked) -> Response:
    async def parts() -> AsyncGenerator[str]:
        while True:
            await asked.console.sampler.wait()
            yield asked.render("transfers_rows.html", **await _transfers(asked))

    return Live(asked, "transfers", parts())


ENTRIES: Final = (
    Entry("/filters", _filters),
    Entry("/scanners", _scanners),
    Entry("/live/scanners", _live_scanners, is_live=True),
    Entry("/transfers", _show_transfers),
    Entry("/live/transfers", _live_transfers, is_live=True),
)
