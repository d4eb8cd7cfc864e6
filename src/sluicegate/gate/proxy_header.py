"""The PROXY protocol as the gate uses it: clients behind named peers, and telling servers of them.

A listener hands its peers to ``ProxyHeaders``, which reads their header and hands the client on;
``connection`` calls ``send_proxy_header`` before the first byte to a server. The invariant: a
client's address is believed only when a peer that the operator named has announced it, whole and in
time, and nothing behind the header is read here.

What is read is looked at first (``MSG_PEEK``) and only then taken: what belongs to the header. So
the client's own first bytes stay in the kernel, and whatever comes next (the pump, a chain, the
detection of SOCKS) begins as on a connection without a header. A peer that the operator did not
name is refused on such a listener: what it sends might be a header, and nobody may guess
(haproxy's ``proxy-protocol.txt``, section 2: the receiver must not try to find out).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.policy import SendProxyProtocol
from sluicegate.port.backend import POLL_IN, SEND_FLAGS, RawSocket
from sluicegate.protocol_limits import PROXY_HEADER_BYTES_MAX
from sluicegate.protocols.proxy_protocol import (
    ProxyHeader,
    ProxyHeaderParser,
    ProxyTransport,
    encode_proxy_v1,
    encode_proxy_v2,
    source_hazard,
)

from .internal_error import internal_error

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["Announced", "ProxyHeaders", "ProxyListener", "send_proxy_header"]

NOT_NAMED: Final = "proxy peer not named"
"""The reason code of a peer that may not announce clients."""

_PEEK: Final = 0x02 | 0x40
"""MSG_PEEK | MSG_DONTWAIT."""
_TAKE: Final = 0x40
"""MSG_DONTWAIT."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What came with a client that a peer announced."""

    peer: SocketAddress
    """Whose connection it is."""
    target: SocketAddress | None
    """Where the client connected to, at the peer."""


class ProxyListener(Protocol):
    """The listener that a peer came to."""

    @property
    def name(self) -> str:
        """What rules and records call it."""
        ...

    @property
    def proxy_peers(self) -> tuple[IpNetwork, ...]:
        """Who announces clients there."""
        ...

    def take_client(
        self, raw: RawSocket, client: SocketAddress, announced: Announced | None
    ) -> None:
        """Go on with a client, as if it had come by itself."""
        ...

    def count_refused(self) -> None:
        """Count a client that was turned away."""
        ...


class ProxyHeaders:
    """The peers of one worker whose headers have not come yet."""

    __slots__ = ("_reading", "service")

    def __init__(self, service: FirewallService) -> None:
        self.service = service
        self._reading: dict[_Reading, None] = {}

    def __len__(self) -> int:
        return len(self._reading)

    def take(self, listener: ProxyListener, raw: RawSocket, peer: SocketAddress) -> None:
        """Read what a peer announces, or turn it away."""
        service = self.service
        if not any(peer.ip in network for network in listener.proxy_peers):
            self.refuse(listener, raw, peer, NOT_NAMED)
            return
        bound = service.limits.connections_max
        if service.connection_count + len(self._reading) >= bound:
            service.note_limit(LimitExceeded("connections_max", bound), peer)
            self.refuse(listener, raw, peer, "limit connections_max")
            return
        reading = _Reading(self, listener, raw, peer)
        self._reading[reading] = None
        reading.begin()

    def refuse(
        self, listener: ProxyListener, raw: RawSocket, peer: SocketAddress, reason: str
    ) -> None:
        """Turn a peer away, with a record."""
        listener.count_refused()
        self.service.refuse_client(listener.name, raw, peer, reason)

    def has(self, reading: _Reading) -> bool:
        """Tell whether a header is still being read."""
        return reading in self._reading

    def forget(self, reading: _Reading) -> None:
        """Take out one that is over."""
        del self._reading[reading]

    def close(self) -> None:
        """Turn away whoever has not finished its header."""
        for reading in list(self._reading):
            reading.end("service stopping")


