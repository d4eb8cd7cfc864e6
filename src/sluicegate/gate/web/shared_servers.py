"""Shared servers: which clients' connections may use one connection to a server inside TLS.

A browser opens six connections to a site, and programs one after the other. Each of them is opened
for one client; behind them a connection to the server that waits may serve any of them. The
invariant: they share only what each of them would be given anew: the same client address and user,
by the same rule of the same policy, to the same judged host and port, verified under the same
settings; and never what was logged in as a connection.

``opening_connection`` asks whether there is a server already, so that it need not be dialled and
verified to be known; ``origin_pool`` keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.tls import ServerStream, TlsSocket

if TYPE_CHECKING:
    from sluicegate.gate.opening_connection import OpeningConnection
    from sluicegate.names import CanonicalHost
    from sluicegate.port.backend import RawSocket
    from sluicegate.tls import ServerProof

    from .origin_pool import PoolKey

__all__ = ["proof_of", "shared_key"]


def shared_key(connection: OpeningConnection, host: CanonicalHost) -> PoolKey | None:
    """Return what servers of a connection are kept under; None: they are its own alone.

    Args:
        connection: Its rule has let it in.
        host: Who the server is.
    """
    service = connection.firewall
    servers = service.server_tls
    if not servers.are_shared:
        return None
    user = connection.session.user
    way = (
        connection.client_address.host,
        connection.listener_name,
        connection.plan.rule.name,
        None if user is None else (user.scheme, user.name),
        service.entries.known.epoch,
        service.revocation.epoch,
        servers.epoch,
    )
    return host.text, connection.named_port, way


def proof_of(raw: RawSocket) -> ServerProof | None:
    """Return who a server is, as it has shown on this very connection; None: it has not."""
    if isinstance(raw, TlsSocket) and isinstance(raw.stream, ServerStream):
        return raw.stream.proof
    return None
