"""The forwarder's process: it sends records on to other systems, for all sinks of a gate.

The supervisor starts it where the configuration has sinks, and another when it has ended. The
invariant: it follows the log and is asked for nothing, so whatever becomes of it or of the other
side, the gate goes on.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket
from typing import TypeAlias

from sluicegate.app.confinement import confine_process
from sluicegate.audit.sinks import Sink, SinkSettings
from sluicegate.log_limits import SINK_END_S, STORE_REPORT_S
from sluicegate.version import VERSION

from .channel import Channel, FrameReader
from .orders import PROTOCOL, AnyMessage, BeginForward, Forwarded, Ready, Said, SinkState
from .start import arrive, live_and_end

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic


def main(channel: int) -> None:
    """Be the forwarder.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends after the log's writer, by its channel.
    arrived = arrive(channel, BeginForward, "sluice-forward")
    if arrived is None:
        return
    _, connected, begin, _, reader = arrived
    folder = pathlib.Path(begin.folder)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    confine_process([folder])
    live_and_end(_Forwarder(begin).live(connected, reader))  # threads may wait for the other side


class _Forwarder:
    """The process's life."""

    def __init__(self, begin: BeginForward) -> None:
        self._begin = begin
        self._over = asyncio.Event()

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Forward until nobody needs it any more, and a moment longer what is left."""
        self._loop = loop = asyncio.get_running_loop()
        self._channel = Channel(connected, self._on_message, self._on_left, reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        self._channel.deliver()
        sinks = [self._make(settings) for settings in self._begin.sinks]
        turning = [loop.create_task(self._turn(sink)) for sink in sinks]
        over = loop.create_task(self._over.wait())
        said: Forwarded | None = None
        while not self._over.is_set():
            state = Forwarded(sinks=[_state_of(sink) for sink in sinks])
            if state != said:
                said = state
                self._channel.send(state)
            done, _ = await asyncio.wait(
                [over, *turning], timeout=STORE_REPORT_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # a fault of ours: another process is started, and it is recorded
        await asyncio.wait(turning, timeout=SINK_END_S)
        self._channel.close()

    def _make(self, settings: SinkSettings) -> Sink:
        log, folder = pathlib.Path(self._begin.log), pathlib.Path(self._begin.folder)
        return Sink(settings, log, folder, self._say, self._begin.begin)

    async def _turn(self, sink: Sink) -> None:
        """Keep one sink going; at the end, until it has nothing left or takes nothing."""
        while True:
            pause_s = await asyncio.to_thread(sink.turn)
            if self._over.is_set() and pause_s:
                sink.close()
                return
            try:
                async with asyncio.timeout(pause_s):
                    await self._over.wait()
            except TimeoutError:
                continue

    def _say(self, line: str) -> None:
        """Say a line, from whatever thread."""
        self._loop.call_soon_threadsafe(self._channel.send, Said(line=line))

    def _on_message(self, message: AnyMessage, _descriptors: list[int]) -> None:
        raise AssertionError(f"{message} is for another process")

    def _on_left(self, _cause: str) -> None:
        self._over.set()


def _state_of(sink: Sink) -> SinkState:
    return SinkState(
        name=sink.settings.name,
        sent=sink.sent,
        lost=sink.lost,
        bytes_behind=sink.bytes_behind,
        failure=sink.failure,
    )
