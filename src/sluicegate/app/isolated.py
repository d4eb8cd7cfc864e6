"""Installing filters that run in cells: what they are is asked of a cell, never of their code here.

``filters`` calls it for tables with ``isolation = "process"``. The invariant: the gate imports
nothing of such a filter; a cell that is confined like any other loads it, says what it is, and
checks its settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Final

import msgspec

from sluicegate.documents import Document
from sluicegate.documents.places import KeyPath
from sluicegate.filterapi import Position
from sluicegate.gate.settings import InstalledFilter
from sluicegate.isolation.cell import Cell
from sluicegate.isolation.content import isolated_content
from sluicegate.isolation.data import isolated_data
from sluicegate.isolation.events import isolated_filter
from sluicegate.isolation.messages import (
    MESSAGE_BYTES_MAX,
    Ask,
    Fault,
    Manifest,
    Probe,
    Ready,
    Start,
    Unusable,
    decode_from_cell,
    encode,
)
from sluicegate.isolation.reach import Reach
from sluicegate.limits import Limits
from sluicegate.sandbox.launch import Surroundings, describe_end, launcher, spawn
from sluicegate.sandbox.wire import WireSocket, wire_sockets

from .config import Configuration, FilterTable
from .filter_source import FilterUnusable, file_of

__all__ = [
    "WrongSettings",
    "ask_about",
    "install_isolated",
    "probe_filter",
    "secret_paths",
    "stand_in_of",
]

_ENTRY: Final = "sluicegate.app.cell"


def probe_filter(configuration: Configuration, use: str, asked: Sequence[Ask]) -> Manifest:
    """Have a cell load a filter's class, and return what it says of it.

    It blocks for as long as Python takes to start and the filter to load.

    Args:
        configuration: Whose filter it is.
        use: What the operator wrote.
        asked: What is to be checked with the class's own models.

    Raises:
        FilterUnusable: It cannot be had in a cell.
        WrongSettings: Its settings are wrong.
    """
    ours, theirs = wire_sockets()
    with ours, theirs:
        try:
            process = spawn(_surroundings(configuration, use), theirs)
        except OSError as error:
            raise FilterUnusable(f"no process can be started for it: {error}", _CURE) from error
        theirs.close()
        try:
            answer = _answer(
                ours, configuration.limits, Probe(use, _folder(configuration), [*asked])
            )
            if not answer:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_FOLLOWS_S)
        finally:
            process.kill()
            status = process.wait()
    if isinstance(answer, Unusable):
        raise FilterUnusable(answer.cause, answer.cure)
    if not isinstance(answer, Ready):
        said = f"its process {describe_end(status)}" if not answer else f"its process {answer}"
        raise FilterUnusable(f"it cannot be loaded in a process of its own: {said}", _CURE)
    if answer.faults:
        raise WrongSettings(answer.faults)
    manifest = answer.manifest
    if manifest.position not in set(Position):
        raise FilterUnusable(
            f"{manifest.source} has no position {manifest.position}", "see Position"
        )
    return manifest


_END_FOLLOWS_S: Final = 1.0
"""How it ended says more than that it said nothing."""

_CURE: Final = "try it without isolation on a machine where it can do no harm"


class WrongSettings(Exception):
    """A filter's own models found something wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def _answer(ours: WireSocket, limits: Limits, probe: Probe) -> object:
    """Return what a probed cell says, or how it failed to."""
    ours.settimeout(limits.isolated_start_timeout_s)
    try:
        with contextlib.suppress(BrokenPipeError):
            ours.send(encode(probe))
        return decode_from_cell(ours.recv(MESSAGE_BYTES_MAX))
    except TimeoutError:
        return f"said nothing for {limits.isolated_start_timeout_s:g} s (isolated_start_timeout_s)"
    except (OSError, msgspec.MsgspecError):
        return ""


def install_isolated(
    configuration: Configuration, table: FilterTable, manifest: Manifest
) -> tuple[InstalledFilter, Cell]:
    """Return what stands for a filter in the gate, and the cell in which it will run."""
    limits = configuration.limits
    start = Start(
        table.use or table.name,
        _folder(configuration),
        _plain(table.settings),
        dataclasses.asdict(limits),
    )
    cell = Cell(
        table.name,
        launcher(_surroundings(configuration, start.use), decode_from_cell),
        start,
        limits,
        manifest,
    )
    return stand_in_of(cell, manifest), cell


def stand_in_of(cell: Cell, manifest: Manifest) -> InstalledFilter:
    """Return what stands for a cell's filter in the gate, and let the cell call for more."""
    cell.reach = Reach(cell)
    if manifest.tier == "content":
        return isolated_content(cell, manifest, cell.limits.isolated_memory_bytes_max)
    if manifest.tier == "filter":
        return isolated_filter(cell, manifest)
    return isolated_data(cell, manifest)


def ask_about(document: Document, model: str, at: KeyPath, table: object) -> Ask:
    """Return a table, to be checked where its model is; nothing else of its file goes along."""
    lines = [
        (list(path), line) for path, line in document.lines.items() if path[: len(at)] == tuple(at)
    ]
    around = [(list(at[:length]), document.line(at[:length])) for length in range(1, len(at))]
    return Ask(model, document.name, list(at), _plain(table), around + lines)


def _plain(table: object) -> object:
    """Return a table of TOML with dates as text, as models read them."""
    plain: object = json.loads(json.dumps(table, default=str))
    return plain


def _folder(configuration: Configuration) -> str:
    return str(configuration.path.absolute().parent)


def _surroundings(configuration: Configuration, use: str) -> Surroundings:
    own = file_of(use, pathlib.Path(_folder(configuration)))
    return Surroundings(
        entry=_ENTRY,
        readable=(str(own),) if own is not None else (),
        secret=tuple(map(str, secret_paths(configuration))),
        memory_bytes_max=configuration.limits.isolated_memory_bytes_max,
    )


def secret_paths(configuration: Configuration) -> tuple[pathlib.Path, ...]:
    """Return the gate's own files, which no sandboxed process may read."""
    return (
        configuration.path.absolute(),
        configuration.policy_path,
        configuration.users_path,
        configuration.state_dir,
        configuration.spool_dir,
        configuration.log_path,
        *([configuration.authority.folder] if configuration.authority else ()),
    )
