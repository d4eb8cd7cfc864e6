"""``sluicegate drain``: end the gate in peace, and watch it."""

from __future__ import annotations

import pathlib
import threading
from typing import Final

import click

from sluicegate.clock import SystemClock
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import DoneReply, StatusReply, StatusRequest, StopRequest
from sluicegate.gate.views import StatusView

from .display import format_duration
from .options import ask, config_option
from .replies import unexpected

__all__ = ["drain"]

_ASK_AGAIN_S: Final = 0.5


@click.command()
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End what is left after this long  [default: the limit drain_timeout_s]",
)
def drain(config: pathlib.Path | None, timeout_s: float | None) -> None:
    """Take nothing new, wait for what is there, then end the gate; shows how far it is.

    What is left after the time is reset, and recorded as refused. Ctrl-C ends only the watching:
    the gate goes on draining. "sluicegate stop" does the same without waiting.

    The exit code is 0 once the gate has ended, and 1 if connections had to be cut for it.

    \b
    Examples:
        sluicegate drain
        sluicegate drain --timeout 600
    """
    clock, waiting = SystemClock(), threading.Event()
    reply = ask(config, StopRequest(timeout_s=timeout_s))
    if not isinstance(reply, DoneReply):
        raise unexpected(reply)
    left, ends = -1, 0.0
    while (view := _status(config)) is not None:
        ends = view.drain_ends or ends
        if view.connections != left:
            left = view.connections
            rest = f", at most {format_duration(max(ends - clock.wall(), 0))} more" if ends else ""
            click.echo(f"draining: {left} connections{rest}", err=True)
        waiting.wait(_ASK_AGAIN_S)
    if left > 0 and clock.wall() >= ends:
        click.echo(f"ended; {left} connections or fewer were cut", err=True)
        click.get_current_context().exit(1)
    click.echo("ended", err=True)


def _status(config: pathlib.Path | None) -> StatusView | None:
    """Return how the gate is, None once it is gone."""
    try:
        reply = ask(config, StatusRequest())
    except GateUnreachable:
        return None
    if not isinstance(reply, StatusReply):
        raise unexpected(reply)
    return reply.status
