"""The page of a report: one HTML file that shows and prints without anything else.

``cli.report`` writes it. The invariant: it holds no script and loads nothing, and what clients have
written is escaped and printable.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from sluicegate.console.plots import bars
from sluicegate.version import VERSION

from .figures import Report

__all__ = ["write_page"]

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_UNIT: Final = 1024
_SECOND_MS: Final = 1000


def write_page(report: Report, zone: dt.tzinfo, made: float) -> str:
    """Return the page.

    Args:
        report: What it says.
        zone: Of the times in it.
        made: When it was made, in seconds since the Unix epoch.
    """

    def day(time: float) -> str:
        return f"{dt.datetime.fromtimestamp(time, zone):%Y-%m-%d}"

    environment = Environment(
        loader=PackageLoader("sluicegate.app.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": _size, "number": _number, "shown": _shown, "duration": _duration, "day": day,
    }  # fmt: skip
    asked = [("allowed", _floats(it.allowed for it in report.steps))]
    asked.append(("refused", _floats(it.refused for it in report.steps)))
    moved = [("down", _floats(it.bytes_to_client for it in report.steps))]
    moved.append(("up", _floats(it.bytes_to_server for it in report.steps)))
    waited = [("latency", _floats(it.records for it in report.latencies))]
    return environment.get_template("report.html").render(
        report=report,
        last=report.until - 1,
        made=f"{dt.datetime.fromtimestamp(made, zone):%Y-%m-%d %H:%M %Z}",
        version=VERSION,
        asked=bars(asked, f"{report.asked} asked, {report.refused} of them refused, over time"),
        moved=bars(moved, "bytes to clients and to servers over time"),
        waited=bars(waited, "requests by how long they took, from short to long"),
        asked_most=max((it.allowed + it.refused for it in report.steps), default=0),
        moved_most=max((it.bytes_to_client + it.bytes_to_server for it in report.steps), default=0),
    )


def _floats(numbers: Iterable[int]) -> list[float]:
    return [float(number) for number in numbers]


def _size(count: float) -> str:
    size, unit = float(count), 0
    while size >= _UNIT and unit < len(_UNITS) - 1:
        size, unit = size / _UNIT, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size:.0f} B"


def _number(count: float) -> str:
    return f"{count:,.0f}".replace(",", "\u202f")


def _duration(milliseconds: float) -> str:
    if milliseconds >= _SECOND_MS:
        return f"{milliseconds / _SECOND_MS:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.2f} ms"


def _shown(text: str) -> str:
    """Return a text of somebody else's, with nothing in it that cannot be seen."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )
