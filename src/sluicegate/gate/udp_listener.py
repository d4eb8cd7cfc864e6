"""The gate's listener for datagrams: whose is it, and may it pass?

One per configured address of a UDP listener. The invariant: nothing is passed on for a client that
policy refuses, and a datagram that does not fit is dropped, counted and recorded, never cut.

The loop in ``_on_ready`` is the hot path of UDP: what needs no look goes from one socket to the
other within the tray, without a copy and without an object.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.errors import Side, TransportError
from sluicegate.port.backend import MORE, Operation, RawSocket
from sluicegate.port.tray import CONTROL_SHIFT, HEADROOM, NAME_SHIFT, DatagramOutlet

from .settings import ListenerSettings
from .views import ListenerView

if TYPE_CHECKING:
    from .service import FirewallService
    from .udp_connection import UdpConnection

__all__ = ["UdpListener"]

_SO_RCVBUF: Final = 8
_SO_RCVBUFFORCE: Final = 33
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49


class UdpListener:
    """One UDP address of the gate."""

    __slots__ = (
        "_has_wildcard",
        "_is_closing",
        "_local",
        "_operation",
        "_service",
        "accepted",
        "connections",
        "outlet",
        "oversized",
        "raw",
        "refused",
        "settings",
    )

    def __init__(
        self, service: FirewallService, settings: ListenerSettings, raw: RawSocket
    ) -> None:
        """Take a bound socket.

        Raises:
            TransportError: It cannot be set up.
        """
        self.settings = settings
        self.connections: dict[bytes, UdpConnection] = {}
        #: By client address, and by the gate's own where it has several.
        self.accepted = 0
        self.refused = 0
        self.oversized = 0
        self._service = service
        self._has_wildcard = settings.address.ip.is_unspecified
        self._is_closing = False
        self._operation = Operation(self._on_ready)
        self.raw = raw
        self.outlet = DatagramOutlet(self.raw)
        try:
            self._set_options()
            self._local = SocketAddress.from_kernel(self.raw.getsockname())
        except OSError as error:
            self.raw.close()
            raise TransportError(
                error.errno or 0, Side.INTERNAL, f"listen on {settings.address}"
            ) from error

    def _set_options(self) -> None:
        size = self._service.limits.udp_socket_buffer_bytes
        try:
            # Beyond ``net.core.rmem_max``; needs CAP_NET_ADMIN.
            self.raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:
            self.raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUF, size)
        if not self._has_wildcard:
            return
        # Replies must come from the address that the client sent to.
        if self.settings.address.family == socket.AF_INET6:
            self.raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            self.raw.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def open(self) -> None:
        """Begin to take datagrams."""
        self._service.port.backend.await_datagrams(self._operation, self.raw)

    def close(self, *, takes_late: bool = False) -> None:
        """Stop listening; its connections end, because it is their client side.

        Args:
            takes_late: As for streams; datagrams have no backlog of clients to take.
        """
        del takes_late
        if self._is_closing:
            return
        self._is_closing = True
        for connection in list(self.connections.values()):
            connection.refuse("listener closed")
        if self._operation.in_flight:
            self._service.port.backend.cancel(self._operation)
        else:
            self._finish_close()

    def view(self) -> ListenerView:
        """Return a copy of this moment, for people."""
        return ListenerView(
            name=self.settings.name,
            address=str(self._local),
            transport="udp",
            accepted=self.accepted,
        )

    def local_address(self, control: bytes) -> SocketAddress:
        """Return the gate's own address, as a control message of a reply says it."""
        if not control:
            return self._local
        if self.settings.address.family == socket.AF_INET6:
            host = socket.inet_ntop(socket.AF_INET6, control[16:32])
        else:
            host = socket.inet_ntop(socket.AF_INET, control[20:24])
        return SocketAddress(host, self._local.port)

    @property
    def name(self) -> str:
        """The listener's name, which a reload may change."""
        return self.settings.name

    def bound_address(self) -> SocketAddress:
        """Return where it listens."""
        return self._local

    # -- datagrams -----------------------------------------------------------------------------

    def _on_ready(self, _result: int, flags: int) -> None:
        if not flags & MORE:
            self._finish_close()
            return
        if self._is_closing:
            return
        service = self._service
        tray = service.port.backend.tray
        if tray.receive(self.raw) <= 0:
            return
        known = self.connections
        now, bytes_max, stride, pass_on = (
            service.port.now,
            tray.bytes_max,
            tray.stride,
            tray.pass_on,
        )
        names, has_wildcard = tray.names, self._has_wildcard
        index = tray.first
        at, start = index << NAME_SHIFT, index * stride + HEADROOM
        for name_size, control_size, _, length in tray.heads:
            key = names[at : at + name_size]
            if has_wildcard:
                key += self._reply_control(index, control_size)
            connection = known.get(key)
            if connection is not None and connection.is_plain and length <= bytes_max:
                connection.last_active = now
                connection.datagrams_to_server += 1
                connection.bytes_to_server += length
                pass_on(connection.server_outlet, start, length, connection.to_server)  # type: ignore[arg-type]  # a plain connection has one
            else:
                self._take(key, name_size, index, length)
            index += 1
            at += 1 << NAME_SHIFT
            start += stride

    def _take(self, key: bytes, name_size: int, index: int, length: int) -> None:
        """Take a datagram that needs a look: of a new client, for a filter, or too large."""
        udp, tray = self._service.udp, self._service.port.backend.tray
        connection = self.connections.get(key)
        if length > tray.bytes_max:
            self.oversized += 1
            client = SocketAddress.from_packed(key[:name_size])
            udp.on_oversized(client, connection)
            if connection is not None:
                connection.drop("oversized")
            return
        if connection is None:
            connection = udp.admit(self, key, name_size)
            if connection is None:
                self.refused += 1
                return
            self.accepted += 1
        start = tray.start_of(index)
        connection.on_client_datagram(bytes(tray.view[start : start + length]))

    def _reply_control(self, index: int, size: int) -> bytes:
        """Return the control message that makes a reply come from the address that was sent to."""
        at = index << CONTROL_SHIFT
        control = self._service.port.backend.tray.controls[at : at + size]
        if len(control) < _CONTROL_SIZE_MIN:
            return b""
        if self.settings.address.family == socket.AF_INET6:
            # The interface matters for link-local addresses alone; else routing decides.
            is_link_local = control[16] == 0xFE and control[17] & 0xC0 == 0x80  # noqa: PLR2004 - fe80::/10
            return control if is_link_local else control[:32] + bytes(4) + control[36:]
        return control[:16] + bytes(4) + control[20:]

    def _finish_close(self) -> None:
        if self.raw.fileno() >= 0:
            if self.outlet.entries:
                self._service.port.backend.tray.flush()
            self.raw.close()
        self._service.port.backend.forget(self._operation)


_CONTROL_SIZE_MIN: Final = 28
"""A ``cmsghdr`` and an ``in_pktinfo``."""
