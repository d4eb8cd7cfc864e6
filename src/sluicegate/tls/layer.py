"""TlsLayer: all the TLS connections of one port, and the memory that they decrypt into.

The gate has one, and puts it on sockets. The invariant: a socket that it was put on is the layer's,
until it is closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sluicegate.access_limits import TLS_RECORD_BYTES_MAX, TLS_WRITE_BYTES_MAX
from sluicegate.port.backend import Operation, RawSocket
from sluicegate.port.shared_slots import SharedSlots

from .engine import EngineSource
from .listener_stream import ListenerStream
from .server_stream import ServerStream
from .stream import TlsStream

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.port.pool import Slot

    from .server_context import ServerContext
    from .server_identity import ServerName

__all__ = ["TlsLayer"]


class TlsLayer:
    """The TLS of one port; used on its thread only."""

    def __init__(self, port: CompletionPort, slots_max: int, bulk_max: int) -> None:
        """Begin without a connection.

        Args:
            port: Whose operations move the bytes.
            slots_max: How many slots of one record each there may be for plaintext.
            bulk_max: How many large ones, of many records.
        """
        self.port = port
        self.pool = SharedSlots(slots_max, TLS_RECORD_BYTES_MAX, bulk_max)
        #: For plaintext.
        self.pool.on_kept = self._tell_kept
        self.scratch = memoryview(bytearray(TLS_WRITE_BYTES_MAX + _OF_RECORDS))
        #: Ciphertext on its way from OpenSSL to the kernel; what is in it is of use until the next.
        self._streams: dict[TlsStream, None] = {}
        self._emptied: asyncio.Event | None = None
        #: Somebody waits for the last connection.

    def accept(
        self, inner: RawSocket, source: EngineSource, receive_op: Operation | None = None
    ) -> TlsStream:
        """Put TLS on a client's socket, which belongs to the layer from now on.

        Args:
            inner: The socket.
            source: What the client is shown.
            receive_op: Of whoever has stopped to read there, in flight or not; None: nobody has
                begun.
        """
        stream = TlsStream(self, inner, source.engine(), receive_op)
        self._streams[stream] = None
        return stream

    def listen_to(self, inner: RawSocket, source: EngineSource) -> ListenerStream:
        """Begin TLS with a client, on its socket, which belongs to the layer from now on.

        Whoever calls sets ``on_outcome``, and uses the stream only once it was told.
        """
        stream = ListenerStream(self, inner, source.engine())
        self._streams[stream] = None
        stream.begin()
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

    @property
    def streams(self) -> list[TlsStream]:
        """The connections that are not closed, the oldest first."""
        return list(self._streams)

    async def close(self) -> None:
        """End what only waits for its peer, and return when it is closed.

        Its users have closed the sockets before.
        """
        for stream in self.streams:
            stream.end_now()
        if self._streams:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def _tell_kept(self, slot: Slot) -> None:
        """Tell whoever is told of the backend's slots."""
        self.port.pool.on_kept(slot)


_OF_RECORDS: Final = 4 << 10
"""More than what records add to ``TLS_WRITE_BYTES_MAX``: 22 bytes to each 16 KiB, and alerts."""
