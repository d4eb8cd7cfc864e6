"""SOCKS 5 and HTTP CONNECT on one proxy listener: the client names the server, and echoes."""

import asyncio
import contextlib
import socket

from typing_extensions import override

from benchmarks.soak.kind import Kind, WrongAnswer, check, connection, content, tcp_server

SIZE = 20_000


class SocksTraffic(Kind):
    """A tunnel by SOCKS 5 or CONNECT in turn; what goes in comes back."""

    name = "socks"
    clients = 8

    @override
    def main_toml(self) -> str:
        return self.listener('entry = "proxy"')

    @override
    def policy_toml(self) -> str:
        return (
            f'[[rule]]\nname = "{self.name}"\naction = "allow"\nlistener = "{self.name}"\n'
            'clients = ["127.0.0.0/8"]\nto = ["127.0.0.1"]\n'
            f'protocols = ["tcp:{self.site.server_port}"]\n'
        )

    @override
    def serve(self) -> contextlib.AbstractAsyncContextManager[object]:
        return tcp_server(self.site.server_port, echo)

    @override
    async def one(self, client: str, number: int) -> int:
        async with connection(self.site.gate_port, client) as (reader, writer):
            if number % 2:
                await self._socks5(reader, writer)
            else:
                await self._connect(reader, writer)
            data = content(number, SIZE)
            writer.write(data)
            writer.write_eof()
            return check(await reader.read(-1), data)

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x05\x01\x00")
        if await reader.readexactly(2) != b"\x05\x00":
            raise WrongAnswer("SOCKS asks for a password")
        to = socket.inet_aton("127.0.0.1") + self.site.server_port.to_bytes(2, "big")
        writer.write(b"\x05\x01\x00\x01" + to)
        reply = await reader.readexactly(10)
        if reply[1]:
            raise ConnectionError(f"SOCKS reply {reply[1]}")

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = b"127.0.0.1:%d" % self.site.server_port
        writer.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.partition(b"\r\n")[0].decode())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes, to its end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
