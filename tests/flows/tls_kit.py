"""Clients that speak TLS over the simulated network, and settings of listeners for them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sluicegate.gate.settings import ServiceSettings
from sluicegate.testing.peers import PeerStream
from sluicegate.tls import ServerTlsSettings, TlsSettings
from tests.chains import Certified, root
from tests.pki import Issued, authority

NAME = "gate.example"


@functools.cache
def server() -> Issued:
    return authority("proxy").server(NAME)


def tls_settings(**changes: Any) -> TlsSettings:
    issued = server()
    return dataclasses.replace(TlsSettings(issued.certificate_pem, issued.key_pem), **changes)


def with_tls(plan: ServiceSettings, **changes: Any) -> ServiceSettings:
    """Let every proxy listener of a plan speak TLS."""
    tls = tls_settings(**changes)
    listeners = tuple(
        dataclasses.replace(one, entry=dataclasses.replace(one.entry, tls=tls))
        for one in plan.listeners
        if one.entry is not None
    )
    return dataclasses.replace(plan, listeners=listeners)


def client_context(
    client: Issued | None = None,
    *,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority("proxy").pem)
    context.minimum_version, context.maximum_version = minimum, maximum
    if client is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(client.certificate_pem + client.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


@functools.cache
def plain_context() -> ssl.SSLContext:
    return client_context()


class TlsPeer(PeerStream):
    """A peer's end of one connection, inside TLS; ``PeerStream`` in all that its users know."""

    def __init__(
        self,
        stream: PeerStream,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        *,
        name: str | None = NAME,
        is_server: bool = False,
    ) -> None:
        self.stream = stream
        self.socket = stream.socket
        self._network = stream._network
        self._pending = b""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or plain_context()).wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=is_server,
            server_hostname=None if is_server else name,
            session=session,
        )
        self.most_sent = 1 << 20
        #: Ciphertext in one call.

    async def shake_hands(self) -> None:
        await self._do(self.tls.do_handshake)

    async def receive(self, size: int = 65536) -> bytes:
        if self._pending:
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        try:
            data = await self._do(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""
        assert isinstance(data, bytes)
        return data

    async def send_all(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def flush(self) -> None:
        wire = self.outgoing.read()
        while wire:
            piece, wire = wire[: self.most_sent], wire[self.most_sent :]
            await self.stream.send_all(piece)

    def end_stream(self) -> None:
        """Say ``close_notify``, and end TCP's stream; the answers come still."""
        self._say_goodbye()
        self.stream.end_stream()

    def close(self) -> None:
        self._say_goodbye()
        self.stream.close()

    def reset(self) -> None:
        self.stream.reset()

    def _say_goodbye(self) -> None:
        if self.socket.is_reset:
            return
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        rest = self.outgoing.read()
        if self.socket.outgoing is not None and not self.socket.outgoing.is_ending:
            while rest:
                rest = rest[self.socket.send(rest) :]

    async def _do(self, action: Callable[[], Any]) -> Any:
        """Do something, with as many bytes from the other end as it takes."""
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.stream.receive()
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            finally:
                if self.outgoing.pending:
                    await self.flush()


def inside_tls(
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]],
    context: ssl.SSLContext | None = None,
    name: str | None = NAME,
) -> Callable[[PeerStream], Coroutine[Any, Any, Any]]:
    """Let a peer do inside TLS what it would do in clear."""

    async def wrapped(stream: PeerStream) -> Any:
        tls = TlsPeer(stream, context, name=name)
        await tls.shake_hands()
        return await peer(tls)

    return wrapped


# -- servers ---------------------------------------------------------------------------------------


def server_context(
    shown: Certified, *, protocols: Sequence[str] = (), into: ssl.SSLContext | None = None
) -> ssl.SSLContext:
    """Return what a server with this certificate, and the issuers that it has, speaks TLS by."""
    context = into or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(shown.sent + shown.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def serving_tls(
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]],
    context: ssl.SSLContext,
    ends: list[object] | None = None,
) -> Callable[[PeerStream], Coroutine[Any, Any, Any]]:
    """Let a server do inside TLS what it would do in clear.

    ``ends`` gets the TLS of each handshake that was done, or why it failed.
    """

    async def wrapped(stream: PeerStream) -> Any:
        tls = TlsPeer(stream, context, is_server=True)
        try:
            await tls.shake_hands()
        except (ssl.SSLError, OSError) as error:
            if ends is not None:
                ends.append(error)
            stream.close()
            return None
        if ends is not None:
            ends.append(tls.tls)
        return await peer(tls)

    return wrapped


def verifying(plan: ServiceSettings, *authorities: Certified, **changes: Any) -> ServiceSettings:
    """Let a gate believe servers that these vouch for."""
    known = "".join(one.pem for one in authorities or (root(),))
    return dataclasses.replace(plan, server_tls=ServerTlsSettings(known, **changes))
