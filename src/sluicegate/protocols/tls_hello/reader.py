r"""Reads one ClientHello from the first bytes of a client, in whatever pieces they come.

The gate feeds it what a client sent; ``message`` reads what the records carried. The invariant:
the outcome depends on the bytes alone, not on how they were cut; and not a byte behind the hello's
last record is looked at.

>>> reader = HelloReader()
>>> reader.read(b"GET / HTTP/1.1\r\n")
Traceback (most recent call last):
sluicegate.protocols.tls_hello.fault.TlsRefused: the first bytes are no record of TLS
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import Side
from sluicegate.protocol_limits import TLS_HELLO_BYTES_MAX

from .fault import TlsFault, TlsRefused
from .hello import ClientHello
from .known_hellos import KnownHellos
from .message import MESSAGE_HEAD_SIZE, read_message
from .records import HANDSHAKE, RecordHead

__all__ = ["HelloReader"]


class HelloReader:
    """One client's first bytes in, its hello out; lives until then.

    Args:
        bytes_max: Bound of the hello with the heads of its records.
        known: Those that were read before.
    """

    __slots__ = (
        "_bytes_max",
        "_known",
        "_message",
        "_needed",
        "_record",
        "_refusal",
        "hello",
        "length",
    )

    def __init__(
        self, *, bytes_max: int = TLS_HELLO_BYTES_MAX, known: KnownHellos | None = None
    ) -> None:
        self._bytes_max = bytes_max
        self._known = known
        self._record = RecordHead(Side.CLIENT)
        self._message = bytearray()
        self._needed = MESSAGE_HEAD_SIZE
        #: Bytes of the message up to which it is to be collected.
        self._refusal: TlsRefused | None = None
        self.hello: ClientHello | None = None
        #: Once it is whole.
        self.length = 0
        #: Bytes of the stream that were read; of a whole hello, what it takes.

    def read(self, data: bytes | memoryview) -> ClientHello | None:
        """Take what the client sent next; return the hello when it is whole, else None.

        Raises:
            TlsRefused: It is no hello, or it can be read in two ways. Every later call says so,
                too.
        """
        if self._refusal is not None:
            raise self._refusal
        try:
            self._take(data)
        except TlsRefused as refusal:
            self._refusal = refusal
            raise
        return self.hello

    @property
    def has_begun(self) -> bool:
        """Whether anything was read."""
        return self.length > 0

    def _take(self, data: bytes | memoryview) -> None:
        record, at = self._record, 0
        while at < len(data) and self.hello is None:
            if record.left:
                if not self._message:
                    self._foresee(data, at)
                count = min(record.left, len(data) - at, self._needed - len(self._message))
                self._message += data[at : at + count]
                record.left -= count
                self.length += count
                at += count
                self._check_message()
            else:
                before, at = at, record.take(data, at)
                self.length += at - before
                if record.left:
                    self._check_record()

    def _foresee(self, data: bytes | memoryview, at: int) -> None:
        """Note how long a hello is that is there as a whole, and fills its record, as most do."""
        left = self._record.left
        if len(data) - at < left or left <= MESSAGE_HEAD_SIZE or data[at] != _CLIENT_HELLO:
            return
        length = data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
        if MESSAGE_HEAD_SIZE + length == left <= self._bytes_max:
            self._needed = left

    def _check_record(self) -> None:
        record = self._record
        if record.type != HANDSHAKE:
            raise record.refused(TlsFault.RECORD_TYPE)
        if record.wire > self._bytes_max:
            raise record.refused(TlsFault.HELLO_TOO_LONG)

    def _check_message(self) -> None:
        message, record = self._message, self._record
        if message[0] != _CLIENT_HELLO:
            raise record.refused(TlsFault.NOT_A_HELLO)
        if len(message) < self._needed:
            return
        if self._needed == MESSAGE_HEAD_SIZE:
            length = int.from_bytes(message[1:], "big")
            if MESSAGE_HEAD_SIZE + length > self._bytes_max:
                raise record.refused(TlsFault.HELLO_TOO_LONG)
            self._needed += length
            if length:
                return
        if record.left:
            raise record.refused(TlsFault.HELLO_TRAILING)
        whole, known = bytes(message), self._known
        self.hello = read_message(whole) if known is None else known.read(whole)


_CLIENT_HELLO: Final = 1
