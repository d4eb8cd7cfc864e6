"""Layers: sockets that run their own operations, on top of another socket's.

``tls`` has one. Whoever starts operations on a socket that may have a layer asks ``driver_of`` once
and talks to that. The invariant: to its user a layer is what the backend is for a plain socket:
starting never blocks and never completes inside the call, and what was started completes once.
"""

from __future__ import annotations

import errno
from typing import NoReturn, Protocol

from sluicegate.buffer import Buffer

from .backend import Backend, Operation, RawSocket
from .pool import SlotPool

__all__ = ["LayeredSocket", "SocketDriver", "driver_of"]


class SocketDriver(Protocol):
    """What runs the operations of a connected socket: the backend, or the socket itself."""

    @property
    def pool(self) -> SlotPool:
        """Where the slots are that its receives complete with."""
        ...

    def receive(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive``."""
        ...

    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive_bulk``."""
        ...

    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """As ``Backend.receive_into``."""
        ...

    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """As ``Backend.send``."""
        ...

    def poll(self, operation: Operation, fd: int, events: int) -> None:
        """As ``Backend.poll``; of a layer: until it takes bytes again."""
        ...

    def cancel(self, operation: Operation) -> None:
        """As ``Backend.cancel``."""
        ...

    def abort(self, sock: RawSocket) -> None:
        """As ``Backend.abort``."""
        ...


class LayeredSocket:
    """A socket with a layer on it; what the layer does not change is the socket's below it.

    (A plain class: ``isinstance`` of an abstract one would cost every plain socket more.)
    """

    __slots__ = ("driver", "inner")

    def __init__(self, inner: RawSocket, driver: SocketDriver) -> None:
        self.inner = inner
        #: The socket below.
        self.driver = driver
        #: Who runs this socket's operations.

    def getpeername(self) -> tuple[object, ...]:
        """Return the other end's address."""
        return self.inner.getpeername()

    def getsockname(self) -> tuple[object, ...]:
        """Return this end's address."""
        return self.inner.getsockname()

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Set an option of the socket below."""
        self.inner.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int, /) -> int:
        """Return an option of the socket below."""
        return self.inner.getsockopt(level, name)

    # -- what no layered socket is used for ----------------------------------------------------

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Refuse: a layer is received from by operations."""
        del size, flags
        _refuse()

    def recv_into(self, buffer: memoryview, size: int, flags: int, /) -> int:
        """Refuse: it is of datagrams."""
        del buffer, size, flags
        _refuse()

    def sendto(self, data: memoryview | bytes, flags: int, address: tuple[object, ...], /) -> int:
        """Refuse: it is of datagrams."""
        del data, flags, address
        _refuse()

    def sendmsg(
        self,
        buffers: list[bytes],
        ancillary: list[tuple[int, int, bytes]],
        flags: int,
        address: tuple[object, ...],
        /,
    ) -> int:
        """Refuse: it is of datagrams."""
        del buffers, ancillary, flags, address
        _refuse()

    def connect(self, address: tuple[object, ...], /) -> None:
        """Refuse: what is below is connected."""
        del address
        _refuse()

    def bind(self, address: tuple[object, ...], /) -> None:
        """Refuse: what is below is bound."""
        del address
        _refuse()

    def listen(self, backlog: int, /) -> None:
        """Refuse: what is below is connected."""
        del backlog
        _refuse()


def driver_of(raw: RawSocket, backend: Backend) -> SocketDriver:
    """Return who runs the operations of a socket."""
    return raw.driver if isinstance(raw, LayeredSocket) else backend


def _refuse() -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, "not on a layered socket")
