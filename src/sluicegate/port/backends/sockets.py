"""What the io_uring and the epoll driver do alike: plain sockets, and pipes for splicing.

Both drivers call these functions from the methods of the same names; nothing here waits. The
invariant: a pipe is used again only when the kernel itself says that it is empty, so bytes of an
aborted connection never reach another client.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
from typing import Final

from sluicegate.port.backend import Pipe, RawSocket, Source

__all__ = [
    "PipePool",
    "SplicePipe",
    "adopt_socket",
    "bind_source",
    "create_tcp_socket",
    "create_udp_socket",
    "set_nonblocking",
]

_PIPE_SIZE: Final = 1 << 20
"""What an unprivileged process may ask for (``fs.pipe-max-size``)."""

_SPLICE_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


# Globals are found faster than attributes of a module; plain numbers are read faster than enums.
_Socket: Final = socket.SocketType
_STREAM: Final = int(socket.SOCK_STREAM)
_TCP: Final = int(socket.IPPROTO_TCP)
_NODELAY: Final = int(socket.TCP_NODELAY)
_SOCKET_LEVEL: Final = int(socket.SOL_SOCKET)
_OOB_INLINE: Final = int(socket.SO_OOBINLINE)

# linux/in.h, linux/in6.h: Python does not name them everywhere.
_IP_TRANSPARENT: Final = int(socket.IPPROTO_IP), 19
_BIND_ADDRESS_NO_PORT: Final = int(socket.IPPROTO_IP), 24
_IPV6_TRANSPARENT: Final = int(socket.IPPROTO_IPV6), 75


def create_tcp_socket(family: int, type_flags: int = 0) -> RawSocket:
    """Make a TCP socket with ``TCP_NODELAY`` and ``SO_OOBINLINE``; what it accepts inherits both.

    Without the second, urgent bytes (an FTP client's ABOR) would never arrive in the stream.

    It blocks, unless ``type_flags`` is ``SOCK_NONBLOCK``.

    Raises:
        OSError: Out of descriptors, or the family is not supported.
    """
    # The C type: ``socket.socket`` adds a Python layer of 2 µs to construction and closing.
    sock = _Socket(family, _STREAM | type_flags, _TCP)
    try:
        sock.setsockopt(_TCP, _NODELAY, 1)
        sock.setsockopt(_SOCKET_LEVEL, _OOB_INLINE, 1)
    except OSError:
        sock.close()
        raise
    return sock


def create_udp_socket(family: int) -> RawSocket:
    """Make a non-blocking UDP socket; an IPv6 one is IPv6 only.

    Raises:
        OSError: Out of descriptors, or the family is not supported.
    """
    sock = socket.SocketType(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    if family == socket.AF_INET6:
        try:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        except OSError:
            sock.close()
            raise
    return sock


def bind_source(sock: RawSocket, source: Source) -> None:
    """Say from which address a socket connects or sends.

    Raises:
        OSError: The machine does not have it, or it is transparent and that is not allowed.
    """
    address = source.address
    if source.is_transparent:
        option = _IPV6_TRANSPARENT if address.family == socket.AF_INET6 else _IP_TRANSPARENT
        sock.setsockopt(*option, 1)
    # Connecting chooses the port: one of all that are free towards that server, not of all.
    sock.setsockopt(*_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(address.to_kernel())


def adopt_socket(descriptor: int, family: int) -> RawSocket:
    """Make a socket object that owns an accepted descriptor; its mode is left alone."""
    return _Socket(family, _STREAM, _TCP, descriptor)


def set_nonblocking(sock: RawSocket) -> None:
    """Set ``O_NONBLOCK``: ``splice`` on a socket heeds only that, not ``SPLICE_F_NONBLOCK``."""
    os.set_blocking(sock.fileno(), False)


class SplicePipe:
    """A non-blocking pipe of 1 MiB; lives in a ``PipePool``, owned by one direction at a time."""

    __slots__ = ("held", "read_fd", "write_fd")

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.held = 0
        #: Bytes in the pipe.

    def fill(self, source: RawSocket, length: int, /) -> int:
        """Move up to ``length`` bytes out of a socket; 0 at end of stream."""
        moved = os.splice(source.fileno(), self.write_fd, length, flags=_SPLICE_FLAGS)
        self.held += moved
        return moved

    def drain(self, target: RawSocket, /) -> int:
        """Move what is held into a socket as far as it takes it."""
        moved = os.splice(self.read_fd, target.fileno(), self.held, flags=_SPLICE_FLAGS)
        self.held -= moved
        return moved

    def is_empty(self) -> bool:
        """Ask the kernel, not our own count."""
        count = array.array("i", [0])
        fcntl.ioctl(self.read_fd, termios.FIONREAD, count)
        return count[0] == 0

    def close(self) -> None:
        """Close both ends and lose what is in it."""
        os.close(self.read_fd)
        os.close(self.write_fd)


class PipePool:
    """The pipes of one driver: at most ``pipes_max`` in being, empty ones kept for the next."""

    __slots__ = ("_idle", "open_count", "pipes_max", "refused")

    def __init__(self, pipes_max: int) -> None:
        self.pipes_max = pipes_max
        self.open_count = 0
        #: Pipes in being, idle ones included.
        self.refused = 0
        #: Pipes not to be had, by the budget or by the kernel; those directions are copied.
        self._idle: list[SplicePipe] = []

    def take(self) -> SplicePipe | None:
        """Return an empty pipe, or None: the budget, or the kernel's for this user, is spent."""
        if self._idle:
            return self._idle.pop()
        if self.open_count >= self.pipes_max:
            self.refused += 1
            return None
        try:
            read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # Out of descriptors: the connection is copied, which needs none.
            self.refused += 1
            return None
        try:
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            # EPERM beyond ``fs.pipe-user-pages-soft``. A small pipe would be slower than copying.
            os.close(read_fd)
            os.close(write_fd)
            self.refused += 1
            return None
        self.open_count += 1
        return SplicePipe(read_fd, write_fd)

    def give(self, pipe: Pipe) -> None:
        """Take a pipe back: keep it when it is empty, else close it."""
        assert isinstance(pipe, SplicePipe), "a pipe of another driver"
        if self.open_count <= self.pipes_max and not pipe.held and pipe.is_empty():
            self._idle.append(pipe)
            return
        pipe.close()
        self.open_count -= 1

    def close(self) -> None:
        """Close the idle pipes; those still out are closed when they are given back."""
        self.pipes_max = 0
        while self._idle:
            self._idle.pop().close()
            self.open_count -= 1
