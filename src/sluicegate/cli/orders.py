"""``sluicegate reload`` and ``stop``: what a running gate is told to do."""

from __future__ import annotations

import pathlib

import click

from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import (
    DoneReply,
    RefusedReply,
    ReloadRequest,
    Request,
    StopRequest,
)
from sluicegate.process_limits import (
    CONTROL_TIMEOUT_S,
    WORKER_ANSWER_TIMEOUT_S,
    WORKER_START_TIMEOUT_S,
)

from .display import printable
from .options import ask, config_option
from .replies import unexpected

__all__ = ["reload", "stop"]

_WRONG = 2


@click.command()
@config_option
def reload(config: pathlib.Path | None) -> None:
    """Make the gate read its files again, and put them in force, whole.

    When something is wrong with them, the old ones stay in force and the exit code is 2.
    What is open is judged again, as if it came now: what the new rules refuse ends.

    \b
    Examples:
        sluicegate check && sluicegate reload
    """
    _order(config, ReloadRequest())
    click.echo("reloaded")


@click.command()
@config_option
def stop(config: pathlib.Path | None) -> None:
    """Make the gate drain and end, as SIGTERM does."""
    _order(config, StopRequest())
    click.echo("draining")


def _order(config: pathlib.Path | None, request: Request) -> None:
    # Every worker may take its time, twice, and a reload waits for those that are starting.
    patience_s = CONTROL_TIMEOUT_S + WORKER_START_TIMEOUT_S / 2 + 2 * WORKER_ANSWER_TIMEOUT_S
    reply = ask(config, request, timeout_s=patience_s)
    match reply:
        case DoneReply(notes=notes):
            for note in notes:
                click.echo(f"{click.style('warning:', fg='yellow')} {printable(note)}", err=True)
        case RefusedReply(causes=causes):
            for cause in causes:
                click.echo(f"{click.style('error:', fg='red')} {printable(cause)}", err=True)
            if not causes:
                raise SluicegateError("the gate refused, and did not say why")
            click.get_current_context().exit(_WRONG)
        case _:
            raise unexpected(reply)
