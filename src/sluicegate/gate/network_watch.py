"""The network watch: interfaces and addresses of the machine, as the kernel tells of changes.

``service`` owns one, ``app`` opens it; filters subscribe, and the classifier of addresses takes its
own ones from here. The invariant: what it says is what the kernel said last: after lost messages
(``ENOBUFS``) it asks for everything again, and tells the difference.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from sluicegate.address import IpAddress
from sluicegate.errors import FILTER_ERRORS, Side, TransportError
from sluicegate.filterapi import NetworkChange, NetworkInterface
from sluicegate.protocols.rtnetlink import (
    RTM_GETADDR,
    RTM_GETLINK,
    AddressMessage,
    DumpDone,
    LinkMessage,
    NetlinkFailure,
    NetlinkMessage,
    dump_request,
    read_messages,
)

__all__ = ["NetworkWatcher"]

_GROUPS: Final = 0x111
"""RTNLGRP_LINK (1), RTNLGRP_IPV4_IFADDR (5), RTNLGRP_IPV6_IFADDR (9), as bind(2) takes them."""

_DATAGRAM_SIZE: Final = 64 << 10
"""The kernel's are at most 32 KiB (NLMSG_GOODSIZE for dumps)."""

_DATAGRAMS_AT_ONCE: Final = 64
"""Read in one turn; the loop comes back for the rest."""


class NetworkWatcher:
    """Follows the machine's network; satisfies ``filterapi.NetworkWatch``."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._socket: socket.socket | None = None  # noqa: TID251 - the kernel's own
        self._asked: list[int] = []
        #: Lists that have not come; the first one was asked for.
        self._sequence = 0
        self._links: dict[int, LinkMessage] = {}
        self._addresses: dict[int, set[IpAddress]] = {}
        self._told: tuple[NetworkInterface, ...] = ()
        self._subscriptions: list[_Subscription] = []

    # -- filterapi.NetworkWatch ------------------------------------------------------------------

    @property
    def interfaces(self) -> tuple[NetworkInterface, ...]:
        """Every interface, in the order of their numbers; none before it is open."""
        return self._told

    @property
    def addresses(self) -> frozenset[IpAddress]:
        """Every address of the machine."""
        return _addresses_of(self._told)

    def subscribe(self, told: Callable[[NetworkChange], None]) -> _Subscription:
        """Be told of each change."""
        subscription = _Subscription(self._subscriptions, told)
        self._subscriptions.append(subscription)
        return subscription

    # -- life ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to watch, on the running loop.

        Raises:
            TransportError: The kernel refuses a netlink socket.
        """
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            made = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)  # noqa: TID251 - the kernel's own, not the network's
            made.bind((0, _GROUPS))
        except OSError as error:
            raise TransportError(
                error.errno or errno.EIO, Side.INTERNAL, "watch the network"
            ) from error
        self._socket = made
        asyncio.get_running_loop().add_reader(made, self._on_readable)
        self._links, self._addresses = {}, {}
        self._asked = [RTM_GETLINK, RTM_GETADDR]
        self._ask(self._asked[0])
        # A list is answered while it is read, so it is here before anybody asks.
        self._on_readable()

    def close(self) -> None:
        """Watch no more; what was known stays known."""
        made, self._socket = self._socket, None
        if made is not None:
            asyncio.get_running_loop().remove_reader(made)
            made.close()

    def show(self, interfaces: tuple[NetworkInterface, ...]) -> None:
        """Take what is there now, and tell the difference to before, if there is one."""
        before, self._told = self._told, interfaces
        if self._told == before:
            return
        was, there = _addresses_of(before), _addresses_of(self._told)
        change = NetworkChange(there - was, was - there, self._told)
        for subscription in list(self._subscriptions):
            try:
                subscription.told(change)
            except FILTER_ERRORS as error:
                self._on_failure(_name_of(subscription.told), error)

    # -- private -------------------------------------------------------------------------------

    def _ask(self, kind: int) -> None:
        assert self._socket is not None
        self._sequence += 1
        self._socket.send(dump_request(kind, self._sequence))

    def _on_readable(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(_DATAGRAM_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Messages were lost. A list may be under way, and only one can be: begin anew.
                self.close()
                self.open()
                return
            for message in read_messages(data):
                self._take(message)
        if not self._asked:
            self._tell()

    def _take(self, message: NetlinkMessage) -> None:
        match message:
            case LinkMessage(index=index, is_gone=True):
                self._links.pop(index, None)
                self._addresses.pop(index, None)
            case LinkMessage(index=index):
                self._links[index] = message
            case AddressMessage(index=index, address=address, is_gone=True):
                self._addresses.get(index, set()).discard(address)
            case AddressMessage(index=index, address=address):
                self._addresses.setdefault(index, set()).add(address)
            case DumpDone():
                self._asked = self._asked[1:]
                if self._asked:
                    self._ask(self._asked[0])
            case NetlinkFailure(error=error):
                self._on_failure("network watch", TransportError(error))

    def _tell(self) -> None:
        has = self._addresses
        self.show(
            tuple(
                NetworkInterface(index, link.name, link.is_up, frozenset(has.get(index, ())))
                for index, link in sorted(self._links.items())
            )
        )


class _Subscription:
    """One who is told; satisfies ``filterapi.Subscription``."""

    __slots__ = ("_among", "told")

    def __init__(self, among: list[_Subscription], told: Callable[[NetworkChange], None]) -> None:
        self._among = among
        self.told = told

    def cancel(self) -> None:
        """Be told no more."""
        if self in self._among:
            self._among.remove(self)


def _addresses_of(interfaces: tuple[NetworkInterface, ...]) -> frozenset[IpAddress]:
    return frozenset(address for one in interfaces for address in one.addresses)


def _name_of(told: Callable[..., object]) -> str:
    """Name who was told, for the record of its failure."""
    return str(getattr(told, "__qualname__", type(told).__qualname__))
