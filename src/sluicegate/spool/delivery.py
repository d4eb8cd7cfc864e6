"""Delivery: sends a held object, or what replaces it, to a data socket.

The gate's transfers start one after the verdict. One piece is on its way to the socket while the
next is read from the file, so that disk and network overlap. The invariant: the socket has at most
one send in flight, in order, and every buffer is given back whatever happens.

An object that another process had a descriptor of is hashed again on its way. Its last piece waits
for the digest, so an object that is not what was judged never arrives whole.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import BadContext, LimitExceeded, SluicegateError, TransportError
from sluicegate.limits import SPOOL_HASH_BACKLOG_BYTES_MAX

from .body import SpooledBody
from .buffers import SPOOL_BUFFER_SIZE, ShelfBuffer
from .digest import StreamDigest

if TYPE_CHECKING:
    from sluicegate.port import SocketCompletion

    from .store import SpoolStore

__all__ = ["SENDING", "Delivery", "Sink"]

SENDING: Final = "send the object"
"""What a delivery was doing when it failed with the socket, not with the spool."""

_VERIFYING: Final = "verify that the object is still what was judged"


class Sink(Protocol):
    """Who gets a held object: a ``filterapi.DataSocket``, or what stands before one."""

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Send all of ``data``."""
        ...


class Delivery:
    """One sending of one object; ``done`` is called once, later, unless it was stopped."""

    __slots__ = (
        "_body",
        "_digest",
        "_done",
        "_end",
        "_memory",
        "_offset",
        "_reading",
        "_ready",
        "_sending",
        "_sha256",
        "_size",
        "_socket",
        "_stopped",
        "_store",
        "bytes_delivered",
    )

    def __init__(
        self,
        store: SpoolStore,
        source: SpooledBody | bytes,
        socket: Sink,
        done: Callable[[SluicegateError | None], None],
        *,
        is_verified: bool = False,
        part: range | None = None,
    ) -> None:
        """Make one.

        Args:
            store: Where buffers come from.
            source: What is to be delivered.
            socket: Who gets it.
            done: Called once, later, unless the delivery was stopped.
            is_verified: Whether a file must still have the digest that it was judged by.
            part: Which bytes are sent, None for all of them; what is verified is sent whole.
        """
        self.bytes_delivered = 0
        #: What the next element of the chain, or the kernel, has accepted.
        self._store = store
        self._socket = socket
        self._done = done
        self._body: SpooledBody | None = None
        self._memory: Window | None = None
        if isinstance(source, bytes):
            self._memory = Window(ConstBuffer(source), 0, len(source))
        elif source.is_in_memory:
            self._memory = source.memory_window()
        else:
            self._body = source
        size = len(source) if isinstance(source, bytes) else source.size
        assert part is None or (not is_verified and 0 <= part.start <= part.stop <= size)
        self._end = size if part is None else part.stop
        self._size = self._end - (0 if part is None else part.start)
        #: How many bytes are to be sent.
        self._digest: StreamDigest | None = None
        self._sha256 = ""
        if is_verified and self._body is not None:
            self._digest = StreamDigest(store.port, self._on_hashed)
            self._sha256 = self._body.sha256
        self._offset = 0 if part is None else part.start
        #: Where the next piece begins.
        self._reading: ShelfBuffer | None = None
        self._ready: deque[ShelfBuffer] = deque()
        self._sending: ShelfBuffer | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin; ``done(None)`` or ``done(error)`` follows, never inside this call."""
        if not self._size:
            self._finish_later(None)
        elif self._body is None:
            self._send_memory()
        else:
            self._read_ahead(self._body)

    def stop(self) -> None:
        """Give up: ``done`` is not called any more; what is in flight completes by itself."""
        self._stopped = True
        # They know this delivery, as a rule.
        self._done, self._body = _tell_nobody, None
        while self._ready:
            self._ready.popleft().give_back()
        if self._digest is not None:
            self._digest.drop()

    # -- from memory ---------------------------------------------------------------------------

    def _send_memory(self) -> None:
        memory = self._memory
        assert memory is not None
        length = min(SPOOL_BUFFER_SIZE, self._end - self._offset)
        window = memory.window(self._offset, length)
        self._offset += length
        self._start_send(window)

    # -- from the file -------------------------------------------------------------------------

    def _read_ahead(self, body: SpooledBody) -> None:
        if self._reading is not None or self._ready or self._offset >= self._end:
            return
        digest, shelf = self._digest, self._store.shelf
        if digest is not None and digest.backlog_bytes > SPOOL_HASH_BACKLOG_BYTES_MAX:
            return
        if shelf.is_strained and self._sending is not None:
            return
        buffer = self._reading = shelf.take_for_reading()
        try:
            length = min(buffer.allocated, self._end - self._offset)
            body.start_read(buffer, self._offset, length, self._on_read)
        except BadContext:
            self._reading = None
            buffer.give_back()
            self._finish_later(TransportError(errno.ECANCELED, doing="read the spool file"))

    def _on_read(self, result: int) -> None:
        buffer, self._reading = self._reading, None
        assert buffer is not None
        if self._stopped:
            buffer.give_back()
            return
        if result <= 0:
            buffer.give_back()
            # 0: the file is shorter than what was written to it.
            self._finish(TransportError(-result or errno.EIO, doing="read the spool file"))
            return
        self._offset += result
        self._ready.append(buffer)
        if self._digest is not None and not self._hash(self._digest, buffer):
            return
        if self._sending is None:
            self._send_ready()

    def _hash(self, digest: StreamDigest, buffer: ShelfBuffer) -> bool:
        """Hash a piece; False when the port is closing."""
        digest.add(buffer, 0, buffer.used)
        return self._push(digest)

    def _push(self, digest: StreamDigest) -> bool:
        try:
            digest.push(at_once=self._offset >= self._end)
        except LimitExceeded as error:
            self._finish(error)
            return False
        return True

    def _on_hashed(self, error: BaseException | None) -> None:
        digest, body = self._digest, self._body
        if self._stopped or digest is None or body is None:
            if digest is not None:
                digest.let_go()
            return
        if error is not None:
            self._finish(TransportError(errno.EIO, doing=_VERIFYING))
            raise error
        if not self._push(digest) or self._sending is not None:
            return
        if self._ready:
            self._send_ready()
        else:
            self._read_ahead(body)

    def _is_proven(self) -> bool:
        """Tell whether the next piece may go: the last one, only when all are what was judged."""
        digest = self._digest
        if digest is None or self._offset < self._end or len(self._ready) > 1:
            return True
        return digest.is_idle and digest.hexdigest() == self._sha256

    def _send_ready(self) -> None:
        assert self._body is not None
        if not self._is_proven():
            if self._digest is not None and self._digest.is_idle:
                self._finish(TransportError(errno.EBADMSG, doing=_VERIFYING))
            return
        buffer = self._sending = self._ready.popleft()
        self._start_send(buffer.window())
        if not self._stopped:
            self._read_ahead(self._body)

    # -- sending -------------------------------------------------------------------------------

    def _start_send(self, window: Window) -> None:
        try:
            self._socket.start_send(window, self)
        except BadContext:
            self._give_sent()
            self._finish_later(TransportError(errno.ECANCELED, doing=SENDING))

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,  # noqa: ARG002 - the contract of the port
        address: SocketAddress | None,  # noqa: ARG002 - the contract of the port
    ) -> None:
        """Take the result of a send (the socket only)."""
        self._give_sent()
        if self._stopped:
            return
        if not success:
            self._finish(TransportError(error, doing=SENDING))
            return
        self.bytes_delivered += buffer.length
        if self.bytes_delivered == self._size:
            self._finish(None)
        elif self._body is None:
            self._send_memory()
        elif self._ready:
            self._send_ready()
        else:
            self._read_ahead(self._body)

    def _give_sent(self) -> None:
        buffer, self._sending = self._sending, None
        if buffer is not None:
            buffer.give_back()

    def _finish_later(self, error: SluicegateError | None) -> None:
        self._store.port.post(lambda: self._finish(error))

    def _finish(self, error: SluicegateError | None) -> None:
        if self._stopped:
            return
        done = self._done
        self.stop()
        done(error)


def _tell_nobody(_error: SluicegateError | None) -> None:
    """Stand for whoever had something delivered."""
