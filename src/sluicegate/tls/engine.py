"""TlsEngine: the TLS of one end of one connection, with no socket: bytes in, bytes out.

OpenSSL by pyOpenSSL, for both roles; ``stream`` moves the bytes. The invariant: no error is taken
for an end: a stream that was cut off is broken (``TlsBroken``), and only ``close_notify`` ends it
(``TlsEnded``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from OpenSSL import SSL, crypto

from sluicegate.access_limits import TLS_RECORD_BYTES_MAX
from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from cryptography import x509

    from .record_connection import RecordConnection

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

    __slots__ = ("_connection", "_held", "_lent", "has_input")

    def __init__(self, connection: RecordConnection) -> None:
        self.has_input = False
        #: Whether there may be something to read without another byte from the peer.
        self._connection = connection
        self._held: TlsEnded | TlsBroken | None = None
        #: What came behind the plaintext that was read last.
        self._lent: memoryview | None = None
        #: Bytes from the peer in somebody else's memory, which OpenSSL was not given yet.

    # -- ciphertext ----------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        if data:  # OpenSSL takes nothing for an error
            self._connection.feed(data)
            self.has_input = True

    def lend(self, data: memoryview) -> None:
        """Take bytes from the peer that are there until ``take_back``.

        OpenSSL is given as much as it can use at once: else the largest of a connection's receives
        would stay its own for as long as it lives.
        """
        self._lent = data
        self.has_input = True

    def take_back(self) -> None:
        """Keep what was not read of what was lent: its memory is wanted."""
        lent, self._lent = self._lent, None
        if lent:
            self._connection.feed(lent)

    def feed_end(self) -> None:
        """Take that the peer's bytes have ended."""
        self._connection.bio_shutdown()
        self.has_input = True

    @property
    def outgoing(self) -> int:
        """Bytes for the peer that wait to be taken."""
        return self._connection.outgoing

    def take_into(self, memory: memoryview) -> int:
        """Fill memory with what is for the peer; return how much."""
        return self._connection.take_into(memory)

    # -- plaintext -----------------------------------------------------------------------------

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done.

        Raises:
            TlsBroken: It failed; what is for the peer says so to it.
        """
        try:
            is_done = self._connection.begin_or_go_on()
        except SSL.Error as error:
            self.has_input = False
            raise self._broken_by(error) from error
        if not is_done:
            self.has_input = False
        return is_done

    @property
    def is_finished_by_peer(self) -> bool:
        """Whether the handshake, of a server's role, has ended with the peer's word: TLS 1.3."""
        return self._connection.is_of_tls_1_3

    def read_into(self, view: memoryview) -> int:
        """Fill memory with plaintext; return how much, 0 when more has to come first.

        Raises:
            TlsEnded: The peer has ended its stream.
            TlsBroken: It is not what the peer meant to send.
        """
        if self._held is not None:
            raise self._take_held()
        connection = self._connection
        filled = connection.decrypt_into(view)
        while filled < len(view) and connection.is_starved:
            lent = self._lent
            if not lent:
                self.has_input = False
                return filled
            connection.feed(lent[:TLS_RECORD_BYTES_MAX])
            self._lent = lent[TLS_RECORD_BYTES_MAX:]
            filled += connection.decrypt_into(view[filled:])
        if filled == len(view):
            return filled
        self._held = self._why_stopped()
        if filled:
            return filled
        raise self._take_held()

    def _take_held(self) -> TlsEnded | TlsBroken:
        """Return what is to be raised (no variable has it: that would be a circle)."""
        try:
            assert self._held is not None, "something has stopped it"
            return self._held
        finally:
            self._held = None
            self.has_input = False

    def _why_stopped(self) -> TlsEnded | TlsBroken:
        if self._connection.has_peer_ended:
            return TlsEnded()
        try:
            self._connection.raise_why()
        except SSL.Error as error:
            return self._broken_by(error)
        return TlsBroken("no plaintext")

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt; return how much.

        Raises:
            TlsBroken: It failed.
        """
        try:
            return self._connection.encrypt(data)
        except SSL.Error as error:
            raise self._broken_by(error) from error

    def say_goodbye(self) -> None:
        """End our stream; the peer's is not touched (RFC 8446 section 6.1).

        Raises:
            TlsBroken: It failed.
        """
        try:
            self._connection.shutdown()
        except SSL.Error as error:
            raise self._broken_by(error) from error

    def _broken_by(self, error: SSL.Error) -> TlsBroken:
        return _broken_by(error, self._connection.get_app_data())

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
        return self._connection.version_name

    @property
    def cipher(self) -> str:
        """What encrypts, ``TLS_AES_128_GCM_SHA256``."""
        return self._connection.cipher_name

    @property
    def alpn(self) -> str:
        """The protocol that both ends agreed on by ALPN; empty: none."""
        return self._connection.protocol_name.decode("ascii", "replace")

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
_MODE_ENABLE_PARTIAL_WRITE: Final = 1
"""``SSL_MODE_ENABLE_PARTIAL_WRITE``, for which pyOpenSSL has no name, and which it sets."""
