"""The filters of one UDP connection, in the order of their places.

``udp_connection`` gives it each datagram that is not plain and takes back what came through. The
invariant: no filter sees a datagram that its predecessor did not release, and one that was attached
for a peer is gone with that peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.buffer import ConstBuffer
from sluicegate.errors import FILTER_ERRORS, BadContext, FilterFailed, Side
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    Cut,
    DataFilter,
    DatagramFilter,
    Drop,
    Forward,
    Rewrite,
)
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.port.scope import entered

from .attached import Attached
from .udp_ends import UdpEnd

if TYPE_CHECKING:
    from .service import FirewallService
    from .udp_connection import UdpConnection

__all__ = ["UdpChain"]


class _Element:
    """One filter's place; satisfies ``port.FailureScope``."""

    __slots__ = ("attached", "chain", "client", "peer", "server")

    def __init__(self, chain: UdpChain, attached: Attached, peer: SocketAddress | None) -> None:
        self.chain = chain
        self.attached = attached
        self.peer = peer
        #: The peer whose expiry removes it; None: it stays with the connection.
        self.client: UdpEnd | None = None
        self.server: UdpEnd | None = None

    def on_filter_failure(self, error: BaseException) -> None:
        """End the connection in the name of the filter."""
        self.chain.fail(self, error)


