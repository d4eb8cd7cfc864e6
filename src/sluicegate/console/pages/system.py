"""The system's status, and what this program is."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.link import GateLost
from sluicegate.version import VERSION

__all__ = ["ENTRIES"]

_PARTS: Final = ("htmx.org 2.0.11", "htmx-ext-sse 2.2.4")
"""What browsers are sent that others have written; their licences are beside them."""


async def _show_status(asked: Asked) -> Response:
    await asked.console.sampler.look()
    if asked.console.sampler.status is None:
        raise GateLost("the gate does not answer")
    return asked.page("status.html")


async def _show_about(asked: Asked) -> Response:
    return asked.page(
        "about.html",
        version=VERSION,
        parts=_PARTS,
        settings=asked.console.settings,
        has_store=asked.console.past.is_kept,
        sessions=len(asked.console.sessions),
        origin=asked.console.origins.own,
    )


ENTRIES: Final = (
    Entry("/status", _show_status),
    Entry("/about", _show_about),
)
