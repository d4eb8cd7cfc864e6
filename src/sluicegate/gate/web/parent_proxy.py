"""Parent proxies: where requests for some hosts are sent on, instead of to the host itself.

``app`` reads them, ``targets`` asks for each host that was decided on. The invariant: a parent
changes where a request is sent and nothing else: its host is looked up and judged as if there were
none, so no parent is a way around a rule about addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.address import SocketAddress
from sluicegate.names import CanonicalHost, HostPattern

__all__ = ["ParentProxy", "find_parent"]


@dataclass(frozen=True, slots=True)
class ParentProxy:
    """One ``[[parent_proxy]]``."""

    address: SocketAddress
    to: tuple[HostPattern, ...] = ()
    """The hosts whose requests it gets; none: all of them."""
    name: CanonicalHost | None = None
    """Who it has to be, inside TLS; None: it is spoken to in the open."""

    def serves(self, host: CanonicalHost) -> bool:
        """Tell whether it gets the requests for a host."""
        return not self.to or any(one.matches(host) for one in self.to)


def find_parent(parents: Sequence[ParentProxy], host: CanonicalHost) -> ParentProxy | None:
    """Return who gets requests for a host: the first that serves it; None: the host itself."""
    for one in parents:
        if one.serves(host):
            return one
    return None
