"""``sluicegate run``: start the gate and keep it running."""

from __future__ import annotations

import pathlib

import click

from sluicegate.app.run import run_gate

from .display import printable
from .options import config_option, find_config

__all__ = ["run"]


@click.command()
@config_option
@click.option(
    "--inline",
    is_flag=True,
    default=True,
    help="Run everything in this one process: the only way in this version.",
)
def run(config: pathlib.Path | None, *, inline: bool) -> None:
    """Start the gate, in the foreground, until a signal ends it.

    \b
    SIGTERM  drains: nothing new is let in, connections may end by themselves
    SIGINT   (Ctrl-C) ends at once; so does a second SIGTERM
    SIGHUP   reads the files again; broken ones leave the old in force

    \b
    Examples:
        sluicegate run
        sluicegate run --config /etc/sluicegate/sluicegate.toml
    """
    del inline
    run_gate(find_config(config), lambda line: click.echo(printable(line), err=True))
