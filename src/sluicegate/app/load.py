"""All of an operator's files together: read, checked against each other, ready to be applied.

``check`` shows what it finds, ``run`` and a reload put the result in force. The invariant: the
result is whole or there is none; what is wrong is found without touching the running gate.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings, suggest
from sluicegate.errors import ConfigError
from sluicegate.filterapi import Need, Scanner, WebFilter
from sluicegate.gate.rule_settings import web_filter_of
from sluicegate.gate.settings import PerRule, ServiceSettings
from sluicegate.gate.views import CertificateView
from sluicegate.identity import DirectorySettings, Users, parse_users, read_users_text
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import (
    AnyRule,
    ParsedPolicy,
    Place,
    PolicySnapshot,
    PolicyTexts,
    Rule,
    parse_policy,
    review_policy,
)
from sluicegate.policy.delivery import DeliveryMethod
from sluicegate.policy.tls_opening import TlsMode
from sluicegate.protocols.detect import EntryProtocol

from .alert_files import check_alert_files
from .certificate_views import certificate_views
from .config import Configuration, read_configuration
from .datagram_rules import check_transport, place_of_filter
from .entry_config import check_entry_rules, find_servers, to_resolver
from .filters import InstalledFilters, install_filters
from .interfaces import interface_addresses
from .isolated import secret_paths
from .ldap_config import to_directory
from .network_findings import check_network_rules
from .parent_proxies import to_parents
from .policy_files import read_policy_texts
from .public_suffixes import is_public_suffix
from .published_tls_rules import check_published_tls
from .refusal_pages import load_refusal_pages
from .scanners import ScannerPaths, check_asked, make_scanners
from .secret_files import SecretFiles
from .server_tls_config import to_server_tls
from .service_config import read_text
from .system_findings import check_system
from .texts import Texts
from .time_zones import find_time_zone

__all__ = ["Identities", "Loaded", "load", "load_identities"]

_CLOCK: Final = SystemClock()

_FINDERS: Final = frozenset({"filter", "data", "callback"})
"""The tiers that can hold a transfer; what a stream filter sees are bytes."""

_OF_CONTENT_FILTERS: Final = frozenset({DeliveryMethod.FAST_TRICKLE, DeliveryMethod.PROGRESS_PAGE})
"""What ``gate.web.held_stage`` has and ``gate.web.object_stage`` has not."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that may be put in force."""

    texts: Texts
    configuration: Configuration
    filters: InstalledFilters
    settings: ServiceSettings
    warnings: tuple[str, ...]

    @property
    def certificates(self) -> list[CertificateView]:
        """Those of listeners, for people."""
        return certificate_views(self.settings.listeners)


