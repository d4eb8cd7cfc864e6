"""``sluicegate policy``: what was in force, what is, and how another one comes into force."""

from __future__ import annotations

import pathlib
from typing import Final, TypeVar

import click

from sluicegate.gate.control_messages import PolicyReply, PolicyRequest, RefusedReply
from sluicegate.gate.policy_orders import (
    AnyPolicyOrder,
    ChangePolicy,
    CheckPolicy,
    FindingView,
    ListVersions,
    PolicyChanged,
    PolicyChecked,
    PolicyFile,
    PolicyRules,
    PolicyVersion,
    PolicyVersions,
    ReadRules,
    ReadVersion,
    RollBack,
    VersionTexts,
)
from sluicegate.policy.differences import DifferentLine, differences
from sluicegate.process_limits import (
    CONTROL_TIMEOUT_S,
    WORKER_ANSWER_TIMEOUT_S,
    WORKER_START_TIMEOUT_S,
)

from .display import format_bytes, format_time, printable, show_json, show_table
from .options import ask, config_option, json_option
from .replies import unexpected

__all__ = ["policy"]

_WRONG: Final = 2
_PATIENCE_S: Final = CONTROL_TIMEOUT_S + WORKER_START_TIMEOUT_S / 2 + 2 * WORKER_ANSWER_TIMEOUT_S
_COLORS: Final = {"-": "red", "+": "green", "@": "cyan"}

AnswerT = TypeVar("AnswerT")

_note_option = click.option("--note", default="", help="Why, for the history and the records.")


@click.group()
def policy() -> None:
    """Show the policies that were in force, change the one that is, or go back to an earlier one.

    Every policy that comes into force is kept in state_dir, whoever changed it and how. The gate
    that runs is asked, and writes the policy's files itself.

    \b
    Examples:
        sluicegate policy history
        sluicegate policy diff 12
        sluicegate policy apply new.toml --note "TICKET-4711"
        sluicegate policy rollback 12
    """


@policy.command()
@config_option
@json_option
@click.option("--limit", "-n", type=click.IntRange(1), default=50, show_default=True)
def history(config: pathlib.Path | None, *, as_json: bool, limit: int) -> None:
    """List the policies that were in force, the newest first."""
    answer = _ask(config, ListVersions(limit=limit), PolicyVersions)
    if as_json:
        show_json(answer)
        return
    show_table(
        ("VERSION", "POLICY", "SINCE", "BY", "", "CHANGES", "NOTE"),
        [
            (
                f"{row.number}{' *' if row.number == answer.number else ''}",
                row.policy[:12],
                format_time(row.time),
                row.by,
                row.origin,
                _describe_changes(row),
                row.note,
            )
            for row in answer.rows
        ],
    )
    if answer.total > len(answer.rows):
        click.echo(f"{answer.total - len(answer.rows)} older ones: --limit {answer.total}")


@policy.command()
@click.argument("version", default="")
@config_option
@json_option
def show(version: str, config: pathlib.Path | None, *, as_json: bool) -> None:
    """Show the files of a VERSION: its number, or the beginning of its SHA-256 [in force]."""
    answer = _ask(config, ReadVersion(version=version), VersionTexts)
    if as_json:
        show_json(answer)
        return
    for file in answer.files:
        if len(answer.files) > 1:
            click.secho(f"# {printable(file.name)}", fg="cyan")
        click.echo(printable_lines(file.text))


@policy.command()
@click.argument("before")
@click.argument("after", default="")
@config_option
@json_option
def diff(before: str, after: str, config: pathlib.Path | None, *, as_json: bool) -> None:
    """Show what AFTER [what is in force] has that BEFORE had not, and the other way round.

    The exit code is 0 also where they differ.
    """
    old = _texts(_ask(config, ReadVersion(version=before), VersionTexts))
    new = _texts(_ask(config, ReadVersion(version=after), VersionTexts))
    found = _differences(old, new)
    if as_json:
        show_json({name: [line._asdict() for line in lines] for name, lines in found.items()})
    else:
        _show_differences(found)


@policy.command()
@click.argument("version")
@config_option
@json_option
@_note_option
def rollback(version: str, config: pathlib.Path | None, *, as_json: bool, note: str) -> None:
    """Put an earlier VERSION in force again: it is written to the policy's files and loaded.

    What is in force stays so when anything is wrong with it; the exit code is 2 then.
    """
    base = _ask(config, ReadVersion(), VersionTexts).version.texts
    order = RollBack(version=version, base=base, note=note)
    _show_changed(_ask(config, order, PolicyChanged), as_json=as_json)


