"""``sluicegate upgrade``: this version of the program takes a running gate over."""

from __future__ import annotations

import pathlib
import sys
import threading
from typing import Final

import click

from sluicegate.clock import SystemClock
from sluicegate.errors import SluicegateError
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import (
    DoneReply,
    RefusedReply,
    StatusReply,
    StatusRequest,
    UpgradeRequest,
)
from sluicegate.gate.views import StatusView
from sluicegate.process_limits import CONTROL_TIMEOUT_S, PREFLIGHT_TIMEOUT_S, UPGRADE_TIMEOUT_S

from .display import printable
from .options import ask, config_option
from .replies import unexpected

__all__ = ["upgrade"]

_WRONG: Final = 2
_ASK_AGAIN_S: Final = 0.2


@click.command()
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End connections of the old version after this long  [default: they may live on]",
)
def upgrade(config: pathlib.Path | None, timeout_s: float | None) -> None:
    """Let this version of the program take the running gate over, without turning anybody away.

    Install the new version (in the same place, or in another), then run its "upgrade". It reads the
    files first; if it cannot work with them, nothing changes and the exit code is 2. Else it takes
    the place of the supervisor in the same process, starts its own workers on the same listening
    sockets, and lets the old ones drain: connections that are open end by themselves.

    The files are read anew: what was changed in them is in force afterwards.

    \b
    Examples:
        pip install --upgrade sluicegate && sluicegate upgrade
        /opt/sluicegate-2/bin/sluicegate upgrade --config /etc/sluicegate/sluicegate.toml
    """
    before = _status(config)
    # -P: the gate's folder is no place to import modules from.
    program = [sys.executable, "-P", "-m", "sluicegate"]
    request = UpgradeRequest(program=program, drain_timeout_s=timeout_s)
    reply = ask(config, request, timeout_s=PREFLIGHT_TIMEOUT_S + CONTROL_TIMEOUT_S)
    if isinstance(reply, RefusedReply):
        for cause in reply.causes:
            click.echo(f"{click.style('error:', fg='red')} {printable(cause)}", err=True)
        click.get_current_context().exit(_WRONG)
    if not isinstance(reply, DoneReply):
        raise unexpected(reply)
    for note in reply.notes:
        click.echo(printable(note))
    after = _wait_for_next(config, before)
    old = sum(one.connections for one in after.workers if one.state == "draining")
    click.echo(f"version {after.version} serves; connections that the old one still has: {old}")


def _wait_for_next(config: pathlib.Path | None, before: StatusView) -> StatusView:
    """Return the status once the new version serves.

    Raises:
        SluicegateError: It does not, in time.
    """
    clock, waiting = SystemClock(), threading.Event()
    deadline = clock.monotonic() + UPGRADE_TIMEOUT_S
    while clock.monotonic() < deadline:
        waiting.wait(_ASK_AGAIN_S)
        try:
            now = _status(config)
        except GateUnreachable:
            continue
        is_next = now.boot != before.boot
        if is_next and not any(one.state == "starting" for one in now.workers):
            return now
    raise SluicegateError(
        "the new version does not serve: see the gate's own output, and sluicegate status"
    )


def _status(config: pathlib.Path | None) -> StatusView:
    reply = ask(config, StatusRequest())
    if not isinstance(reply, StatusReply):
        raise unexpected(reply)
    return reply.status
