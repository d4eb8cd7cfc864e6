"""``sluicegate run``: start the gate and keep it running."""

from __future__ import annotations

import pathlib

import click

from sluicegate.app.supervise import check_takeover, supervise
from sluicegate.process_limits import WORKERS_MAX

from .display import printable
from .options import config_option, find_config

__all__ = ["run"]


@click.command()
@config_option
@click.option(
    "--workers",
    "-w",
    type=click.IntRange(1, WORKERS_MAX),
    help="How many worker processes  [default: what [service] says, else one per core]",
)
@click.option(
    "--inline",
    is_flag=True,
    help="Run everything in this one process, for tests and debugging.",
)
@click.option("--preflight", is_flag=True, hidden=True, help="Only say whether it could.")
def run(config: pathlib.Path | None, workers: int | None, *, inline: bool, preflight: bool) -> None:
    """Start the gate, in the foreground, until a signal ends it.

    A supervisor starts the workers, among which clients are spread by address, and the audit
    writer, which alone writes the log; it starts again whichever of them ends. With --inline there
    is one process, and nobody to start it again.

    \b
    SIGTERM  drains: nothing new is let in, connections may end by themselves
    SIGINT   (Ctrl-C) ends at once; so does a second SIGTERM
    SIGHUP   reads the files again; broken ones leave the old in force

    \b
    Examples:
        sluicegate run
        sluicegate run --config /etc/sluicegate/sluicegate.toml
        sluicegate run --workers 2
        sluicegate run --workers 1 --inline
    """
    if inline and workers is not None and workers > 1:
        raise click.UsageError("--inline is one process: it has no workers beside")
    path = find_config(config)
    if preflight:
        check_takeover(path)
    elif inline:
        from sluicegate.app.run import run_gate  # noqa: PLC0415 - a supervisor loads no gate

        run_gate(path, _say)
    else:
        supervise(path, _say, workers)


def _say(line: str) -> None:
    click.echo(printable(line), err=True)
