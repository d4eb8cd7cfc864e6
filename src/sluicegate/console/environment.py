"""Templates: how values become pages.

``asked`` renders with them. The invariant: every value is escaped unless it was made of escaped
ones (``Markup``), so no client's byte is ever markup; a name that a template misses is an error;
and all are read once, for those on disk may be a newer version's later.
"""

from __future__ import annotations

import datetime as dt
import importlib.resources
import unicodedata
from typing import Any, Final

import jinja2
from jinja2 import Environment

from sluicegate.clock import Clock

from .files import file_path
from .plots import bars, lines, spark

__all__ = ["make_environment", "quoted"]

_STEP: Final = 1024
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_THOUSAND: Final = 1000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400


def make_environment(clock: Clock) -> Environment:
    """Return the environment of all pages."""
    environment = Environment(
        loader=jinja2.DictLoader(_texts()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

    def ago(time: float) -> str:
        return format_duration(max(clock.wall() - time, 0.0))

    filters: dict[str, Any] = environment.filters
    filters |= {
        "bytes": format_bytes,
        "count": format_count,
        "duration": format_duration,
        "short": format_short,
        "moment": format_moment,
        "clear": clear,
        "quoted": quoted,
        "file": file_path,
        "bars": bars,
        "lines": lines,
        "spark": spark,
        "ago": ago,
    }
    return environment


def _texts() -> dict[str, str]:
    """Return all templates."""
    folder = importlib.resources.files("sluicegate.console") / "templates"
    return {one.name: one.read_text("utf-8") for one in folder.iterdir()}


def format_bytes(count: float) -> str:
    """Write a number of bytes for people."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count, unit = count / _STEP, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def format_count(count: float) -> str:
    """Write a number with its thousands apart."""
    return f"{count:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_duration(seconds: float) -> str:
    """Write a duration with its two greatest units."""
    if seconds < 1:
        return f"{seconds * _THOUSAND:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min {seconds % _MINUTE_S:.0f} s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:.0f} min"
    return f"{seconds // _DAY_S:.0f} d {seconds % _DAY_S // _HOUR_S:.0f} h"


def format_short(seconds: float) -> str:
    """Write a duration that may be of microseconds."""
    if seconds >= 1:
        return f"{seconds:.1f} s" if seconds < _MINUTE_S else format_duration(seconds)
    if seconds >= 1 / _THOUSAND:
        return f"{seconds * _THOUSAND:.3g} ms"
    return f"{seconds * _THOUSAND**2:.3g} µs"


def format_moment(time: float) -> str:
    """Write a time as people of all places read it, to the second, in UTC."""
    try:
        return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{time}"


def quoted(text: str) -> str:
    """Write a text as a value of a query."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def clear(text: object) -> str:
    """Return a text in which every character can be seen: controls and directions are spelled."""
    return "".join(
        one if unicodedata.category(one)[0] != "C" else f"\\u{ord(one):04x}" for one in str(text)
    )