class _Reading:
    """One peer's socket, until its header is whole; then, or at its end, it is somebody else's."""

    __slots__ = (
        "_due",
        "_headers",
        "_listener",
        "_operation",
        "_parser",
        "_peer",
        "_raw",
        "_reason",
        "wheel_slot",
    )

    def __init__(
        self, headers: ProxyHeaders, listener: ProxyListener, raw: RawSocket, peer: SocketAddress
    ) -> None:
        port = headers.service.port
        self.wheel_slot = -1
        self._headers = headers
        self._listener = listener
        self._raw = raw
        self._peer = peer
        self._parser = ProxyHeaderParser(early_bytes_max=PROXY_HEADER_BYTES_MAX)
        self._operation = port.operations.take(self._on_readable)
        self._due = port.now + headers.service.limits.proxy_header_timeout_s
        self._reason = ""
        #: Why it was given up, while the poll is still in the kernel.

    def begin(self) -> None:
        """Wait for the first bytes."""
        service = self._headers.service
        service.wheel.add(self, self._due)
        self._wait()

    def _wait(self) -> None:
        self._headers.service.port.backend.poll(self._operation, self._raw.fileno(), POLL_IN)

    def due(self) -> float:
        """Return when the header must be there; bytes do not prolong it."""
        return self._due

    def on_expired(self) -> None:
        """Take that the header did not come in time."""
        self.end("proxy header: not in time")

    def end(self, reason: str) -> None:
        """Turn the peer away, as soon as nothing is in the kernel."""
        if self._operation.in_flight:
            self._reason = self._reason or reason
            self._headers.service.port.backend.cancel(self._operation)
            return
        raw, peer = self._leave()
        self._headers.refuse(self._listener, raw, peer, reason)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        if self._headers.has(self):
            self.end(internal_error(error))

    def _leave(self) -> tuple[RawSocket, SocketAddress]:
        service = self._headers.service
        service.wheel.remove(self)
        service.port.operations.give(self._operation)
        self._headers.forget(self)
        return self._raw, self._peer

    def _on_readable(self, result: int, _flags: int) -> None:
        if self._reason:
            self.end(self._reason)
        elif result < 0:
            self.end(f"proxy header: {errno.errorcode.get(-result, 'error')}")
        else:
            self._read()

    def _read(self) -> None:
        try:
            header = self._parse()
        except BlockingIOError:
            self._wait()
        except OSError as error:
            self.end(f"proxy header: {errno.errorcode.get(error.errno or 0, 'error')}")
        except ProtocolError as error:
            self.end(f"proxy header: {error.hint}")
        else:
            if header is None:
                self._wait()
            else:
                self._accept(header)

    def _parse(self) -> ProxyHeader | None:
        """Look at what has come; take as much of it as belongs to the header."""
        data = self._raw.recv(PROXY_HEADER_BYTES_MAX, _PEEK)
        if not data:
            raise ProtocolError("the peer ended the stream")
        self._parser.receive_data(data)
        header = self._parser.next_event()
        early = 0 if header is None else len(self._parser.take_early_data())
        rest = len(data) - early
        while rest:
            rest -= len(self._raw.recv(rest, _TAKE))
        return header

    def _accept(self, header: ProxyHeader) -> None:
        client, reason = _client_of(header, self._peer)
        if client is None:
            self.end(f"proxy header: {reason}")
            return
        raw, peer = self._leave()
        if header.is_local:
            self._listener.take_client(raw, peer, None)
            return
        target = header.target if isinstance(header.target, SocketAddress) else None
        self._listener.take_client(raw, client, Announced(peer, target))


def _client_of(header: ProxyHeader, peer: SocketAddress) -> tuple[SocketAddress | None, str]:
    """Return the client that policy is to judge; None with a reason when there is none."""
    if header.is_local:
        # The peer's own connection (a health check): it is a client like any other.
        return peer, ""
    if not isinstance(header.source, SocketAddress):
        # haproxy's text lets a receiver use the peer's address here; a rule for the peer's network
        # would then let in clients of whom nothing is known.
        return None, "it does not say who the client is"
    if header.transport is not ProxyTransport.STREAM:
        return None, "the client came by datagrams"
    hazard = source_hazard(header)
    return (None, hazard) if hazard else (header.source, "")


def send_proxy_header(connection: GateConnection, server: RawSocket) -> bool:
    """Tell a server who the client is, before anything else; False when that ended the connection.

    The socket has just been connected, so its send buffer is empty and takes the header whole.
    A secondary connection goes where the server itself has said, which expects no header there.
    """
    if connection.expected is not None:
        return True
    announced = connection.announced
    target = announced.target if announced is not None else None
    if target is None:
        target = connection.client_side_address
    is_v1 = connection.plan.rule.send_proxy_protocol is SendProxyProtocol.V1
    encode = encode_proxy_v1 if is_v1 else encode_proxy_v2
    header = encode(connection.client_address, target)
    try:
        sent = server.send(header, SEND_FLAGS)
    except OSError as error:
        connection.fail("proxy header to the server", error.errno or errno.EIO)
        return False
    if sent != len(header):
        connection.fail("proxy header to the server", errno.EAGAIN)
        return False
    return True
