"""A DNS server on loopback that does what a test says, over UDP and TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from sluicegate.address import SocketAddress

Datagrams = Callable[[bytes], Iterable[bytes]]
"""What is sent back for one datagram, in this order."""

Stream = Callable[[bytes], Iterable[bytes]]
"""The pieces sent back for one query over TCP, without a length of the kit's own; then the end."""


def nothing(_query: bytes) -> Iterable[bytes]:
    return ()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


class HostileServer:
    """Notes what it was asked; answers as the test's functions say."""

    def __init__(self, datagrams: Datagrams = nothing, stream: Stream = nothing) -> None:
        self.datagrams = datagrams
        self.stream = stream
        self.asked: list[str] = []
        self.sources: list[tuple[str, int]] = []
        self.udp: asyncio.DatagramTransport
        self.address = SocketAddress("127.0.0.1", 0)
        self.serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[HostileServer]:
        tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        self.address = SocketAddress("127.0.0.1", port)
        self.udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", port)
        )
        try:
            yield self
        finally:
            self.udp.abort()
            tcp.close()
            for task in self.serving:
                task.cancel()
            await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            self.asked.append("tcp")
            for piece in self.stream(query):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()
        self.serving.discard(task)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: HostileServer) -> None:
        self.server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.server.asked.append("udp")
        self.server.sources.append(addr)
        for reply in self.server.datagrams(data):
            self.server.udp.sendto(reply, addr)
