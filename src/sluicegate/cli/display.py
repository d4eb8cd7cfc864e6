"""How commands show things: tables, sizes, times, and text that cannot move the cursor.

Every reporting command uses it. The invariant: whatever a client chose to send, nothing unprintable
reaches the terminal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import click
import msgspec

__all__ = ["format_bytes", "format_duration", "format_time", "printable", "show_json", "show_table"]


def printable(text: str) -> str:
    """Escape what is not printable: controls, escape sequences, directions of writing."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def show_json(value: object) -> None:
    """Print a value as JSON, in ASCII, on several lines."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo("".join(one if " " <= one <= "~" or one == "\n" else _escaped(one) for one in text))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings, each column as wide as it needs."""
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(len(heading), *(len(line[column]) for line in lines)) if lines else len(heading)
        for column, heading in enumerate(headings)
    ]
    for line in [list(headings), *lines]:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def format_bytes(count: float) -> str:
    """Write a number of bytes with the unit that suits it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - the ratio of these units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Write a duration with the two units that matter."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {whole % 60} s"
    return f"{seconds:.1f} s"


def format_time(epoch_s: float) -> str:
    """Write a time of the wall clock, local, to the millisecond."""
    moment = dt.datetime.fromtimestamp(epoch_s, tz=dt.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _escaped(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[at : at + 2].hex()}" for at in range(0, len(encoded), 2))
