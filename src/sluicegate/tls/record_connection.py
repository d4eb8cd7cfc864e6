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
from typing_extensions import override

__all__ = ["ChoosingContext", "RecordConnection", "UncalledConnection"]


class ChoosingContext(SSL.Context):
    """pyOpenSSL's context, for servers whose clients may agree on one protocol by ALPN.

    What OpenSSL calls is ours, and looks for the one name: pyOpenSSL's makes a list of all, and
    looks for the connection.
    """

    @property
    def handle(self) -> Any:
        """What OpenSSL knows it by."""
        return self._context

    def choose(self, protocol: str) -> None:
        """Choose a protocol; a client that does not offer it gets none."""
        name = protocol.encode("ascii")
        size, written = len(name), bytes([len(name)]) + name
        memory = _ffi.new("unsigned char[]", name)

        def choose(_ssl: Any, out: Any, out_size: Any, offered: Any, length: int, _: Any) -> int:
            names, at = _ffi.buffer(offered, length)[:], 0
            if names == written:  # all that most clients offer
                out[0], out_size[0] = memory, size
                return _CHOSEN
            while at < length:
                end = at + 1 + names[at]
                if names[at:end] == written:
                    out[0], out_size[0] = memory, size
                    return _CHOSEN
                at = end
            return _NONE_CHOSEN

        self._chooses = _ffi.callback(_CHOOSES, choose, error=_FATAL)
        _choose_by(self._context, self._chooses, _NULL)


class RecordConnection(SSL.Connection):
    """One end of a connection, on two buffers in memory."""

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        #: What stopped the last ``decrypt_into``; nothing: the memory was full.
        self.stopped_by = 0
        self._has_input_ended = False

    @property
    def outgoing(self) -> int:
        """Bytes for the peer that were not taken."""
        return int(_pending(self._from_ssl, _NULL))

    def take_into(self, memory: memoryview) -> int:
        """Fill memory with bytes for the peer; return how many, 0 when there are none."""
        count: int = _take(self._from_ssl, _buffer(memory), len(memory))
        return max(0, count)

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer; there are some.

        Raises:
            MemoryError: There is no room for them.
        """
        if _feed(self._into_ssl, _buffer(data), len(data)) != len(data):
            raise MemoryError

    @override
    def bio_shutdown(self) -> None:
        self._has_input_ended = True
        super().bio_shutdown()

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
        tls, source, filled, size = self._ssl, self._into_ssl, 0, len(memory)
        target = _buffer(memory)
        while filled < size:
            count: int = _decrypt(tls, target + filled, size - filled)
            if count <= 0:
                self.stopped_by = count
                return filled
            filled += count
            if filled < size and not (self._has_input_ended or _pending(source, _NULL)):
                # It was a whole record, and there is neither another nor an end.
                self.stopped_by = _STARVED
                return filled
        self.stopped_by = _FULL
        return filled

    @property
    def is_starved(self) -> bool:
        """Whether it was for want of bytes from the peer that the last ``decrypt_into`` ended."""
        why = self.stopped_by
        if why > 0:
            return bool(why == _STARVED)
        return bool(_why(self._ssl, why) == _WANTS_INPUT)

    @property
    def has_peer_ended(self) -> bool:
        """Whether it was the peer's ``close_notify`` that ended the last ``decrypt_into``."""
        why = self.stopped_by
        return why <= 0 and bool(_why(self._ssl, why) == _ENDED)

    def raise_why(self) -> None:
        """Raise what ended the last ``decrypt_into``.

        Raises:
            SSL.Error: Unless the memory was full, or more has to come.
        """
        if self.stopped_by <= 0:
            self._raise_ssl_error(self._ssl, self.stopped_by)

    def encrypt(self, data: bytes | memoryview) -> int:
        """Encrypt; return how much.

        Raises:
            SSL.Error: It failed.
        """
        count: int = _encrypt(self._ssl, _buffer(data), len(data))
        if count <= 0:
            self._raise_ssl_error(self._ssl, count)
        return count

    @property
    def version_name(self) -> str:
        """The protocol's version, ``TLSv1.3``."""
        version = _version(self._ssl)
        if version not in _version_names:
            _version_names[version] = self.get_protocol_version_name()
        return _version_names[version]

    @property
    def cipher_name(self) -> str:
        """What encrypts, ``TLS_AES_128_GCM_SHA256``; empty before that was agreed on."""
        cipher = _cipher(self._ssl)
        if cipher not in _cipher_names:
            _cipher_names[cipher] = self.get_cipher_name() or ""
        return _cipher_names[cipher]

    @property
    def protocol_name(self) -> bytes:
        """The protocol that both ends agreed on by ALPN; empty: none."""
        _protocol(self._ssl, _found, _found_size)
        size = _found_size[0]
        return bytes(_ffi.buffer(_found[0], size)) if size else b""


