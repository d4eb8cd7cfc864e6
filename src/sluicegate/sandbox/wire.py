"""The wire to a sandboxed process: packets of a Unix socket, with descriptors beside them.

Both ends use it, each on its own event loop; a process may also wait on it for one reply. The
invariant: sending never blocks the gate; what the other end does not read is kept up to a bound,
and beyond it the wire is broken, which ends the process.
"""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from sluicegate.process_limits import CELL_DESCRIPTORS_MAX, CELL_QUEUE_BYTES_MAX

from .message import MESSAGE_BYTES_MAX, Message, encode

__all__ = ["SocketWire", "Wire", "WireBroken", "WireSocket", "wire_sockets"]

MessageT = TypeVar("MessageT")

WireSocket: TypeAlias = socket.socket  # noqa: TID251 - it carries messages, not traffic

_PACKETS_PER_EVENT_MAX: Final = 64
"""Packets taken before others have their turn on the loop."""

_CONGESTED_BYTES: Final = 1 << 20
"""Beyond this much in the queue nothing more is received for the other end."""

_SEND_BUFFER_BYTES: Final = 1 << 20
"""What the kernel keeps of each direction: several parts, so that neither end waits for each."""


class WireBroken(Exception):
    """The other end is gone, reads nothing, or says what it must not."""


class Wire(Protocol):
    """One end, as those use it who speak over it."""

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send; the descriptors stay the caller's."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether much waits to be read by the other end."""
        ...

    def call_when_drained(self, action: Callable[[], None]) -> None:
        """Call ``action`` once, later, when nothing waits any more, or never will be read."""
        ...

    async def drain(self) -> None:
        """Wait until what was sent is on its way, before sending much more."""
        ...

    def close(self) -> None:
        """End it; nothing is told any more."""
        ...


def wire_sockets() -> tuple[WireSocket, WireSocket]:
    """Return the two ends of a new wire, neither inheritable."""
    both = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for one in both:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return both


