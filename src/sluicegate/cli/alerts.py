"""``sluicegate alerts``: what operators are to look at, and that somebody has."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Final

import click

from sluicegate.audit.alerts import Raising
from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AlertsRequest,
)

from .display import format_time, printable, show_json, show_table
from .options import ask, config_option, json_option
from .replies import unexpected

__all__ = ["alerts"]

_COLORS: Final = {"error": "red", "warning": "yellow", "information": "cyan"}


@click.group()
def alerts() -> None:
    """Show alerts that were raised, and acknowledge them.

    An alert is raised when records of the log, or the gate's condition, are as [[alert]] in
    sluicegate.toml says; some are predefined. It stays open until somebody acknowledges it, or what
    it was raised for is over.

    \b
    Examples:
        sluicegate alerts list
        sluicegate alerts show a-692a1f00-3
        sluicegate alerts ack a-692a1f00-3
        sluicegate log 'kind:alert since:7d'
    """


@alerts.command("list")
@config_option
@json_option
@click.option("--all", "-a", "shows_all", is_flag=True, help="Also those that need nobody now.")
def list_alerts(config: pathlib.Path | None, *, as_json: bool, shows_all: bool) -> None:
    """List the alerts that are open, the last one first.

    \b
    Examples:
        sluicegate alerts list
        sluicegate alerts list --all
        sluicegate alerts list --json | jq -r '.[] | select(.severity == "error") | .raising'
    """
    reply = _ask(config)
    rows = [row for row in reply.rows if shows_all or row.state == "open"]
    if as_json:
        show_json(rows)
        return
    if not rows:
        click.echo("no alert is open")
        return
    show_table(
        ("RAISED", "SEVERITY", "ALERT", "ABOUT", "EVENTS", "TIMES", "STATE", "RAISING"),
        [
            (
                format_time(row.last),
                row.severity,
                row.alert,
                row.about,
                str(row.count),
                str(row.times),
                _state(row),
                row.raising,
            )
            for row in rows
        ],
    )
    if reply.total > len(reply.rows):
        click.echo(f"… and {reply.total - len(reply.rows)} more")


@alerts.command()
@config_option
@json_option
@click.argument("raising")
def show(config: pathlib.Path | None, raising: str, *, as_json: bool) -> None:
    """Show one alert, and how to see the records that it was raised for.

    The exit code is 1 when there is none of that identifier (any more); the log may have it:
    sluicegate log 'kind:alert raising:…'.

    \b
    Examples:
        sluicegate alerts show a-692a1f00-3
        sluicegate log "$(sluicegate alerts show a-692a1f00-3 --json | jq -r .query)"
    """
    row = next((one for one in _ask(config).rows if one.raising == raising), None)
    if row is None:
        raise SluicegateError(
            f"no alert {printable(raising)} is known: try sluicegate log 'kind:alert raising:…'"
        )
    if as_json:
        show_json(row)
        return
    severity = click.style(row.severity, fg=_COLORS[row.severity])
    click.echo(f"{severity} {printable(row.alert)}: {printable(row.message)}")
    facts = [
        ("state", _state(row)),
        ("about", row.about),
        ("client", row.client),
        ("category", row.category),
        ("events", f"{row.count}, the first at {format_time(row.first)}"),
        ("raised", f"{row.times} times, the last time at {format_time(row.last)}"),
        *((name, str(value)) for name, value in row.facts.items()),
        *((f"{name} failed", cause) for name, cause in row.failures.items()),
    ]
    for name, value in facts:
        if value:
            click.echo(f"  {printable(name):<14} {printable(value)}")
    if row.query:
        click.echo("  records        sluicegate log " + _quoted(printable(row.query)))


@alerts.command()
@config_option
@json_option
@click.option("--all", "acknowledges_all", is_flag=True, help="All that are open.")
@click.argument("names", nargs=-1, metavar="RAISING|ALERT...")
def ack(
    config: pathlib.Path | None,
    names: tuple[str, ...],
    *,
    as_json: bool,
    acknowledges_all: bool,
) -> None:
    """Acknowledge alerts: you have seen them, and somebody does what is to be done.

    Takes identifiers, or names of alerts: all that are open of that name. The log has a record of
    each, with your name. What is raised again "after-acknowledged" may now be raised again.

    The exit code is 1 when one of them was not open.

    \b
    Examples:
        sluicegate alerts ack a-692a1f00-3
        sluicegate alerts ack client-flood
        sluicegate alerts ack --all
    """
    if bool(names) is acknowledges_all:
        raise click.UsageError("name alerts, or say --all")
    wanted: Sequence[str] = names
    if acknowledges_all:
        wanted = [row.raising for row in _ask(config).rows if row.state == "open"]
    done = [one for some in _portions(wanted) for one in _acknowledge(config, some)]
    known = {row.raising: row for row in _ask(config).rows}
    if as_json:
        show_json(done)
    else:
        for one in done:
            name = f" ({printable(known[one].alert)})" if one in known else ""
            click.echo(f"acknowledged {printable(one)}{name}")
        if not wanted:
            click.echo("no alert is open")
    found = {*done, *(known[one].alert for one in done if one in known)}
    missing = [one for one in wanted if one not in found]
    for one in missing:
        click.echo(f"{click.style('error:', fg='red')} {printable(one)} is not open", err=True)
    if missing:
        click.get_current_context().exit(1)


_PORTION: Final = 100
"""Names in one request, which has a bound."""


def _portions(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[at : at + _PORTION] for at in range(0, len(names), _PORTION)]


def _acknowledge(config: pathlib.Path | None, names: Sequence[str]) -> list[str]:
    reply = ask(config, AcknowledgeRequest(alerts=list(names)))
    if not isinstance(reply, AcknowledgedReply):
        raise unexpected(reply)
    return reply.acknowledged


def _ask(config: pathlib.Path | None) -> AlertsReply:
    reply = ask(config, AlertsRequest())
    if not isinstance(reply, AlertsReply):
        raise unexpected(reply)
    return reply


def _state(row: Raising) -> str:
    if row.state == "open":
        return "open"
    by = f" by {row.by}" if row.by else ""
    return f"{row.state}{by}, {format_time(row.ended)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