@policy.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False))
@config_option
@json_option
@_note_option
@click.option("--as", "name", default="", help="The file of the policy that it is [the main one].")
@click.option("--dry-run", is_flag=True, help="Only say what it would change.")
def apply(
    file: pathlib.Path,
    config: pathlib.Path | None,
    *,
    as_json: bool,
    note: str,
    name: str,
    dry_run: bool,
) -> None:
    """Check FILE, write it over the policy's file, and put it in force.

    What is in force stays so when anything is wrong with it, on disk too; the exit code is 2 then.
    """
    current = _ask(config, ReadVersion(), VersionTexts)
    proposed = [PolicyFile(name=name or current.main, text=file.read_text("utf-8"))]
    if not dry_run:
        order = ChangePolicy(files=proposed, base=current.version.texts, note=note)
        _show_changed(_ask(config, order, PolicyChanged), as_json=as_json)
        return
    checked = _ask(config, CheckPolicy(files=proposed), PolicyChecked)
    if as_json:
        show_json(checked)
    else:
        old = _texts(current)
        _show_differences(_differences(old, old | {one.name: one.text for one in proposed}))
        _show_findings("error", checked.errors)
        _show_findings("warning", checked.warnings)
        click.echo(f"policy {checked.policy[:12] or 'none'}: {_describe_changes(checked)}")
    if checked.errors:
        click.get_current_context().exit(_WRONG)


@policy.command()
@config_option
@json_option
def rules(config: pathlib.Path | None, *, as_json: bool) -> None:
    """List the rules in force, in the order in which they are tried."""
    answer = _ask(config, ReadRules(), PolicyRules)
    if as_json:
        show_json(answer)
        return
    show_table(
        ("#", "RULE", "ACTION", "CLIENTS", "TO", "FILTERS", "PLACE", ""),
        [
            (
                str(number),
                row.name,
                row.action,
                _short(row.clients),
                _short(row.to),
                ", ".join(row.filters),
                row.place,
                _describe_state(row.covered_by, is_enabled=row.is_enabled),
            )
            for number, row in enumerate(answer.rows, 1)
        ],
    )
    if answer.total > len(answer.rows):
        click.echo(f"{answer.total - len(answer.rows)} more are not shown")


def printable_lines(text: str) -> str:
    """Return a text of several lines in which every character can be seen."""
    return "\n".join(printable(line) for line in text.splitlines())


def _ask(config: pathlib.Path | None, order: AnyPolicyOrder, kind: type[AnswerT]) -> AnswerT:
    reply = ask(config, PolicyRequest(order=order), timeout_s=_PATIENCE_S)
    if isinstance(reply, RefusedReply):
        for cause in reply.causes:
            click.echo(f"{click.style('error:', fg='red')} {printable(cause)}", err=True)
        click.get_current_context().exit(_WRONG)
    if not isinstance(reply, PolicyReply) or not isinstance(reply.answer, kind):
        raise unexpected(reply)
    return reply.answer


def _texts(answer: VersionTexts) -> dict[str, str]:
    return {file.name: file.text for file in answer.files}


def _differences(old: dict[str, str], new: dict[str, str]) -> dict[str, list[DifferentLine]]:
    names = dict.fromkeys([*old, *new])
    found = {name: differences(old.get(name, ""), new.get(name, "")) for name in names}
    return {name: lines for name, lines in found.items() if lines}


def _show_differences(found: dict[str, list[DifferentLine]]) -> None:
    if not found:
        click.echo("no difference")
    for name, lines in found.items():
        click.secho(printable(name), bold=True)
        for line in lines:
            text = f"{line.mark}{printable(line.text)}"
            click.secho(text, fg=_COLORS.get(line.mark))


def _show_changed(answer: PolicyChanged, *, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    for note in answer.notes:
        click.echo(f"{click.style('warning:', fg='yellow')} {printable(note)}", err=True)
    row = answer.version
    size = format_bytes(row.size_bytes)
    changes = _describe_changes(row)
    click.echo(f"in force: version {row.number}, policy {row.policy[:12]}, {size}: {changes}")


def _show_findings(word: str, findings: list[FindingView]) -> None:
    color = "red" if word == "error" else "yellow"
    for one in findings:
        cure = f" ({one.cure})" if one.cure else ""
        text = printable(f"{one.where}: {one.cause}{cure}")
        click.echo(f"{click.style(f'{word}:', fg=color)} {text}", err=True)


def _describe_changes(row: PolicyVersion | PolicyChecked) -> str:
    parts = [
        f"{sign}{len(names)}"
        for sign, names in (("+", row.added), ("-", row.removed), ("~", row.changed))
        if names
    ]
    parts += [f"{len(row.moved)} moved"] if row.moved else []
    return " ".join(parts) or "no rule changed"


def _describe_state(covered_by: list[str], *, is_enabled: bool) -> str:
    if not is_enabled:
        return "not enabled"
    return f"never decides: {', '.join(covered_by)}" if covered_by else ""


def _short(texts: list[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_SHOWN: Final = 3
