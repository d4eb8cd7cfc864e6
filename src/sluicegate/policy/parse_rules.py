"""``[[publish]]`` and ``[[rule]]``: checked tables in, rules out, with every ``@name`` resolved.

``parse`` hands over the tables of all files in order; what is left to check is what a table's types
cannot say. The invariant: a host in a rule is canonical as clients' hosts are made, or it is
refused with the canonical form: a rule never means a spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sluicegate.address import IpNetwork
from sluicegate.documents import Wrong
from sluicegate.names import HostPattern

from .delivery import NO_HELD_SETTINGS, DeliveryChoice, DeliveryMethod, HeldSettings
from .parse_objects import NamedLists, Objects
from .parse_values import (
    PROTOCOL_CURE,
    IsPublicSuffix,
    parse_method,
    parse_path,
    parse_protocol,
    parse_target,
    parse_user,
    reference_in,
)
from .paths import PathPattern, UrlPattern
from .place import Place
from .protocols import Direction, ProtocolDefinition, ProtocolPattern, SecondaryPattern
from .rules import NO_RULE_LIMITS, NOWHERE, Publication, Rule, RuleAction, RuleLimits, Targets
from .tables import AnyRuleTable, HeldTable, LimitsTable, PathTable, PublishTable, RuleTable
from .tls_tables import TlsTable, publication_check, published_name, rule_check

__all__ = ["RuleReader"]


class _Protocols(NamedTuple):
    """What the protocols of a rule come to."""

    patterns: tuple[ProtocolPattern, ...]
    filters: tuple[str, ...]
    secondary: tuple[SecondaryPattern, ...] | None


class RuleReader:
    """Makes rules of the tables of one policy."""

    def __init__(self, objects: Objects, is_public_suffix: IsPublicSuffix, tls: TlsTable) -> None:
        self._objects = objects
        self._tls = tls
        # What rules want of a ClientHello that do not say it.
        self._is_public_suffix = is_public_suffix
        self._targets: dict[tuple[str, ...], Targets] = {}
        self._open: dict[int, tuple[HostPattern, ...]] = {}
        # By the identity of targets that are kept above: wildcards that anybody can get below.

    def publication(self, table: PublishTable, place: Place) -> Publication:
        """Make a publication; what is wrong with it goes into the findings."""
        objects = self._objects
        definition: ProtocolDefinition | None = None
        if table.protocol is not None:
            definition = objects.protocol(table.protocol, place, ("protocol",))
        bound = () if definition is None else definition.filters
        filters = _filters(table, bound, place)
        return Publication(
            name=table.name,
            listener=table.listener,
            server=table.server,
            clients=objects.networks_of(table.clients, place, "clients"),
            clients_except=objects.networks_of(table.clients_except, place, "clients_except"),
            filters=filters,
            bound_filters=bound,
            settings=_settings(table),
            owner=table.owner,
            comment=table.comment,
            send_proxy_protocol=table.send_proxy_protocol,
            is_http=table.http,
            server_tls=published_name(
                table.server_tls,
                place,
                allow_underscore=objects.allow_underscore,
            ),
            upgrades=tuple(one.lower() for one in table.upgrades),
            protocol="" if definition is None else definition.name,
            secondary=None if definition is None else definition.secondary,
            schedule=objects.schedule(table.schedule, place),
            expires=table.expires,
            is_enabled=table.enabled,
            limits=_limits(table.limits),
            held=self._held(table, place),
            written=_written(table, ("clients", "clients_except")),
            tls=publication_check(
                table.tls,
                self._tls,
                place,
                is_http=table.http,
                has_server_tls=table.server_tls is not None,
                allow_underscore=objects.allow_underscore,
            ),
        )

    def rule(self, table: RuleTable, place: Place) -> Rule:
        """Make a rule; what is wrong with it goes into the findings."""
        objects = self._objects
        protocols = self._protocols(table, place)
        bound = () if table.action.is_refusal else protocols.filters
        rule = Rule(
            name=table.name,
            action=table.action,
            listeners=table.listener,
            clients=objects.networks_of(table.clients, place, "clients"),
            clients_except=objects.networks_of(table.clients_except, place, "clients_except"),
            to=self._to(table.to, place, "to"),
            to_except=self._to(table.to_except, place, "to_except"),
            protocols=protocols.patterns,
            protocols_except=self._patterns(table.protocols_except, place, "protocols_except"),
            users=self._users(table, place),
            filters=_filters(table, bound, place),
            bound_filters=bound,
            secondary=protocols.secondary,
            settings=_settings(table),
            schedule=objects.schedule(table.schedule, place),
            methods=tuple(m for _, m in place.each("methods", table.methods, parse_method)),
            paths=_paths(table.paths, place),
            content_types=objects.content_types_of(table.content_types, place),
            upgrades=tuple(one.lower() for one in table.upgrades),
            limits=_limits(table.limits),
            held=self._held(table, place),
            expires=table.expires,
            is_enabled=table.enabled,
            owner=table.owner,
            comment=table.comment,
            written=_written(table, _WRITTEN),
            tls=None
            if table.action.is_refusal
            else rule_check(
                table.tls,
                self._tls,
                protocols.patterns,
                place,
                allow_underscore=objects.allow_underscore,
            ),
        )
        if rule.to_except.is_everything:
            at = ("to_except", table.to_except.index("*"))
            place.refuse(
                at, "leaves nothing: the rule would match nobody", "name what is not meant"
            )
        self._check_open_names(rule, table, place)
        _check_action(rule, table, place)
        return rule

    # -- destinations --------------------------------------------------------------------------

    def _to(self, texts: tuple[str, ...], place: Place, key: str) -> Targets:
        if not texts:
            return NOWHERE
        known = self._targets.get(texts)
        if known is not None:
            return known
        before = len(place.findings.errors)
        objects = self._objects
        kinds: Sequence[NamedLists[Any]] = (objects.names, objects.networks, objects.urls)
        found = objects.texts_of(texts, kinds, self._parse_target, place, key)
        targets = Targets(
            None in found,
            tuple(one for one in found if isinstance(one, HostPattern)),
            tuple(one for one in found if isinstance(one, IpNetwork)),
            tuple(one for one in found if isinstance(one, UrlPattern)),
        )
        if len(place.findings.errors) == before:
            if targets.is_empty:
                place.warn((key,), "is empty: nothing is in the lists that it names")
            self._targets[texts] = targets
        return targets

    def _parse_target(self, text: str) -> HostPattern | IpNetwork | UrlPattern | None:
        return parse_target(text, allow_underscore=self._objects.allow_underscore)

    def _check_open_names(self, rule: Rule, table: RuleTable, place: Place) -> None:
        """Refuse to allow names that anybody can register."""
        if rule.action.is_refusal:
            return
        targets = rule.to
        known = self._open.get(id(targets))
        if known is None:
            known = tuple(filter(self._is_open, targets.hosts))
            if self._targets.get(table.to) is targets:
                self._open[id(targets)] = known
        for pattern in known:
            path, by = self._source_of(pattern, table.to)
            place.refuse(
                path,
                f"is {str(pattern)!r}{by}: anybody can register a name below {pattern.host.text!r}",
                'name the sites; "*" is every public destination, if that is meant',
            )

    def _is_open(self, pattern: HostPattern) -> bool:
        return pattern.is_wildcard and self._is_public_suffix(pattern.host.text)

    def _source_of(
        self, pattern: HostPattern, texts: Sequence[str]
    ) -> tuple[tuple[str | int, ...], str]:
        """Return which entry brings a pattern, and by which object."""
        names = self._objects.names
        for index, text in enumerate(texts):
            reference = reference_in(text)
            if text == str(pattern):
                return ("to", index), ""
            is_list = reference is not None and reference in names
            if is_list and pattern in names.resolve(text[1:]):
                return ("to", index), f" by {text}"
        return ("to",), ""

    # -- protocols and users -------------------------------------------------------------------

    def _protocols(self, table: RuleTable, place: Place) -> _Protocols:
        is_refusal = table.action.is_refusal
        if not table.protocols and not table.protocols_except and not is_refusal:
            place.refuse(("protocols",), "is missing: a rule that allows says what", PROTOCOL_CURE)
        patterns = self._patterns(table.protocols, place, "protocols")
        named: list[tuple[int, ProtocolDefinition]] = []
        for index, text in enumerate(table.protocols):
            found = self._objects.protocols.get(reference_in(text) or "")
            if found is not None:
                named.append((index, found))
        if not named:
            return _Protocols(patterns, (), None)
        for index, one in named:
            if one.direction is Direction.INBOUND:
                place.refuse(
                    ("protocols", index),
                    f"@{one.name} is inbound: it is only published",
                    "publish it, or define it as outbound",
                )
        filters = named[0][1].filters
        unbound = [text for text in table.protocols if reference_in(text) is None]
        if not is_refusal and (
            any(one.filters != filters for _, one in named) or (filters and unbound)
        ):
            place.refuse(
                ("protocols",),
                "has protocols that bind different filters, and a rule runs one set",
                "write a rule for each set",
            )
        secondary = dict.fromkeys(two for _, one in named for two in one.secondary)
        return _Protocols(patterns, filters, tuple(secondary))

    def _patterns(
        self, texts: tuple[str, ...], place: Place, key: str
    ) -> tuple[ProtocolPattern, ...]:
        found: dict[ProtocolPattern, None] = {}

        def read(text: str) -> tuple[ProtocolPattern, ...]:
            if reference_in(text) is None:
                return (parse_protocol(text),)
            definition = self._objects.protocol(text, place, (key, texts.index(text)))
            return () if definition is None else definition.ports

        for _, patterns in place.each(key, texts, read):
            found.update(dict.fromkeys(patterns))
        return tuple(found)

    def _held(self, table: AnyRuleTable, place: Place) -> HeldSettings:
        if table.held == _NOT_HELD:
            return NO_HELD_SETTINGS
        choices: list[DeliveryChoice] = []
        for index, one in enumerate(table.held.delivery):
            path = ("held", "delivery", index)
            at = Place(place.document, (*place.at, *path), place.findings)
            types = self._objects.content_types_of(one.content_types, at)
            if types is None and one.method is DeliveryMethod.FAST_TRICKLE:
                at.refuse((), *_FAST_FOR_ALL)
            elif choices and choices[-1].content_types is None:
                at.refuse((), "is never reached: the one before it is for all types")
            choices.append(DeliveryChoice(one.method, types, one.after_s))
        return HeldSettings(tuple(choices), table.held.unknown_codings == "judge")

    def _users(self, table: RuleTable, place: Place) -> tuple[str, ...] | None:
        if table.users is None:
            return None
        objects = self._objects
        return tuple(objects.texts_of(table.users, (objects.users,), parse_user, place, "users"))


def _filters(table: AnyRuleTable, bound: tuple[str, ...], place: Place) -> tuple[str, ...]:
    """Return what runs, bound filters first; refuse what a rule says twice or to nobody."""
    for index, used in enumerate(table.filters):
        if used in table.filters[:index]:
            place.refuse(("filters", index), f"{used!r} is listed twice")
    filters = tuple(dict.fromkeys((*bound, *table.filters)))
    for unused in table.settings.keys() - set(filters):
        place.refuse(
            ("settings", unused),
            f"this rule does not use the filter {unused!r}",
            'add it to "filters", or remove its settings',
        )
    return filters


def _settings(table: AnyRuleTable) -> MappingProxyType[str, MappingProxyType[str, object]]:
    return MappingProxyType(
        {name: MappingProxyType(chosen) for name, chosen in table.settings.items()}
    )


def _limits(table: LimitsTable) -> RuleLimits:
    if table == _NO_LIMITS:
        return NO_RULE_LIMITS
    return RuleLimits(
        table.connections_max,
        table.bytes_max,
        table.duration_s,
        table.idle_timeout_s,
        table.window_bytes_min,
        table.url_bytes_max,
        table.head_bytes_max,
        table.request_bytes_max,
        table.response_bytes_max,
        table.response_timeout_s,
    )


def _paths(tables: Sequence[PathTable], place: Place) -> tuple[PathPattern, ...]:
    found: dict[PathPattern, None] = {}
    for index, table in enumerate(tables):
        try:
            if table.path is not None:
                pattern = parse_path(table.path)
            else:
                pattern = PathPattern(table.pattern or "", is_regular=True)
        except Wrong as wrong:
            place.refuse(("paths", index), wrong.cause, wrong.cure)
        except ValueError as error:
            cause = f"is {table.pattern!r}, which is no regular expression: {error}"
            place.refuse(("paths", index), cause, _PATTERN_CURE)
        else:
            if pattern in found:
                place.refuse(("paths", index), f"{str(pattern)!r} is listed twice")
            found[pattern] = None
    return tuple(found)


def _check_action(rule: Rule, table: RuleTable, place: Place) -> None:
    if rule.action.is_refusal and table.filters:
        place.refuse(("filters",), "a rule that denies runs no filters", 'remove "filters"')
    if rule.action.is_refusal and rule.limits != NO_RULE_LIMITS:
        place.refuse(("limits",), "a rule that denies has no connections", 'remove "limits"')
    if rule.action.is_refusal and rule.held != NO_HELD_SETTINGS:
        place.refuse(("held",), "a rule that denies holds nothing", 'remove "held"')
    if rule.action.is_refusal and table.tls is not None:
        place.refuse(("tls",), "a rule that denies has no connections", 'remove "tls"')
    if rule.action is RuleAction.INSPECT and not rule.filters:
        place.refuse(
            ("filters",),
            "is missing: a rule that inspects needs filters that look",
            'name them, or write action = "allow"',
        )


def _written(table: AnyRuleTable, keys: tuple[str, ...]) -> MappingProxyType[str, tuple[str, ...]]:
    values = {key: getattr(table, key) for key in keys}
    return MappingProxyType({key: tuple(map(str, value)) for key, value in values.items() if value})


_NO_LIMITS: Final = LimitsTable()
_NOT_HELD: Final = HeldTable()
_FAST_FOR_ALL: Final = (
    "lets objects out before their verdict, and says of which types",
    'for example content_types = ["@video"]',
)
_PATTERN_CURE: Final = "it is RE2's syntax: no look-around, no back-references"
_WRITTEN: Final = (
    "clients",
    "clients_except",
    "users",
    "to",
    "to_except",
    "protocols",
    "protocols_except",
    "content_types",
)
"""Keys whose lists may name objects."""