class SocketWire(Generic[MessageT]):
    """One end of a wire on an event loop; ``on_message`` is never called inside ``send``."""

    def __init__(
        self,
        raw: WireSocket,
        decode: Callable[[bytes], MessageT],
        on_message: Callable[[MessageT, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        queue_bytes_max: int = CELL_QUEUE_BYTES_MAX,
    ) -> None:
        """Take over a socket.

        Args:
            raw: One of ``wire_sockets``.
            decode: Reads what the other end says.
            on_message: Told of each message; owns the descriptors that came along.
            on_broken: Told once that nothing more will come.
            queue_bytes_max: What may wait for the other end to read it.
        """
        self._queue_bytes_max = queue_bytes_max
        raw.setblocking(False)
        self._raw = raw
        self._decode = decode
        self._on_message = on_message
        self._on_broken = on_broken
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        #: What the kernel did not take yet, with descriptors of our own.
        self._queued_bytes = 0
        self._backlog: deque[tuple[MessageT, list[int]]] = deque()
        #: Came while somebody waited for something else.
        self._drained: list[Callable[[], None]] = []
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(raw.fileno(), self._on_readable)

    # -- sending -------------------------------------------------------------------------------

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """As ``Wire.send``; on a broken wire nothing happens."""
        if self._is_closed:
            return
        data = encode(message)
        assert len(data) <= MESSAGE_BYTES_MAX, f"{type(message).__name__} is too long"
        if not self._queue:
            try:
                self._send_now(data, descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._raw.fileno(), self._on_writable)
            except OSError as error:
                self._break_later(f"cannot be sent to: {error.strerror}")
                return
            else:
                return
        self._queue.append((data, [os.dup(one) for one in descriptors]))
        self._queued_bytes += len(data)
        if self._queued_bytes > self._queue_bytes_max:
            self._break_later("does not read what it is sent")

    @property
    def is_congested(self) -> bool:
        """As ``Wire.is_congested``."""
        return self._queued_bytes > _CONGESTED_BYTES

    def call_when_drained(self, action: Callable[[], None]) -> None:
        """As ``Wire.call_when_drained``."""
        if self._queue and not self._is_closed:
            self._drained.append(action)
        else:
            self._loop.call_soon(action)

    async def drain(self) -> None:
        """As ``Wire.drain``."""
        drained = asyncio.Event()
        self.call_when_drained(drained.set)
        await drained.wait()

    def _send_now(self, data: bytes, descriptors: Sequence[int]) -> None:
        beside = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            if descriptors
            else []
        )
        self._raw.sendmsg([data], beside, socket.MSG_NOSIGNAL)

    def _on_writable(self) -> None:
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                self._send_now(data, descriptors)
            except BlockingIOError:
                return
            except OSError as error:
                self._break(f"cannot be sent to: {error.strerror}")
                return
            self._queue.popleft()
            self._queued_bytes -= len(data)
            _close_all(descriptors)
        self._loop.remove_writer(self._raw.fileno())
        self._tell_drained()

    def _tell_drained(self) -> None:
        drained, self._drained = self._drained, []
        for action in drained:
            self._loop.call_soon(action)

    # -- receiving -----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        for _ in range(_PACKETS_PER_EVENT_MAX):
            if self._is_closed:
                return
            try:
                # What came while somebody waited for something else came before.
                received = self._backlog.popleft() if self._backlog else self._receive()
            except BlockingIOError:
                return
            except WireBroken as error:
                self._break(str(error))
                return
            self._on_message(*received)

    def _receive(self) -> tuple[MessageT, list[int]]:
        """Return the next message.

        Raises:
            BlockingIOError: There is none yet.
            WireBroken: There will be none.
        """
        try:
            data, beside, flags, _ = self._raw.recvmsg(
                MESSAGE_BYTES_MAX, socket.CMSG_SPACE(CELL_DESCRIPTORS_MAX * 4), _CLOEXEC
            )
        except BlockingIOError:
            raise
        except OSError as error:
            raise WireBroken(f"cannot be heard: {error.strerror}") from error
        descriptors = _descriptors(beside)
        if not data:
            _close_all(descriptors)
            raise WireBroken("has ended")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            _close_all(descriptors)
            raise WireBroken("said more than a message holds")
        try:
            return self._decode(data), descriptors
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            _close_all(descriptors)
            raise WireBroken(f"said what is no message: {error}") from error

    def wait_for(self, is_wanted: Callable[[MessageT], bool]) -> MessageT:
        """Block until a message comes that is wanted (in a cell only); others are told later.

        Raises:
            WireBroken: It will not come.
        """
        poller = select.poll()
        poller.register(self._raw.fileno(), select.POLLIN)
        while True:
            try:
                message, descriptors = self._receive()
            except BlockingIOError:
                self._flush_blocking()
                poller.poll()
                continue
            if is_wanted(message):
                return message
            if not self._backlog:
                self._loop.call_soon(self._tell_backlog)
            self._backlog.append((message, descriptors))

    def _flush_blocking(self) -> None:
        """Send what is queued before waiting for its answer."""
        poller = select.poll()
        poller.register(self._raw.fileno(), select.POLLOUT)
        while self._queue:
            poller.poll()
            self._on_writable()
            if self._is_closed:
                raise WireBroken("has ended")

    def _tell_backlog(self) -> None:
        while self._backlog and not self._is_closed:
            self._on_message(*self._backlog.popleft())

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """As ``Wire.close``."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._raw.fileno())
        self._loop.remove_writer(self._raw.fileno())
        for _, descriptors in (*self._queue, *self._backlog):
            _close_all(descriptors)
        self._queue.clear()
        self._backlog.clear()
        self._tell_drained()
        self._raw.close()

    def _break_later(self, how: str) -> None:
        """Break, but not inside the call that found out."""
        self._loop.call_soon(self._break, how)

    def _break(self, how: str) -> None:
        if not self._is_closed:
            self.close()
            self._on_broken(WireBroken(how))


_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000)


def _descriptors(beside: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            found += numbers
    return found


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        os.close(one)
