"""DirectoryService: the gate's own way to its directory of users: names, dials, threads.

One per service; ``entry`` applies settings to it, the authenticator asks the ``Directory`` that it
keeps. The invariant: what is dialled is an address that the operator wrote, or one that the gate's
own resolver found for a name that the operator wrote; no client's text comes here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sluicegate.address import SocketAddress
from sluicegate.identity import Addresses, Directory, DirectoryServer, DirectorySettings
from sluicegate.names import AddressJudgement, CanonicalHost, Destination, canonical_host
from sluicegate.names.exchange import Exchange
from sluicegate.names.resolver import Resolver
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.names.special_names import NameClass
from sluicegate.policy import SystemPurpose
from sluicegate.port.workers import heavy_blocking
from sluicegate.verdict import Deny

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["DirectoryService", "find_servers", "for_own_names"]

ResultT = TypeVar("ResultT")


class DirectoryService:
    """What one service knows of its directory."""

    def __init__(self, service: FirewallService, exchange: Exchange) -> None:
        self.directory: Directory | None = None
        self._service = service
        self._resolver = Resolver(
            ResolverSettings(()),
            service.clock,
            service.limits,
            exchange=exchange,
            on_asked=service.records.lookup,
        )

    def apply(self, settings: DirectorySettings | None, resolver: ResolverSettings) -> None:
        """Put settings in force; who is asking under others is refused."""
        own = for_own_names(resolver)
        if own != self._resolver.settings:
            self._resolver.settings = own
            self._resolver.forget()
        before = self.directory
        if before is not None and before.settings == settings:
            return
        service = self._service
        self.directory = None
        if settings is not None:
            self.directory = Directory(
                settings, self._find_addresses, self._run_waiting, service.clock, self.may_dial
            )
        if before is not None:
            service.spawn(before.close())

    def may_dial(self, address: SocketAddress) -> bool:
        """Tell whether the gate may dial a directory server; asked on any thread, before each dial.

        The system policy says so; it is immutable, and replaced as a whole.
        """
        system = self._service.policy.policy.system
        return system.allows(SystemPurpose.LDAP, address.ip)

    async def close(self) -> None:
        """End every question and connection."""
        directory, self.directory = self.directory, None
        if directory is not None:
            await directory.close()
        await self._resolver.close()

    def _run_waiting(self, function: Callable[..., ResultT], *args: Any) -> Awaitable[ResultT]:
        """Run what waits for a network: the pool of threads may grow by it."""
        return self._service.port.run_blocking(_waiting, function, *args)

    async def _find_addresses(self, settings: DirectorySettings) -> Addresses:
        return await find_servers(settings, self._resolver)


async def find_servers(settings: DirectorySettings, resolver: Resolver) -> Addresses:
    """Return where a directory's servers are; those whose names are not found are left out."""
    found: dict[DirectoryServer, Sequence[SocketAddress]] = {}
    for server in settings.servers:
        outcome = await resolver.resolve(canonical_host(server.host), server.port, _ANYWHERE)
        if isinstance(outcome, Destination):
            found[server] = [one.socket_address(server.port) for one in outcome.dialable]
    return found


def for_own_names(settings: ResolverSettings) -> ResolverSettings:
    """Return how names are looked up that the operator wrote, and no client."""
    return dataclasses.replace(settings, permitted_names=_PERMITTED)


def _waiting(function: Callable[..., ResultT], *args: Any) -> ResultT:
    with heavy_blocking():
        return function(*args)


class _Anywhere:
    """The judge of names that the operator wrote: they may lead anywhere."""

    def judge_name(self, host: CanonicalHost, port: int) -> Deny | None:
        del host, port
        return None

    def judge_alias(self, host: CanonicalHost, alias: CanonicalHost, port: int) -> Deny | None:
        del host, alias, port
        return None

    def judge_address(
        self, host: CanonicalHost, judgement: AddressJudgement, port: int
    ) -> Deny | None:
        del host, judgement, port
        return None


_ANYWHERE: Final = _Anywhere()
_PERMITTED: Final = frozenset({NameClass.LOOPBACK, NameClass.LINK_LOCAL})
"""Domains of directories end in ``.local`` on many networks, and their DNS servers know them."""
