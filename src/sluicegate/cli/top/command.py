"""``sluicegate top``: watch a running gate in the terminal."""

from __future__ import annotations

import asyncio
import pathlib
import sys

import click
import msgspec

from sluicegate.cli.display import show_json
from sluicegate.cli.log_query import find_paths
from sluicegate.cli.options import config_option
from sluicegate.clock import SystemClock
from sluicegate.console_limits import TOP_INTERVAL_S
from sluicegate.errors import SluicegateError

from .look import Look, Rates, look_at, rates_between

__all__ = ["top"]


@click.command()
@config_option
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.2, 3600),
    default=TOP_INTERVAL_S,
    show_default=True,
    metavar="SECONDS",
    help="How often the gate is asked.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Look twice, an interval apart, print what is there and the rates as JSON, and end.",
)
def top(config: pathlib.Path | None, interval_s: float, *, as_json: bool) -> None:
    """Watch a gate live: traffic, sessions, connections, what is held, what was refused.

    Tables can be searched as they are typed at, with words or as the log is asked, sorted, and
    looked into line by line; connections can be ended. Press ? for the keys. It needs the extra
    "top": pip install 'sluicegate[top]'.

    \b
    Examples:
        sluicegate top
        sluicegate top --interval 5
        NO_COLOR=1 sluicegate top
        sluicegate top --json | jq '.rates.denied, .look.status.connections'
    """
    paths = find_paths(config)
    if as_json:
        show_json(asyncio.run(_look_twice(paths.control_path, interval_s)))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SluicegateError("this is no terminal: use sluicegate top --json, or status --json")
    try:
        from .dashboard import Dashboard  # noqa: PLC0415 - the extra may be absent
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in {"textual", "rich"}:
            raise SluicegateError(
                "Textual is not installed (cure: pip install 'sluicegate[top]'; "
                "sluicegate top --json and the console in the browser need none)"
            ) from error
        raise
    clock = SystemClock()
    # Whoever is not permitted, or has no gate, is told so as by every command.
    asyncio.run(look_at(paths.control_path, clock))
    Dashboard(paths.control_path, paths.log_path, clock, interval_s).run()


class _Looked(msgspec.Struct, kw_only=True):
    """What ``--json`` prints."""

    look: Look
    rates: Rates | None
    """Absent: the gate was started anew meanwhile."""


async def _look_twice(path: pathlib.Path, interval_s: float) -> _Looked:
    clock = SystemClock()
    before = await look_at(path, clock)
    await asyncio.sleep(interval_s)
    after = await look_at(path, clock)
    return _Looked(look=after, rates=rates_between(before, after))
