"""The sending half of a TLS connection: plaintext in, ciphertext to the kernel, and the goodbye.

``stream`` makes a whole connection of it. The invariant: no more than ``TLS_WRITE_BYTES_MAX`` of
ciphertext waits for a peer that does not read; what it is told last, ``close_notify``, comes behind
everything, once.
"""

from __future__ import annotations

import abc
import errno
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.access_limits import TLS_RECORD_BYTES_MAX, TLS_WRITE_BYTES_MAX
from sluicegate.buffer import ConstBuffer
from sluicegate.errors import errno_name
from sluicegate.port.backend import SEND_FLAGS, RawSocket
from sluicegate.port.layer import SocketDriver, driver_of
from sluicegate.port.layered_driver import LayeredDriver

from .engine import TlsBroken

if TYPE_CHECKING:
    from .engine import TlsEngine
    from .layer import TlsLayer

__all__ = ["TlsSending"]

_SHUT_WR: Final = 1
_GONE: Final = frozenset({errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE})


class TlsSending(LayeredDriver):
    """What a connection does to send; receiving and the handshake are the whole one's."""

    __slots__ = (
        "_backend",
        "_deferred",
        "_engine",
        "_has_said_goodbye",
        "_is_established",
        "_is_inner_layered",
        "_is_shut_below",
        "_scratch",
        "_send_op",
        "_unsent",
        "failure",
        "inner",
    )

    def __init__(self, layer: TlsLayer, inner: RawSocket, engine: TlsEngine) -> None:
        super().__init__(layer.port, layer.pool)
        self.inner = inner
        self.failure = ""
        #: Why it has failed, in words.
        self._backend: SocketDriver = driver_of(inner, layer.port.backend)
        #: Who runs the operations below: the backend, or another layer.
        self._is_inner_layered = self._backend is not layer.port.backend
        #: Whether what is sent there is encrypted again, by way of the same scratch memory.
        self._scratch = layer.scratch
        self._engine = engine
        self._is_established = False
        self._deferred = 0
        #: Bytes of OpenSSL's that may wait for what is sent next: tickets.
        self._send_op = layer.port.operations.take(self._on_sent)
        self._unsent: ConstBuffer | None = None
        #: Ciphertext that the kernel did not take at once.
        self._has_said_goodbye = False
        self._is_shut_below = False

    # -- the other half ------------------------------------------------------------------------

    @abc.abstractmethod
    def _on_sent(self, result: int, flags: int) -> None:
        """Take that the kernel has taken what it did not take at once."""

    # -- plaintext -----------------------------------------------------------------------------

    @override
    def write(self, data: memoryview | bytes, *, is_more_coming: bool = False) -> int:
        """Encrypt and send what there is room for.

        Args:
            data: The plaintext.
            is_more_coming: Whether it may wait for what is sent next, or for the end of our stream.

        Raises:
            BlockingIOError: The last of what was sent is still on its way.
            OSError: The connection failed.
        """
        self._check_writable()
        if 0 < len(data) <= TLS_RECORD_BYTES_MAX:
            self._write_record(data, is_more_coming=is_more_coming)
            return len(data)
        view = memoryview(data)
        sent = 0
        while sent < len(view) and self._unsent is None:
            piece = view[sent : sent + TLS_WRITE_BYTES_MAX]
            try:
                filled = self._encrypt(piece, is_more_coming=is_more_coming)
            except TlsBroken as error:
                self._note_error(errno.EPROTO, error.words)
            else:
                sent += len(piece)
                self._send_out(filled)
                if filled == len(self._scratch):
                    self._flush()
            if self.error:
                raise OSError(self.error, self.failure)
        return sent

    def _write_record(self, data: memoryview | bytes, *, is_more_coming: bool) -> None:
        """Encrypt and send what fits one record: most of what is sent."""
        try:
            self._engine.write(data)
        except TlsBroken as error:
            self._note_error(errno.EPROTO, error.words)
        else:
            if not is_more_coming:
                self._flush()
        if self.error:
            raise OSError(self.error, self.failure)

    def _encrypt(self, piece: memoryview, *, is_more_coming: bool) -> int:
        """Encrypt into the scratch memory, and what waited before it; return how much that is.

        A record at a time: OpenSSL keeps memory for the most that it ever had to give out.
        """
        engine, scratch, filled = self._engine, self._scratch, 0
        for start in range(0, len(piece), TLS_RECORD_BYTES_MAX):
            engine.write(piece[start : start + TLS_RECORD_BYTES_MAX])
            if not is_more_coming:
                filled += engine.take_into(scratch[filled:])
        return filled

    def _check_writable(self) -> None:
        if self.error:
            raise OSError(self.error, self.failure)
        if self.is_released or self._is_shut:
            raise BrokenPipeError(errno.EPIPE, "the stream was ended")
        if self._unsent is not None or not self._is_established:
            raise BlockingIOError(errno.EAGAIN, "no room")

    @property
    @override
    def _has_room(self) -> bool:
        return self._unsent is None and self._is_established

    @override
    def _wait_for_room(self) -> None:
        """Nothing: what is sent at last, and the end of the handshake, go on by themselves."""

    def _flush(self) -> None:
        """Hand ciphertext to the kernel; what it does not take is sent by an operation."""
        engine, scratch = self._engine, self._scratch
        while self._unsent is None:
            count = engine.take_into(scratch)
            if not (self._send_out(count) and count == len(scratch)):
                return

    def _send_out(self, count: int) -> bool:
        """Send what is in the scratch memory; False: there is nothing, or the peer has gone."""
        self._deferred = 0
        if not count:
            return False
        data = self._scratch[:count]
        try:
            sent = self.inner.send(bytes(data) if self._is_inner_layered else data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            # A peer that has gone before our goodbye is no error: what it sent last says how.
            if not (self._has_said_goodbye and error.errno in _GONE):
                self._note_error(error.errno or errno.EIO, errno_name(error.errno or errno.EIO))
            return False
        if sent < count:
            self._unsent = rest = ConstBuffer(bytes(data[sent:]))
            rest.lease()
            self._backend.send(self._send_op, self.inner, rest, 0, rest.used)
        return True

    # -- the end of our stream -----------------------------------------------------------------

    def shut(self, how: int) -> None:
        """End our stream, behind what was sent."""
        assert how == _SHUT_WR, "a stream that is received is ended by the peer"
        if self._is_shut or self.is_released:
            return
        self._is_shut = True
        if self._unsent is None and self._writer is None:
            self._end_stream()

    @override
    def _end_stream(self) -> None:
        """Send ``close_notify``, once, and end TCP's stream behind it."""
        if not (self._has_said_goodbye or self.error) and self._is_established:
            self._has_said_goodbye = True
            try:
                self._engine.say_goodbye()
            except TlsBroken as error:
                self._note_error(errno.EPROTO, error.words)
            self._flush()
        if self._unsent is None and not self._is_shut_below:
            self._is_shut_below = True
            try:
                self.inner.shutdown(_SHUT_WR)
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def _note_error(self, error: int, failure: str) -> None:
        if not self.error:
            self.error, self.failure = error, failure
            if error == errno.EPROTO:
                self._flush()  # the alert
            if self._writer is not None:
                self._post()
