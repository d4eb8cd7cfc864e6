"""The part of ``sluicegate.toml`` that proxy listeners need: their own keys, and ``[resolver]``.

``config`` puts the tables into its model, ``load`` asks what they mean together with the policy and
the users. The invariant: a combination that lets nobody in, or that promises what a protocol cannot
keep, is refused and named.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import pydantic

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Document, Findings, Model, Wrong, suggest
from sluicegate.errors import ConfigError
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import EntrySettings
from sluicegate.identity import Users
from sluicegate.names.record_type import RecordType
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.names.servers import parse_nameservers
from sluicegate.policy import ANY_USER, GROUP_PREFIX, ParsedPolicy, Place, Rule
from sluicegate.policy.parse_values import parse_address, parse_network
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.tls import TlsSettings

from .secret_files import SecretFiles
from .tls_config import TlsTable, to_tls

if TYPE_CHECKING:
    from .config import Configuration

__all__ = [
    "EntryChoice",
    "EntryProtocolName",
    "ResolverTable",
    "check_entry_rules",
    "find_servers",
    "to_entry",
    "to_published_tls",
    "to_resolver",
]

EntryChoice = Literal["publish", "proxy"]
"""What a listener is for: publications, or clients that name their destinations."""

EntryProtocolName = Literal["socks4", "socks5", "http-connect", "http"]


class _EntryKeys(Protocol):
    """The keys of a ``[[listener]]`` that are about its entry."""

    @property
    def entry(self) -> EntryChoice: ...
    @property
    def protocols(self) -> tuple[EntryProtocolName, ...] | None: ...
    @property
    def authenticate(self) -> Authenticate | None: ...
    @property
    def tls(self) -> TlsTable | None: ...


class _ListenerKeys(_EntryKeys, Protocol):
    """The same, and what the listener takes."""

    @property
    def transport(self) -> Literal["tcp", "udp"]: ...


def _parse_server(text: object) -> SocketAddress:
    address = parse_address(text)
    if not address.port:
        raise Wrong(f"is {text!r}, which has no port", 'for example "192.0.2.53:53"')
    return address


def _parse_nat64(text: object) -> ipaddress.IPv6Network:
    network: IpNetwork = parse_network(text)
    if not isinstance(network, ipaddress.IPv6Network) or network.prefixlen not in _NAT64_LENGTHS:
        raise Wrong(f"is {text!r}, which RFC 6052 does not allow", 'for example "2001:db8:64::/96"')
    return network


class ResolverTable(Model, arbitrary_types_allowed=True):
    """``[resolver]``: how the names that clients ask for are looked up."""

    servers: tuple[Annotated[SocketAddress, pydantic.PlainValidator(_parse_server)], ...] = (
        pydantic.Field(default=(), description="default: those of /etc/resolv.conf")
    )
    use_mixed_answers: bool = False
    """When policy refuses some addresses of a name: dial the others, instead of none."""
    mix_case: bool = True
    """Ask with random letter case, which a forged answer has to guess."""
    ipv4: bool = True
    ipv6: bool = True
    """Which addresses are asked for."""
    nat64_prefixes: tuple[
        Annotated[ipaddress.IPv6Network, pydantic.PlainValidator(_parse_nat64)], ...
    ] = ()


def to_entry(
    keys: _EntryKeys, document: Document, index: int, secrets: SecretFiles, findings: Findings
) -> EntrySettings | None:
    """Make the entry settings of one listener; None for one that publishes."""
    at = ("listener", index)
    if keys.entry == "publish":
        for key in ("protocols", "authenticate"):
            if getattr(keys, key) is not None:
                findings.refuse(
                    document.where((*at, key)),
                    "is of proxy listeners, and this one publishes",
                    'add entry = "proxy", or remove it',
                )
        return None
    authenticate = keys.authenticate or Authenticate.OFF
    is_required = authenticate is Authenticate.REQUIRED
    protocols = keys.protocols
    if protocols is None:
        protocols = _WITH_PASSWORDS if is_required else _ALL
    elif not protocols:
        findings.refuse(
            document.where((*at, "protocols")), "is an empty list: nobody could come", _CURE
        )
    elif is_required and "socks4" in protocols:
        findings.refuse(
            document.where((*at, "protocols")),
            'has "socks4", which has no passwords, and authenticate is "required"',
            'remove "socks4", or let a listener of its own take it',
        )
    tls = None
    if keys.tls is not None:
        tls = to_tls(keys.tls, document, (*at, "tls"), secrets, findings, is_proxy=True)
    taken = frozenset(EntryProtocol(name) for name in protocols)
    if tls is not None and EntryProtocol.HTTP in taken:
        tls = dataclasses.replace(tls, protocols=("h2", "http/1.1"))
    return EntrySettings(taken, authenticate, tls)


def to_published_tls(
    keys: _ListenerKeys, document: Document, index: int, secrets: SecretFiles, findings: Findings
) -> TlsSettings | None:
    """Make the TLS of one listener that publishes; None where its clients speak in clear."""
    if keys.entry != "publish" or keys.tls is None:
        return None
    at = ("listener", index, "tls")
    if keys.transport == "udp":
        cause = "is spoken in streams, and this listener takes datagrams"
        findings.refuse(document.where(at), cause, "remove it")
        return None
    return to_tls(keys.tls, document, at, secrets, findings, is_proxy=False)


def to_resolver(
    table: ResolverTable, servers: tuple[SocketAddress, ...], document: Document, findings: Findings
) -> ResolverSettings:
    """Make the resolver's settings."""
    kinds = [(table.ipv6, RecordType.AAAA), (table.ipv4, RecordType.A)]
    record_types = tuple(record_type for is_wanted, record_type in kinds if is_wanted)
    if not record_types:
        findings.refuse(
            document.where(("resolver", "ipv4")),
            "ipv4 and ipv6 are both false: no name would have an address",
            "let one of them be true",
        )
    return ResolverSettings(
        servers,
        use_mixed_answers=table.use_mixed_answers,
        mix_case=table.mix_case,
        record_types=record_types or (RecordType.A,),
    )


