"""``sluicegate log``: read what the gate recorded, and follow it."""

from __future__ import annotations

import datetime as dt
import pathlib
import threading
from collections.abc import Iterator
from typing import Final, cast

import click

from sluicegate.app.config import find_state
from sluicegate.audit.query import LogFile, LogLine, Selection
from sluicegate.audit.search import QueryRefused, parse_query
from sluicegate.audit.search.fields import KINDS
from sluicegate.audit.search.matching import Predicate, predicate_of
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .display import format_time, printable
from .log_files import parse_since
from .options import config_option, find_config, json_option

__all__ = ["log", "show_line"]

_INTERRUPTED: Final = 130

_FOLLOW_S: Final = 0.2
"""How often a followed log is looked at; records are written every 50 ms."""

_VERDICTS: Final = ("allowed", "denied", "released", "refused", "failed")

#: Shown first and in this order; what is left follows as name=value.
_LEADING: Final = ("verdict", "outcome", "event", "reason", "cause", "message", "limit", "name")
_HIDDEN: Final = frozenset({"time", "kind", *_LEADING})


@click.command()
@click.argument("query", nargs=-1)
@config_option
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=pathlib.Path, exists=True),
    help="Read this file in place of the one that the configuration names.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is recorded from now on.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(0),
    default=None,
    help="Only the last so many [default: all; 10 with -f].",
)
@click.option(
    "--kind",
    "-k",
    "kinds",
    multiple=True,
    type=click.Choice(sorted(KINDS)),
    help="Only this kind; may be given several times.",
)
@click.option(
    "--verdict",
    "-v",
    "verdicts",
    multiple=True,
    type=click.Choice(_VERDICTS),
    help="Only what was decided so, or ended so; may be given several times.",
)
@click.option("--client", default="", metavar="ADDRESS", help="Only this client.")
@click.option(
    "--connection",
    default="",
    metavar="ID",
    help="Only this connection, and those that it announced.",
)
@click.option("--since", default="", metavar="15m|2h|1d", help="Only the last so much time.")
@json_option
def log(
    query: tuple[str, ...],
    config: pathlib.Path | None,
    file: pathlib.Path | None,
    *,
    follow: bool,
    lines: int | None,
    kinds: tuple[str, ...],
    verdicts: tuple[str, ...],
    client: str,
    connection: str,
    since: str,
    as_json: bool,
) -> None:
    """Show what the gate recorded: one line for each decision, connection, object and event.

    QUERY chooses among them: FIELD:VALUE,VALUE with * in texts, networks for addresses; >, >=, <,
    <= for numbers, sizes, durations and times; a word is looked for in names and URLs. Terms stand
    side by side (all must hold) or with "or" between them; "not" turns one round.

    The file itself is JSON lines; --json prints them as they are.

    \b
    Examples:
        sluicegate log -f
        sluicegate log verdict:refused since:1h
        sluicegate log 'host:*.example.com bytes_to_client>10MiB not rule:web'
        sluicegate log 'client:10.1.0.0/16 (status:403,407 or kind:limit)'
        sluicegate log --client 10.1.2.3 --kind transfer --json | jq .name
    """  # fmt: skip
    selection = Selection(
        kinds=frozenset(kinds),
        verdicts=frozenset(verdicts),
        client=client,
        connection=connection,
        since=parse_since(since),
    )
    passes = _test_of(" ".join(query))

    def is_wanted(line: LogLine) -> bool:
        return selection.has(line) and passes(line.fields)

    opened = _open(file or _log_path(config))
    try:
        found = [line for line in opened.new_lines() if is_wanted(line)]
        last = 10 if lines is None and follow else lines
        for line in found if last is None else found[len(found) - min(last, len(found)) :]:
            show_line(line, as_json=as_json)
        if follow:
            for line in _following(opened):
                if is_wanted(line):
                    show_line(line, as_json=as_json)
    except KeyboardInterrupt:
        # The way to end following: no message, and the exit code of a program so ended.
        click.get_current_context().exit(_INTERRUPTED)
    finally:
        opened.close()
    if opened.skipped:
        click.echo(f"{opened.skipped} lines are no records and were left out", err=True)


def _test_of(query: str) -> Predicate:
    zone = dt.datetime.now().astimezone().tzinfo or dt.UTC
    try:
        return predicate_of(parse_query(query, SystemClock().wall(), zone))
    except QueryRefused as refused:
        raise click.BadParameter(f"\n{refused}", param_hint="QUERY") from refused


def _following(opened: LogFile) -> Iterator[LogLine]:
    waiting = threading.Event()
    while True:
        waiting.wait(_FOLLOW_S)
        yield from opened.new_lines()


def _log_path(config: pathlib.Path | None) -> pathlib.Path:
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    return state.log_path


def _open(path: pathlib.Path) -> LogFile:
    try:
        return LogFile(path)
    except OSError as error:
        raise ConfigError(
            str(path),
            f"the log cannot be read: {error.strerror}",
            "did the gate ever run? choose its --config, or the log's --file",
        ) from error


def show_line(line: LogLine, *, as_json: bool) -> None:
    """Print one record, as it is or for people."""
    if as_json:
        click.echo(line.raw)
        return
    time = line.fields.get("time")
    shown = format_time(time) if isinstance(time, int | float) else "?"
    leading = " ".join(_plain(line.fields[name]) for name in _LEADING if line.fields.get(name))
    rest = " ".join(
        f"{name}={_plain(value)}" for name, value in line.fields.items() if name not in _HIDDEN
    )
    click.echo(f"{shown} {line.text('kind'):<14} {leading}  {rest}".rstrip())


def _plain(value: object) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, cast("list[object]", value)))
    elif isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        value = ",".join(f"{name}:{inner}" for name, inner in items)
    text = printable(str(value))
    return repr(text) if " " in text or not text else text
