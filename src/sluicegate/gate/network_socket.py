"""A session's network sockets: connected, or listening, in its client's name.

``session`` makes them for filters; the session's ``ClientDialler`` judges and records. The
invariant: a socket is used for one thing, and whoever was not admitted reaches no completion.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import BadContext, OperationPending
from sluicegate.port import AcceptCompletion, Accepted, Listener, SocketCompletion, StreamSocket
from sluicegate.port.listener import AcceptWaiter

from .client_dialler import ClientDialler

__all__ = ["GateNetworkSocket"]


class GateNetworkSocket:
    """One socket; satisfies ``filterapi.NetworkSocket``."""

    __slots__ = ("_dialler", "_is_used", "_listener", "_peers", "_pending", "_stream")

    def __init__(self, dialler: ClientDialler) -> None:
        self._dialler = dialler
        self._is_used = False
        self._stream: StreamSocket | None = None
        self._listener: Listener | None = None
        self._peers = AddressFilter()
        self._pending: tuple[AcceptCompletion, Any] | None = None

    # -- network -------------------------------------------------------------------------------

    async def connect(self, host: str, port: int, *, timeout_s: float | None = None) -> None:
        """As ``filterapi.NetworkSocket.connect``."""
        self._use()
        try:
            stream = await self._dialler.connect(host, port, timeout_s=timeout_s)
        except BaseException:
            self._is_used = False
            raise
        self._stream = stream

    def listen(self, address: SocketAddress, *, peers: AddressFilter, backlog: int = 8) -> None:
        """As ``filterapi.NetworkSocket.listen``."""
        self._use()
        try:
            self._listener = self._dialler.listen(address, backlog)
        except BaseException:
            self._is_used = False
            raise
        self._peers = peers.clone()

    def start_accept(self, completion: AcceptCompletion, user_data: Any = None) -> None:
        """As ``filterapi.NetworkSocket.start_accept``."""
        if self._listener is None:
            raise BadContext("the socket does not listen: call listen before")
        if self._pending is not None:
            raise OperationPending("one accept at a time on a socket")
        self._listener.start_accept(self)
        self._pending = (completion, user_data)

    async def accept(self) -> StreamSocket:
        """As ``filterapi.NetworkSocket.accept``."""
        future: asyncio.Future[StreamSocket] = asyncio.get_running_loop().create_future()
        self.start_accept(AcceptWaiter(), future)
        return await future

    def complete_async_accept(
        self, success: bool, error: int, accepted: Accepted, user_data: Any
    ) -> None:
        """Judge who came; the next one may be a better one."""
        del user_data
        stream, remote, listener = accepted.socket, accepted.remote, self._listener
        if success and stream is not None and remote is not None and listener is not None:
            is_expected = self._peers.is_included(remote)
            if not self._dialler.admit(stream, remote, is_expected=is_expected):
                listener.start_accept(self)
                return
        assert self._pending is not None, "an accept was started"
        (completion, data), self._pending = self._pending, None
        completion.complete_async_accept(success, error, accepted, data)

    def local_address(self) -> SocketAddress:
        """As ``filterapi.NetworkSocket.local_address``."""
        if self._listener is not None:
            return self._listener.local_address()
        return self._connected().local_address()

    def peer_address(self) -> SocketAddress:
        """As ``filterapi.NetworkSocket.peer_address``."""
        return self._connected().peer_address()

    # -- filterapi.DataSocket --------------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """As ``filterapi.DataSocket.start_receive``."""
        self._connected().start_receive(buffer, completion, user_data)

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """As ``filterapi.DataSocket.start_send``."""
        self._connected().start_send(data, completion, user_data)

    async def receive(self) -> Window:
        """As ``filterapi.DataSocket.receive``."""
        return await self._connected().receive()

    async def send(self, data: Buffer | Window | bytes) -> None:
        """As ``filterapi.DataSocket.send``."""
        await self._connected().send(data)

    def shutdown(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.shutdown``."""
        self._connected().shutdown(abortive)

    def close(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.close``; harmless when nothing is open."""
        if self._listener is not None:
            self._dialler.stop_listening(self._listener)
        if self._stream is not None:
            self._stream.close(abortive)

    # -- private -------------------------------------------------------------------------------

    def _use(self) -> None:
        if self._is_used:
            raise BadContext("the socket is in use: create one for each connection or address")
        self._is_used = True

    def _connected(self) -> StreamSocket:
        if self._stream is None:
            raise BadContext("the socket is not connected: await connect before")
        return self._stream
