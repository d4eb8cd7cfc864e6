"""The audit writer's process: the only one that writes the log.

The supervisor starts it, and another when it has ended. The invariant: it ends when the supervisor
lets go of it and every sender is gone, after the last record is in the file.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TypeAlias

from sluicegate.audit.collector import Collector
from sluicegate.audit.journal import Journal
from sluicegate.version import VERSION

from .channel import Channel, FrameReader
from .confine import confine
from .orders import (
    PROTOCOL,
    AnyMessage,
    BeginAudit,
    ChangeLog,
    HoldLog,
    Ready,
    Said,
    StreamEnded,
    TakeStream,
)
from .start import arrive

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders and records, not traffic


def main(channel: int) -> None:
    """Be the audit writer.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends last, by its channel.
    arrived = arrive(channel, BeginAudit, "sluice-audit")
    if arrived is None:
        return
    _, connected, begin, descriptors, reader = arrived
    confine(None)
    asyncio.run(_Writer(begin, descriptors).live(connected, reader))


class _Writer:
    """The process's life."""

    def __init__(self, begin: BeginAudit, descriptors: list[int]) -> None:
        self._begin = begin
        self._journal_fd, self._log_fd = descriptors
        self._over = asyncio.Event()
        self._is_left = False

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Write until nobody needs it any more."""
        journal = Journal(self._journal_fd)
        os.close(self._journal_fd)
        self._journal = journal
        self._collector = Collector(
            journal, self._log_fd, on_ended=self._on_ended, on_trouble=self._on_trouble
        )
        self._channel = Channel(connected, self._on_message, self._on_left, reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        self._channel.deliver()
        await self._over.wait()
        self._collector.close()
        self._channel.close()
        journal.close()

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case TakeStream(row=row):
                self._collector.add_stream(row, _Socket(fileno=descriptors[0]))
            case ChangeLog():
                self._collector.change_log(descriptors[0])
            case HoldLog(cause=cause):
                self._collector.hold(cause)
            case _:
                raise AssertionError(f"{message} is for another process")

    def _on_ended(self, row: int) -> None:
        self._channel.send(StreamEnded(row=row, records=self._journal.records(row)))
        self._end_when_done()

    def _on_left(self, _cause: str) -> None:
        self._is_left = True
        self._end_when_done()

    def _end_when_done(self) -> None:
        if self._is_left and self._collector.is_done:
            self._over.set()

    def _on_trouble(self, line: str) -> None:
        self._channel.send(Said(line=f"{self._begin.path}: {line}"))
