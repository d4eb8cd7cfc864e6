"""A kind of traffic: what it needs of the gate, its server, and what one client does.

Each kind is one file of this directory, and one line of the table in `kinds.py`.  The invariant: a
client checks all that it gets; what is wrong raises `WrongAnswer`, what breaks off is an `OSError`.
"""

import abc
import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any


class WrongAnswer(Exception):
    """A client got something else than its server sent: never excused by a worker's death."""


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a kind runs: its own folder, and the ports that it may use."""

    folder: Path
    gate_port: int
    server_port: int


class Kind(abc.ABC):
    """One kind of traffic; made once for a soak."""

    name: str
    clients: int = 8
    """How many clients are at it at any time."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @abc.abstractmethod
    def main_toml(self) -> str:
        """What it adds to `sluicegate.toml`."""

    @abc.abstractmethod
    def policy_toml(self) -> str:
        """What it adds to `policy.toml`."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Runs its server while the block lasts; none by default."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    async def one(self, client: str, number: int) -> int:
        """Does one exchange from a client address; returns the bytes that came.

        Raises:
            WrongAnswer: What came is not what was sent.
            OSError: The connection broke off.
        """

    def listener(self, more: str = "") -> str:
        """The usual `[[listener]]`."""
        address = f"127.0.0.1:{self.site.gate_port}"
        return f'[[listener]]\nname = "{self.name}"\naddress = "{address}"\n{more}\n'

    def publish(self, filters: str = "[]", more: str = "") -> str:
        """The usual `[[publish]]`."""
        return (
            f'[[publish]]\nname = "{self.name}"\nlistener = "{self.name}"\n'
            f'server = "127.0.0.1:{self.site.server_port}"\nclients = ["127.0.0.0/8"]\n'
            f"filters = {filters}\n{more}\n"
        )


def content(number: int, size: int) -> bytes:
    """Bytes that say which exchange they belong to."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def tcp_server(port: int, handler: Handler) -> AsyncGenerator[object]:
    """Serves streams; a client that breaks off is no error of the server."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", port, backlog=512)
    async with server:
        yield server


@contextlib.asynccontextmanager
async def connection(
    port: int, client: str
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's connection to the gate; its end is a reset unless the block closed it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(client, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def check(came: bytes, expected: bytes) -> int:
    """Compares; what is only shorter was broken off.

    Raises:
        WrongAnswer: It differs.
        ConnectionError: It is a beginning of what was expected.
    """
    if came == expected:
        return len(came)
    if expected.startswith(came):
        raise ConnectionError(f"{len(came)} of {len(expected)} bytes came")
    raise WrongAnswer(f"{len(came)} bytes came that are not the {len(expected)} that were sent")
