"""``sluicegate check``: are the files right?"""

from __future__ import annotations

import pathlib

import click

from sluicegate.app.load import load
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .display import printable, show_json
from .options import config_option, find_config, json_option

__all__ = ["check"]

_WRONG = 2


@click.command()
@config_option
@json_option
def check(config: pathlib.Path | None, *, as_json: bool) -> None:
    """Read all files, load all filters, and say everything that is wrong with them.

    Nothing is started and nothing is changed. The exit code is 0 when a gate could start with
    these files, 2 when not.

    \b
    Examples:
        sluicegate check
        sluicegate check --config new/sluicegate.toml --json
        sluicegate check && systemctl reload sluicegate
    """
    findings = Findings()
    loaded = load(find_config(config), findings)
    if as_json:
        show_json(
            {
                "ok": loaded is not None,
                "policy": loaded.settings.policy.hash if loaded is not None else None,
                "errors": [_fields(error) for error in findings.errors],
                "warnings": [_fields(warning) for warning in findings.warnings],
            }
        )
    else:
        for error in findings.errors:
            click.echo(f"{click.style('error:', fg='red')} {printable(str(error))}", err=True)
        for warning in findings.warnings:
            click.echo(
                f"{click.style('warning:', fg='yellow')} {printable(str(warning))}", err=True
            )
        if loaded is not None:
            settings = loaded.settings
            click.echo(
                f"ok: {len(settings.listeners)} addresses, {len(settings.filters)} filters, "
                f"{len(settings.policy.policy.all_rules)} rules, policy "
                f"{settings.policy.hash[:12]}"
            )
    if loaded is None:
        click.get_current_context().exit(_WRONG)


def _fields(finding: ConfigError) -> dict[str, str]:
    return {"where": finding.where, "cause": finding.cause, "cure": finding.cure}
