"""``sluicegate log``: read what the gate recorded, and follow it."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from typing import Final, cast

import click
from typing_extensions import override

from sluicegate.audit.query import LogLine
from sluicegate.audit.search import Query
from sluicegate.audit.search.fields import KINDS

from .display import format_time, printable
from .log_export import export
from .log_query import find_paths, query_of
from .log_records import FileRecords, Records, open_records
from .log_verify import verify
from .options import config_option, json_option

__all__ = ["log", "show_line"]

_INTERRUPTED: Final = 130

_FOLLOW_S: Final = 0.2
"""How often a followed log is looked at; records are written every 50 ms."""

_VERDICTS: Final = ("allowed", "denied", "released", "refused", "failed")

#: Shown first and in this order; what is left follows as name=value.
_LEADING: Final = ("verdict", "outcome", "event", "reason", "cause", "message", "limit", "name")
_HIDDEN: Final = frozenset({"time", "kind", *_LEADING})


class _LogCommands(click.Group):
    """A group whose first word may be left out: records are shown then."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args[:1] and args[0] in names else ["show", *args])


@click.group(cls=_LogCommands)
def log() -> None:
    """Show, export and verify what the gate recorded.

    What is no command of these is shown: sluicegate log -f is sluicegate log show -f.

    \b
    Examples:
        sluicegate log -f
        sluicegate log verdict:refused since:1h
        sluicegate log export since:7d -o week.jsonl
        sluicegate log verify
    """


log.add_command(export)
log.add_command(verify)


@log.command()
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
def show(
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
    asked = query_of((*_terms(kinds, verdicts, client, connection, since), *query))
    last = 10 if lines is None and follow else lines
    records = _open(config, file, follow=follow)
    try:
        found = records.read(asked) if last is None else records.newest(asked, last)
        for line in found:
            show_line(line, as_json=as_json)
        if follow:
            for line in _following(records, asked):
                show_line(line, as_json=as_json)
    except KeyboardInterrupt:
        # The way to end following: no message, and the exit code of a program so ended.
        click.get_current_context().exit(_INTERRUPTED)
    finally:
        records.close()
    if records.skipped:
        click.echo(f"{records.skipped} lines are no records and were left out", err=True)


def _terms(
    kinds: tuple[str, ...], verdicts: tuple[str, ...], client: str, connection: str, since: str
) -> Iterator[str]:
    """Yield what the options say in the language of queries."""
    if kinds:
        yield f"kind:{','.join(kinds)}"
    if verdicts:
        yield f"verdict:{','.join(verdicts)}"
    if client:
        yield f"client:{_quoted(client)}"
    if connection:
        yield f"(connection:{_quoted(connection)} or primary:{_quoted(connection)})"
    if since:
        yield f"since:{_quoted(since)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _open(config: pathlib.Path | None, file: pathlib.Path | None, *, follow: bool) -> Records:
    if file is not None:
        return FileRecords(file)
    paths = find_paths(config)
    return FileRecords(paths.log_path) if follow else open_records(paths)


def _following(records: Records, asked: Query) -> Iterator[LogLine]:
    waiting = threading.Event()
    while True:
        waiting.wait(_FOLLOW_S)
        yield from records.read(asked)


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