class UdpChain:
    """The data filters of one UDP connection."""

    __slots__ = ("_connection", "_elements", "_named", "_service")

    def __init__(self, connection: UdpConnection, service: FirewallService) -> None:
        self._connection = connection
        self._service = service
        self._elements: list[_Element] = []
        self._named: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether every datagram goes through untouched."""
        return not self._elements

    @property
    def names(self) -> tuple[str, ...]:
        """The filters that were attached, from client to server where they came together."""
        return tuple(self._named)

    # -- coming and going ----------------------------------------------------------------------

    def attach(
        self,
        data_filter: AnyDataFilter,
        context: Any,
        attached: Attached,
        peer: SocketAddress | None,
    ) -> None:
        """Put a filter in its place and start it.

        Raises:
            BadContext: It is a filter for streams.
        """
        if not isinstance(data_filter, DatagramFilter | DataFilter | CallbackDataFilter):
            raise BadContext(f"{attached.name} is a filter for streams, not for datagrams")
        element = _Element(self, attached, peer)
        self._elements.append(element)
        self._elements.sort(key=lambda item: item.attached.position)
        self._named.append(attached.name)
        if isinstance(data_filter, DatagramFilter):
            data_filter.on_start(self._connection)
            return
        waiting_max = self._service.limits.udp_awaiting_max
        port = self._service.port
        client = element.client = UdpEnd(
            port,
            Side.CLIENT,
            element,
            waiting_max,
            lambda _, to, data: self._sent(element, Side.SERVER, to, data),
        )
        server = element.server = UdpEnd(
            port,
            Side.SERVER,
            element,
            waiting_max,
            lambda _, to, data: self._sent(element, Side.CLIENT, to, data),
        )
        client.twin, server.twin = server, client
        if isinstance(data_filter, DataFilter):
            attached.task = self._service.spawn(self._run(element, attached, data_filter))
        else:
            with entered(element):
                data_filter.set_sockets(client, server, self._connection, context)

    async def _run(self, element: _Element, attached: Attached, data_filter: DataFilter) -> None:
        connection = self._connection
        failure: BaseException | None = None
        client, server = element.client, element.server
        assert client is not None
        try:
            with entered(element):
                failure = await attached.failure_of(
                    lambda: data_filter.run(client, server, connection)
                )
        finally:
            self._service.wheel.remove(attached)
            attached.task = None
            if element not in self._elements:
                attached.detach()
                self._service.slow.on_returned(attached)
        if element in self._elements:
            if failure is not None:
                self.fail(element, failure)
            else:
                self._remove(element)
        failure = None  # its traceback knows this frame

    def leave(self, data_filter: AnyDataFilter) -> None:
        """Take a callback filter out.

        Raises:
            BadContext: It is not in this chain, or is a coroutine, which leaves by returning.
        """
        for element in self._elements:
            if element.attached.filter is data_filter and not element.attached.is_running:
                self._remove(element)
                return
        raise BadContext("it is not in the chain, or is a coroutine, which leaves by returning")

    def on_peer_gone(self, peer: SocketAddress) -> None:
        """Remove what was attached for a peer."""
        for element in [one for one in self._elements if one.peer == peer]:
            self._remove(element)

    def _remove(self, element: _Element) -> None:
        """Let a filter go; what it has not received goes on without it."""
        rest = [
            (end.side, *item)
            for end in (element.client, element.server)
            if end is not None
            for item in end.take_rest()
        ]
        for side, data, peer in rest:
            self._pass(side, peer, data, element)
        self._elements.remove(element)
        self._end_element(element)
        self._connection.on_chain_changed()

    def end(self) -> None:
        """End every filter with its connection."""
        elements, self._elements = self._elements, []
        for element in elements:
            self._end_element(element)

    def _end_element(self, element: _Element) -> None:
        for end in (element.client, element.server):
            if end is not None:
                end.end()
        # Behind the completions of what was pending, which were posted before.
        self._service.port.post(lambda: self._detach(element))

    def _detach(self, element: _Element) -> None:
        element.attached.end(self._service, self._connection.session)
        # Each knows the other: no circle is left to the collector.
        for end in (element.client, element.server):
            if end is not None:
                end.twin = None
        element.client = element.server = None

    # -- datagrams -----------------------------------------------------------------------------

    def run(self, side: Side, peer: SocketAddress, data: bytes) -> None:
        """Let a datagram of ``side`` go through all filters, and out."""
        self._pass(side, peer, data, None)

    def _sent(self, element: _Element, side: Side, peer: SocketAddress, data: bytes) -> None:
        if element in self._elements:
            self._pass(side, peer, data, element)

    def _pass(self, side: Side, peer: SocketAddress, data: bytes, behind: _Element | None) -> None:
        order = self._elements if side is Side.CLIENT else self._elements[::-1]
        following = list(order) if behind is None else order[order.index(behind) + 1 :]
        for element in following:
            end = element.client if side is Side.CLIENT else element.server
            if end is not None:
                if not end.deliver(data, peer):
                    self._connection.drop("filter-behind")
                return
            released = self._judge(element, side, peer, data)
            if released is None:
                return
            data = released
        self._connection.send_out(side, peer, data)

    def _judge(
        self, element: _Element, side: Side, peer: SocketAddress, data: bytes
    ) -> bytes | None:
        """Ask an inline filter; None when the datagram goes no further."""
        data_filter = element.attached.filter
        assert isinstance(data_filter, DatagramFilter)
        try:
            with entered(element):
                verdict: object = data_filter.on_datagram(side, peer, ConstBuffer(data).window())
        except FILTER_ERRORS as error:
            self.fail(element, error)
            return None
        if self._connection.is_closing:
            return None
        match verdict:
            case Forward(count=None):
                return data
            case Rewrite(data=other) if len(other) <= self._service.limits.udp_datagram_bytes_max:
                return other
            case Drop():
                self._connection.drop("filter")
            case Cut(reason=reason):
                self._connection.refuse(reason)
            case Leave():
                # Not while the datagram is on its way through the list.
                self._service.port.post(lambda: self._left(element))
                return data
            case _:
                self.fail(element, TypeError(f"answered {verdict!r} to a datagram"))
        return None

    def _left(self, element: _Element) -> None:
        if element in self._elements:
            self._remove(element)

    def fail(self, element: _Element, error: BaseException) -> None:
        """End the connection: a filter raised or answered nonsense."""
        self._connection.on_filter_failure(
            error
            if isinstance(error, FilterFailed)
            else FilterFailed(element.attached.name, _cause(error))
        )


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
