"""What an operator says to ``ftp_access``: for all rules, and for one.

``ftp_access`` makes an ``FtpConduct`` of both per connection, which ``ftp_control`` asks. The
invariant: who is exempted is exempted from being held only; addresses are still checked and
rewritten, and TLS is still refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from sluicegate.filterapi import SocketAddress

from .settings import FilterSettings, Ipv4Host, Network, PortRange, is_among

__all__ = ["FtpAccessRuleSettings", "FtpAccessSettings", "FtpConduct"]


class FtpAccessSettings(FilterSettings):
    """``[filter.settings]`` of ``ftp_access``."""

    read_only: bool = False
    """Refuse every command that changes anything on the server."""
    passive_ports: PortRange | None = Field(default=None, examples=["50000-50100"])
    """Ports of the gate that clients are told to connect to; the kernel chooses by default."""
    active_ports: PortRange | None = Field(default=None, examples=["50101-50200"])
    """Ports of the gate that servers are told to connect to; the kernel chooses by default."""
    public_address: Ipv4Host | None = Field(default=None, examples=["203.0.113.7"])
    """The IPv4 address that ``227`` replies name, where clients reach the gate through a NAT."""
    exempt_clients: tuple[Network, ...] = Field(default=(), examples=[["10.1.2.0/24"]])
    """Clients whose objects are not held."""
    exempt_users: tuple[str, ...] = Field(default=(), examples=[["release-bot"]])
    """FTP users, once the server accepted their password, whose objects are not held."""


class FtpAccessRuleSettings(FilterSettings):
    """``[publish.settings.ftp_access]``: what one rule has otherwise."""

    read_only: bool | None = None
    """As in the filter's settings."""
    public_address: Ipv4Host | None = Field(default=None, examples=["203.0.113.7"])
    """As in the filter's settings."""


@dataclass(frozen=True, slots=True)
class FtpConduct:
    """What is wanted of one control connection."""

    is_read_only: bool
    passive_ports: range | None
    active_ports: range | None
    public_address: str
    is_client_exempt: bool
    exempt_users: tuple[str, ...]

    @classmethod
    def of(
        cls, settings: FtpAccessSettings, rule: FtpAccessRuleSettings, client: SocketAddress
    ) -> FtpConduct:
        """Say what is wanted for one client, by the filter's settings and the rule's."""
        return cls(
            is_read_only=bool(rule.read_only),
            passive_ports=settings.passive_ports,
            active_ports=settings.active_ports,
            public_address=str(rule.public_address or ""),
            is_client_exempt=is_among(client, settings.exempt_clients),
            exempt_users=settings.exempt_users,
        )

    def is_exempt(self, user: str | None) -> bool:
        """Tell whether the objects of a user (None before a login) are not held."""
        return self.is_client_exempt or (user is not None and user in self.exempt_users)
