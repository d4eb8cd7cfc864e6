"""Whole URLs through a proxy listener, bodies held: what is clean arrives, the rest is refused."""

import asyncio
import contextlib

from typing_extensions import override

from benchmarks.soak.kind import Kind, WrongAnswer, check, connection, content, tcp_server

BULK_BYTES = 1_000_000
SMALL_BYTES = 3_000
REQUESTS = 5
EVIL = b"EVIL"
"""How that begins which the filter refuses."""


class WebTraffic(Kind):
    """Some requests on one connection; every tenth asks for what is refused."""

    name = "web"
    clients = 8

    @override
    def main_toml(self) -> str:
        filters = self.site.folder.joinpath("guard.py")
        filters.write_text(GUARD)
        guard = f'[[filter]]\nname = "guard"\nuse = "{filters}:Guard"\n'
        return self.listener('entry = "proxy"') + guard

    @override
    def policy_toml(self) -> str:
        return (
            f'[[rule]]\nname = "{self.name}"\naction = "allow"\nlistener = "{self.name}"\n'
            'clients = ["127.0.0.0/8"]\nto = ["127.0.0.1"]\n'
            f'protocols = ["tcp:{self.site.server_port}"]\nfilters = ["guard"]\n'
        )

    @override
    def serve(self) -> contextlib.AbstractAsyncContextManager[object]:
        return tcp_server(self.site.server_port, answer_web)

    @override
    async def one(self, client: str, number: int) -> int:
        host = f"127.0.0.1:{self.site.server_port}"
        count = 0
        async with connection(self.site.gate_port, client) as (reader, writer):
            for place in range(number * REQUESTS, (number + 1) * REQUESTS):
                path, expected = wanted(place)
                head = f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
                count += await ask(reader, writer, head, expected)
        return count


def wanted(place: int) -> tuple[str, bytes | None]:
    """A path for the place of a request, and what it names; None: it is refused."""
    size = BULK_BYTES if place % 50 == 0 else SMALL_BYTES
    is_evil = place % 10 == 3
    path = f"/{'evil' if is_evil else 'clean'}/{place}/{size}"
    return path, None if is_evil else content(place, size)


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: str,
    expected: bytes | None,
) -> int:
    """Asks once, and checks the answer; returns its bytes.

    Raises:
        WrongAnswer: It is not what was expected.
        ConnectionError: The gate says that it failed.
    """
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r")[0])
    body = await reader.readexactly(length)
    if head.startswith(b"http/1.1 5"):
        raise ConnectionError(f"answered by {head[9:12].decode()}: {body[:200]!r}")
    if expected is not None:
        return check(body, expected)
    if not head.startswith(b"http/1.1 403") or EVIL in body:
        raise WrongAnswer(f"{head[:40]!r} is the answer for what is to be refused")
    return len(body)


def body_of(path: bytes) -> bytes:
    """What a path names."""
    _, kind, place, size = path.rsplit(b"/", 3)
    body = content(int(place), int(size))
    return EVIL + body[len(EVIL) :] if kind == b"evil" else body


async def answer_web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves what a path names."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        body = body_of(head.split(b" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


GUARD = '''
from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer


class Guard(ContentFilter):
    """Holds everything, and refuses what begins with a word."""

    name = "guard"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Refuse("evil") if transfer.head.startswith(b"EVIL") else Release()
'''
