"""``sluicegate report``: a day or a week on one page."""

from __future__ import annotations

import datetime as dt
import pathlib
import sys

import click

from sluicegate.app.log_config import open_place
from sluicegate.app.report import Period, make_report, write_page
from sluicegate.audit.store import StoreReader
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError

from .display import show_json
from .log_query import find_paths
from .options import config_option, json_option

__all__ = ["report"]

_LAST = "last"


@click.command()
@config_option
@click.option(
    "--day", is_flag=False, flag_value=_LAST, metavar="[DATE]",
    help="That day, as 2026-11-28 or today; without a date, yesterday  [default].",
)  # fmt: skip
@click.option(
    "--week", is_flag=False, flag_value=_LAST, metavar="[DATE]",
    help="The week, from Monday on, that this day is in; without a date, last week.",
)  # fmt: skip
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=pathlib.Path, dir_okay=False, writable=True),
    help="Write there  [default: standard output]",
)
@json_option
def report(
    config: pathlib.Path | None,
    day: str | None,
    week: str | None,
    output: pathlib.Path | None,
    *,
    as_json: bool,
) -> None:
    """Sum up a day or a week: clients, sites, refusals by rule, what scanners found, bytes, times.

    The page is one HTML file without script, for light and dark, and prints on A4 as it is. It is
    made of the totals that the store of records keeps, so it takes no longer for many records.

    \b
    Examples:
        sluicegate report -o yesterday.html
        sluicegate report --week -o week.html
        sluicegate report --day 2026-11-28 --json | jq .refused
        sluicegate report --day today -o - | mail …
    """
    if day is not None and week is not None:
        raise click.UsageError("--day and --week are two different reports: choose one")
    now, zone = SystemClock().wall(), dt.datetime.now().astimezone().tzinfo or dt.UTC
    today = dt.datetime.fromtimestamp(now, zone).date()
    if week is not None:
        last_week = today - dt.timedelta(days=7)
        period = Period.week_of(_date(week, "--week", today, last_week), zone)
    else:
        yesterday = today - dt.timedelta(days=1)
        period = Period(_date(day or _LAST, "--day", today, yesterday), 1, zone)
    text = _make(config, period, zone, now, as_json=as_json)
    if text is None:
        return
    if output is None or str(output) == "-":
        if output is None and sys.stdout.isatty():
            raise click.UsageError("a page is for a browser: name a file with --output")
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            str(output), f"cannot be written: {error.strerror}", "choose another file with --output"
        ) from error


def _make(
    config: pathlib.Path | None, period: Period, zone: dt.tzinfo, now: float, *, as_json: bool
) -> str | None:
    """Return the page; None: it was printed as JSON."""
    store = find_paths(config).store
    if store is None:
        raise ConfigError("[log]", "there is no store of records", 'store = "sqlite"')
    reader = StoreReader(open_place(store), SystemClock())
    try:
        made = make_report(reader, period)
    finally:
        reader.close()
    if as_json:
        show_json(made)
        return None
    return write_page(made, zone, now)


def _date(text: str, option: str, today: dt.date, last: dt.date) -> dt.date:
    if text in {_LAST, "today"}:
        return last if text == _LAST else today
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no date such as {today.isoformat()}, or today", param_hint=option
        ) from None
