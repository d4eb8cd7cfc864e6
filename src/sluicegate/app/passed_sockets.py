"""Listening sockets that the service manager has opened (socket activation, sd_listen_fds(3)).

``run`` and ``supervise`` call ``accept_passed``; who opens the listeners takes a socket by its
address. The invariant: a socket that was passed serves the listener of its address or stops the
start: one that nobody accepts from would let clients wait forever.

The environment belongs to the process, and so does what is kept here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.errors import ConfigError, TransportError
from sluicegate.port import CompletionPort, Listener

if TYPE_CHECKING:
    from .load import Loaded

__all__ = ["accept_passed", "cannot_listen", "listen", "take_passed"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it is only looked at, then given to the port

_FIRST: Final = 3
"""``SD_LISTEN_FDS_START``."""

_passed: dict[SocketAddress, _Socket] = {}


def accept_passed(configured: Iterable[SocketAddress]) -> None:
    """Take over what the service manager has opened, if it has, for these addresses.

    Raises:
        ConfigError: A socket is not a listening TCP socket, or no listener has its address.
    """
    known = set(configured)
    for descriptor in _descriptors():
        os.set_inheritable(descriptor, False)
        address = _check(descriptor)
        sock = _Socket(fileno=descriptor)
        if address not in known or address in _passed:
            raise ConfigError(
                f"the socket unit: {address}",
                "no [[listener]] has this address, or it was passed twice",
                "ListenStream= and the addresses of [[listener]] must be the same",
            )
        # What accepted sockets inherit; as the port sets on its own.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        _passed[address] = sock


def take_passed(address: SocketAddress) -> int | None:
    """Return the descriptor of a socket that was passed, once; None when there is none."""
    sock = _passed.pop(address, None)
    return None if sock is None else sock.detach()


def listen(port: CompletionPort, address: SocketAddress) -> Listener:
    """Listen on an address: with the socket that was passed for it, or a new one.

    Raises:
        TransportError: The address cannot be bound.
    """
    descriptor = take_passed(address)
    if descriptor is None:
        return port.listen(address)
    return port.take_listener(descriptor, address.family)


def _descriptors() -> range:
    """Read the environment, and take it out: it is not for what this process starts."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return range(0)
    return range(_FIRST, _FIRST + int(count))


def _check(descriptor: int) -> SocketAddress:
    """Return where a passed socket listens.

    Raises:
        ConfigError: It is no socket that a listener could use.
    """
    where = f"the socket unit: descriptor {descriptor}"
    try:
        looked_at = _Socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise ConfigError(where, f"is no socket: {error.strerror}", "see its unit") from error
    with looked_at:
        family, kind = looked_at.family, looked_at.type
        if family not in {socket.AF_INET, socket.AF_INET6} or kind != socket.SOCK_STREAM:
            raise ConfigError(where, "is not a TCP socket", "use ListenStream=ADDRESS:PORT")
        if not looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigError(where, "does not listen", "use Accept=no")
        if family == socket.AF_INET6 and not looked_at.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        ):
            raise ConfigError(
                where, "also takes IPv4, which its address does not say", "BindIPv6Only=ipv6-only"
            )
        return SocketAddress.from_kernel(looked_at.getsockname())


def cannot_listen(loaded: Loaded, error: TransportError) -> ConfigError:
    """Say to an operator that an address of a configuration cannot be had."""
    return ConfigError(
        loaded.configuration.document.where(("listener",)),
        str(error),
        "is the port taken (ss -ltnp), or below 1024 and the gate not permitted to bind it?",
    )
