"""Relaying: what a data filter that looks at both directions would otherwise write itself.

``relay`` is for ``DataFilter.run``. The invariant: an end of stream is passed on behind the last
byte, each direction for itself, and what fails is raised as it is, not as a group of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .data_socket import DataSocket

__all__ = ["Way", "copy", "relay"]

Way: TypeAlias = "Callable[[DataSocket, DataSocket], Awaitable[None]]"
"""Moves one direction, from the first socket to the second, to its end."""


async def copy(source: DataSocket, sink: DataSocket) -> None:
    """Pass one direction on as it is, and its end.

    Raises:
        TransportError: A side failed.
    """
    while len(window := await source.receive()):
        await sink.send(window)
    sink.shutdown()


async def relay(
    client: DataSocket,
    server: DataSocket,
    from_client: Way = copy,
    from_server: Way = copy,
) -> None:
    """Move both directions until both have ended; when one fails, the other is stopped.

    Args:
        client: Towards the client.
        server: Towards the server.
        from_client: What moves the client's bytes; ends the stream to the server itself.
        from_server: What moves the server's bytes.

    Raises:
        TransportError: A side failed.
        Exception: What a way raised first.
    """
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_moved(from_client, client, server))
            both.create_task(_moved(from_server, server, client))
    except BaseExceptionGroup as group:
        # The first is the cause; what follows from it stands behind.
        raise group.exceptions[0] from None


async def _moved(way: Way, source: DataSocket, sink: DataSocket) -> None:
    await way(source, sink)
