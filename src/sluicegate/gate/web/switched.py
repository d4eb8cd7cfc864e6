"""Switched: one side of an exchange whose server has switched protocols, as what carries the bytes.

``ClientSide.switch`` and ``ServerSide.switch`` return one: a socket of HTTP/1 where its reader has
stopped, or a stream of HTTP/2 as a socket (``stream_tunnel``). The invariant: behind it nothing of
HTTP is left, whatever version that was, and no byte is lost between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.protocols.http2 import ErrorCode

from .stream_tunnel import StreamTunnel
from .wire import NOBODY, Wire

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService
    from sluicegate.gate.session import GateSession

    from .stream_tunnel import StreamCarrier

__all__ = ["Switched", "switch_stream"]


@dataclass(slots=True)
class Switched:
    """One side."""

    wire: Wire
    #: It receives, and nobody is told yet.
    early: bytes
    #: What came of the other protocol and is not the wire's any more.
    is_ended: bool
    #: Whether nothing follows that.
    on_closed: Callable[[], None]
    #: Is told when the wire is closed.


def switch_stream(
    service: FirewallService,
    session: GateSession,
    carrier: StreamCarrier,
    stream: int,
    came: list[bytes],
    *,
    has_ended: bool,
    on_over: Callable[[StreamTunnel], None],
    on_closed: Callable[[], None],
) -> tuple[StreamTunnel, Switched]:
    """Make a socket of a stream that has switched.

    Args:
        service: The running service.
        session: On whose account is what the peer does not take.
        carrier: Whose stream it is.
        stream: Its number.
        came: What has come on it and was not consumed.
        has_ended: Whether its peer sends nothing more.
        on_over: Is told when nobody uses the stream any more.
        on_closed: Is told when its wire is closed.
    """
    # RFC 8441 section 5: what is a reset of TCP in HTTP/1.1 is CANCEL.
    tunnel = StreamTunnel(carrier, stream, came, on_over, ErrorCode.CANCEL)
    tunnel.has_ended = has_ended
    wire = Wire(service, tunnel.as_socket(), NOBODY)
    wire.session = session
    wire.start()
    return tunnel, Switched(wire, b"", is_ended=False, on_closed=on_closed)
