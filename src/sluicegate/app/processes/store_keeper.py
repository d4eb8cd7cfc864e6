"""The store keeper's process: the only one that writes the store of records.

The supervisor starts it where the configuration has a store, and another when it has ended. The
invariant: it follows the log and is asked for nothing, so whatever becomes of it, the gate goes on;
it ends when the supervisor lets go of it, after it has stored what is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
from typing import Final, TypeAlias

from sluicegate import collector
from sluicegate.app.confinement import confine_process
from sluicegate.audit.store import Filler, PostgresPlace, Retention, StorePlace
from sluicegate.audit.store.place import load_driver
from sluicegate.clock import SystemClock
from sluicegate.log_limits import STORE_REPORT_S, STORE_RETRY_S
from sluicegate.version import VERSION

from .channel import Channel, FrameReader
from .orders import PROTOCOL, AnyMessage, BeginStore, Ready, Said, StoreAt, Stored
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
    load_driver(begin.place)
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
        self._begin = begin
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        #: Something that ends a pause.
        self._said: Stored | None = None
        self._fault = self._confine()
        #: Why there is no folder to write to; nothing is stored before there is one.

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Store until nobody needs it any more, and then what is left."""
        self._channel = Channel(connected, self._on_message, self._on_left, reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        self._channel.deliver()
        if self._fault:
            self._report()
            self._say(f"{self._fault}; records wait in {self._begin.log}")
        while self._fault and not self._over.is_set():
            self._report()
            await self._wait(STORE_RETRY_S)
            self._fault = self._confine()
        if not self._fault:
            await self._store()
        self._channel.close()

    async def _store(self) -> None:
        loop = asyncio.get_running_loop()
        collector.quieten()
        report_at = loop.time()
        while not self._over.is_set():
            pause_s = self._filler.turn()
            if loop.time() >= report_at:
                report_at = loop.time() + STORE_REPORT_S
                self._report()
            await self._wait(pause_s)
        self._filler.close()

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until the supervisor says something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def _confine(self) -> str:
        """Make the folder, and write nowhere else from then on; return why that cannot be done."""
        folder = self._begin.place.path
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            return f"{folder}: cannot be made: {error.strerror} ({_CURE})"
        confine_process([folder], ports=_ports_of(self._begin.place))
        return ""

    def _report(self) -> None:
        """Say how far it is, if that has changed."""
        stored = Stored(
            last=self._filler.last,
            bytes_behind=self._filler.bytes_behind,
            failure=self._fault or self._filler.failure,
            inode=self._filler.inode,
        )
        if stored != self._said:
            self._said = stored
            self._channel.send(stored)

    def _say(self, line: str) -> None:
        self._channel.send(Said(line=line))

    def _on_message(self, message: AnyMessage, _descriptors: list[int]) -> None:
        assert isinstance(message, StoreAt), f"{message} is for another process"
        self._filler.move(message.place)
        self._news.set()

    def _on_left(self, _cause: str) -> None:
        self._over.set()
        self._news.set()


_CURE: Final = "store_dir in [log] has to be a folder that the gate's user may make or write to"
