"""Data filters of every tier that pass bytes on, hold them, leave, fail, or misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sluicegate.errors import Side
from sluicegate.filterapi import (
    FORWARD,
    HOLD,
    LEAVE,
    CallbackDataFilter,
    Connection,
    DataFilter,
    DataSocket,
    Forward,
    StreamFilter,
    StreamVerdict,
)


class Witness:
    """What a filter notes of itself, for the test."""

    def __init__(self) -> None:
        self.seen: dict[Side, bytearray] = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self.ends: list[Side] = []
        self.detached = 0
        self.after_detach: list[str] = []
        self.canceled: list[str] = []

    def note(self, side: Side, data: bytes) -> None:
        if self.detached:
            self.after_detach.append("data")
        self.seen[side] += data

    def note_end(self, side: Side) -> None:
        if self.detached:
            self.after_detach.append("end")
        self.ends.append(side)

    def faults(self, *, is_whole: bool = True) -> list[str]:
        """Return what is wrong of what holds for every filter; whole: it stayed to the end."""
        found = [f"saw {what} after it had left" for what in self.after_detach]
        if self.detached != 1:
            found.append(f"was detached {self.detached} times")
        if len(self.ends) != len(set(self.ends)):
            found.append(f"was told ends twice: {self.ends}")
        if is_whole and sorted(self.ends) != [Side.CLIENT, Side.SERVER]:
            found.append(f"was told the ends of {self.ends}")
        return found


class Passing(DataFilter):
    """A coroutine that passes both directions on; leaves after ``leave_after`` bytes of one."""

    name = "passing"

    def __init__(self, witness: Witness | None = None, leave_after: int | None = None) -> None:
        self.witness = witness or Witness()
        self.leave_after = leave_after

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        if self.leave_after == 0:
            return
        halves = [
            asyncio.ensure_future(self._pass(Side.CLIENT, client, server)),
            asyncio.ensure_future(self._pass(Side.SERVER, server, client)),
        ]
        try:
            if self.leave_after is None:
                await asyncio.gather(*halves)
            else:
                # Whichever has seen enough; the other one stops where it waits for bytes.
                await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(halves)

    async def _stop(self, halves: list[asyncio.Future[bool]]) -> None:
        self._is_over = True
        for half in halves:
            if not half.done() and not self._sending:
                half.cancel()
        for half in halves:
            try:
                await half
            except asyncio.CancelledError:
                continue

    _is_over = False
    _sending = 0

    async def _pass(self, side: Side, source: DataSocket, sink: DataSocket) -> bool:
        while not self._is_over:
            window = await source.receive()
            if not len(window):
                self.witness.note_end(side)
                sink.shutdown()
                return True
            self.witness.note(side, bytes(window))
            self._sending += 1
            try:
                await sink.send(window)
            finally:
                self._sending -= 1
            if self.leave_after is not None and len(self.witness.seen[side]) >= self.leave_after:
                return True
        return False

    def detach(self) -> None:
        self.witness.detached += 1


class Callbacks(CallbackDataFilter):
    """The same by callbacks, with buffers of its own where ``size`` is given."""

    name = "callbacks"

    def __init__(
        self,
        witness: Witness | None = None,
        size: int | None = None,
        leave_after: int | None = None,
    ) -> None:
        self.witness = witness or Witness()
        self.size = size
        self.leave_after = leave_after
        self._has_left = False

    def set_sockets(
        self,
        client: DataSocket,
        server: DataSocket | None,
        connection: Connection,
        context: Any,
    ) -> None:
        assert server is not None
        self.connection = connection
        self.ways = {Side.CLIENT: (client, server), Side.SERVER: (server, client)}
        self.buffers = {side: self._buffer(connection) for side in self.ways}
        if self.leave_after == 0:
            connection.leave(self)
            return
        for side in self.ways:
            self._receive(side)

    def _buffer(self, connection: Connection) -> Any:
        from sluicegate.filterapi import Buffer

        return Buffer(self.size) if self.size else None

    def _receive(self, side: Side) -> None:
        if not self._has_left:
            self.ways[side][0].start_receive(self.buffers[side], self, ("received", side))

    def complete_socket_io(
        self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
    ) -> None:
        what, side = user_data
        if self.witness.detached:
            self.witness.after_detach.append(what)
        if not success:
            self.witness.canceled.append(f"{what} {side} {error}")
            if not self._has_left:
                self.connection.fail("the filter saw a failure", error, side)
            return
        if what == "sent":
            if self._has_enough(side):
                self._has_left = True
                self.connection.leave(self)
            else:
                self._receive(side)
        elif len(buffer):
            self.witness.note(side, bytes(buffer))
            self.ways[side][1].start_send(
                bytes(buffer) if self.size else buffer, self, ("sent", side)
            )
        else:
            self.witness.note_end(side)
            self.ways[side][1].shutdown()

    def _has_enough(self, side: Side) -> bool:
        return (
            self.leave_after is not None
            and not self._has_left
            and len(self.witness.seen[side]) >= self.leave_after
        )

    def detach(self) -> None:
        self.witness.detached += 1


class Stream(StreamFilter):
    """A stream filter that follows a script of verdicts, then releases everything."""

    name = "stream"

    def __init__(
        self,
        witness: Witness | None = None,
        hold: int = 0,
        leave_after: int | None = None,
        release: int = 0,
    ) -> None:
        self.witness = witness or Witness()
        self.hold = hold
        #: It releases nothing while fewer bytes than this are shown.
        self.leave_after = leave_after
        self.release = release
        #: It releases so many bytes at a time, where it may.
        self._counts = {Side.CLIENT: 0, Side.SERVER: 0}

    def on_data(self, side: Side, window: Any) -> StreamVerdict:
        data = bytes(window)
        if len(data) < self.hold:
            return HOLD
        released = data
        if self.release and len(data) > self.release:
            released = data[: -(len(data) % self.release) or None]
        self.witness.note(side, released)
        self._counts[side] += len(released)
        if self.leave_after is not None and self._counts[side] >= self.leave_after:
            self.witness.seen[side] += data[len(released) :]
            return LEAVE
        return FORWARD if released is data else Forward(len(released))

    def on_end(self, side: Side, held: Any) -> StreamVerdict:
        self.witness.note(side, bytes(held))
        self.witness.note_end(side)
        return FORWARD

    def detach(self) -> None:
        self.witness.detached += 1


class Raising(DataFilter):
    """Raises where it is told to."""

    name = "raising"

    def __init__(
        self, where: str, witness: Witness | None = None, *, error: BaseException | None = None
    ) -> None:
        self.where = where
        self.error = error or ValueError("boom")
        self.witness = witness or Witness()

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        if self.where == "before":
            raise self.error
        data = await client.receive()
        if self.where == "after receive":
            raise self.error
        await server.send(data)
        if self.where == "cancelled":
            raise asyncio.CancelledError
        raise self.error

    def detach(self) -> None:
        self.witness.detached += 1


class RaisingCallbacks(CallbackDataFilter):
    """Raises in ``set_sockets``, in the completion of a receive or of a send."""

    name = "raising-callbacks"

    def __init__(
        self, where: str, witness: Witness | None = None, *, error: BaseException | None = None
    ) -> None:
        self.where = where
        self.error = error or ValueError("boom")
        self.witness = witness or Witness()

    def set_sockets(
        self,
        client: DataSocket,
        server: DataSocket | None,
        connection: Connection,
        context: Any,
    ) -> None:
        assert server is not None
        if self.where == "set_sockets":
            raise self.error
        self.server = server
        client.start_receive(None, self, "received")

    def complete_socket_io(
        self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
    ) -> None:
        if not success:
            self.witness.canceled.append(f"{user_data} {error}")
        elif user_data == self.where:
            raise self.error
        elif user_data == "received":
            self.server.start_send(buffer, self, "sent")

    def detach(self) -> None:
        self.witness.detached += 1


class Does(DataFilter):
    """Does what a function says."""

    name = "does"

    def __init__(
        self,
        action: Callable[[DataSocket, DataSocket, Connection], Any],
        witness: Witness | None = None,
    ) -> None:
        self.action = action
        self.witness = witness or Witness()

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        await self.action(client, server, connection)

    def detach(self) -> None:
        self.witness.detached += 1
