"""What a connection may announce: the secondary connections that the protocols of its rule list.

``session`` asks before it expects anything for a filter, and again when the connection goes on by
another rule. The invariant: where a rule names protocols by their definitions, no connection is
expected that none of these lists, whatever a filter or a server says.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.errors import Side, TransportError
from sluicegate.policy.protocols import Direction, may_bring_about

if TYPE_CHECKING:
    from .connection import GateConnection
    from .secondary import ExpectedConnection

__all__ = ["check_announced", "is_announced"]


def check_announced(
    primary: GateConnection, direction: Direction, addresses: Iterable[SocketAddress]
) -> None:
    """Refuse what the protocols of a connection's rule do not list.

    Args:
        primary: Brings it about.
        direction: Who opens it.
        addresses: Where: of the server if the client opens it, else of the client.

    Raises:
        TransportError: ``EACCES``, with the rule and the port in words.
    """
    rule = primary.plan.rule
    for address in addresses:
        if not may_bring_about(rule.secondary, direction, address.port):
            what = f"no {direction} secondary connection to tcp:{address.port}"
            reason = f"the protocols of rule {rule.name} list {what}"
            raise TransportError(errno.EACCES, Side.INTERNAL, reason)


def is_announced(expected: ExpectedConnection) -> bool:
    """Tell whether the rule by which its primary goes on lets a connection be expected."""
    direction = Direction.OUTBOUND if expected.is_client_expected else Direction.INBOUND
    port = expected.target.port
    secondary = expected.primary.plan.rule.secondary
    # (A bind whose client is not named yet is judged when it is.)
    return port == 0 or may_bring_about(secondary, direction, port)
