"""Datagrams through a published UDP port: each is echoed, or was lost with a worker."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import cast

from typing_extensions import override

from benchmarks.soak.kind import Kind, WrongAnswer, content

DATAGRAMS = 20
SIZE = 600
ANSWER_S = 2.0
TRIES = 3


class UdpTraffic(Kind):
    """Twenty datagrams of one client, one at a time; a datagram may be lost, and is sent again."""

    name = "udp"
    clients = 6

    @override
    def main_toml(self) -> str:
        return self.listener('transport = "udp"')

    @override
    def policy_toml(self) -> str:
        return self.publish()

    @override
    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncGenerator[object]:
        loop = asyncio.get_running_loop()
        address = ("127.0.0.1", self.site.server_port)
        transport, _ = await loop.create_datagram_endpoint(_Echo, local_addr=address)
        try:
            yield transport
        finally:
            transport.close()

    @override
    async def one(self, client: str, number: int) -> int:
        loop, count = asyncio.get_running_loop(), 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((client, 0))
            sock.connect(("127.0.0.1", self.site.gate_port))
            known: set[bytes] = set()
            for place in range(DATAGRAMS):
                sent = content(number * DATAGRAMS + place, SIZE)
                count += await self._echoed(loop, sock, sent, known)
                known.add(sent)
        return count

    async def _echoed(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        sent: bytes,
        known: set[bytes],
    ) -> int:
        for _ in range(TRIES):
            await loop.sock_sendall(sock, sent)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    came = await loop.sock_recv(sock, 65536)
                    while came in known:  # the answer to what was sent twice
                        came = await loop.sock_recv(sock, 65536)
                if came != sent:
                    raise WrongAnswer(f"another datagram came, of {len(came)} bytes")
                return len(came)
        raise ConnectionError(f"{TRIES} datagrams were lost")


class _Echo(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)
