"""What an operator says of a directory, and what the directory says of a user: values.

``app/ldap_config`` makes settings from ``[ldap]``, ``directory`` and ``ldap_link`` work by them;
they are compared as a whole at a reload. The invariant: settings are complete and checked; their
password is nowhere in their representation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from typing_extensions import override

from sluicegate.address import SocketAddress

from .ldap_text import DistinguishedName

__all__ = [
    "Addresses",
    "DialAllowed",
    "DirectoryServer",
    "DirectorySettings",
    "DirectoryUser",
    "GroupName",
]


@dataclass(frozen=True, slots=True)
class DirectoryServer:
    """One server, as its URL says."""

    host: str
    """A name, looked up by the gate's own resolver, or an address."""
    port: int
    starts_tls: bool = False
    """``ldap://``: TLS begins by StartTLS; else it is there from the first byte (``ldaps://``)."""

    @override
    def __str__(self) -> str:
        """Format as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldap' if self.starts_tls else 'ldaps'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class GroupName:
    """What rules call one group of the directory."""

    name: str
    entry: DistinguishedName


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """Where users are looked up, and how."""

    servers: tuple[DirectoryServer, ...]
    """Tried in this order; one that failed a short while ago comes last."""
    base: DistinguishedName
    user_filter: str
    """With ``{user}`` in it."""
    user_attribute: str
    """What holds a user's canonical name."""
    bind_name: str = ""
    """Who searches; empty: nobody, where the directory lets itself be searched by anybody."""
    bind_password: bytes = field(default=b"", repr=False)
    ca_pem: str = ""
    """Who vouches for the servers; empty: the system's authorities."""
    tls_name: str = ""
    """The name in the servers' certificates, where it is not the one in their URLs."""
    group_attribute: str = ""
    """Of users and of groups: what holds the names of the groups they are in; empty: none does."""
    group_filter: str = ""
    """Finds the groups of ``{dn}`` or ``{user}``; empty: groups are not searched for."""
    group_base: DistinguishedName | None = None
    """Groups elsewhere count for nothing; None: ``base``."""
    group_name_attribute: str = "cn"
    group_names: tuple[GroupName, ...] = ()
    """Groups that rules call by another name."""
    nested_groups_depth: int = 0
    """How many steps from group to group are followed."""
    connect_timeout_s: float = 2.0
    timeout_s: float = 5.0
    """For all of one user: dials, searches and the bind."""
    cache_s: float = 60.0
    connections_max: int = 4
    """Of each kind at once: those that search, and those that verify."""

    @property
    def groups_below(self) -> DistinguishedName:
        """Where groups are."""
        return self.group_base or self.base


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """One user of the directory."""

    name: str
    """As the directory writes it, whatever the case the client used."""
    groups: tuple[str, ...]
    entry: str
    """The distinguished name."""
    unnamed: tuple[str, ...] = ()
    """Groups whose names no rule can write, and which ``[ldap.groups]`` does not name."""


Addresses: TypeAlias = Mapping[DirectoryServer, Sequence[SocketAddress]]
"""Where each server is; one whose name was not found is left out."""

DialAllowed: TypeAlias = Callable[[SocketAddress], bool]
"""The system policy's word on a dial that the gate makes for itself."""
