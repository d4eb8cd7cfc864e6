"""The store keeper's process: the only one that writes the store of records.

The supervisor starts it where the configuration has a store, and another when it has ended. The
invariant: it follows the log and is asked for nothing, so whatever becomes of it, the gate goes on;
it ends when the supervisor lets go of it, after it has stored what is in the log.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket
from typing import TypeAlias

from sluicegate.app.confinement import confine_process
from sluicegate.app.version import VERSION
from sluicegate.audit.store import Filler, PostgresPlace, Retention, StorePlace
from sluicegate.clock import SystemClock
from sluicegate.log_limits import STORE_REPORT_S

from .channel import Channel, FrameReader
from .orders import PROTOCOL, AnyMessage, BeginStore, Ready, Said, Stored
from .start import arrive

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic


def main(channel: int) -> None:
    """Be the store's keeper.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends after the log's writer, by its channel.
    arrived = arrive(channel, BeginStore, "sluice-store")
    if arrived is None:
        return
    _, connected, begin, _, reader = arrived
    folder = begin.place.path
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    confine_process([folder], ports=_ports_of(begin.place))
    asyncio.run(_Keeper(begin).live(connected, reader))


def _ports_of(place: StorePlace) -> list[int]:
    """Return which TCP ports the keeper needs: that of its server, if it has one."""
    return [place.port] if isinstance(place, PostgresPlace) and not place.is_local else []


class _Keeper:
    """The process's life."""

    def __init__(self, begin: BeginStore) -> None:
        self._filler = Filler(
            pathlib.Path(begin.log),
            begin.place,
            Retention(begin.keep_days, begin.keep_bytes),
            SystemClock(),
            self._say,
        )
        self._over = asyncio.Event()
        self._said: Stored | None = None

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Store until nobody needs it any more, and then what is left."""
        self._channel = Channel(connected, self._on_message, self._on_left, reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        self._channel.deliver()
        loop = asyncio.get_running_loop()
        report_at = loop.time()
        while not self._over.is_set():
            pause_s = self._filler.turn()
            if loop.time() >= report_at:
                report_at = loop.time() + STORE_REPORT_S
                self._report()
            try:
                async with asyncio.timeout(pause_s):
                    await self._over.wait()
            except TimeoutError:
                continue
        self._filler.close()
        self._channel.close()

    def _report(self) -> None:
        """Say how far it is, if that has changed."""
        stored = Stored(
            last=self._filler.last,
            bytes_behind=self._filler.bytes_behind,
            failure=self._filler.failure,
            inode=self._filler.inode,
        )
        if stored != self._said:
            self._said = stored
            self._channel.send(stored)

    def _say(self, line: str) -> None:
        self._channel.send(Said(line=line))

    def _on_message(self, message: AnyMessage, _descriptors: list[int]) -> None:
        raise AssertionError(f"{message} is for another process")

    def _on_left(self, _cause: str) -> None:
        self._over.set()