class UncalledConnection(RecordConnection):
    """One of a context that has no callbacks of pyOpenSSL's, so nobody has to find it by OpenSSL's.

    That is what half of making one is for.
    """

    def __init__(self, context: ChoosingContext) -> None:
        """Begin.

        Raises:
            MemoryError: OpenSSL has none.
        """
        into, out = _new_bio(_memory()), _new_bio(_memory())
        tls = _new(context.handle)
        if not (into and out and tls):
            raise MemoryError
        _join(tls, into, out)
        self._ssl = _ffi.gc(tls, _free)
        self._context = context
        self._into_ssl, self._from_ssl = into, out
        self._socket = self._app_data = None
        self.stopped_by = 0
        self._has_input_ended = False


Binding()
_lib: Final[Any] = Binding.lib
_ffi: Final[Any] = Binding.ffi
_buffer: Final[Any] = _ffi.from_buffer
_NULL: Final[Any] = _ffi.NULL
_version_names: Final[dict[int, str]] = {}
_cipher_names: Final[dict[Any, str]] = {}
"""By what OpenSSL has one of for each, as long as the process lives."""
_found: Final[Any] = _ffi.new("unsigned char **")
_found_size: Final[Any] = _ffi.new("unsigned int *")
"""Where OpenSSL puts what it is asked for; connections are the loop's."""
_pending: Final[Any] = _lib.BIO_get_mem_data
_take: Final[Any] = _lib.BIO_read
_feed: Final[Any] = _lib.BIO_write
_shake_hands: Final[Any] = _lib.SSL_do_handshake
_new: Final[Any] = _lib.SSL_new
_free: Final[Any] = _lib.SSL_free
_join: Final[Any] = _lib.SSL_set_bio
_new_bio: Final[Any] = _lib.BIO_new
_memory: Final[Any] = _lib.BIO_s_mem
_version: Final[Any] = _lib.SSL_version
_TLS_1_3: Final = 0x0304
_decrypt: Final[Any] = _lib.SSL_read
_encrypt: Final[Any] = _lib.SSL_write
_why: Final[Any] = _lib.SSL_get_error
_cipher: Final[Any] = _lib.SSL_get_current_cipher
_protocol: Final[Any] = _lib.SSL_get0_alpn_selected
_choose_by: Final[Any] = _lib.SSL_CTX_set_alpn_select_cb
_CHOOSES: Final = (
    "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)"
)
_CHOSEN: Final[int] = _lib.SSL_TLSEXT_ERR_OK
_NONE_CHOSEN: Final[int] = _lib.SSL_TLSEXT_ERR_NOACK
_FATAL: Final[int] = _lib.SSL_TLSEXT_ERR_ALERT_FATAL
_WANTS_INPUT: Final[int] = _lib.SSL_ERROR_WANT_READ
_ENDED: Final[int] = _lib.SSL_ERROR_ZERO_RETURN
_FULL: Final = 1
_STARVED: Final = 2
"""No result that stops is more than 0."""
