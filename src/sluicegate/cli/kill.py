"""``sluicegate kill``: end connections that should not be there any more."""

from __future__ import annotations

import pathlib

import click

from sluicegate.gate.control_messages import KilledReply, KillRequest

from .display import printable
from .options import ask, config_option
from .replies import unexpected

__all__ = ["kill"]


@click.command()
@config_option
@click.argument("identifiers", nargs=-1, required=True, metavar="CONNECTION|SESSION...")
def kill(config: pathlib.Path | None, identifiers: tuple[str, ...]) -> None:
    """End connections at once, and all connections of sessions.

    Both sides are reset, so neither takes what it has for the whole. The record of each says who
    did it. The client may come back: to keep it out, change policy.toml and "sluicegate reload".

    The exit code is 1 when one of them was not there (any more).

    \b
    Examples:
        sluicegate kill c-6b036d55-w1-2f
        sluicegate kill $(sluicegate connections --client 10.1.2.3 --json | jq -r '.[].connection')
        sluicegate kill s-6b036d55-w1-3
    """
    reply = ask(config, KillRequest(identifiers=list(identifiers)))
    if not isinstance(reply, KilledReply):
        raise unexpected(reply)
    for one in reply.killed:
        click.echo(f"killed {printable(one)}")
    missing = [one for one in identifiers if one not in reply.killed]
    for one in missing:
        click.echo(f"{click.style('error:', fg='red')} {printable(one)} is not there", err=True)
    if missing:
        click.get_current_context().exit(1)
