"""Installed filters: each ``[[filter]]`` table becomes an ``Installation``.

``load`` calls it at start and at every reload. A filter class may declare ``Settings`` (it is then
made with one) and ``RuleSettings`` (what a rule may say to it). The invariant: a filter that cannot
be made is an error of the configuration, and one about which nothing changed is the same object.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.documents import Document, Findings, typed
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import ContentFilter, Filter
from sluicegate.gate.settings import Installation, InstalledFilter, PerConnection
from sluicegate.policy import AnyRule

from .config import Configuration, FilterTable
from .filter_source import FilterClass, FilterUnusable, find_filter_class

__all__ = ["InstalledFilters", "install_filters"]


@dataclass(frozen=True, slots=True)
class _Made:
    """An installation, its class, and all that decides whether it must be made anew."""

    installation: Installation
    filter_class: FilterClass
    settings: object
    key: tuple[object, ...]


class InstalledFilters:
    """The filters of one configuration, in the operator's order."""

    def __init__(self, made: Mapping[str, _Made]) -> None:
        self._made = made
        self.installations = tuple(one.installation for one in made.values())

    def made(self, name: str) -> _Made | None:
        """Return what was made under a name (for the next reload)."""
        return self._made.get(name)

    @property
    def names(self) -> list[str]:
        """The names that policy may use."""
        return list(self._made)

    def check_rule(
        self, rule: AnyRule, document: Document, where: tuple[str, int], findings: Findings
    ) -> None:
        """Refuse what a rule says to its filters and they do not understand."""
        for name in rule.filters:
            made = self._made.get(name)
            if made is None:
                continue  # reported already: the rule names a filter that is not installed
            at = (*where, "settings", name)
            declared = _declared(made.filter_class, "RuleSettings")
            is_written = name in rule.settings
            if declared is None and is_written:
                findings.refuse(
                    document.where(at),
                    f"the filter {name!r} takes no settings per rule",
                    'set it up in [[filter]], or install it twice with its own "name"',
                )
            elif declared is not None and (is_written or not isinstance(made.settings, declared)):
                typed(document, declared, findings, at)


def install_filters(
    configuration: Configuration, before: InstalledFilters | None, findings: Findings
) -> InstalledFilters:
    """Make every filter of a configuration; what cannot be made is a finding."""
    made: dict[str, _Made] = {}
    for index, table in enumerate(configuration.filters):
        one = _install(configuration, index, table, findings)
        if one is not None:
            known = before.made(table.name) if before is not None else None
            if known is not None and known.key == one.key:
                one = known
            made[table.name] = one
    return InstalledFilters(made)


def _install(
    configuration: Configuration, index: int, table: FilterTable, findings: Findings
) -> _Made | None:
    where = configuration.document.where(("filter", index, "use" if table.use else "name"))
    folder = configuration.path.absolute().parent
    try:
        filter_class, source = find_filter_class(table.use or table.name, folder)
    except FilterUnusable as error:
        findings.refuse(where, error.cause, error.cure)
        return None
    before = len(findings.errors)
    settings = _read_settings(configuration.document, index, filter_class, findings)
    if len(findings.errors) > before:
        return None
    try:
        filter_object = _make(filter_class, settings)
    except FILTER_ERRORS as error:
        cause = f"the filter cannot be made: {type(error).__name__}: {error}"
        findings.refuse(where, cause, f"see {source}")
        return None
    return _Made(
        Installation(table.name, filter_object, table.on_failure, source),
        filter_class,
        settings,
        (filter_class, table.on_failure, json.dumps(table.settings, default=str, sort_keys=True)),
    )


def _read_settings(
    document: Document, index: int, filter_class: FilterClass, findings: Findings
) -> object:
    """Return the typed settings of a filter, None for one that takes none."""
    at = ("filter", index, "settings")
    declared = _declared(filter_class, "Settings")
    if declared is not None:
        return typed(document, declared, findings, at)
    if document.line(at) != document.line(at[:2]):
        findings.refuse(document.where(at), f"{filter_class.__name__} takes no settings")
    return None


def _make(filter_class: FilterClass, settings: object) -> InstalledFilter:
    # How a filter takes its settings is between it and its ``Settings``; no type can say it.
    make: Any = filter_class
    if settings is not None:
        make = functools.partial(make, settings)
    if issubclass(filter_class, Filter | ContentFilter):
        made: InstalledFilter = make()
        return made
    rule_settings = _declared(filter_class, "RuleSettings")
    if rule_settings is not None:
        # It is made with the rule's settings in place of the filter's.
        return PerConnection(filter_class, rule_settings, settings)
    return PerConnection(make)


def _declared(filter_class: FilterClass, name: str) -> type[object] | None:
    """Return the model that a filter class declares under a name."""
    declared: object = getattr(filter_class, name, None)
    return declared if isinstance(declared, type) else None