def load(
    path: pathlib.Path,
    findings: Findings,
    before: Loaded | None = None,
    texts: Texts | None = None,
    *,
    policy_path: pathlib.Path | None = None,
    proposed: Mapping[str, str] | None = None,
) -> Loaded | None:
    """Read everything that ``sluicegate.toml`` leads to; None, with every finding, if wrong.

    Args:
        path: Of ``sluicegate.toml``.
        findings: Where errors and warnings go.
        before: What is in force; filters about which nothing changed are kept.
        texts: The files' content, where somebody else has read them.
        policy_path: Of a policy to be tried in place of the one that the file names.
        proposed: Texts of a policy's files, by name, to be tried in place of those on disk.
    """
    main = texts.main if texts else read_text(path, findings, "choose the file with --config")
    secrets = SecretFiles(path.absolute().parent, texts.secrets if texts else None)
    configuration = None if main is None else read_configuration(path, main, findings, secrets)
    if main is None or configuration is None:
        return None
    filters = install_filters(configuration, before.filters if before else None, findings)
    policy_texts, policy = _read_policy(configuration, policy_path, texts, proposed, findings)
    if policy_texts is None or policy is None:
        return None
    users_text, users = _load_users(configuration, texts, findings)
    snapshot = PolicySnapshot(policy.policy, filters.shows)
    _check_rules(configuration, filters, policy, findings)
    _review(configuration, policy, snapshot, filters, findings)
    if users is not None:
        check_entry_rules(configuration, policy, users, findings)
    scanners = _load_scanners(configuration, policy, secrets, before, findings)
    check_asked(filters.installations, configuration.scanners, configuration.document, findings)
    check_network_rules(policy, snapshot, before.settings.policy if before else None, findings)
    resolver, own_addresses = _load_network(configuration, findings)
    directory = _load_directory(configuration, secrets, findings)
    check_system(configuration, policy, resolver, directory, findings)
    check_alert_files(configuration, secrets, findings)
    pages = load_refusal_pages(configuration.web, secrets, configuration.document, findings)
    servers = to_server_tls(configuration, secrets, findings)
    if findings.errors or users is None:
        return None
    return Loaded(
        texts=Texts(main, policy_texts, users_text, secrets.texts),
        configuration=configuration,
        filters=filters,
        settings=ServiceSettings(
            listeners=configuration.listeners,
            policy=snapshot,
            filters=filters.installations,
            limits=configuration.limits,
            users=users,
            directory=directory,
            resolver=resolver,
            own_addresses=own_addresses,
            own_services=configuration.own_services,
            nat64_prefixes=configuration.resolver.nat64_prefixes,
            scanners=scanners,
            refusal_pages=pages,
            parent_proxies=to_parents(configuration.web.parent_proxy),
            server_tls=servers.settings,
            own_certificates=servers.own,
            key_log=servers.key_log,
            recorded=configuration.recorded,
        ),
        warnings=tuple(str(warning) for warning in findings.warnings),
    )


def _read_policy(
    configuration: Configuration,
    path: pathlib.Path | None,
    known: Texts | None,
    proposed: Mapping[str, str] | None,
    findings: Findings,
) -> tuple[PolicyTexts | None, ParsedPolicy | None]:
    """Read the texts of a policy, unless somebody has, and what they say."""
    path = path or configuration.policy_path
    texts = known.policy if known else read_policy_texts(path, findings, proposed)
    if texts is None:
        return None, None
    return texts, parse_policy(texts, path.name, findings, is_public_suffix, find_time_zone)


def _review(
    configuration: Configuration,
    policy: ParsedPolicy,
    snapshot: PolicySnapshot,
    filters: InstalledFilters,
    findings: Findings,
) -> None:
    """Warn of what is right and yet worth a word."""
    _check_use(configuration, snapshot, findings)
    proxies = [one.name for one in configuration.listeners if one.entry is not None]
    review_policy(policy, snapshot, dict.fromkeys(proxies), filters.shows, _CLOCK.wall())


@dataclass(frozen=True, slots=True)
class Identities:
    """Who may prove to be whom, without the rest of a gate."""

    users: Users
    directory: DirectorySettings | None
    resolver: ResolverSettings
    """How the directory's name is looked up."""


def load_identities(path: pathlib.Path, findings: Findings) -> Identities | None:
    """Read what ``sluicegate user test`` asks; None, with every finding, if something is wrong."""
    text = read_text(path, findings, "choose the file with --config")
    secrets = SecretFiles(path.absolute().parent)
    configuration = None if text is None else read_configuration(path, text, findings, secrets)
    if configuration is None:
        return None
    users = _parse_users(configuration, _read_users(configuration, findings), findings)
    directory = _load_directory(configuration, secrets, findings)
    servers = find_servers(configuration.resolver, findings) if directory else ()
    resolver = to_resolver(configuration.resolver, servers, configuration.document, findings)
    if findings.errors or users is None:
        return None
    return Identities(users, directory, resolver)


def _read_users(configuration: Configuration, findings: Findings) -> str | None:
    """Read the users, who may be none: the file is made with the first one."""
    service = configuration.document.tree.get("service", {})
    is_named = isinstance(service, dict) and "users" in service
    if not is_named and not configuration.users_path.exists():
        return None
    return read_users_text(configuration.users_path, findings)


