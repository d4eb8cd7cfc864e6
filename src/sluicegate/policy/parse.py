"""``policy.toml`` and what it includes: from texts to a ``Policy``, with every mistake named.

``app`` hands over the texts and what they are called; nothing is read or resolved here. The
invariant: what is not an exact network, address or key is refused, never corrected: a rule means
what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from sluicegate.documents import Document, Findings, read_document, typed

from .flood import to_flood_limits
from .learn import LearnEntry
from .model import Policy
from .network_rules import NetworkRelation, NetworkRule
from .parse_objects import Objects
from .parse_rules import RuleReader
from .parse_values import IsPublicSuffix, TimeZoneOf
from .place import Place
from .system import SystemPolicy, SystemPurpose, SystemRule
from .tables import (
    IncludedTables,
    LearnTable,
    MainTables,
    NetworkRuleTable,
    PublishTable,
    RuleTable,
)
from .texts import PolicyTexts

__all__ = ["ParsedPolicy", "parse_policy"]


@dataclass(frozen=True, slots=True)
class ParsedPolicy:
    """A policy and where each part of it stands, for checks that need more than its texts."""

    policy: Policy
    document: Document
    """The main file."""
    publications_at: tuple[Place, ...]
    rules_at: tuple[Place, ...]
    network_rules_at: tuple[Place, ...]
    learn_at: tuple[Place, ...]


def parse_policy(
    texts: str | PolicyTexts,
    name: str,
    findings: Findings,
    is_public_suffix: IsPublicSuffix = lambda _name: False,
    time_zone: TimeZoneOf = lambda _name: None,
) -> ParsedPolicy | None:
    """Read a policy; None, with every finding, when it is wrong. An empty one denies everything.

    Args:
        texts: Of all files, or of the only one.
        name: How messages call the main file.
        findings: Where errors go.
        is_public_suffix: Whether anybody may register names below a name; no rule may allow all of
            those. (The list of suffixes is a file, and nothing is read here.)
        time_zone: The zones of schedules, by name.
    """
    texts = PolicyTexts(texts) if isinstance(texts, str) else texts
    before = len(findings.errors)
    files = _Files(texts, name, findings)
    if len(findings.errors) > before or files.main is None:
        return None
    main = files.main
    objects = Objects(allow_underscore=main.tables.names.underscores, time_zone=time_zone)
    for file in files.in_order:
        objects.add(file.tables.objects, Place(file.document, ("objects",), findings), texts.lists)
    whole = Place(main.document, (), findings)
    objects.finish(whole)
    _check_names(files, findings)
    reader = RuleReader(objects, is_public_suffix, main.tables.tls)
    publications = [(reader.publication(*one), one[1]) for one in files.publications(findings)]
    rules = [(reader.rule(*one), one[1]) for one in files.rules(findings)]
    network_rules = [(_network_rule(*one, objects), one[1]) for one in files.relations(findings)]
    learn = [(_learn(*one, objects), one[1]) for one in files.learn(findings)]
    system = _system(main, objects, findings)
    flood_at = Place(main.document, ("flood",), findings)
    flood = to_flood_limits(main.tables.flood, flood_at, objects.networks_of)
    if len(findings.errors) > before:
        return None
    policy = Policy(
        tuple(one for one, _ in publications),
        tuple(one for one, _ in rules),
        main.tables.names.underscores,
        flood,
        tuple(one for one, _ in network_rules),
        system,
        tuple(one for one, _ in learn),
    )
    return ParsedPolicy(
        policy,
        main.document,
        tuple(place for _, place in publications),
        tuple(place for _, place in rules),
        tuple(place for _, place in network_rules),
        tuple(place for _, place in learn),
    )


@dataclass(frozen=True, slots=True)
class _Main:
    document: Document
    tables: MainTables


@dataclass(frozen=True, slots=True)
class _Included:
    document: Document
    tables: IncludedTables


class _Files:
    """The checked tables of all files, in the order in which their rules are tried."""

    def __init__(self, texts: PolicyTexts, name: str, findings: Findings) -> None:
        document = read_document(texts.main, name, findings)
        tables = None if document is None else typed(document, MainTables, findings)
        self.main: _Main | None = None
        if document is not None and tables is not None:
            self.main = _Main(document, tables)
        found: list[list[_Included]] = [[], []]
        for part, included in zip(found, (texts.before, texts.after), strict=True):
            for one in included:
                inner = read_document(one.text, one.name, findings)
                table = None if inner is None else typed(inner, IncludedTables, findings)
                if inner is not None and table is not None:
                    part.append(_Included(inner, table))
        middle = [] if self.main is None else [self.main]
        self.in_order: tuple[_Main | _Included, ...] = (*found[0], *middle, *found[1])

    def publications(self, findings: Findings) -> Iterator[tuple[PublishTable, Place]]:
        for file in self.in_order:
            for index, table in enumerate(file.tables.publish):
                yield table, Place(file.document, ("publish", index), findings)

    def rules(self, findings: Findings) -> Iterator[tuple[RuleTable, Place]]:
        for file in self.in_order:
            for index, table in enumerate(file.tables.rule):
                yield table, Place(file.document, ("rule", index), findings)

    def relations(self, findings: Findings) -> Iterator[tuple[NetworkRuleTable, Place]]:
        for file in self.in_order:
            for index, table in enumerate(file.tables.network_rule):
                yield table, Place(file.document, ("network_rule", index), findings)

    def learn(self, findings: Findings) -> Iterator[tuple[LearnTable, Place]]:
        for file in self.in_order:
            for index, table in enumerate(file.tables.learn):
                yield table, Place(file.document, ("learn", index), findings)


def _check_names(files: _Files, findings: Findings) -> None:
    """Refuse names used twice: publications and rules share one space."""
    for kinds in (("publish", "rule"), ("network_rule",), ("learn",)):
        first: dict[str, str] = {}
        for kind in kinds:
            for file in files.in_order:
                for index, table in enumerate(getattr(file.tables, kind)):
                    if table.name in first:
                        findings.refuse(
                            file.document.where((kind, index, "name")),
                            f"the name {table.name!r} is taken by {first[table.name]}",
                            "records name rules: give each its own",
                        )
                    in_file = "" if file is files.main else f" of {file.document.name}"
                    first.setdefault(table.name, f"{kind}[{index}]{in_file}")


def _network_rule(table: NetworkRuleTable, place: Place, objects: Objects) -> NetworkRule:
    if table.address is not None and table.relation is NetworkRelation.ROUTE:
        place.refuse(
            ("address",),
            "is of nat: a route keeps the client's address",
            'remove it, or write relation = "nat"',
        )
    return NetworkRule(
        name=table.name,
        sources=objects.networks_of(table.sources, place, "from"),
        targets=objects.networks_of(table.targets, place, "to"),
        relation=table.relation,
        address=table.address,
        owner=table.owner,
        comment=table.comment,
    )


def _learn(table: LearnTable, place: Place, objects: Objects) -> LearnEntry:
    return LearnEntry(
        name=table.name,
        clients=objects.networks_of(table.clients, place, "clients"),
        until=table.until,
        listeners=table.listener,
        owner=table.owner,
        comment=table.comment,
    )


def _system(main: _Main, objects: Objects, findings: Findings) -> SystemPolicy:
    rules: dict[SystemPurpose, SystemRule] = {}
    for purpose in SystemPurpose:
        table = getattr(main.tables.system, purpose.value)
        place = Place(main.document, ("system", purpose.value), findings)
        if purpose.value in main.tables.system.model_fields_set:
            to = None if table.to is None else objects.networks_of(table.to, place, "to")
            rules[purpose] = SystemRule(table.enabled, to)
    return SystemPolicy(MappingProxyType(rules))
