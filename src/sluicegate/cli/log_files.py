"""Which log a command reads: a gate's store and log, its files alone, or those that are named."""

from __future__ import annotations

import pathlib
import re
from typing import Final

import click

from sluicegate.app.log_config import open_place
from sluicegate.app.service_config import find_state
from sluicegate.audit.log_source import FileLogs, LogSource
from sluicegate.audit.query import rotated_files
from sluicegate.audit.store import has_store
from sluicegate.audit.whole_log import WholeLog
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .options import find_config

__all__ = ["find_logs", "logs_option", "parse_since"]

logs_option = click.option(
    "--log",
    "files",
    multiple=True,
    type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False),
    help="A file of records, also compressed (.gz); may be given several times, oldest first  "
    "[default: the gate's store, or its file with the rotated ones]",
)


def find_logs(config: pathlib.Path | None, files: tuple[pathlib.Path, ...]) -> LogSource:
    """Return what is to be read.

    Raises:
        ConfigError: There is none.
    """
    if files:
        return FileLogs(files)
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    if state.store is not None and has_store(place := open_place(state.store)):
        whole = WholeLog(state.log_path, place, SystemClock())
        click.get_current_context().call_on_close(whole.close)
        return whole
    try:
        found = rotated_files(state.log_path)
    except OSError as error:
        raise ConfigError(
            str(state.log_path), f"the log cannot be read: {error.strerror}", _CURE
        ) from error
    if not found:
        raise ConfigError(str(state.log_path), "there is no log", _CURE)
    return FileLogs(found)


def parse_since(text: str) -> float:
    """Return the time that is so long ago, in seconds since the epoch; empty: the beginning.

    Raises:
        click.BadParameter: It is no duration.
    """
    if not text:
        return float("-inf")
    found = _SINCE.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no time such as 30s, 15m, 2h or 1d", param_hint="--since"
        )
    return SystemClock().wall() - float(found[1]) * _UNITS_S[found[2]]


_SINCE: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)", re.ASCII)
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CURE: Final = "did the gate ever run? choose its --config, or files with --log"
