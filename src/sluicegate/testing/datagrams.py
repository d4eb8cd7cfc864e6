"""Datagrams of the simulated network: lost, doubled and out of order, as the dice say.

``SimulatedBackend`` gives these sockets to the service under test, ``peers`` to its clients and
servers. The invariant: what arrives was sent, whole, by the address that it names; only a test's
own ``inject`` lies about that.

The behaviour follows Linux where programs notice it: a connected socket hears its peer alone and is
told of ICMP answers; what finds the receive buffer full is gone.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from functools import partial
from typing import Final, cast

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.port.backend import RawSocket
from sluicegate.port.tray import (
    CONTROL_SHIFT,
    NAME_SHIFT,
    DatagramHead,
    DatagramOutlet,
    DatagramTarget,
    DatagramTray,
)

from .network import SimulatedNetwork, SimulatedSocket, own_host

__all__ = ["SimulatedDatagramSocket", "SimulatedTray", "inject"]

_QUEUE_MAX: Final = 1024
"""Datagrams that one socket holds until somebody looks."""

_PACKET_INFO_4: Final = struct.Struct("=QiiI4s4s4x")
_PACKET_INFO_6: Final = struct.Struct("=Qii16sI4x")
"""A ``cmsghdr`` and an ``in_pktinfo`` or ``in6_pktinfo``."""

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50


class SimulatedDatagramSocket(SimulatedSocket):
    """A UDP socket in memory."""

    def __init__(self, network: SimulatedNetwork, family: int) -> None:
        super().__init__(network, family)
        self.arrived: deque[tuple[bytes, SocketAddress, SocketAddress]] = deque()
        #: Data, its sender, and the address that it was sent to.
        self.last_arrival = 0.0

    @property
    @override
    def is_readable(self) -> bool:
        return bool(self.arrived or self.error)

    @property
    @override
    def is_writable(self) -> bool:
        return True

    @override
    def bind(self, address: tuple[object, ...], /) -> None:
        self._check_open()
        name = self.network.name_for(SocketAddress.from_kernel(address))
        if name in self.network.bound_datagrams:
            raise OSError(errno.EADDRINUSE, f"{name} has a socket")
        self.local = name
        self.network.bound_datagrams[name] = self

    @override
    def connect(self, address: tuple[object, ...], /) -> None:
        self.remote = SocketAddress.from_kernel(address)
        self._name(self.remote)

    @override
    def getpeername(self) -> tuple[object, ...]:
        self._check_open()
        if self.remote is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return self.remote.to_kernel()

    @override
    def send(self, data: memoryview | bytes, _flags: int = 0, /) -> int:
        if self.remote is None:
            raise OSError(errno.EDESTADDRREQ, "not connected")
        return self.transmit(bytes(data), self.remote)

    @override
    def sendto(self, data: memoryview | bytes, _flags: int, to: tuple[object, ...], /) -> int:
        return self.transmit(bytes(data), SocketAddress.from_kernel(to))

    @override
    def sendmsg(
        self,
        buffers: list[bytes],
        ancillary: list[tuple[int, int, bytes]],
        _flags: int,
        to: tuple[object, ...],
        /,
    ) -> int:
        _, _, message = ancillary[0]
        source = _source_in(bytes(16) + message, self.local)
        return self.transmit(b"".join(buffers), SocketAddress.from_kernel(to), source)

    @override
    def recv_into(self, buffer: memoryview, _size: int, _flags: int, /) -> int:
        data, _, _ = self.take()
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        return len(data)

    def take(self) -> tuple[bytes, SocketAddress, SocketAddress]:
        """Return the oldest datagram, its sender and the address that it was sent to.

        Raises:
            BlockingIOError: None has arrived.
            OSError: An ICMP answer has.
        """
        self._check_open()
        self._raise_pending_error()
        if not self.arrived:
            raise BlockingIOError(errno.EAGAIN, "nothing has arrived")
        return self.arrived.popleft()

    def transmit(self, data: bytes, to: SocketAddress, source: SocketAddress | None = None) -> int:
        """Send one datagram on its way.

        Raises:
            BlockingIOError: The dice say that there is no room.
            OSError: It is too large, or an ICMP answer to an earlier one has arrived.
        """
        self._check_open()
        self._raise_pending_error()
        dice = self.network.dice
        if len(data) > _DATAGRAM_BYTES_MAX:
            raise OSError(errno.EMSGSIZE, "larger than a datagram can be")
        if dice.happens(dice.plan.datagram_no_room):
            raise BlockingIOError(errno.EAGAIN, "no room")
        local = self._name(to)
        if local.host in _WILDCARDS:
            local = source or SocketAddress(own_host(to), local.port)
        _travel(self.network, data, local, to, self)
        return len(data)

    @override
    def close(self) -> None:
        if not self.is_closed and self.local is not None:
            self.network.bound_datagrams.pop(self.local, None)
        super().close()

    def packet_info(self, to: SocketAddress) -> bytes:
        """Return the control message that says which address a datagram was sent to."""
        packed = to.packed()
        if self.family == socket.AF_INET and self.getsockopt(socket.IPPROTO_IP, _IP_PKTINFO):
            return _PACKET_INFO_4.pack(28, 0, _IP_PKTINFO, 1, packed[4:8], packed[4:8])
        if self.family == socket.AF_INET6 and self.getsockopt(
            socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO
        ):
            return _PACKET_INFO_6.pack(36, socket.IPPROTO_IPV6, _IPV6_PKTINFO, packed[8:24], 1)
        return b""

    def _name(self, to: SocketAddress) -> SocketAddress:
        if self.local is None:
            self.bind(SocketAddress(own_host(to), 0).to_kernel())
        assert self.local is not None
        return self.local


_DATAGRAM_BYTES_MAX: Final = 65507
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - of a network in memory


class SimulatedTray(DatagramTray):
    """A tray over simulated sockets."""

    __slots__ = ()

    @override
    def _fill(self, raw: RawSocket, count_max: int) -> int:
        sock = cast("SimulatedDatagramSocket", raw)
        heads: list[DatagramHead] = []
        try:
            while len(heads) < count_max:
                if heads and sock.error:
                    break
                data, sender, to = sock.take()
                index = self._cursor + len(heads)
                start, kept = self.start_of(index), data[: self.bytes_max]
                self.memory[start : start + len(kept)] = kept
                name, control = sender.packed(), sock.packet_info(to)
                at = index << NAME_SHIFT
                self.names[at : at + len(name)] = name
                at = index << CONTROL_SHIFT
                self.controls[at : at + len(control)] = control
                heads.append((len(name), len(control), 0, len(data)))
        except BlockingIOError:
            pass
        except OSError as error:
            return -(error.errno or errno.EIO)
        if heads:
            self.heads = heads
        return len(heads)

    @override
    def _send(self, outlet: DatagramOutlet, entries: list[tuple[int, int, DatagramTarget]]) -> None:
        sock = cast("SimulatedDatagramSocket", outlet.raw)
        for start, length, target in entries:
            data = self.memory[start : start + length]
            to = target.address or sock.remote
            assert to is not None, "a datagram without a target"
            for attempt in range(2):
                try:
                    sock.transmit(data, to, _source_in(target.control, sock.local))
                    break
                except OSError as error:
                    # As in the kernel's tray: it may be the answer to an earlier one.
                    if attempt or error.errno != errno.ECONNREFUSED:
                        target.owner.on_send_failed(error.errno or errno.EIO)
                        break


def inject(
    network: SimulatedNetwork, data: bytes, source: SocketAddress, to: SocketAddress
) -> None:
    """Let a datagram arrive that claims any source: what a forger can do."""
    _travel(network, data, source, to, None)


def _travel(
    network: SimulatedNetwork,
    data: bytes,
    source: SocketAddress,
    to: SocketAddress,
    sender: SimulatedDatagramSocket | None,
) -> None:
    dice, clock = network.dice, network.clock
    if dice.happens(dice.plan.datagram_loss):
        return
    for _ in range(2 if dice.happens(dice.plan.datagram_duplicate) else 1):
        when = clock.monotonic() + dice.latency_s()
        target = _find(network, to)
        if target is not None and not dice.happens(dice.plan.datagram_overtaking):
            target.last_arrival = when = max(when, target.last_arrival)
        clock.call_at(when, partial(_arrive, network, data, source, to, sender))


def _arrive(
    network: SimulatedNetwork,
    data: bytes,
    source: SocketAddress,
    to: SocketAddress,
    sender: SimulatedDatagramSocket | None,
) -> None:
    target = _find(network, to)
    if target is None or (target.remote is not None and target.remote != source):
        if sender is not None and sender.remote is not None and not sender.is_closed:
            # Only a connected socket is told of the ICMP answer.
            sender.error = errno.ECONNREFUSED
            sender.on_change()
    elif len(target.arrived) < _QUEUE_MAX:
        target.arrived.append((data, source, to))
        target.on_change()


def _find(network: SimulatedNetwork, to: SocketAddress) -> SimulatedDatagramSocket | None:
    wildcard = "::" if ":" in to.host else "0.0.0.0"  # noqa: S104 - of a network in memory
    found = network.bound_datagrams.get(to) or network.bound_datagrams.get(
        SocketAddress(wildcard, to.port)
    )
    return cast("SimulatedDatagramSocket | None", found)


def _source_in(control: bytes, local: SocketAddress | None) -> SocketAddress | None:
    """Return the address that a control message says to send from."""
    if not control or local is None:
        return None
    if local.family == socket.AF_INET:
        return SocketAddress(socket.inet_ntop(socket.AF_INET, control[20:24]), local.port)
    return SocketAddress(socket.inet_ntop(socket.AF_INET6, control[16:32]), local.port)
