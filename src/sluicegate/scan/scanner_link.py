"""ScannerLink: bytes to and from a scanner, in clear or inside TLS.

``icap`` makes one for each connection, ``icap_connection`` speaks on it. The invariant: inside TLS
nothing is sent, and nothing that came is believed, before the server has proved the name that the
operator gave it; and an end that TLS does not confirm is a break, never the end of an answer.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, Protocol

from sluicegate.errors import ProtocolError

from .reach import ScannerSocket

__all__ = ["PlainLink", "ScannerLink", "ScannerTls", "TlsLink"]


@dataclass(frozen=True, slots=True)
class ScannerTls:
    """Whom a scanner has to prove to be."""

    name: str
    """The name or address that its certificate is for."""
    ca_pem: str = ""
    """Who vouches for it; empty: whom this machine trusts."""

    def context(self) -> ssl.SSLContext:
        """Return OpenSSL's form of it.

        Raises:
            ssl.SSLError: There is no certificate in ``ca_pem``.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python has OpenSSL take a connection that just ends for one that was closed.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        if self.ca_pem:
            context.load_verify_locations(cadata=self.ca_pem)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context


class ScannerLink(Protocol):
    """One connection; one may send while another receives."""

    async def send(self, data: bytes) -> None:
        """Send all of some bytes.

        Raises:
            OSError: It broke.
            ProtocolError: TLS failed.
        """
        ...

    async def receive(self, count: int) -> bytes:
        """Return up to so many bytes; none at the end.

        Raises:
            OSError: It broke.
            ProtocolError: TLS failed.
        """
        ...

    def close(self) -> None:
        """End it at once."""
        ...


class PlainLink:
    """A socket as it is."""

    def __init__(self, connected: ScannerSocket) -> None:
        self._socket = connected

    async def send(self, data: bytes) -> None:
        """As ``ScannerLink.send``."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, count: int) -> bytes:
        """As ``ScannerLink.receive``."""
        return await asyncio.get_running_loop().sock_recv(self._socket, count)

    def close(self) -> None:
        """As ``ScannerLink.close``."""
        self._socket.close()


class TlsLink:
    """TLS over a socket; ``shake_hands`` comes first."""

    def __init__(self, connected: ScannerSocket, context: ssl.SSLContext, name: str) -> None:
        self._plain = PlainLink(connected)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._flushing = asyncio.Lock()

    async def shake_hands(self) -> None:
        """Have the server prove its name.

        Raises:
            OSError: The connection broke.
            ProtocolError: It cannot, or does not speak TLS.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                # What it is told of that is worth a try, no more.
                await self._flush()
                raise _failure(error) from error
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        """As ``ScannerLink.send``."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._tls.write(rest[:_RECORD_BYTES]) :]
            except ssl.SSLError as error:
                raise _failure(error) from error
            await self._flush()

    async def receive(self, count: int) -> bytes:
        """As ``ScannerLink.receive``."""
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                # An answer to the other end's keys may have to go out.
                await self._flush()
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise _failure(error) from error

    def close(self) -> None:
        """As ``ScannerLink.close``."""
        self._plain.close()

    async def _fill(self) -> None:
        data = await self._plain.receive(_RECEIVE_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        async with self._flushing:
            while data := self._outgoing.read():
                await self._plain.send(data)


def _failure(error: ssl.SSLError) -> ProtocolError:
    """Say what is wrong, in words of a table of OpenSSL's, and none of the server's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProtocolError(f"its certificate is not good: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError) or error.reason == _CUT_OFF:
        return ProtocolError("it broke off inside TLS")
    what = (error.reason or type(error).__name__).lower().replace("_", " ")
    return ProtocolError(f"it does not speak TLS with us: {what}")


_CUT_OFF: Final = "UNEXPECTED_EOF_WHILE_READING"
"""What OpenSSL says of a connection that ends and was not closed inside TLS."""
_RECORD_BYTES: Final = 16 << 10
"""The most that one record holds (RFC 8446, 5.1)."""
_RECEIVE_BYTES: Final = 64 << 10