def _load_users(
    configuration: Configuration, known: Texts | None, findings: Findings
) -> tuple[str | None, Users | None]:
    """Read the text of the users file, unless somebody has, and what it says."""
    text = known.users if known else _read_users(configuration, findings)
    return text, _parse_users(configuration, text, findings)


def _parse_users(
    configuration: Configuration, text: str | None, findings: Findings
) -> Users | None:
    if text is None:
        return Users()
    return parse_users(text, configuration.users_path.name, findings)


def _load_directory(
    configuration: Configuration, secrets: SecretFiles, findings: Findings
) -> DirectorySettings | None:
    table = configuration.ldap
    if table is None:
        return None
    return to_directory(table, configuration.document, secrets, findings)


def _load_scanners(
    configuration: Configuration,
    parsed: ParsedPolicy,
    secrets: SecretFiles,
    before: Loaded | None,
    findings: Findings,
) -> Mapping[str, Scanner]:
    folder = configuration.path.absolute().parent
    return make_scanners(
        configuration.scanners,
        ScannerPaths(folder, secret_paths(configuration), secrets),
        before.settings.scanners if before is not None else None,
        parsed.policy.system,
        configuration.document,
        findings,
    )


def _load_network(
    configuration: Configuration, findings: Findings
) -> tuple[ResolverSettings, tuple[IpAddress, ...]]:
    """Return how names are looked up and which addresses are the machine's own.

    Without a proxy listener nobody asks, and the machine is not asked either.
    """
    table, servers = configuration.resolver, configuration.resolver.servers
    own_addresses: tuple[IpAddress, ...] = ()
    if any(listener.entry is not None for listener in configuration.listeners):
        servers = find_servers(table, findings)
        try:
            own_addresses = interface_addresses()
        except ConfigError as error:
            findings.errors.append(error)
    return to_resolver(table, servers, configuration.document, findings), own_addresses


def _check_rules(
    configuration: Configuration,
    filters: InstalledFilters,
    parsed: ParsedPolicy,
    findings: Findings,
) -> None:
    """Refuse rules that name listeners or filters which do not exist."""
    entries = {listener.name: listener.entry for listener in configuration.listeners}
    policy = parsed.policy
    for publication, place in zip(policy.publications, parsed.publications_at, strict=True):
        if publication.listener not in entries:
            place.refuse(
                ("listener",),
                f"there is no listener {publication.listener!r} in {configuration.path.name}",
                suggest(publication.listener, sorted(entries)),
            )
        elif entries[publication.listener] is not None:
            place.refuse(
                ("listener",),
                f"{publication.listener!r} is a proxy: its clients name their destinations",
                "write [[rule]], or publish on another listener",
            )
        check_transport(publication, configuration, filters, place)
        check_published_tls(publication, configuration, place)
        _check_rule_filters(configuration, filters, publication, place, findings)
    for rule, place in zip(policy.rules, parsed.rules_at, strict=True):
        _check_rule_filters(configuration, filters, rule, place, findings)
        _check_opening(rule, configuration, place)


def _check_rule_filters(
    configuration: Configuration,
    filters: InstalledFilters,
    rule: AnyRule,
    place: Place,
    findings: Findings,
) -> None:
    # A filter that cannot be loaded has its own finding: its rules are not to blame.
    installed = sorted({table.name for table in configuration.filters})
    for name in rule.filters:
        if name not in installed:
            place.refuse(
                place_of_filter(rule, place, name),
                f"there is no filter {name!r} in {configuration.path.name}",
                suggest(name, installed),
            )
    filters.check_rule(rule, place.document, place.at, findings)
    if not _has_web_clients(rule, configuration):
        _check_objects(rule, filters, place.where("filters"), findings)
        _check_messages(rule, filters, place.where("filters"), findings)
    _check_delivery(rule, filters, place)


