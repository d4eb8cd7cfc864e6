"""Installed filters: each ``[[filter]]`` table becomes an ``Installation``.

``load`` calls it at start and at every reload. A filter class may declare ``Settings`` (it is then
made with one) and ``RuleSettings`` (what a rule may say to it). The invariant: a filter that cannot
be made is an error of the configuration, and one about which nothing changed is the same object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sluicegate.documents import Document, Findings, typed
from sluicegate.documents.places import KeyPath
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import Shown, WebFilter
from sluicegate.gate.settings import Installation
from sluicegate.gate.web.declared_needs import objection_to_needs
from sluicegate.isolation.messages import Manifest
from sluicegate.policy import AnyRule, Level

from .config import Configuration, FilterTable
from .filter_source import (
    FilterClass,
    FilterUnusable,
    declared_model,
    find_filter_class,
    make_filter,
    tier_of,
)
from .isolated import WrongSettings, ask_about, install_isolated, probe_filter

__all__ = ["InstalledFilters", "install_filters"]


@dataclass(frozen=True, slots=True)
class _Made:
    """An installation, what is known of its class, and what decides whether it is made anew."""

    installation: Installation
    tier: str
    """What kind its class is: ``filter``, ``content``, ``data``, ``callback`` or ``stream``."""
    check_rule: Callable[[Document, KeyPath, bool, Findings], None]
    """Refuses what a rule says to it, or leaves out, and it does not understand."""
    key: tuple[object, ...]
    shows: Level = Level.NONE
    """What it promises to ask policy about again."""


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

    @property
    def shows(self) -> Mapping[str, Level]:
        """What each of them promises to ask policy about again."""
        return {name: one.shows for name, one in self._made.items() if one.shows}

    def check_rule(
        self, rule: AnyRule, document: Document, where: KeyPath, findings: Findings
    ) -> None:
        """Refuse what a rule says to its filters and they do not understand."""
        for name in rule.filters:
            made = self._made.get(name)
            if made is None:
                continue  # reported already: the rule names a filter that is not installed
            at = (*where, "settings", name)
            made.check_rule(document, at, name in rule.settings, findings)


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
    if table.isolation == "process":
        return _install_isolated(configuration, index, table, findings)
    folder = configuration.path.absolute().parent
    try:
        filter_class, source = find_filter_class(table.use or table.name, folder)
    except FilterUnusable as error:
        findings.refuse(where, error.cause, error.cure)
        return None
    if filter_class.isolation == "process":
        if table.isolation is None:
            return _install_isolated(configuration, index, table, findings)
        findings.refuse(
            configuration.document.where(("filter", index, "isolation")),
            f"{filter_class.__name__} demands a process of its own",
            'leave "isolation" out',
        )
        return None
    before = len(findings.errors)
    settings = _read_settings(configuration.document, index, filter_class, findings)
    if len(findings.errors) > before:
        return None
    try:
        filter_object = make_filter(filter_class, settings)
    except FILTER_ERRORS as error:
        cause = f"the filter cannot be made: {type(error).__name__}: {error}"
        findings.refuse(where, cause, f"see {source}")
        return None
    objection = objection_to_needs(filter_object) if isinstance(filter_object, WebFilter) else ""
    if objection:
        findings.refuse(where, f"the filter cannot work: {objection}", f"see {source}")
        return None
    return _Made(
        Installation(table.name, filter_object, table.on_failure, source),
        tier_of(filter_class),
        _RuleModel(table.name, declared_model(filter_class, "RuleSettings"), settings).check,
        (filter_class, table.on_failure, _settings_key(table)),
        _levels(getattr(filter_class, "shows", ())),
    )


def _install_isolated(
    configuration: Configuration, index: int, table: FilterTable, findings: Findings
) -> _Made | None:
    document, at = configuration.document, ("filter", index, "settings")
    use = table.use or table.name
    try:
        asked = ask_about(document, "Settings", at, table.settings)
        manifest = probe_filter(configuration, use, [asked])
        filter_object, cell = install_isolated(configuration, table, manifest)
    except WrongSettings as error:
        _refuse_all(error, findings)
        return None
    except FilterUnusable as error:
        where = document.where(("filter", index, "use" if table.use else "name"))
        findings.refuse(where, error.cause, error.cure)
        return None
    return _Made(
        Installation(table.name, filter_object, table.on_failure, manifest.source, cell),
        manifest.tier,
        _RemoteRuleModel(configuration, table.name, use, manifest).check,
        (
            use,
            manifest.fingerprint,
            table.on_failure,
            _settings_key(table),
            configuration.path.absolute().parent,
            configuration.limits,
        ),
        _levels(manifest.shows),
    )


def _levels(shows: Iterable[Shown]) -> Level:
    # The gate asks about HTTP requests itself, before any filter: no filter promises that.
    return Level.TRANSFER if "transfers" in shows else Level.NONE


@dataclass(frozen=True, slots=True)
class _RuleModel:
    """What rules may say to a filter that the gate has loaded."""

    name: str
    declared: type[object] | None
    settings: object
    """``[filter.settings]``, for what a rule leaves out."""

    def check(self, document: Document, at: KeyPath, is_written: bool, findings: Findings) -> None:
        """Refuse what it does not understand."""
        declared = self.declared
        if declared is None and is_written:
            findings.refuse(document.where(at), *_takes_no_rule_settings(self.name))
        elif declared is not None and (is_written or not isinstance(self.settings, declared)):
            typed(document, declared, findings, at)


@dataclass(frozen=True, slots=True)
class _RemoteRuleModel:
    """What rules may say to a filter that only cells load."""

    configuration: Configuration
    name: str
    use: str
    manifest: Manifest

    def check(self, document: Document, at: KeyPath, is_written: bool, findings: Findings) -> None:
        """Refuse what it does not understand."""
        manifest = self.manifest
        if not manifest.takes_rule_settings and is_written:
            findings.refuse(document.where(at), *_takes_no_rule_settings(self.name))
        if not manifest.takes_rule_settings or not (is_written or manifest.needs_rule_settings):
            return
        asked = ask_about(document, "RuleSettings", at, document.table(at))
        try:
            probe_filter(self.configuration, self.use, [asked])
        except WrongSettings as error:
            _refuse_all(error, findings)
        except FilterUnusable as error:
            findings.refuse(document.where(at), error.cause, error.cure)


def _takes_no_rule_settings(name: str) -> tuple[str, str]:
    return (
        f"the filter {name!r} takes no settings per rule",
        'set it up in [[filter]], or install it twice with its own "name"',
    )


def _refuse_all(error: WrongSettings, findings: Findings) -> None:
    for fault in error.faults:
        findings.refuse(fault.where, fault.cause, fault.cure)


def _settings_key(table: FilterTable) -> str:
    return json.dumps(table.settings, default=str, sort_keys=True)


def _read_settings(
    document: Document, index: int, filter_class: FilterClass, findings: Findings
) -> object:
    """Return the typed settings of a filter, None for one that takes none."""
    at = ("filter", index, "settings")
    declared = declared_model(filter_class, "Settings")
    if declared is not None:
        return typed(document, declared, findings, at)
    if document.line(at) != document.line(at[:2]):
        findings.refuse(document.where(at), f"{filter_class.__name__} takes no settings")
    return None
