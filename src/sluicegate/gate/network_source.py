"""Sources: from which address a server is dialled for a client, by the network rules in force.

Whoever dials for a client asks ``find_source`` with the address that is about to be dialled. The
invariant: where network rules are written, nothing is dialled for a pair that none of them names,
and nothing from another address than the rule wants.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.errors import Side, TransportError, errno_name
from sluicegate.policy import NetworkRelation, NetworkRule
from sluicegate.policy.network_rules import NO_NETWORK_RULE, NetworkRelations
from sluicegate.port import CompletionPort
from sluicegate.port.backend import RawSocket, Source

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService
    from .udp_connection import UdpConnection

__all__ = [
    "NoSource",
    "datagram_source",
    "dial_from_source",
    "end_unsourced",
    "find_source",
    "is_unrelated",
    "open_datagrams",
    "take_source",
]


@dataclass(frozen=True, slots=True)
class NoSource:
    """Why a server is not dialled."""

    reason: str
    error: int = 0
    """The errno of the kernel; 0: policy refuses it."""


def is_unrelated(relations: NetworkRelations, client: SocketAddress, server: SocketAddress) -> bool:
    """Tell whether network rules are written and none names this pair."""
    return bool(relations.rules) and relations.find(client.ip, server.ip) is None


def find_source(
    relations: NetworkRelations, client: SocketAddress, server: SocketAddress
) -> Source | NoSource | None:
    """Return where a server is dialled from; None: wherever the system chooses."""
    if not relations.rules:
        return None
    rule = relations.find(client.ip, server.ip)
    if rule is None:
        return NoSource(NO_NETWORK_RULE)
    if rule.relation is NetworkRelation.ROUTE:
        source = Source(client.with_port(0), is_transparent=True)
    elif rule.address is not None:
        source = Source(SocketAddress(str(rule.address), 0))
    else:
        return None
    if source.address.family != server.family:
        return NoSource(f"network rule {rule.name}: {source} and {server} are of two IP versions")
    return source


def datagram_source(
    relations: NetworkRelations, client: SocketAddress, server: SocketAddress
) -> Source | None:
    """As ``find_source``, for those who make their sockets themselves.

    Raises:
        TransportError: Nothing is sent to that server.
    """
    source = find_source(relations, client, server)
    if isinstance(source, NoSource):
        raise TransportError(errno.EACCES, Side.INTERNAL, source.reason)
    return source


def open_datagrams(service: FirewallService, connection: UdpConnection) -> RawSocket:
    """Make the socket towards the one server of a UDP connection.

    Raises:
        TransportError: There is none; ``doing`` says why, as a record does.
    """
    client, server = connection.client_address, connection.server_address
    source = datagram_source(service.policy.network_relations, client, server)
    try:
        return service.port.create_datagram_raw(connect=server, source=source)
    except TransportError as error:
        if error.side is not Side.SERVER:
            raise
        raise TransportError(error.error, Side.SERVER, "connect") from error


def take_source(
    port: CompletionPort,
    relations: NetworkRelations,
    raw: RawSocket,
    client: SocketAddress,
    server: SocketAddress,
) -> NoSource | None:
    """Give a socket the address that the server is to see; return why it must not be used."""
    source = find_source(relations, client, server)
    if source is None or isinstance(source, NoSource):
        return source
    try:
        port.backend.bind_source(raw, source)
    except OSError as error:
        return _cannot_bind(source, relations.find(client.ip, server.ip), error.errno or errno.EIO)
    return None


def dial_from_source(
    connection: GateConnection, relations: NetworkRelations, raw: RawSocket
) -> bool:
    """Let a connection dial from where a network rule says; False when that ended it."""
    client, server = connection.client_address, connection.server_address
    refusal = take_source(connection.port, relations, raw, client, server)
    if refusal is not None:
        end_unsourced(connection, refusal)
    return refusal is None


def end_unsourced(connection: GateConnection, refusal: NoSource) -> None:
    """End a connection whose server is not dialled."""
    if refusal.error:
        connection.fail(refusal.reason, refusal.error)
    else:
        connection.refuse(refusal.reason)


def _cannot_bind(source: Source, rule: NetworkRule | None, error: int) -> NoSource:
    """Say why an address cannot be dialled from."""
    name = "" if rule is None else rule.name
    cause = _CAUSES.get(error, errno_name(error))
    return NoSource(f"network rule {name}: cannot dial from {source}: {cause}", error)


_CAUSES: Final = {
    errno.EADDRNOTAVAIL: "this machine does not have the address",
    errno.EPERM: "the gate has not the right to (CAP_NET_ADMIN)",
    errno.EACCES: "the gate has not the right to (CAP_NET_ADMIN)",
}
