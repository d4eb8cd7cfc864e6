"""The overview: how the gate is now, what it did in the last hour, and who and what stands out.

The invariant: what is live comes from the sampler, what is past from the store's totals; neither
costs more with more traffic.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from sluicegate.audit.store import StoreReader
from sluicegate.audit.store.reader import SubjectTotal
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.live import Live
from sluicegate.console.past import PastUnknown
from sluicegate.console_limits import CONSOLE_SAMPLES_MAX

__all__ = ["ENTRIES"]

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_TOP: Final = 8
_REFUSED: Final = ("denied", "refused", "failed")
_DECIDED: Final = ("decision", "request")


@dataclass(frozen=True, slots=True)
class Recent:
    """What the store knows of lately."""

    allowed: list[float]
    """By minute, of the last hour."""
    denied: list[float]
    since: float
    clients: list[SubjectTotal]
    """Of the last day."""
    hosts: list[SubjectTotal]
    refusing: list[SubjectTotal]
    """Rules, by what they refused."""


def _look_back(reader: StoreReader, now: float) -> Recent:
    first = int(now // _MINUTE_S) * _MINUTE_S - _HOUR_S + _MINUTE_S
    allowed, denied = [0.0] * 60, [0.0] * 60
    for total in reader.minutes(first, now + _MINUTE_S):
        at = (total.time - first) // _MINUTE_S
        if total.kind in _DECIDED and 0 <= at < len(allowed):
            numbers = denied if total.result in _REFUSED else allowed
            numbers[at] += total.records
    since = now - _DAY_S
    return Recent(
        allowed,
        denied,
        first,
        reader.top("client", since, now, _TOP),
        reader.top("host", since, now, _TOP),
        _refusing(reader, since, now),
    )


def _refusing(reader: StoreReader, since: float, now: float) -> list[SubjectTotal]:
    """Return the rules that refused most; without a name: no rule spoke of it."""
    sums: dict[str, list[int]] = {}
    for total in reader.minutes(since, now + _MINUTE_S, _HOUR_S):
        if total.kind in _DECIDED and total.result in _REFUSED:
            numbers = sums.setdefault(total.rule, [0, 0])
            numbers[0] += total.records
            numbers[1] += total.bytes_to_client + total.bytes_to_server
    ordered = sorted(sums.items(), key=lambda one: (-one[1][0], one[0]))
    return [SubjectTotal(value, *numbers) for value, numbers in ordered[:_TOP]]


async def _values(asked: Asked) -> dict[str, Any]:
    """Return what the live part shows."""
    console = asked.console
    now = console.clock.wall()
    recent, unknown = None, ""
    try:
        recent = await console.past.ask(lambda reader: _look_back(reader, now))
    except PastUnknown as error:
        unknown = str(error)
    return {
        "samples": console.sampler.samples,
        "samples_max": CONSOLE_SAMPLES_MAX,
        "recent": recent,
        "unknown": unknown,
        "now": now,
    }


async def _show(asked: Asked) -> Response:
    if asked.console.sampler.status is None:
        await asked.console.sampler.look()
    return asked.page("overview.html", **await _values(asked))


async def _live(asked: Asked) -> Response:
    async def parts() -> AsyncGenerator[str]:
        while True:
            await asked.console.sampler.wait()
            yield asked.render("overview_live.html", **await _values(asked))

    return Live(asked, "overview", parts())


ENTRIES: Final = (
    Entry("/", _show),
    Entry("/live/overview", _live, is_live=True),
)
