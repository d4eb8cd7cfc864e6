"""``sluicegate sessions``, ``connections`` and ``filters``: what is there now, one row each."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Sequence

import click

from sluicegate.clock import SystemClock
from sluicegate.gate.control_messages import (
    ConnectionsReply,
    ConnectionsRequest,
    FiltersReply,
    FiltersRequest,
    SessionsReply,
    SessionsRequest,
)
from sluicegate.gate.views import FilterView

from .display import format_bytes, format_duration, show_json, show_table
from .options import ask, config_option, json_option
from .replies import unexpected

__all__ = ["connections", "filters", "sessions"]


@click.command()
@config_option
@json_option
def sessions(config: pathlib.Path | None, *, as_json: bool) -> None:
    """List the clients that the gate knows, with the filters attached to them.

    \b
    Examples:
        sluicegate sessions
        sluicegate sessions --json | jq -r '.[].client'
    """
    reply = ask(config, SessionsRequest())
    if not isinstance(reply, SessionsReply):
        raise unexpected(reply)
    if as_json:
        show_json(reply.rows)
        return
    now = SystemClock().wall()
    show_table(
        ("SESSION", "CLIENT", "AGE", "IDLE", "CONNECTIONS", "EXPECTED", "FILTERS"),
        [
            (
                row.session,
                f"{row.client} {row.user}".rstrip(),
                format_duration(now - row.started),
                format_duration(row.idle_s),
                str(row.connections),
                str(row.expected),
                ", ".join(row.filters),
            )
            for row in reply.rows
        ],
    )
    _show_rest(reply.rows, reply.total)


@click.command()
@config_option
@json_option
@click.option("--client", metavar="ADDRESS", default="", help="Only those of one client.")
def connections(config: pathlib.Path | None, client: str, *, as_json: bool) -> None:
    """List the connections that are open, with the filters in their chains.

    The identifiers are what "sluicegate kill" takes and what records carry; between their hyphens
    they name the start of the gate and the worker.

    \b
    Examples:
        sluicegate connections
        sluicegate connections --client 10.1.2.3
        sluicegate connections --json | jq '.[] | select(.idle_s > 600)'
    """
    try:
        wanted = str(ipaddress.ip_address(client)) if client else ""
    except ValueError:
        raise click.BadParameter(
            "is not an address (10.1.2.3 or 2001:db8::1)", param_hint="--client"
        ) from None
    reply = ask(config, ConnectionsRequest(client=wanted))
    if not isinstance(reply, ConnectionsReply):
        raise unexpected(reply)
    if as_json:
        show_json(reply.rows)
        return
    now = SystemClock().wall()
    show_table(
        (
            "CONNECTION", "CLIENT", "SERVER", "RULE", "STATE", "AGE", "IDLE",
            "TO SERVER", "TO CLIENT", "FILTERS",
        ),
        [
            (
                row.connection,
                row.client,
                f"{row.server} (udp)" if row.transport == "udp" else row.server,
                row.rule,
                f"{row.state}, spliced" if row.is_spliced else row.state,
                format_duration(now - row.started),
                format_duration(row.idle_s),
                format_bytes(row.bytes_to_server),
                format_bytes(row.bytes_to_client),
                ", ".join(row.filters),
            )
            for row in reply.rows
        ],
    )  # fmt: skip
    _show_rest(reply.rows, reply.total)


@click.command()
@config_option
@json_option
def filters(config: pathlib.Path | None, *, as_json: bool) -> None:
    """List the installed filters: where they come from, which rules use them, how they are.

    Filters whose traffic passes when they fail (on_failure = "bypass") are shown in red.

    \b
    Examples:
        sluicegate filters
        sluicegate filters --json | jq '.[] | select(.failures > 0)'
    """
    reply = ask(config, FiltersRequest())
    if not isinstance(reply, FiltersReply):
        raise unexpected(reply)
    if as_json:
        show_json(reply.rows)
        return
    show_table(
        ("FILTER", "KIND", "POSITION", "STATE", "ON FAILURE", "RULES", "SESSIONS", "CALLS",
         "FAILURES", "PROCESS", "SOURCE"),
        [
            (
                row.name,
                row.tier,
                row.position,
                f"{row.state}: {row.cause}" if row.cause else row.state,
                row.on_failure,
                ", ".join(row.rules),
                str(row.sessions),
                str(row.calls),
                str(row.failures),
                _process_of(row),
                row.source,
            )
            for row in reply.rows
        ],
    )  # fmt: skip
    for row in reply.rows:
        if row.on_failure != "deny":
            click.secho(f"{row.name}: traffic passes without it when it fails", fg="red")


def _process_of(row: FilterView) -> str:
    """Describe where a filter runs; nothing for one in the gate."""
    if not row.isolation:
        return ""
    if not row.pid:
        return f"none, replaced {row.restarts}x"
    shown = f"{row.pid}, {format_bytes(row.memory_bytes)}"
    return f"{shown}, replaced {row.restarts}x" if row.restarts else shown


def _show_rest(rows: Sequence[object], total: int) -> None:
    if total > len(rows):
        click.echo(f"… and {total - len(rows)} more")