def _check_delivery(rule: AnyRule, filters: InstalledFilters, place: Place) -> None:
    """Warn of methods of delivery that are a trickle while a web filter has the whole object."""
    asked = {one.method for one in rule.held.delivery} & _OF_CONTENT_FILTERS
    if not asked:
        return
    for name in rule.filters:
        made = filters.made(name)
        target = None if made is None else made.installation.filter_object
        if isinstance(target, WebFilter | PerRule) and _takes_whole_responses(target, rule, name):
            place.warn(
                ("held", "delivery"),
                f"while the web filter {name!r} is shown a whole object, "
                f"{' and '.join(sorted(asked))} are a trickle",
                "only content filters hold objects for a page, or for fast trickle",
            )


def _takes_whole_responses(target: WebFilter | PerRule, rule: AnyRule, name: str) -> bool:
    try:
        needs = web_filter_of(target, rule.settings.get(name, {})).needs
    except ValueError:
        return False  # It has its own finding.
    return needs.response is Need.OBJECT


def _opens_tls(rule: AnyRule) -> bool:
    return rule.tls is not None and rule.tls.opening.mode is TlsMode.INSPECT


def _check_opening(rule: AnyRule, configuration: Configuration, place: Place) -> None:
    """Refuse a rule that opens TLS where nobody could sign what clients are shown."""
    if rule.is_enabled and _opens_tls(rule) and configuration.authority is None:
        place.refuse(
            ("tls", "mode"),
            "opens TLS, and no authority signs what clients are shown: everything would be refused",
            f'"[ca]" in {configuration.path.name}, and "sluicegate ca init"',
        )


def _has_web_clients(rule: AnyRule, configuration: Configuration) -> bool:
    """Tell whether the gate itself finds objects under a rule: the bodies of HTTP."""
    if not isinstance(rule, Rule):
        return rule.is_http
    return _opens_tls(rule) or any(
        listener.entry is not None
        and EntryProtocol.HTTP in listener.entry.protocols
        and (rule.listeners is None or listener.name in rule.listeners)
        for listener in configuration.listeners
    )


def _check_messages(
    rule: AnyRule, filters: InstalledFilters, where: str, findings: Findings
) -> None:
    """Refuse a rule whose web filters would never be asked: everything would pass them."""
    for name in rule.filters:
        made = filters.made(name)
        if made is not None and made.tier == "web":
            findings.refuse(
                where,
                f"{name!r} is a web filter, and no client of this rule speaks HTTP to the gate: "
                "everything would pass",
                'let the listener take it: protocols = ["http", "http-connect"]',
            )
            return


def _check_objects(
    rule: AnyRule, filters: InstalledFilters, where: str, findings: Findings
) -> None:
    """Refuse a rule whose content filters would never be asked: everything would pass them."""
    made = [one for name in rule.filters if (one := filters.made(name)) is not None]
    judges = [one for one in made if one.tier == "content"]
    finders = [one for one in made if one.tier in _FINDERS]
    if judges and not finders and len(made) == len(rule.filters):
        findings.refuse(
            where,
            f"{judges[0].installation.name!r} judges objects, and no filter of this rule finds "
            "any: everything would pass",
            'add the filter of the protocol, for example "ftp_access"',
        )


def _check_use(configuration: Configuration, snapshot: PolicySnapshot, findings: Findings) -> None:
    """Warn of what has no effect."""
    entries = {one.name: one.entry for one in configuration.listeners}
    for index, (name, entry) in enumerate(entries.items()):
        if name not in snapshot.publications_by_listener and snapshot.rules_of(name) is None:
            kind = "publish" if entry is None else "rule"
            findings.warn(
                configuration.document.where(("listener", index)),
                f"no [[{kind}]] names {name!r}: every client is refused there",
                f"add a [[{kind}]] with listener = {name!r} to {configuration.policy_path.name}",
            )
    for index, table in enumerate(configuration.filters):
        if table.on_failure == "bypass":
            findings.warn(
                configuration.document.where(("filter", index, "on_failure")),
                f"traffic passes without {table.name!r} when it fails",
                'on_failure = "deny" refuses it',
            )
