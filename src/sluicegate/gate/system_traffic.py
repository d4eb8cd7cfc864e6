"""The gate's own traffic: the system policy in force is asked before each dial of the gate's own.

The resolver's exchange is wrapped here; the directory service asks directly. The invariant: what
the policy in force does not let the gate do is not done, and fails with that as its reason.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.names.exchange import AsyncioExchange, Exchange
from sluicegate.names.packets import Query
from sluicegate.policy import SystemPurpose

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["PermittedExchange"]


class PermittedExchange:
    """Asks DNS servers, as far as the system policy lets the gate; satisfies ``Exchange``."""

    __slots__ = ("_exchange", "_service")

    def __init__(self, exchange: Exchange | None, service: FirewallService) -> None:
        self._exchange = exchange or AsyncioExchange()
        self._service = service

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        """As in ``Exchange``."""
        self._check(server)
        return await self._exchange.ask_udp(server, query)

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        """As in ``Exchange``."""
        self._check(server)
        return await self._exchange.ask_tcp(server, query)

    def _check(self, server: SocketAddress) -> None:
        if not self._service.policy.policy.system.allows(SystemPurpose.DNS, server.ip):
            raise PermissionError(errno.EACCES, "[system] does not let the gate ask it (dns)")
