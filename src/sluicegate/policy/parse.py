"""``policy.toml``: from text to a ``Policy``, with every mistake named.

``app`` hands over the text and what it is called; nothing is read or resolved here. The invariant:
what is not an exact network, address or key is refused, never corrected: a rule means what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, PlainValidator

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Document, Findings, Model, Wrong, read_document, typed

from .flood import FloodTable, to_flood_limits
from .model import Policy, Publication, SendProxyProtocol
from .parse_rules import IsPublicSuffix, RuleTable, to_rules
from .parse_values import ADDRESS_CURE, Name, parse_address, parse_network

__all__ = ["Name", "ParsedPolicy", "parse_address", "parse_network", "parse_policy"]


class ParsedPolicy:
    """A policy and the document it came from, for checks that need more than the document."""

    __slots__ = ("document", "policy")

    def __init__(self, policy: Policy, document: Document) -> None:
        self.policy = policy
        self.document = document


def parse_policy(
    text: str,
    name: str,
    findings: Findings,
    is_public_suffix: IsPublicSuffix = lambda _name: False,
) -> ParsedPolicy | None:
    """Read a policy; None, with every finding, when it is wrong. An empty one denies everything.

    Args:
        text: Of the file.
        name: How messages call the file.
        findings: Where errors go.
        is_public_suffix: Whether anybody may register names below a name; no rule may allow all of
            those. (The list of suffixes is a file, and nothing is read here.)
    """
    before = len(findings.errors)
    document = read_document(text, name, findings)
    if document is None:
        return None
    tables = typed(document, _PolicyTables, findings)
    if tables is None:
        return None
    _check_names(tables, document, findings)
    rules = to_rules(
        tables.rule,
        document,
        findings,
        is_public_suffix,
        allow_underscore=tables.names.underscores,
    )
    flood = to_flood_limits(tables.flood, document, findings)
    if len(findings.errors) > before:
        return None
    publications = tuple(_to_publication(one) for one in tables.publish)
    policy = Policy(publications, rules, tables.names.underscores, flood)
    return ParsedPolicy(policy, document)


def _parse_server(text: object) -> SocketAddress:
    address = parse_address(text)
    if address.port == 0:
        raise Wrong(f"is {text!r}, which has no port", ADDRESS_CURE)
    if address.ip.is_unspecified or address.ip.is_multicast:
        raise Wrong(f"is {text!r}, which is not the address of a server", ADDRESS_CURE)
    return address


class _PublishTable(Model, arbitrary_types_allowed=True):
    """One ``[[publish]]`` table."""

    name: Name = Field(examples=["ftp"])
    listener: Name = Field(examples=["ftp"])
    server: Annotated[SocketAddress, PlainValidator(_parse_server)] = Field(
        examples=["192.0.2.10:21"]
    )
    clients: Annotated[
        tuple[Annotated[IpNetwork, PlainValidator(parse_network)], ...], Field(min_length=1)
    ] = Field(examples=[["10.0.0.0/8"]])
    filters: tuple[Name, ...] = ()
    settings: dict[str, dict[str, object]] = Field(default_factory=dict)
    send_proxy_protocol: SendProxyProtocol | None = None
    owner: str = ""
    comment: str = ""


class _NamesTable(Model):
    """``[names]``."""

    underscores: bool = False
    """Whether host names may have underscores, which DNS allows and no host name has."""


class _PolicyTables(Model):
    """The whole of ``policy.toml``."""

    publish: tuple[_PublishTable, ...] = ()
    rule: tuple[RuleTable, ...] = ()
    names: _NamesTable = _NamesTable()
    flood: FloodTable = FloodTable()


def _check_names(tables: _PolicyTables, document: Document, findings: Findings) -> None:
    """Refuse names used twice, and settings for filters that the rule does not use."""
    first: dict[str, str] = {}
    kinds: tuple[tuple[str, Sequence[_PublishTable | RuleTable]], ...] = (
        ("publish", tables.publish),
        ("rule", tables.rule),
    )
    for kind, of_kind in kinds:
        for index, table in enumerate(of_kind):
            if table.name in first:
                findings.refuse(
                    document.where((kind, index, "name")),
                    f"the name {table.name!r} is taken by {first[table.name]}",
                    "records name rules: give each its own",
                )
            first.setdefault(table.name, f"{kind}[{index}]")
            _check_filters(table, document, (kind, index), findings)


def _check_filters(
    table: _PublishTable | RuleTable, document: Document, at: tuple[str, int], findings: Findings
) -> None:
    for place, used in enumerate(table.filters):
        if used in table.filters[:place]:
            findings.refuse(document.where((*at, "filters", place)), f"{used!r} is listed twice")
    for unused in table.settings.keys() - set(table.filters):
        findings.refuse(
            document.where((*at, "settings", unused)),
            f"this rule does not use the filter {unused!r}",
            'add it to "filters", or remove its settings',
        )


def _to_publication(table: _PublishTable) -> Publication:
    return Publication(
        name=table.name,
        listener=table.listener,
        server=table.server,
        clients=table.clients,
        filters=table.filters,
        settings=MappingProxyType(
            {name: MappingProxyType(chosen) for name, chosen in table.settings.items()}
        ),
        owner=table.owner,
        comment=table.comment,
        send_proxy_protocol=table.send_proxy_protocol,
    )
