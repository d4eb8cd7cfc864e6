"""``sluicegate simulate``: what another policy would have decided."""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Iterator
from typing import IO, Final

import click
import msgspec

from sluicegate.app.inquiry.offline_gate import OfflineGate
from sluicegate.app.inquiry.simulation import ChangeGroup, Simulated, Simulation
from sluicegate.app.log_config import open_place
from sluicegate.audit.log_source import LogSource
from sluicegate.audit.query import LogLine
from sluicegate.audit.search.fields import FIELDS
from sluicegate.audit.search.query import All, Compare, Operator, Pattern
from sluicegate.audit.store import has_store
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused

from .display import format_time, printable, show_json
from .explain import load_gate
from .log_files import find_logs, logs_option, parse_since
from .log_query import find_paths
from .log_records import open_records
from .options import config_option, json_option

__all__ = ["read_logs", "simulate"]

_CHANGED: Final = 1
_CLIENTS_SHOWN: Final = 10


@click.command()
@config_option
@click.option(
    "--policy",
    type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False),
    help="The policy that is to be tried.",
)
@click.option(
    "--proposed",
    type=click.File("rb"),
    help="A JSON object with texts, by the names of the policy's files, that are tried in place of "
    "those on disk; - is standard input.",
)
@logs_option
@click.option(
    "--since", default="", metavar="15m|2h|1d", help="Only the last so much time [default: all]."
)
@click.option(
    "--seconds-max",
    type=click.FloatRange(0.1),
    default=None,
    help="Read records for at most so long, and say how far that came [default: to the end].",
)
@click.option(
    "--fail-on-change",
    is_flag=True,
    help="Exit with 1 when a verdict or the filters of a connection would change.",
)
@json_option
def simulate(
    config: pathlib.Path | None,
    policy: pathlib.Path | None,
    proposed: IO[bytes] | None,
    files: tuple[pathlib.Path, ...],
    *,
    since: str,
    seconds_max: float | None,
    fail_on_change: bool,
    as_json: bool,
) -> None:
    """Decide what the log has once more, by another policy, and say what would be different.

    Records are read from the gate's store where it has one, else from its log, or from files that
    --log names. Every recorded decision is made again for its own time, with the code that
    decides, and with the users, filters and listeners of the configuration. Nothing is dialled and
    nothing is looked up.
    Changes are grouped by the rules before and after, with counts and examples; what cannot be
    decided again (a limit or a filter refused it, say) is counted with the reason.

    Exit code 0; with --fail-on-change 1 when something would change; 2: the files are wrong.

    \b
    Examples:
        sluicegate simulate --policy new.toml
        sluicegate simulate --policy new.toml --since 1d --fail-on-change
        sluicegate simulate --policy new.toml --since 1d --seconds-max 20
        sluicegate simulate --policy new.toml --log records.jsonl.1.gz --json | jq .groups
    """
    if (policy is None) == (proposed is None):
        raise click.UsageError("name a policy with --policy, or texts with --proposed")
    gate = load_gate(config, policy, None if proposed is None else _read_proposed(proposed))
    simulation = Simulation(gate, _current(config))
    earliest = parse_since(since)
    clock = SystemClock()
    began = clock.monotonic()
    due = math.inf if seconds_max is None else began + seconds_max
    is_complete = True
    for line in _lines(config, files, earliest):
        time = line.fields.get("time")
        if isinstance(time, int | float) and time >= earliest:
            simulation.take(line)
        if clock.monotonic() >= due:
            is_complete = False
            break
    result = simulation.finish(clock.monotonic() - began, is_complete=is_complete)
    if as_json:
        show_json(result)
    else:
        _show(result)
    if fail_on_change and result.count("now-denied", "now-allowed", "other-filters"):
        click.get_current_context().exit(_CHANGED)


def _current(config: pathlib.Path | None) -> OfflineGate | None:
    """Read the policy that the configuration names; what is wrong with it is no obstacle."""
    try:
        return load_gate(config)
    except ConfigRefused:
        return None


