"""HTTP through a published port with a stream filter: requests kept alive, and bulk."""

import asyncio
import contextlib

from typing_extensions import override

from benchmarks.soak.kind import Kind, check, connection, content, tcp_server

BULK_BYTES = 2_000_000
SMALL_BYTES = 700
REQUESTS = 5


class HttpTraffic(Kind):
    """Some requests on one connection; every tenth asks for bulk."""

    name = "http"
    clients = 12

    @override
    def main_toml(self) -> str:
        filters = self.site.folder.joinpath("look.py")
        filters.write_text(LOOK)
        return self.listener() + f'[[filter]]\nname = "look"\nuse = "{filters}:Look"\n'

    @override
    def policy_toml(self) -> str:
        return self.publish('["look"]')

    @override
    def serve(self) -> contextlib.AbstractAsyncContextManager[object]:
        return tcp_server(self.site.server_port, answer)

    @override
    async def one(self, client: str, number: int) -> int:
        count = 0
        async with connection(self.site.gate_port, client) as (reader, writer):
            for place in range(REQUESTS):
                wanted = number * REQUESTS + place
                size = BULK_BYTES if wanted % 50 == 0 else SMALL_BYTES
                writer.write(b"GET /%d/%d HTTP/1.1\r\nHost: soak\r\n\r\n" % (wanted, size))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"Content-Length: ")[1].split(b"\r")[0])
                count += check(await reader.readexactly(length), content(wanted, size))
        return count


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves the content that a path names."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        _, number, size = head.split(b" ")[1].split(b"/")
        body = content(int(number), int(size))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


LOOK = '''
from sluicegate.filterapi import FORWARD, StreamFilter


class Look(StreamFilter):
    """Looks at the beginning of every chunk, and lets all of it pass."""

    name = "look"

    def on_data(self, side, window):
        self.seen = bytes(window.window(0, min(8, len(window))))
        return FORWARD
'''
