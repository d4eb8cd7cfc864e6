"""What the commands of the log are asked for: a query, and where records are."""

from __future__ import annotations

import datetime as dt
import pathlib

import click

from sluicegate.app.service_config import StatePaths, find_state
from sluicegate.audit.search import Query, QueryRefused, parse_query
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings

from .options import find_config

__all__ = ["find_paths", "query_of"]


def find_paths(config: pathlib.Path | None) -> StatePaths:
    """Return where a gate keeps its log and its store.

    Raises:
        ConfigRefused: Its configuration cannot be read.
    """
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    return state


def query_of(words: tuple[str, ...]) -> Query:
    """Read the words of a command line.

    Raises:
        click.BadParameter: They mean nothing.
    """
    zone = dt.datetime.now().astimezone().tzinfo or dt.UTC
    try:
        return parse_query(" ".join(words), SystemClock().wall(), zone)
    except QueryRefused as refused:
        raise click.BadParameter(f"\n{refused}", param_hint="QUERY") from refused