def find_servers(
    table: ResolverTable, findings: Findings, path: pathlib.Path = pathlib.Path("/etc/resolv.conf")
) -> tuple[SocketAddress, ...]:
    """Return the DNS servers: the configured ones, or the machine's."""
    if table.servers:
        return table.servers
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        return parse_nameservers(text, str(path))
    except OSError as error:
        findings.refuse(
            str(path),
            f"cannot be read: {error.strerror}",
            'name DNS servers: servers = ["192.0.2.53:53"] in [resolver]',
        )
    except ConfigError as error:
        findings.errors.append(error)
    return ()


def check_entry_rules(
    configuration: Configuration, parsed: ParsedPolicy, users: Users, findings: Findings
) -> None:
    """Refuse rules that their listener cannot keep, and warn of those that match nobody."""
    entries = {one.name: one.entry for one in configuration.listeners}
    proxies = sorted(name for name, entry in entries.items() if entry is not None)
    names = {user.name for user in users}
    groups = {group for user in users for group in user.groups}
    somebody = bool(names) or configuration.ldap is not None
    known = {*names, ANY_USER, *(GROUP_PREFIX + group for group in groups)}
    for rule, place in zip(parsed.policy.rules, parsed.rules_at, strict=True):
        listeners = proxies if rule.listeners is None else rule.listeners
        for name in listeners:
            _check_listener(rule, name, entries, place, configuration)
        if not listeners:
            place.warn(
                ("listener",),
                f"there is no proxy listener in {configuration.path.name}: it matches nobody",
                'give a listener entry = "proxy"',
            )
        elif rule.users is not None and not any(
            (entry := entries.get(name)) is None or entry.can_authenticate for name in listeners
        ):
            place.refuse(
                ("users",),
                f"nobody proves who they are on {', '.join(map(repr, listeners))}: the rule "
                "matches nobody",
                'give it authenticate = "optional" or "required", or tls with '
                'client_certificates; or remove "users"',
            )
        for user in rule.users or ():
            if configuration.ldap is None and user not in known:
                kind = "is in the group" if user.startswith(GROUP_PREFIX) else "is called"
                place.warn(
                    _place_of_user(rule, user),
                    f"nobody {kind} {user.removeprefix(GROUP_PREFIX)!r}: it matches nobody",
                    '"sluicegate user add" makes users and groups',
                )
    for name in proxies:
        entry = entries[name]
        if entry is not None and entry.authenticate is Authenticate.REQUIRED and not somebody:
            findings.warn(
                configuration.document.where(("service", "users")),
                f"there are no users, and {name!r} lets in nobody else",
                '"sluicegate user add NAME" makes one',
            )


def _check_listener(
    rule: Rule,
    name: str,
    entries: Mapping[str, EntrySettings | None],
    place: Place,
    configuration: Configuration,
) -> None:
    written = place.document.table((*place.at, "listener"))
    path: tuple[str | int, ...] = ("listener",)
    if isinstance(written, list) and rule.listeners is not None:
        path = ("listener", rule.listeners.index(name))
    if name not in entries:
        proxies = sorted(one for one, entry in entries.items() if entry is not None)
        cause = f"there is no listener {name!r} in {configuration.path.name}"
        place.refuse(path, cause, suggest(name, proxies))
    elif entries[name] is None:
        place.refuse(
            path,
            f"the listener {name!r} publishes: its clients name no destination",
            'write [[publish]], or give the listener entry = "proxy"',
        )


def _place_of_user(rule: Rule, user: str) -> tuple[str | int, ...]:
    written = rule.written.get("users", ())
    return ("users", written.index(user)) if user in written else ("users",)


_WITH_PASSWORDS: Final[tuple[EntryProtocolName, ...]] = ("socks5", "http-connect", "http")
_ALL: Final[tuple[EntryProtocolName, ...]] = ("socks4", *_WITH_PASSWORDS)
_CURE: Final = 'for example ["socks5", "http-connect"]'
_NAT64_LENGTHS: Final = frozenset({32, 40, 48, 56, 64, 96})
