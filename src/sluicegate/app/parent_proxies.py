"""``[[web.parent_proxy]]``: the proxies that web requests for some hosts are sent on to.

``refusal_pages`` has it in its table, ``load`` makes settings of it. The invariant: a parent is an
address with a port, never a name: nothing is looked up to reach it.
"""

from __future__ import annotations

from typing import Annotated

import pydantic

from sluicegate.address import SocketAddress
from sluicegate.documents import Model, Wrong
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.names import CanonicalHost, HostPattern, HostRefused, canonical_host
from sluicegate.policy.parse_values import parse_address, parse_host

__all__ = ["ParentProxyTable", "parse_pattern", "to_parents"]


def _parse_parent(text: object) -> SocketAddress:
    address = parse_address(text)
    if not address.port:
        raise Wrong(f"is {text!r}, which has no port", 'for example "192.0.2.8:3128"')
    return address


def parse_pattern(text: object) -> HostPattern:
    """Read a host, or ``*.name``."""
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, which is no host", 'for example "*.example.org"')
    return parse_host(text)


def _parse_name(text: object) -> CanonicalHost:
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, which is no host", 'for example "proxy.example.org"')
    try:
        return canonical_host(text)
    except HostRefused as refused:
        raise Wrong(refused.hint, 'for example "proxy.example.org"') from refused


class ParentProxyTable(Model, arbitrary_types_allowed=True):
    """One ``[[web.parent_proxy]]``."""

    address: Annotated[SocketAddress, pydantic.PlainValidator(_parse_parent)] = pydantic.Field(
        examples=["192.0.2.8:3128"]
    )
    to: tuple[Annotated[HostPattern, pydantic.PlainValidator(parse_pattern)], ...] = pydantic.Field(
        default=(), examples=[["*.example.org"]], description="default: all hosts"
    )
    """The hosts whose requests it gets."""
    tls: Annotated[CanonicalHost | None, pydantic.PlainValidator(_parse_name)] = pydantic.Field(
        default=None, examples=["proxy.example.org"]
    )
    """It is spoken to inside TLS, and has a certificate for this name or address."""


def to_parents(tables: tuple[ParentProxyTable, ...]) -> tuple[ParentProxy, ...]:
    """Return them as the gate takes them, in their order."""
    return tuple(ParentProxy(one.address, one.to, one.tls) for one in tables)
