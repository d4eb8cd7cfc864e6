"""Options that several commands share, and how they find their gate.

The commands decorate themselves with these. The invariant: ``--config`` means the same file, found
in the same way, for every command, so ``status`` asks the gate that ``run`` started.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
from typing import Final

import click

from sluicegate.app.service_config import find_state
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError
from sluicegate.gate.control_client import ask_gate
from sluicegate.gate.control_messages import AnyReply, Request
from sluicegate.process_limits import CONTROL_TIMEOUT_S

__all__ = ["ask", "config_option", "find_config", "json_option"]

_VARIABLE: Final = "SLUICEGATE_CONFIG"
_PLACES: Final = (pathlib.Path("sluicegate.toml"), pathlib.Path("/etc/sluicegate/sluicegate.toml"))

config_option = click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    envvar=_VARIABLE,
    help="sluicegate.toml  [default: in this folder, then in /etc/sluicegate]",
)
"""Which gate: ``--config``, or ``SLUICEGATE_CONFIG``."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs, in place of text."
)
"""For every command that reports."""


def find_config(config: pathlib.Path | None) -> pathlib.Path:
    """Return the file that ``--config`` names, or the one at a usual place.

    Raises:
        ConfigError: There is none.
    """
    if config is not None:
        return config
    for place in _PLACES:
        if place.exists():
            return place
    raise ConfigError(
        os.fspath(_PLACES[0]), "there is no such file in this folder", "name one with --config"
    )


def ask(
    config: pathlib.Path | None, request: Request, *, timeout_s: float = CONTROL_TIMEOUT_S
) -> AnyReply:
    """Ask one thing of the gate that a configuration means.

    Raises:
        ConfigRefused: The configuration does not say where the gate is.
        GateUnreachable: No gate answered.
    """
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    return asyncio.run(ask_gate(state.control_path, request, timeout_s=timeout_s))
