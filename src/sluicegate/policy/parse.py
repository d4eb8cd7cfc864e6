"""``policy.toml``: from text to a ``Policy``, with every mistake named.

``app`` hands over the text and what it is called; nothing is read or resolved here. The invariant:
what is not an exact network, address or key is refused, never corrected: a rule means what it says.
"""

from __future__ import annotations

import ipaddress
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import Field, PlainValidator, StringConstraints

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Document, Findings, Model, Wrong, read_document, typed

from .model import Policy, Publication, SendProxyProtocol

__all__ = ["Name", "ParsedPolicy", "parse_address", "parse_network", "parse_policy"]


class ParsedPolicy:
    """A policy and the document it came from, for checks that need more than the document."""

    __slots__ = ("document", "policy")

    def __init__(self, policy: Policy, document: Document) -> None:
        self.policy = policy
        self.document = document


def parse_policy(text: str, name: str, findings: Findings) -> ParsedPolicy | None:
    """Read a policy; None, with every finding, when it is wrong. An empty one denies everything."""
    before = len(findings.errors)
    document = read_document(text, name, findings)
    if document is None:
        return None
    tables = typed(document, _PolicyTables, findings)
    if tables is None:
        return None
    _check_names(tables, document, findings)
    if len(findings.errors) > before:
        return None
    return ParsedPolicy(Policy(tuple(_to_publication(one) for one in tables.publish)), document)


def parse_network(text: object) -> IpNetwork:
    """Read ``10.0.0.0/8``, ``2001:db8::/32`` or one address.

    Raises:
        Wrong: It is neither, or it has bits set behind its prefix.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be a network in quotes", _NETWORK_CURE)
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not a network", _network_cure(text)) from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            raise Wrong(f"is {text!r}, which has a zone", "write it without %")
        if network.prefixlen >= _MAPPED.prefixlen and network.subnet_of(_MAPPED):
            raise Wrong(
                f"is {text!r}, an IPv4 network in IPv6 form", "write the IPv4 network itself"
            )
    return network


def _network_cure(text: str) -> str:
    try:
        return f"the network is {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return _NETWORK_CURE


def parse_address(text: object) -> SocketAddress:
    """Read ``192.0.2.10:21`` or ``[2001:db8::10]:21``.

    Raises:
        Wrong: It is neither, or the same address has a plainer form.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be an address in quotes", _ADDRESS_CURE)
    try:
        address = SocketAddress.parse(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not ADDRESS:PORT", _ADDRESS_CURE) from None
    if isinstance(address.ip, ipaddress.IPv6Address) and (
        address.ip.ipv4_mapped is not None or address.ip.scope_id is not None
    ):
        raise Wrong(f"is {text!r}, which has a zone or an IPv4 address inside", _ADDRESS_CURE)
    return address


def _parse_server(text: object) -> SocketAddress:
    address = parse_address(text)
    if address.port == 0:
        raise Wrong(f"is {text!r}, which has no port", _ADDRESS_CURE)
    if address.ip.is_unspecified or address.ip.is_multicast:
        raise Wrong(f"is {text!r}, which is not the address of a server", _ADDRESS_CURE)
    return address


_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NETWORK_CURE: Final = 'for example "10.0.0.0/8", "2001:db8::/32" or "192.0.2.7"'
_ADDRESS_CURE: Final = 'for example "192.0.2.10:21" or "[2001:db8::10]:21"; names are not resolved'


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A name that appears in records, tables and other files."""


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


class _PolicyTables(Model):
    """The whole of ``policy.toml``."""

    publish: tuple[_PublishTable, ...] = ()


def _check_names(tables: _PolicyTables, document: Document, findings: Findings) -> None:
    """Refuse names used twice, and settings for filters that the rule does not use."""
    first: dict[str, int] = {}
    for index, table in enumerate(tables.publish):
        at = ("publish", index)
        if table.name in first:
            findings.refuse(
                document.where((*at, "name")),
                f"the name {table.name!r} is taken by publish[{first[table.name]}]",
                "records name rules: give each its own",
            )
        first.setdefault(table.name, index)
        for place, used in enumerate(table.filters):
            if used in table.filters[:place]:
                findings.refuse(
                    document.where((*at, "filters", place)), f"{used!r} is listed twice"
                )
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
