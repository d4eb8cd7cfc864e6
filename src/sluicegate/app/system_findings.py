"""Servers that the configuration names, and that the system policy keeps the gate from.

``load`` asks. The invariant: what a configured server would be asked and is not, for ``[system]``
says so, is a warning before somebody misses the answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from sluicegate.address import IpAddress
from sluicegate.documents import Findings
from sluicegate.identity import DirectorySettings
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import ParsedPolicy, SystemPurpose

from .config import Configuration

__all__ = ["check_system"]


def check_system(
    configuration: Configuration,
    parsed: ParsedPolicy,
    resolver: ResolverSettings,
    directory: DirectorySettings | None,
    findings: Findings,
) -> None:
    """Warn of servers that are configured, and that the system policy keeps the gate from."""
    system = parsed.policy.system
    for purpose, address, what in _servers(configuration, resolver, directory):
        allowed = (
            system.rule(purpose).is_enabled if address is None else system.allows(purpose, address)
        )
        if not allowed:
            findings.warn(
                parsed.document.where(("system", purpose.value)),
                f"the gate may not {what}",
                'add it to "to", or enable the purpose',
            )


def _servers(
    configuration: Configuration,
    resolver: ResolverSettings,
    directory: DirectorySettings | None,
) -> Iterator[tuple[SystemPurpose, IpAddress | None, str]]:
    """Return what is configured; no address: it is found when it is needed."""
    for server in resolver.servers:
        what = f"ask the DNS server {server}: names are not looked up there"
        yield SystemPurpose.DNS, server.ip, what
    for table in configuration.scanners:
        if table.address is not None:
            what = f"reach the scanner {table.name!r} at {table.address}: nothing is scanned there"
            yield SystemPurpose.SCANNERS, table.address.ip, what
    for one in directory.servers if directory is not None else ():
        what = f"dial the directory server {one}: users are not looked up there"
        yield SystemPurpose.LDAP, _literal(one.host), what


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
