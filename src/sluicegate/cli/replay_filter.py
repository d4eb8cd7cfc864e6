"""``sluicegate test-filter``: does a filter still do what was recorded?"""

from __future__ import annotations

import os
import pathlib
import sys
import traceback
from typing import Any

import click

from sluicegate.app.filter_source import FilterClass, FilterUnusable, find_filter_class
from sluicegate.documents import Findings, read_document, typed
from sluicegate.errors import ConfigError
from sluicegate.filterapi import DatagramFilter, WebFilter
from sluicegate.testing import Conversation, NotAConversation, Replayed, replay
from sluicegate.testing.capture import CAPTURE_BYTES_MAX, NotACapture, is_capture
from sluicegate.testing.reassembly import captured_connections
from sluicegate.testing.replay import differs
from sluicegate.testing.watched import FilterLike

from .display import printable, show_json
from .options import json_option

__all__ = ["test_filter"]

_DIFFERS = 1


@click.command("test-filter")
@click.argument("use", metavar="MODULE:CLASS")
@click.argument(
    "conversation", type=click.Path(path_type=pathlib.Path, dir_okay=False, exists=True)
)
@click.option(
    "--settings",
    type=click.Path(path_type=pathlib.Path, dir_okay=False, exists=True),
    help="A TOML file with the filter's settings, as below [filter.settings].",
)
@click.option(
    "--connection",
    type=click.IntRange(min=1),
    help="Which TCP connection of a capture, from 1, where it has several.",
)
@json_option
def test_filter(
    use: str,
    conversation: pathlib.Path,
    settings: pathlib.Path | None,
    connection: int | None,
    *,
    as_json: bool,
) -> None:
    """Replay a recorded CONVERSATION against a filter, and say where it goes otherwise.

    The filter runs in a whole gate on a network in memory and on virtual time: nothing is opened,
    nothing is waited for. MODULE:CLASS may also be path/to/filter.py:Class or an installed
    filter's name. A conversation is a text file, one step per line; where it says nothing of
    results, what comes is shown. It may also be a capture of tcpdump or Wireshark (pcap, pcapng).
    The exit code is 0 when everything went as recorded, 1 when not.

    \b
    Examples:
        sluicegate test-filter only_ssh.py:OnlySsh login.conversation
        sluicegate test-filter mail:NoMacros letter.conversation --json | jq .went
        sluicegate test-filter exe_block setup.conversation --settings exe_block.toml
        sluicegate test-filter only_ssh.py:OnlySsh trace.pcapng --connection 2
    """
    try:
        recorded = _recorded(conversation, connection)
    except (NotAConversation, NotACapture, UnicodeDecodeError, OSError) as error:
        raise ConfigError(str(conversation), str(error)) from error
    came = replay(_filter_of(use, settings), recorded)
    difference = differs(recorded, came.conversation) if recorded.has_results else ""
    problems = [*_told(came), *([came.problem] if came.problem else [])]
    is_right = not difference and not came.problem and (recorded.has_results or not problems)
    if as_json:
        show_json(_report(use, conversation, came, is_right, difference, problems))
    else:
        _show(came, recorded, is_right, difference, problems)
    if not is_right:
        click.get_current_context().exit(_DIFFERS)


def _recorded(path: pathlib.Path, number: int | None) -> Conversation:
    """Read a conversation, or one connection of a capture.

    Raises:
        NotAConversation: It is neither.
        NotACapture: The capture cannot be used, or it is not said which connection is meant.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if not is_capture(file.read(4)):
            return Conversation.of(path)
    if path.stat().st_size > CAPTURE_BYTES_MAX:
        raise NotACapture(f"larger than {CAPTURE_BYTES_MAX >> 20} MiB: capture with a filter")
    found = captured_connections(path.read_bytes())
    if not found:
        raise NotACapture("no TCP connection that carried bytes")
    if number is None and len(found) == 1:
        return found[0].conversation
    if number is None or number > len(found):
        shown = "\n".join(
            f"  {place}: {one.client} to {one.server}" for place, one in enumerate(found[:20], 1)
        )
        raise NotACapture(f"{len(found)} connections, say which with --connection:\n{shown}")
    return found[number - 1].conversation


def _filter_of(use: str, settings: pathlib.Path | None) -> FilterLike:
    """Return what makes the filter.

    Raises:
        ConfigError: There is none, or its settings are wrong.
    """
    here = pathlib.Path.cwd()
    if os.fspath(here) not in sys.path:
        sys.path.insert(0, os.fspath(here))  # as ``python -m`` does
    try:
        filter_class, _ = find_filter_class(use, here)
    except FilterUnusable as error:
        raise ConfigError(use, error.cause, error.cure) from error
    return _with_settings(filter_class, use, settings)


def _with_settings(
    filter_class: FilterClass, use: str, settings: pathlib.Path | None
) -> FilterLike:
    # How a filter takes its settings is between it and its ``Settings``; no type can say it.
    make: Any = filter_class
    if issubclass(filter_class, DatagramFilter):
        cure = "write its test with testing.SimulatedBackend"
        raise ConfigError(use, "is a filter for datagrams, and what is replayed is a stream", cure)
    if issubclass(filter_class, WebFilter):
        cure = "write its test with testing.exchange_web"
        raise ConfigError(use, "is a web filter, and what is replayed is a stream", cure)
    declared = _declared(filter_class)
    if declared is None:
        if settings is not None:
            raise ConfigError(use, "takes no settings", "leave --settings out")
        return filter_class
    findings = Findings()
    text = settings.read_text(encoding="utf-8") if settings is not None else ""
    name = str(settings or f"the settings of {use}")
    document = read_document(text, name, findings)
    model = None if document is None else typed(document, declared, findings)
    findings.raise_errors()
    return lambda: make(model)


def _declared(filter_class: FilterClass) -> type[object] | None:
    """Return the model of a filter's settings."""
    declared: object = getattr(filter_class, "Settings", None)
    return declared if isinstance(declared, type) else None


def _told(came: Replayed) -> list[str]:
    return [f"the filter raised {type(one).__name__}: {one}" for one in came.filter_errors]


def _report(
    use: str,
    conversation: pathlib.Path,
    came: Replayed,
    is_right: bool,
    difference: str,
    problems: list[str],
) -> dict[str, object]:
    outcome, reason = came.outcome
    return {
        "filter": use,
        "conversation": str(conversation),
        "ok": is_right,
        "outcome": outcome,
        "reason": reason,
        "difference": difference.splitlines(),
        "problems": problems,
        "went": came.conversation.lines(),
    }


def _show(
    came: Replayed, recorded: Conversation, is_right: bool, difference: str, problems: list[str]
) -> None:
    if not recorded.has_results:
        click.echo("Nothing was recorded of what comes of it; this came:\n")
        click.echo(str(came.conversation))
    elif is_right:
        steps = len(recorded.given)
        click.echo(f"ok: {steps} steps went as recorded, outcome {came.outcome[0]}")
    if difference:
        click.echo("It went otherwise (- recorded, + now):\n")
        for line in difference.splitlines():
            color = {"-": "red", "+": "green"}.get(line[:1])
            click.secho(printable(line), fg=color)
    for error in came.filter_errors:
        for frame in traceback.format_exception(error)[-2:]:
            click.echo("\n".join(printable(line) for line in frame.splitlines()), err=True)
    for problem in problems:
        click.secho("\n".join(printable(line) for line in problem.splitlines()), fg="red", err=True)
