"""``sluicegate check``: are the files right?"""

from __future__ import annotations

import pathlib

import click

from sluicegate.app.authority_files import open_authority, warn_of_expiry
from sluicegate.app.load import Loaded, load
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .display import printable, show_json
from .options import config_option, find_config, json_option

__all__ = ["check"]

_WRONG = 2


@click.command()
@config_option
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@json_option
def check(config: pathlib.Path | None, *, strict: bool, as_json: bool) -> None:
    """Read all files, load all filters, and say everything that is wrong with them.

    Nothing is started and nothing is changed. The exit code is 0 when a gate could start with
    these files, 2 when not, or, with --strict, when there is anything to warn of. Errors and
    warnings go to standard error, or, with --json, into one object on standard output.

    \b
    Examples:
        sluicegate check
        sluicegate check --config new/sluicegate.toml --json --strict
        sluicegate check && systemctl reload sluicegate
    """
    findings = Findings()
    loaded = load(find_config(config), findings)
    if loaded is not None and not _can_sign(loaded, findings):
        loaded = None
    is_right = loaded is not None and not (strict and findings.warnings)
    if as_json:
        show_json(
            {
                "ok": is_right,
                "policy": None if loaded is None else loaded.settings.policy.hash,
                "counts": None if loaded is None else _counts(loaded),
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
            counts = _counts(loaded)
            click.echo(
                f"ok: {counts['addresses']} addresses, {counts['filters']} filters, "
                f"{counts['publications'] + counts['rules']} rules, policy "
                f"{loaded.settings.policy.hash[:12]}"
            )
        if loaded is not None and not is_right:
            click.echo(f"refused for {len(findings.warnings)} warnings (--strict)", err=True)
    if not is_right:
        click.get_current_context().exit(_WRONG)


def _can_sign(loaded: Loaded, findings: Findings) -> bool:
    """Tell whether the keys of ``[ca]`` are there, each its owner's alone."""
    opened = open_authority(loaded.configuration, findings)
    if opened is not None:
        for line in warn_of_expiry(opened, SystemClock()):
            findings.warn(loaded.configuration.document.where(("ca",)), line)
        opened.close()
    return not findings.errors


def _counts(loaded: Loaded) -> dict[str, int]:
    settings, policy = loaded.settings, loaded.settings.policy.policy
    return {
        "addresses": len(settings.listeners),
        "filters": len(settings.filters),
        "publications": len(policy.publications),
        "rules": len(policy.rules),
        "network_rules": len(policy.network_rules),
        "learn": len(policy.learn),
        "enabled": sum(one.is_enabled for one in policy.all_rules),
    }


def _fields(finding: ConfigError) -> dict[str, str]:
    return {"where": finding.where, "cause": finding.cause, "cure": finding.cure}
