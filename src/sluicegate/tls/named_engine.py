"""NamedEngine: the TLS of a client whose hello is read and judged before OpenSSL sees any of it.

``context`` makes one where certificates are chosen by name. The invariant: not a byte reaches
OpenSSL before the whole hello had one reading and its name was taken; a client that is refused gets
one alert, and no certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from typing_extensions import override

from sluicegate.protocols.tls_hello import ClientHello, HelloReader, TlsFault, TlsRefused

from .engine import TlsBroken, TlsEngine
from .own_names import NameRefused, read_server_name

if TYPE_CHECKING:
    from sluicegate.names import CanonicalHost

    from .record_connection import RecordConnection

__all__ = ["NamedEngine", "NamedSource"]


class NamedSource(Protocol):
    """Several certificates, by name."""

    def place_for(self, named: CanonicalHost | str) -> int:
        """Return the place of the certificate for a client.

        Args:
            named: What its hello names, or the code of what is wrong with that.

        Raises:
            NameRefused: There is none for it.
        """
        ...

    def connection_at(self, place: int) -> RecordConnection:
        """Return the beginning of a connection that shows a certificate."""
        ...


class NamedEngine(TlsEngine):
    """One client's; what it has asked for stays with it."""

    __slots__ = ("_alert", "_has_ended", "_hello", "_reader", "_source", "host", "place", "sni")

    def __init__(self, source: NamedSource) -> None:
        super().__init__(source.connection_at(0))
        self.sni = ""
        #: The name in the hello, as the client wrote it.
        self.host: CanonicalHost | None = None
        #: The same, canonical; None: none that could be taken.
        self.place = 0
        #: Of the certificate that it is shown.
        self._source = source
        self._reader: HelloReader | None = HelloReader()
        self._hello = bytearray()
        self._has_ended = False
        self._alert = b""
        #: What is for a client that is refused.

    @property
    @override
    def outgoing(self) -> int:
        return len(self._alert) or super().outgoing

    @override
    def take_into(self, memory: memoryview) -> int:
        if not self._alert:
            return super().take_into(memory)
        count = len(self._alert)
        memory[:count], self._alert = self._alert, b""
        return count

    @override
    def feed(self, data: bytes | memoryview) -> None:
        if self._reader is None:
            super().feed(data)
        else:
            self._hello += data
            self.has_input = True

    @override
    def feed_end(self) -> None:
        self._has_ended = True
        if self._reader is None:
            super().feed_end()
        else:
            self.has_input = True

    @override
    def shake_hands(self) -> bool:
        if self._reader is not None and not self._read_hello(self._reader):
            return False
        return super().shake_hands()

    def _read_hello(self, reader: HelloReader) -> bool:
        """Read on; True when the hello is whole and its name was taken.

        Raises:
            TlsBroken: It was not; what is for the client says so to it.
        """
        self.has_input = False
        try:
            hello = reader.hello or reader.read(bytes(self._hello[reader.length :]))
            if hello is not None:
                self._choose(hello)
        except TlsRefused as refused:
            self._refuse(refused.fault.code, _ALERTS.get(refused.fault, _DECODE_ERROR))
        except NameRefused as refused:
            self._refuse(str(refused), _UNRECOGNIZED_NAME)
        if hello is None:
            if self._has_ended:
                raise TlsBroken("cut off", is_cut_off=True)
            return False
        held, self._hello, self._reader = bytes(self._hello), bytearray(), None
        super().feed(held)
        if self._has_ended:
            super().feed_end()
        return True

    def _choose(self, hello: ClientHello) -> None:
        self.sni = hello.server_name or ""
        named = read_server_name(hello.server_name)
        self.host = None if isinstance(named, str) else named
        self.place = self._source.place_for(named)
        if self.place:
            self._connection = self._source.connection_at(self.place)

    def _refuse(self, code: str, description: int) -> NoReturn:
        self._alert = bytes((_ALERT, 3, 3, 0, 2, _FATAL, description))
        raise TlsBroken(code)


_ALERT: Final = 21
_FATAL: Final = 2
_UNEXPECTED_MESSAGE: Final = 10
_DECODE_ERROR: Final = 50
_PROTOCOL_VERSION: Final = 70
_UNRECOGNIZED_NAME: Final = 112
# Descriptions of alerts (RFC 8446 section 6).
_ALERTS: Final = {
    TlsFault.NOT_TLS: _UNEXPECTED_MESSAGE,
    TlsFault.NOT_A_HELLO: _UNEXPECTED_MESSAGE,
    TlsFault.RECORD_TYPE: _UNEXPECTED_MESSAGE,
    TlsFault.HELLO_AGAIN: _UNEXPECTED_MESSAGE,
    TlsFault.SSL2_HELLO: _PROTOCOL_VERSION,
    TlsFault.HELLO_VERSION: _PROTOCOL_VERSION,
    TlsFault.RECORD_VERSION: _PROTOCOL_VERSION,
}
