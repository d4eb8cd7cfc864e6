"""TlsLayer: all the TLS connections of one port, and the memory that they decrypt into.

The gate has one, and puts it on sockets. The invariant: it holds ``slots_max`` slots at most, and
when they are all out, readers wait in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from sluicegate.access_limits import TLS_RECORD_BYTES_MAX
from sluicegate.port.backend import RawSocket
from sluicegate.port.pool import Slot, SlotPool

from .engine import EngineSource
from .server_stream import ServerStream
from .stream import TlsStream

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

    from .server_context import ServerContext
    from .server_identity import ServerName

__all__ = ["TlsLayer", "TlsPool"]


class SlotWaiter(Protocol):
    """Who waits for a slot."""

    def wake(self) -> None:
        """Go on in the next turn: a slot has come back."""
        ...


class TlsPool(SlotPool):
    """Slots for plaintext, one record each; made when they are first needed."""

    __slots__ = ("_free", "_parked", "_slots_max")

    def __init__(self, slots_max: int) -> None:
        super().__init__(0, 0)
        self._slots_max = slots_max
        self._free: list[Slot] = []
        self._parked: deque[SlotWaiter] = deque()
        #: Readers that wait for a slot.
        self.give_back = self._give_back

    @property
    def out_count(self) -> int:
        """Slots that somebody has."""
        return len(self.slots) - len(self._free)

    def take(self) -> Slot | None:
        """Return a slot, or None when they are all out."""
        if self._free:
            return self._free.pop()
        if len(self.slots) >= self._slots_max:
            return None
        slot = Slot(self, len(self.slots), TLS_RECORD_BYTES_MAX, is_bulk=False)
        self.slots.append(slot)
        return slot

    def park(self, stream: SlotWaiter) -> None:
        """Let a reader go on when a slot has come back."""
        self._parked.append(stream)

    def _give_back(self, slot: Slot) -> None:
        self._free.append(slot)
        if self._parked:
            self._parked.popleft().wake()


class TlsLayer:
    """The TLS of one port; used on its thread only."""

    def __init__(self, port: CompletionPort, slots_max: int) -> None:
        self.port = port
        self.pool = TlsPool(slots_max)
        self.pool.on_kept = self._tell_kept
        self._streams: dict[TlsStream, None] = {}
        self._emptied: asyncio.Event | None = None
        #: Somebody waits for the last connection.

    def accept(self, inner: RawSocket, source: EngineSource) -> TlsStream:
        """Put TLS on a client's socket, which belongs to the layer from now on."""
        stream = TlsStream(self, inner, source.engine())
        self._streams[stream] = None
        return stream

    def connect(
        self,
        inner: RawSocket,
        context: ServerContext,
        server: ServerName,
        *,
        protocols: tuple[str, ...] = (),
        accepts_unverified: bool = False,
    ) -> ServerStream:
        """Begin TLS with a server, on a connected socket that belongs to the layer from now on.

        Whoever calls sets ``on_outcome``, and uses the stream only once it was told who the server
        is.

        Args:
            inner: Connected to the server; nothing was said yet.
            context: How the server is verified.
            server: Who it has to be.
            protocols: Offered by ALPN, the preferred one first; none: ALPN is not spoken.
            accepts_unverified: Whether to go on with a server that could not be verified: its
                identity says what is wrong, and whoever calls must not trust it.
        """
        engine = context.engine(server, protocols, accepts_unverified=accepts_unverified)
        stream = ServerStream(self, inner, engine)
        self._streams[stream] = None
        stream.begin()
        return stream

    def forget(self, stream: TlsStream) -> None:
        """Take a connection off the table: its socket is closed."""
        self._streams.pop(stream, None)
        if self._emptied is not None and not self._streams:
            self._emptied.set()

    @property
    def count(self) -> int:
        """Connections that are not closed."""
        return len(self._streams)

    async def close(self) -> None:
        """End what only waits for its peer, and return when it is closed.

        Its users have closed the sockets before.
        """
        for stream in list(self._streams):
            stream.end_now()
        if self._streams:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def _tell_kept(self, slot: Slot) -> None:
        """Tell whoever is told of the backend's slots."""
        self.port.pool.on_kept(slot)
