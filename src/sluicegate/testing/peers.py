"""Clients and servers for simulations: coroutines on virtual time, without asyncio.

A test writes its peers as ``async`` functions over ``PeerStream`` and ``PeerListener`` and starts
them with ``SimulatedPeers.spawn``; they run inside the turns of the simulated port. The invariant:
a peer runs only while the service under test does not, so what it sees is a moment between two of
the service's steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from sluicegate.address import SocketAddress

from .datagrams import SimulatedDatagramSocket
from .network import SimulatedNetwork, SimulatedSocket

__all__ = ["PeerDatagrams", "PeerListener", "PeerStream", "PeerTask", "SimulatedPeers"]

ResultT = TypeVar("ResultT")


class _Signal:
    """What peers wait for; resumes each once."""

    __slots__ = ("_resumes", "_value")

    def __init__(self) -> None:
        self._resumes: list[Callable[[], None]] = []
        self._value: int | None = None

    def set(self, value: int = 0) -> None:
        """Let the waiters go on; later calls change nothing."""
        if self._value is None:
            self._value = value
            for resume in self._resumes:
                resume()

    def __await__(self) -> Generator[_Signal, None, int]:
        if self._value is None:
            yield self
        assert self._value is not None, "a peer was resumed without its signal"
        return self._value

    def add(self, resume: Callable[[], None]) -> None:
        """Let ``set`` resume one more waiter."""
        self._resumes.append(resume)


class PeerTask(Generic[ResultT]):
    """One running peer; ``result`` after its end."""

    def __init__(self, name: str, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self.name = name
        self.is_done = False
        self.error: BaseException | None = None
        self._coroutine = coroutine
        self._ended = _Signal()
        self._value: ResultT | None = None

    def result(self) -> ResultT:
        """Return what the peer returned, or raise what it raised."""
        assert self.is_done, f"peer {self.name} has not ended"
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # None only where ResultT admits it

    def step(self) -> None:
        """Run the peer until it waits again."""
        if self.is_done:
            return  # stopped while its signal was on the way
        try:
            signal: _Signal = self._coroutine.send(None)
        except StopIteration as end:
            self.is_done = True
            self._value = end.value
        except Exception as error:  # noqa: BLE001 - result() raises it
            # Kept for ``result``: a peer that fails must not stop the world it lives in.
            self.is_done = True
            self.error = error
        else:
            signal.add(self.step)
        if self.is_done:
            self._ended.set()

    async def join(self) -> ResultT:
        """Wait, as another peer, until this one has ended; return or raise as ``result``."""
        await self._ended
        return self.result()

    def stop(self) -> None:
        """End the peer where it waits."""
        if not self.is_done:
            self.is_done = True
            self._coroutine.close()


class PeerStream:
    """A peer's end of one connection."""

    def __init__(self, network: SimulatedNetwork, sock: SimulatedSocket) -> None:
        self.socket = sock
        self._network = network
        self._pending = b""
        self._waiting: list[_Signal] = []
        sock.on_change = self._on_change

    @property
    def local(self) -> SocketAddress:
        """This end's address."""
        assert self.socket.local is not None
        return self.socket.local

    @property
    def remote(self) -> SocketAddress:
        """The other end's address, also after a reset."""
        assert self.socket.remote is not None
        return self.socket.remote

    async def receive(self, size: int = 65536) -> bytes:
        """Return bytes as they come; empty at the end of the stream.

        Raises:
            OSError: The connection was reset.
        """
        if self._pending:
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        while True:
            try:
                return self.socket.receive(size)
            except BlockingIOError:
                await self._changed()

    async def receive_exactly(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end of the stream."""
        parts: list[bytes] = []
        while size and (data := await self.receive(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    async def receive_until(self, mark: bytes) -> bytes:
        """Return everything up to and with ``mark``, or what came before the end of the stream."""
        found = b""
        while mark not in found:
            data = await self.receive()
            if not data:
                return found
            found += data
        end = found.index(mark) + len(mark)
        self._pending = found[end:] + self._pending
        return found[:end]

    async def receive_all(self) -> bytes:
        """Return everything up to the end of the stream."""
        parts: list[bytes] = []
        while data := await self.receive():
            parts.append(data)
        return b"".join(parts)

    async def send_all(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            OSError: The connection was reset.
        """
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                await self._changed()

    def end_stream(self) -> None:
        """Half close: send no more."""
        if not self.socket.is_reset:
            self.socket.shutdown(1)

    def close(self) -> None:
        """Close."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset."""
        self._network.reset(self.socket)
        self.socket.close()

    async def _changed(self) -> None:
        signal = _Signal()
        self._waiting.append(signal)
        await signal

    def _on_change(self) -> None:
        # A reader and a writer may wait at once, as two tasks of one peer.
        waiting, self._waiting = self._waiting, []
        for signal in waiting:
            signal.set()


class PeerListener:
    """A peer's listening socket."""

    def __init__(self, network: SimulatedNetwork, sock: SimulatedSocket) -> None:
        self.socket = sock
        self._network = network

    @property
    def address(self) -> SocketAddress:
        """Where it listens."""
        assert self.socket.local is not None
        return self.socket.local

    async def accept(self) -> PeerStream:
        """Return the next connection."""
        while not self.socket.is_readable:
            signal = _Signal()
            self.socket.on_change = signal.set
            await signal
        return PeerStream(self._network, self._network.accept(self.socket))

    def close(self) -> None:
        """Refuse from now on, and reset who waits."""
        self.socket.close()


class PeerDatagrams:
    """A peer's datagram socket."""

    def __init__(self, sock: SimulatedDatagramSocket) -> None:
        self.socket = sock
        self._signal: _Signal | None = None
        sock.on_change = self._on_change

    @property
    def address(self) -> SocketAddress:
        """Where it is."""
        assert self.socket.local is not None
        return self.socket.local

    def send(self, data: bytes, to: SocketAddress) -> None:
        """Send one datagram.

        Raises:
            OSError: It cannot be sent.
        """
        self.socket.transmit(data, to)

    async def receive(self) -> tuple[bytes, SocketAddress]:
        """Return the next datagram and its sender.

        Raises:
            OSError: An ICMP answer came, where the socket is connected.
        """
        while not self.socket.is_readable:
            self._signal = _Signal()
            await self._signal
        data, sender, _ = self.socket.take()
        return data, sender

    def close(self) -> None:
        """Close: who sends here is told so by ICMP, if its socket is connected."""
        self.socket.close()

    def _on_change(self) -> None:
        if self._signal is not None:
            self._signal.set()


class SimulatedPeers:
    """All peers of one simulation."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self.tasks: list[PeerTask[Any]] = []
        self._network = network

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, ResultT]) -> PeerTask[ResultT]:
        """Start a peer; its first step runs at the present virtual time."""
        task = PeerTask(name, coroutine)
        self.tasks.append(task)
        self._network.clock.call_after(0.0, task.step)
        return task

    def listen(self, address: SocketAddress, backlog: int = 128) -> PeerListener:
        """Listen as a server."""
        sock = self._network.create_socket(address.family)
        sock.bind(address.to_kernel())
        sock.listen(backlog)
        return PeerListener(self._network, sock)

    async def connect(
        self, address: SocketAddress, source: SocketAddress | None = None
    ) -> PeerStream:
        """Connect as a client, from ``source`` if given.

        Raises:
            OSError: Refused, or never answered.
        """
        sock = self._network.create_socket(address.family)
        if source is not None:
            sock.bind(source.to_kernel())
        signal = _Signal()
        self._network.connect(sock, address, signal.set)
        result = await signal
        if result < 0:
            sock.close()
            raise OSError(-result, os.strerror(-result))
        return PeerStream(self._network, sock)

    def bind_datagrams(self, address: SocketAddress) -> PeerDatagrams:
        """Make a datagram socket with a name; port 0 lets the network choose."""
        sock = SimulatedDatagramSocket(self._network, address.family)
        self._network.with_descriptor(sock)
        sock.bind(address.to_kernel())
        return PeerDatagrams(sock)

    async def sleep(self, seconds: float) -> None:
        """Wait on the virtual clock."""
        signal = _Signal()
        self._network.clock.call_after(seconds, signal.set)
        await signal

    def stop(self) -> None:
        """End every peer where it waits."""
        for task in self.tasks:
            task.stop()