def _read_proposed(file: IO[bytes]) -> dict[str, str]:
    try:
        return msgspec.json.decode(file.read(), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise click.BadParameter(
            f"no JSON object of texts: {error}", param_hint="--proposed"
        ) from error


def _lines(
    config: pathlib.Path | None, files: tuple[pathlib.Path, ...], earliest: float
) -> Iterator[LogLine]:
    """Yield the decisions since a time; a store finds them without reading what is older."""
    if not files and math.isfinite(earliest):
        paths = find_paths(config)
        if paths.store is not None and has_store(open_place(paths.store)):
            records = open_records(paths)
            kinds = Compare(
                FIELDS["kind"], Operator.IS, (Pattern(("decision",)), Pattern(("request",)))
            )
            since = Compare(FIELDS["time"], Operator.AT_LEAST, (max(earliest, 0.0),))
            try:
                yield from records.read(All((kinds, since)))
            finally:
                records.close()
            return
    yield from read_logs(find_logs(config, files), "decision", "request")


def read_logs(log: LogSource, *texts: str) -> Iterator[LogLine]:
    """Yield the lines of a log that hold one of these texts; say how far it is on a terminal.

    Raises:
        ConfigError: It cannot be read.
    """
    is_shown, seen = sys.stderr.isatty(), 0
    with click.progressbar(length=max(log.size, 1), file=sys.stderr, hidden=not is_shown) as bar:
        for line in log.lines(*texts):
            if is_shown and log.read > seen:
                bar.update(log.read - seen)
                seen = log.read
            yield line


_TITLES: Final = {
    "now-denied": ("allowed then, refused by this policy", "red"),
    "now-allowed": ("refused then, allowed by this policy", "yellow"),
    "other-filters": ("allowed as before, through other filters", "yellow"),
    "other-rule": ("the same answer by another rule", None),
}


def _show(result: Simulated) -> None:
    decided = result.unchanged + result.changed
    speed = f", {result.decisions / result.seconds:,.0f} a second" if result.seconds >= 1 else ""
    click.echo(
        f"{result.decisions:,} decisions, {decided:,} made again by policy {result.policy[:12]} in "
        f"{result.seconds:.1f} s{speed}: {result.unchanged:,} unchanged, {result.changed:,} changed"
    )
    if not result.is_complete:
        click.secho(
            f"time was up: records after {format_time(result.last)} were not read", fg="yellow"
        )
    for change, (title, color) in _TITLES.items():
        groups = [group for group in result.groups if group.change == change]
        if groups:
            click.secho(f"\n{title}: {result.count(change):,}", fg=color)
            for group in groups:
                _show_group(group)
    if result.clients:
        shown = [f"{one.client} {one.count:,}" for one in result.clients[:_CLIENTS_SHOWN]]
        more = len(result.clients) - len(shown)
        text = ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
        click.echo(f"\nclients with changes: {printable(text)}")
    if result.not_replayed:
        click.echo(f"\nnot decided again: {sum(result.not_replayed.values()):,}")
        for why, count in sorted(result.not_replayed.items(), key=lambda item: -item[1]):
            click.echo(f"  {count:>8,}  {printable(why)}")
    if result.by_name_only:
        click.echo(
            f"\n{result.by_name_only:,} were judged by their names alone: their records do not "
            "have the addresses"
        )
    if result.other_policy:
        click.echo(
            f"\n{result.other_policy:,} were allowed by a policy that the files do not have any "
            "more: their filters were not compared"
        )


def _show_group(group: ChangeGroup) -> None:
    before = group.rule_before or group.reason_before
    after = group.rule_after or group.reason_after
    if group.rule_after and group.change == "now-denied":
        after = f"{group.rule_after} ({group.reason_after})"
    click.echo(f"  {group.count:>8,}  {printable(before)} -> {printable(after)}")
    if group.filters_before is not None and group.filters_before != group.filters_after:
        before, after = (
            ", ".join(one) or "none" for one in (group.filters_before, group.filters_after)
        )
        click.echo(f"{'':12}filters: {printable(before)} -> {printable(after)}")
    for one in group.examples:
        user = f" ({one.user})" if one.user else ""
        target = one.target or "the published server"
        text = f"{one.client}{user} to {target}, {format_time(one.time)}, {one.connection}"
        click.echo(f"{'':12}{printable(text)}")
