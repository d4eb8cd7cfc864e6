"""The system policy: what the gate itself may do, by predefined purposes.

The gate asks ``SystemPolicy.allows`` before it opens a connection of its own. The invariant: there
are no other purposes than these, none can be added, and one that is off refuses.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate.address import IpAddress, IpNetwork

__all__ = ["SystemPolicy", "SystemPurpose", "SystemRule"]


class SystemPurpose(enum.StrEnum):
    """Why the gate opens a connection that no client asked for."""

    DNS = "dns"
    LDAP = "ldap"
    SCANNERS = "scanners"
    ALERTS = "alerts"
    LOGGING = "logging"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class SystemRule:
    """What one purpose may do."""

    is_enabled: bool = True
    to: tuple[IpNetwork, ...] | None = None
    """None: exactly the servers that the configuration names for it."""

    def allows(self, server: IpAddress) -> bool:
        """Tell whether a server that the configuration names may be reached."""
        if not self.is_enabled:
            return False
        return self.to is None or any(server in network for network in self.to)


@dataclass(frozen=True, slots=True)
class SystemPolicy:
    """All purposes; one that is not written is on, for the configured servers."""

    rules: Mapping[SystemPurpose, SystemRule] = field(default_factory=lambda: MappingProxyType({}))

    def rule(self, purpose: SystemPurpose) -> SystemRule:
        """Return what a purpose may do."""
        return self.rules.get(purpose, _DEFAULT)

    def allows(self, purpose: SystemPurpose, server: IpAddress) -> bool:
        """Tell whether the gate may reach a server that the configuration names for a purpose."""
        return self.rule(purpose).allows(server)


_DEFAULT = SystemRule()
