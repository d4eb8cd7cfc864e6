"""One question to one server: over a UDP socket made for it alone, or over TCP.

The resolver calls it on asyncio's loop; tests put their own exchange in its place. Each query has a
new socket, connected to the server, whose port the kernel draws at random; so the kernel drops what
comes from elsewhere. The invariant: what is returned matches the query, and no socket outlives the
call.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.limits import DNS_STRAY_DATAGRAMS_MAX

from .destination import LookupReason
from .packets import BadReply, Match, Query, ReplySuspect

__all__ = ["AsyncioExchange", "Exchange"]


class Exchange(Protocol):
    """How the resolver reaches servers."""

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        """Send a query in a datagram and return what matches it.

        Raises:
            ReplySuspect: Something came that is nearly a reply, or too much that is none.
            OSError: The server cannot be reached.
        """
        ...

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        """Send a query over a new TCP connection and return the reply.

        Raises:
            BadReply: What came is no reply to the query.
            OSError: The server cannot be reached, or ended the connection.
        """
        ...


class AsyncioExchange:
    """The exchange over asyncio's endpoints; the caller bounds its time."""

    __slots__ = ()

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        """As in ``Exchange``."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Waiting(query, reply), remote_addr=_endpoint(server)
        )
        try:
            transport.sendto(query.wire)
            return await reply
        finally:
            transport.abort()

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        """As in ``Exchange``."""
        reader, writer = await asyncio.open_connection(*_endpoint(server))
        try:
            writer.write(len(query.wire).to_bytes(_LENGTH_BYTES, "big") + query.wire)
            await writer.drain()
            length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
            wire = await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server ended the connection in a reply") from error
        finally:
            # The reply is there, or nobody wants it any more: nothing is waited for.
            writer.transport.abort()
        if query.match(wire, any_case=True) is not Match.SAME:
            raise BadReply(LookupReason.MALFORMED, "a reply over TCP to another question")
        return wire


def _endpoint(server: SocketAddress) -> tuple[str, int]:
    """Return what asyncio takes; a literal, so that it asks no resolver."""
    host = f"{server.host}%{server.scope}" if server.scope else server.host
    return host, server.port


class _Waiting(asyncio.DatagramProtocol):
    """Waits on one socket for the reply to one query."""

    def __init__(self, query: Query, reply: asyncio.Future[bytes]) -> None:
        self._query = query
        self._reply = reply
        self._strays = 0

    @override
    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        if self._reply.done():
            return
        match self._query.match(data):
            case Match.SAME:
                self._reply.set_result(data)
            case Match.NEAR:
                self._reply.set_exception(ReplySuspect("a reply to another question"))
            case Match.OTHER:
                self._strays += 1
                if self._strays > DNS_STRAY_DATAGRAMS_MAX:
                    # Somebody guesses identifiers; over TCP there is nothing to guess.
                    self._reply.set_exception(ReplySuspect("many datagrams that are no reply"))

    @override
    def error_received(self, exc: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(exc)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._reply.done():
            self._reply.set_exception(exc or ConnectionResetError("the socket was closed"))


_LENGTH_BYTES: Final = 2  # RFC 1035 section 4.2.2
