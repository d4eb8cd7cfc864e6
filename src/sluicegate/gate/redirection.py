"""Redirection: consecutive ports of the gate that lead one client to servers of a filter's choice.

``session`` begins it. The invariant: all of the ports listen or none does, and each leads to its
own target only.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded, TransportError

from .secondary import ExpectedConnection, Told, Use

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["redirect"]

_TRIES: Final = 16
"""How often the kernel is asked for a first port whose successors are free."""

_PORT_MAX: Final = 65535


def redirect(
    service: FirewallService,
    primary: GateConnection,
    targets: Sequence[SocketAddress],
    ports: range | None,
    told: Told,
    use: Use,
) -> list[ExpectedConnection]:
    """Listen for each target, on consecutive ports; the lowest is the first target's.

    Raises:
        ValueError: No target is given.
        LimitExceeded: No run of free ports is long enough.
        TransportError: Listening failed otherwise.
    """
    if not targets:
        raise ValueError("name at least one target to redirect to")
    for first in _first_ports(ports, len(targets)):
        made: list[ExpectedConnection] = []
        try:
            for index, target in enumerate(targets):
                port = made[0].address.port + index if made else first
                only = range(port, port + 1) if port else None
                made.append(
                    ExpectedConnection.from_client(service, primary, target, only, told, use=use)
                )
        except (LimitExceeded, TransportError) as error:
            for one in made:
                one.cancel()
            if isinstance(error, TransportError) and error.error != errno.EADDRINUSE:
                raise
            continue
        return made
    raise LimitExceeded("passive_ports", len(ports) if ports is not None else _PORT_MAX)


def _first_ports(ports: range | None, count: int) -> Iterator[int]:
    """Yield where a run of ports may begin; 0 lets the kernel choose."""
    if ports is None:
        for _ in range(_TRIES):
            yield 0
    else:
        yield from ports[: len(ports) - count + 1]
