"""TlsEngine: the TLS of one end of one connection, with no socket: bytes in, bytes out.

OpenSSL by pyOpenSSL, for both roles; ``stream`` moves the bytes. The invariant: no error is taken
for an end: a stream that was cut off is broken (``TlsBroken``), and only ``close_notify`` ends it
(``TlsEnded``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from OpenSSL import SSL, crypto

from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "CODE_WORDS",
    "EngineSource",
    "TlsBroken",
    "TlsEnded",
    "TlsEngine",
    "note_fault",
    "prepare",
]


class TlsEnded(SluicegateError):
    """The peer has ended its stream as it should (``close_notify``)."""


class TlsBroken(SluicegateError):
    """TLS cannot go on: ``words`` say why, shortly.

    ``alert`` is what the peer sent (``unknown ca``), empty if it was not the peer who gave up.
    """

    def __init__(self, words: str, *, alert: str = "", is_cut_off: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.alert = alert
        self.is_cut_off = is_cut_off
        #: The bytes ended without a goodbye.


class EngineSource(Protocol):
    """What makes the TLS of connections: a listener's settings, or a leaf."""

    def engine(self) -> TlsEngine:
        """Return one connection's TLS."""
        ...


class TlsEngine:
    """One end of a connection; its handshake has not begun."""

    __slots__ = ("_connection", "_waiting", "has_input", "outgoing")

    def __init__(self, connection: SSL.Connection) -> None:
        self.has_input = False
        #: Whether there may be something to read without another byte from the peer.
        self.outgoing = 0
        #: Bytes for the peer.
        self._connection = connection
        self._waiting: list[bytes] = []

    # -- ciphertext ----------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        if data:  # OpenSSL takes nothing for an error
            self._connection.bio_write(data)
            self.has_input = True

    def feed_end(self) -> None:
        """Take that the peer's bytes have ended."""
        self._connection.bio_shutdown()
        self.has_input = True

    def take(self) -> bytes:
        """Return what is for the peer."""
        waiting, self._waiting = self._waiting, []
        self.outgoing = 0
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    def _fetch(self) -> None:
        """Take from OpenSSL what it has written."""
        try:
            while True:
                piece = self._connection.bio_read(_FETCH_BYTES)
                self._waiting.append(piece)
                self.outgoing += len(piece)
                if len(piece) < _FETCH_BYTES:
                    return
        except SSL.WantReadError:
            return

    # -- plaintext -----------------------------------------------------------------------------

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done.

        Raises:
            TlsBroken: It failed; what is for the peer says so to it.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self.has_input = False
            self._fetch()
            return False
        except SSL.Error as error:
            self._break(error)
        self._fetch()
        return True

    def read_into(self, view: memoryview) -> int:
        """Fill memory with plaintext; return how much, 0 when more has to come first.

        Raises:
            TlsEnded: The peer has ended its stream.
            TlsBroken: It is not what the peer meant to send.
        """
        try:
            return self._connection.recv_into(view)
        except SSL.WantReadError:
            self.has_input = False
            self._fetch()  # it answers to some of what it reads
            return 0
        except SSL.ZeroReturnError:
            raise TlsEnded from None
        except SSL.Error as error:
            self._break(error)

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt; return how much.

        Raises:
            TlsBroken: It failed.
        """
        try:
            count = self._connection.send(data)
        except SSL.Error as error:
            self._break(error)
        self._fetch()
        return count

    def say_goodbye(self) -> None:
        """End our stream; the peer's is not touched (RFC 8446 section 6.1).

        Raises:
            TlsBroken: It failed.
        """
        try:
            self._connection.shutdown()
        except SSL.Error as error:
            self._break(error)
        self._fetch()

    def _break(self, error: SSL.Error) -> NoReturn:
        self.has_input = False
        self._fetch()
        raise _broken_by(error, self._connection.get_app_data()) from error

    # -- asking, once the handshake is done ----------------------------------------------------

    def peer_certificate(self) -> x509.Certificate | None:
        """Return the peer's certificate; None when it showed none.

        Raises:
            ValueError: It cannot be read.
        """
        return self._connection.get_peer_certificate(as_cryptography=True)

    @property
    def version(self) -> str:
        """The protocol's version, ``TLSv1.3``."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """What encrypts, ``TLS_AES_128_GCM_SHA256``."""
        return self._connection.get_cipher_name() or ""

    @property
    def alpn(self) -> str:
        """The protocol that both ends agreed on by ALPN; empty: none."""
        return self._connection.get_alpn_proto_negotiated().decode("ascii", "replace")

    @property
    def server_name(self) -> str:
        """The name that the client asked for; empty: none."""
        name = self._connection.get_servername() or b""
        return name.decode("ascii", "replace")


def prepare(context: SSL.Context, security_level: int = 2) -> None:
    """Set what holds for both roles, whatever else they do.

    Args:
        context: It is new.
        security_level: OpenSSL's; 2 demands 112 bits of keys, and hashes better than SHA-1.
    """
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_cipher_list(b"@SECLEVEL=%d:%b" % (security_level, _CIPHERS))
    # A write is one call, and an idle connection holds no buffers (34 KiB).
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)


def note_fault(
    connection: SSL.Connection, _certificate: crypto.X509, error: int, _depth: int, is_good: int
) -> bool:
    """Note what is wrong with the peer's certificate; OpenSSL calls it for each of its chain."""
    if not is_good:
        connection.set_app_data(f"certificate: {CODE_WORDS.get(error, error)}")
    return bool(is_good)


def _broken_by(error: SSL.Error, noted: object) -> TlsBroken:
    """Say what OpenSSL says, shortly."""
    if isinstance(error, SSL.SysCallError):
        return TlsBroken("cut off", is_cut_off=True)
    words = error.args[0][0][2] if error.args and error.args[0] else "broken"
    if words == "certificate verify failed" and isinstance(noted, str):
        return TlsBroken(noted)
    kind, _, rest = words.partition(" ")
    is_alert = kind in _ALERTS or rest.startswith("alert ")
    return TlsBroken(words, alert=rest.removeprefix("alert ") if is_alert else "")


CODE_WORDS: Final[dict[int, str]] = {
    number: name.removeprefix("ERR_").lower().replace("_", " ").replace("cert ", "certificate ")
    for name, number in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
}
"""OpenSSL's names of what may be wrong; pyOpenSSL has no call for its sentences."""
_CIPHERS: Final = b"ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Of TLS 1.2: forward secrecy, no SHA-1; what Python's own contexts have."""
_ALERTS: Final = frozenset({"tlsv1", "tlsv13"})
"""OpenSSL's words for some alerts begin so, and have no "alert" in them."""
_FETCH_BYTES: Final = 68 << 10
"""More than what one write makes of ``TLS_WRITE_BYTES_MAX``."""
_MODE_ENABLE_PARTIAL_WRITE: Final = 1
"""``SSL_MODE_ENABLE_PARTIAL_WRITE``, for which pyOpenSSL has no name, and which it sets."""
