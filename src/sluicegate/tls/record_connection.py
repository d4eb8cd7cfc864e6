"""RecordConnection: pyOpenSSL's connection, with what each record needs done without copies.

pyOpenSSL makes a new buffer for every read from OpenSSL, copies out of it, and says by an exception
that more has to come: that was half of what an inspected download took. The same functions of the
same library are called here, straight from and into the memory of whoever asks. The invariant:
memory is used by OpenSSL inside a call only; and every error is told as pyOpenSSL tells it, with
what its callbacks have found.

It is the one file that knows what pyOpenSSL calls its handles (decision 94).
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

__all__ = ["RecordConnection"]


class RecordConnection(SSL.Connection):
    """One end of a connection, on two buffers in memory."""

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        #: What stopped the last ``decrypt_into``; nothing: the memory was full.
        self.stopped_by = 0

    @property
    def outgoing(self) -> int:
        """Bytes for the peer that were not taken."""
        return int(_pending(self._from_ssl, _NULL))

    def take_into(self, memory: memoryview) -> int:
        """Fill memory with bytes for the peer; return how many, 0 when there are none."""
        with _buffer(memory) as target:
            count = _take(self._from_ssl, target, len(memory))
        return max(int(count), 0)

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer; there are some.

        Raises:
            MemoryError: There is no room for them.
        """
        with _buffer(data) as source:
            if _feed(self._into_ssl, source, len(data)) != len(data):
                raise MemoryError

    def begin_or_go_on(self) -> bool:
        """Go on with the handshake; False: more has to come first.

        Raises:
            SSL.Error: It failed.
        """
        result = _shake_hands(self._ssl)
        if result == 1:
            return True
        if _why(self._ssl, result) == _WANTS_INPUT:
            return False
        self._raise_ssl_error(self._ssl, result)
        return False

    @property
    def is_of_tls_1_3(self) -> bool:
        """Whether both ends speak TLS 1.3."""
        return bool(_version(self._ssl) == _TLS_1_3)

    def decrypt_into(self, memory: memoryview) -> int:
        """Fill memory with plaintext, record after record; return how much.

        It ends where the memory is full, where more has to come, or by something else, which
        ``raise_why`` raises.
        """
        tls, filled, size = self._ssl, 0, len(memory)
        with _buffer(memory) as target:
            while filled < size:
                count = _decrypt(tls, target + filled, size - filled)
                if count <= 0:
                    self.stopped_by = count
                    return filled
                filled += count
        self.stopped_by = _FULL
        return filled

    @property
    def is_starved(self) -> bool:
        """Whether it was for want of bytes from the peer that the last ``decrypt_into`` ended."""
        why = self.stopped_by
        return why != _FULL and _why(self._ssl, why) == _WANTS_INPUT

    def raise_why(self) -> None:
        """Raise what ended the last ``decrypt_into``.

        Raises:
            SSL.Error: Unless the memory was full.
        """
        if self.stopped_by != _FULL:
            self._raise_ssl_error(self._ssl, self.stopped_by)

    def encrypt(self, data: bytes | memoryview) -> int:
        """Encrypt; return how much.

        Raises:
            SSL.Error: It failed.
        """
        with _buffer(data) as source:
            count = _encrypt(self._ssl, source, len(data))
        if count <= 0:
            self._raise_ssl_error(self._ssl, count)
        return int(count)


Binding()
_lib: Final[Any] = Binding.lib
_buffer: Final[Any] = Binding.ffi.from_buffer
_NULL: Final[Any] = Binding.ffi.NULL
_pending: Final[Any] = _lib.BIO_get_mem_data
_take: Final[Any] = _lib.BIO_read
_feed: Final[Any] = _lib.BIO_write
_shake_hands: Final[Any] = _lib.SSL_do_handshake
_version: Final[Any] = _lib.SSL_version
_TLS_1_3: Final = 0x0304
_decrypt: Final[Any] = _lib.SSL_read
_encrypt: Final[Any] = _lib.SSL_write
_why: Final[Any] = _lib.SSL_get_error
_WANTS_INPUT: Final[int] = _lib.SSL_ERROR_WANT_READ
_FULL: Final = 1
"""No result that stops is more than 0."""
