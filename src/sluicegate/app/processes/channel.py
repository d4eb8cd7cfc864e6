"""Channel: messages and descriptors between the supervisor and one of its processes.

Both ends use it, on asyncio's loop; a process reads its first message before it has one. The
invariant: messages arrive whole, in order, each with the descriptors that it was sent with, and a
descriptor that nobody takes is closed.

A frame is the length of a message, how many descriptors belong to it, and the message. Descriptors
travel beside the first bytes of frames; as the kernel passes a limited number at once, those of a
message with many go ahead of it, beside frames without one.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from sluicegate.process_limits import PROCESS_MESSAGE_BYTES_MAX

from .orders import AnyMessage, Message

__all__ = ["Channel", "ChannelBroken", "FrameReader", "Received", "receive_first", "send_last"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic

_HEADER: Final = struct.Struct("!IH")
_RECEIVE_BYTES: Final = 1 << 16
_DESCRIPTORS_MAX: Final = 200
"""In one message of the kernel's: ``SCM_MAX_FD`` is 253."""
_ANCILLARY_BYTES: Final = socket.CMSG_LEN((_DESCRIPTORS_MAX + 1) * array.array("i").itemsize)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)

Received: TypeAlias = tuple[AnyMessage, list[int]]


class ChannelBroken(Exception):
    """The other end sent what is no message, or went away."""


class FrameReader:
    """Messages out of what one end receives."""

    __slots__ = ("_descriptors", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, received: bytes, descriptors: Sequence[int]) -> None:
        """Take bytes, and the descriptors that came with them."""
        self._rest += received
        self._descriptors.extend(descriptors)

    def next(self) -> Received | None:
        """Return the next message that is whole, with its descriptors.

        Raises:
            ChannelBroken: It is none.
        """
        while len(self._rest) >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._rest)
            if length > PROCESS_MESSAGE_BYTES_MAX:
                raise ChannelBroken(f"a message of {length} bytes")
            end = _HEADER.size + length
            if len(self._rest) < end:
                return None
            body = bytes(self._rest[_HEADER.size : end])
            del self._rest[:end]
            if not length:
                continue  # descriptors of a message that follows
            if count > len(self._descriptors):
                raise ChannelBroken("descriptors are missing")
            try:
                message = _decoder.decode(body)
            except msgspec.DecodeError as error:
                raise ChannelBroken(f"not a message of this version: {error}") from error
            return message, [self._descriptors.popleft() for _ in range(count)]
        return None

    @property
    def unread(self) -> bytes:
        """What has arrived and is not whole yet."""
        return bytes(self._rest)

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


class Channel:
    """One end; lives until ``close`` or until the other one is gone."""

    def __init__(
        self,
        connected: _Socket,
        on_message: Callable[[AnyMessage, list[int]], None],
        on_closed: Callable[[str], None],
        reader: FrameReader | None = None,
    ) -> None:
        """Begin to read.

        Args:
            connected: A stream socket between two processes; owned from now on.
            on_message: Told of each message; the descriptors are its to close.
            on_closed: Told once, with a cause or nothing, that the other end is gone.
            reader: Of who has read the first message.
        """
        connected.setblocking(False)
        self._socket: _Socket | None = connected
        self._on_message = on_message
        self._on_closed = on_closed
        self._reader = reader or FrameReader()
        self._frames: deque[tuple[bytes, list[int]]] = deque()
        self._offset = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connected, self._on_readable)

    @property
    def is_open(self) -> bool:
        """Whether the other end was there when it was last looked at."""
        return self._socket is not None

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent is out."""
        return not self._frames

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Queue a message; copies of the descriptors go with it, the caller's stay the caller's."""
        if self._socket is None:
            return
        copies = [os.dup(one) for one in descriptors]
        body = _encoder.encode(message)
        assert len(body) <= PROCESS_MESSAGE_BYTES_MAX, "bounded by the files it is made of"
        ahead = copies
        while len(ahead) > _DESCRIPTORS_MAX:
            self._frames.append((_HEADER.pack(0, 0), ahead[:_DESCRIPTORS_MAX]))
            ahead = ahead[_DESCRIPTORS_MAX:]
        self._frames.append((_HEADER.pack(len(body), len(copies)) + body, ahead))
        self._flush()

    def close(self) -> None:
        """Stop reading and writing; the other end sees that."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        while self._frames:
            _close_all(self._frames.popleft()[1])
        self._reader.close()

    def describe(self) -> tuple[int, bytes]:
        """Return the descriptor, and what has arrived and is not whole: to go on elsewhere."""
        assert self._socket is not None, "a closed channel goes on nowhere"
        return self._socket.fileno(), self._reader.unread

    def _flush(self) -> None:
        assert self._socket is not None, "a closed channel sends nothing"
        try:
            while self._frames:
                frame, descriptors = self._frames[0]
                if descriptors:
                    sent = socket.send_fds(self._socket, [frame], descriptors)
                    _close_all(descriptors)
                    descriptors.clear()
                else:
                    sent = self._socket.send(frame[self._offset :])
                self._offset += sent
                if self._offset == len(frame):
                    self._frames.popleft()
                    self._offset = 0
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._on_writable)
        except OSError as error:
            self._break(error.strerror or "")

    def _on_writable(self) -> None:
        assert self._socket is not None, "a closed channel is not watched"
        self._loop.remove_writer(self._socket)
        self._flush()

    def _on_readable(self) -> None:
        assert self._socket is not None, "a closed channel is not watched"
        try:
            is_there = _receive(self._socket, self._reader)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error.strerror or "")
            return
        self.deliver()
        if not is_there:
            self._break("")

    def drain_input(self) -> None:
        """Hand on all that has arrived: the other end has closed, and sends no more."""
        while self._socket is not None:
            self._on_readable()

    def deliver(self) -> None:
        """Hand on what is there already, whole."""
        try:
            while self._socket is not None and (found := self._reader.next()) is not None:
                self._on_message(*found)
        except ChannelBroken as error:
            self._break(str(error))

    def _break(self, cause: str) -> None:
        if self._socket is not None:
            self.close()
            self._on_closed(cause)


def receive_first(connected: _Socket) -> tuple[Received, FrameReader]:
    """Wait for the first message, without a loop; the reader has what came behind it.

    Raises:
        ChannelBroken: The other end is gone, or it sent none.
    """
    reader = FrameReader()
    connected.setblocking(True)
    while (found := reader.next()) is None:
        if not _receive(connected, reader):
            raise ChannelBroken("the supervisor is gone")
    return found, reader


def send_last(connected: _Socket, message: Message) -> None:
    """Say something without a loop, before this process ends."""
    body = _encoder.encode(message)
    connected.setblocking(True)
    connected.sendall(_HEADER.pack(len(body), 0) + body)


def _receive(connected: _Socket, reader: FrameReader) -> bool:
    """Read once; False at the end."""
    # Not ``socket.recv_fds``: it drops its flags, and what came would be open in what is started.
    received, ancillary, _, _ = connected.recvmsg(
        _RECEIVE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    reader.feed(received, descriptors)
    return bool(received)


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        os.close(one)
