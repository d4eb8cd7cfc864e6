"""In a cell: loads filters as the gate itself would, and says what they are.

``cell`` gives it to ``isolation.server``. The invariant: a filter is found, checked and made by the
same code in both places, so what runs in the gate runs in a cell.
"""

from __future__ import annotations

import hashlib
import inspect
import pathlib
from typing import Any

from sluicegate.documents import Document, Findings, typed
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import ContentFilter, Position, WebFilter
from sluicegate.isolation.cell_events import LoadFailedError
from sluicegate.isolation.facts import WantsFacts
from sluicegate.isolation.messages import Ask, Fault, Manifest, Probe, Start

from .filter_source import (
    FilterClass,
    FilterUnusable,
    declared_model,
    find_filter_class,
    make_filter,
    tier_of,
)

__all__ = ["CellSource", "manifest_of"]


class CellSource:
    """Satisfies ``isolation.server.FilterSource``."""

    def make(self, start: Start) -> tuple[object, Manifest]:
        """As ``FilterSource.make``."""
        filter_class, manifest = _load(start.use, start.folder)
        settings: object = None
        declared = declared_model(filter_class, "Settings")
        if declared is not None:
            findings = Findings()
            document = Document("settings", {"settings": start.settings}, {})
            settings = typed(document, declared, findings, ("settings",))
            if findings.errors:
                raise LoadFailedError("; ".join(str(one) for one in findings.errors), "")
        try:
            made = make_filter(filter_class, settings)
        except FILTER_ERRORS as error:
            cause = f"the filter cannot be made: {type(error).__name__}: {error}"
            raise LoadFailedError(cause, f"see {manifest.source}") from error
        return made, manifest

    def probe(self, probe: Probe) -> tuple[Manifest, list[Fault]]:
        """As ``FilterSource.probe``."""
        filter_class, manifest = _load(probe.use, probe.folder)
        faults = [fault for ask in probe.asked for fault in _check(filter_class, ask)]
        return manifest, faults


def _load(use: str, folder: str) -> tuple[FilterClass, Manifest]:
    try:
        filter_class, source = find_filter_class(use, pathlib.Path(folder))
    except FilterUnusable as error:
        raise LoadFailedError(error.cause, error.cure) from error
    if issubclass(filter_class, WebFilter):
        raise LoadFailedError(
            f"{filter_class.__name__} is a web filter, and these run in the gate",
            'leave isolation = "process" out, or judge whole objects with a ContentFilter',
        )
    return filter_class, manifest_of(filter_class, source)


def manifest_of(filter_class: FilterClass, source: str = "") -> Manifest:
    """Return what the gate must know of a filter's class.

    Args:
        filter_class: The class.
        source: Where it was found, for people.
    """
    wants = WantsFacts.of(filter_class.wants) if issubclass(filter_class, ContentFilter) else None
    own = declared_model(filter_class, "Settings")
    of_rules = declared_model(filter_class, "RuleSettings")
    return Manifest(
        tier=tier_of(filter_class),
        name=filter_class.name,
        source=source,
        fingerprint=_fingerprint(filter_class),
        position=int(getattr(filter_class, "position", Position.MIDDLE)),
        wants=wants,
        takes_rule_settings=of_rules is not None,
        needs_rule_settings=of_rules is not None and (own is None or not issubclass(own, of_rules)),
        shows=getattr(filter_class, "shows", ()),
    )


def _fingerprint(filter_class: FilterClass) -> str:
    """Tell one version of a filter from the next by the file that its class is written in."""
    path = inspect.getsourcefile(filter_class)
    content = pathlib.Path(path).read_bytes() if path is not None else b""
    return hashlib.sha256(content).hexdigest()


def _tree(ask: Ask) -> dict[str, object]:
    """Return a file's tree in which there is only the table that is asked about."""
    value: Any = ask.table
    for part in reversed(ask.at):
        if isinstance(part, int):
            empty: list[object] = [{} for _ in range(part)]
            value = [*empty, value]
        else:
            value = {part: value}
    tree: dict[str, object] = value
    return tree


def _check(filter_class: FilterClass, ask: Ask) -> list[Fault]:
    """Check a table against a model, as if it stood in its file."""
    at = tuple(ask.at)
    lines = {tuple(path): line for path, line in ask.lines}
    document = Document(ask.document, _tree(ask), lines)
    declared = declared_model(filter_class, ask.model)
    if declared is None and not ask.table:
        return []
    if declared is None:
        takes = "settings" if ask.model == "Settings" else "settings per rule"
        return [Fault(document.where(at), f"{filter_class.__name__} takes no {takes}", "")]
    findings = Findings()
    typed(document, declared, findings, at)
    return [Fault(one.where, one.cause, one.cure) for one in findings.errors]
