"""``sluicegate log export``: records for other programs."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import Final

import click

from sluicegate.audit.query import LogLine
from sluicegate.audit.search.words import host_of_record
from sluicegate.errors import ConfigError

from .log_query import find_paths, query_of
from .log_records import open_records
from .options import config_option

__all__ = ["export"]

_COLUMNS: Final = (
    "time", "kind", "verdict", "outcome", "reason", "client", "user", "rule", "host", "url",
    "method", "status", "server", "bytes_to_client", "bytes_to_server", "duration_ms",
    "duration_s", "name", "sha256", "filter", "connection", "request",
)  # fmt: skip

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@click.command()
@click.argument("query", nargs=-1)
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Lines of JSON, whole; or a table of what most records have.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=pathlib.Path, dir_okay=False, writable=True),
    help="Write there, whole or not at all  [default: standard output]",
)
def export(
    query: tuple[str, ...], config: pathlib.Path | None, form: str, output: pathlib.Path | None
) -> None:
    """Write all records that QUERY chooses, the oldest first.

    \b
    Examples:
        sluicegate log export since:7d -o week.jsonl
        sluicegate log export --format csv 'kind:request verdict:refused' -o refused.csv
    """
    wanted = query_of(query)
    records = open_records(find_paths(config))
    lines = records.read(wanted)
    pieces = _as_csv(lines) if form == "csv" else map(_as_json, lines)
    try:
        if output is None:
            for piece in pieces:
                click.echo(piece, nl=False)
            return
        _write_whole(output, pieces)
    finally:
        records.close()


def _write_whole(output: pathlib.Path, pieces: Iterable[bytes]) -> None:
    """Write a file, or leave what is there.

    Raises:
        ConfigError: It cannot be written.
    """
    partial = output.with_name(f".{output.name}.part")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        with file:
            file.writelines(pieces)
        partial.replace(output)
    except OSError as error:
        raise _unwritable(output, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(output: pathlib.Path, error: OSError) -> ConfigError:
    cure = "choose another file with --output"
    return ConfigError(str(output), f"cannot be written: {error.strerror}", cure)


def _as_json(line: LogLine) -> bytes:
    return line.raw + b"\n"


def _as_csv(lines: Iterator[LogLine]) -> Iterator[bytes]:
    """Yield rows (RFC 4180), in which nothing is a formula to a spreadsheet."""
    row = io.StringIO(newline="")
    writer = csv.writer(row)
    writer.writerow(_COLUMNS)
    for line in lines:
        yield _taken(row)
        writer.writerow([_cell(line, name) for name in _COLUMNS])
    yield _taken(row)


def _taken(row: io.StringIO) -> bytes:
    text = row.getvalue()
    row.seek(0)
    row.truncate()
    return text.encode("utf-8")


def _cell(line: LogLine, name: str) -> str:
    text = host_of_record(line.fields) if name == "host" else line.text(name)
    value = line.fields.get(name)
    is_number = isinstance(value, int | float)
    return f"'{text}" if not is_number and text.startswith(_FORMULA) else text
