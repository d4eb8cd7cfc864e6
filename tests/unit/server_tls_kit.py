"""A handshake in memory, between a server of any kind and what the gate is towards servers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from sluicegate.tls import ServerContext, ServerFailure, ServerIdentity, ServerName
from sluicegate.tls.engine import TlsBroken, TlsEnded, TlsEngine
from sluicegate.tls.record_connection import RecordConnection
from sluicegate.tls.server_engine import ServerEngine
from sluicegate.tls.server_settings import ServerTlsSettings
from tests.chains import HOST, Certified, root

Change = Callable[[SSL.Context], object]
"""What is odd about a server."""


@dataclasses.dataclass
class Met:
    """How a handshake ended, for both."""

    outcome: ServerIdentity | ServerFailure
    client: ServerEngine
    server: TlsEngine
    server_broken: TlsBroken | None = None

    @property
    def verdict(self) -> str:
        """``verified``, or the code of what is wrong."""
        if isinstance(self.outcome, ServerIdentity):
            return self.outcome.verification
        return self.outcome.fault.code

    @property
    def alert(self) -> str:
        """What the server was told."""
        return self.server_broken.alert if self.server_broken is not None else ""


def trusting(*authorities: Certified, **changes: Any) -> ServerContext:
    settings = ServerTlsSettings("".join(one.pem for one in authorities or (root(),)))
    return ServerContext(dataclasses.replace(settings, **changes))


def server_context(
    shown: Certified,
    *,
    sent: list[Certified] | None = None,
    staple: bytes = b"",
    change: Change | None = None,
    level: int = 0,
) -> SSL.Context:
    """Make a server; ``sent`` are the issuers that it sends, None: those that there are."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"DEFAULT@SECLEVEL=%d" % level)
    context.set_session_id(b"test")
    context.use_certificate(shown.certificate)
    if sent is None:
        above = x509.load_pem_x509_certificates(shown.sent.encode())[1:]
    else:
        above = [one.certificate for one in sent]
    for one in above:
        context.add_extra_chain_cert(one)
    context.use_privatekey(shown.key)
    if staple:
        context.set_ocsp_server_callback(lambda *_: staple)
    if change is not None:
        change(context)
    return context


def meet(
    context: ServerContext,
    server: SSL.Context,
    host: str = HOST,
    *,
    is_address: bool = False,
    protocols: tuple[str, ...] = (),
    accepts: bool = False,
) -> Met:
    """Shake hands."""
    name = ServerName(host, 443, is_address=is_address)
    client = context.engine(name, protocols, accepts_unverified=accepts)
    connection = RecordConnection(server)
    connection.set_accept_state()
    other = TlsEngine(connection)
    outcome: ServerIdentity | ServerFailure | None = None
    broken: TlsBroken | None = None
    is_met = False
    for _ in range(10):
        if outcome is None:
            try:
                if client.shake_hands():
                    outcome = client.outcome()
            except TlsBroken as error:
                outcome = client.failure(error)
        other.feed(taken(client))
        if broken is None and not is_met:
            try:
                is_met = other.shake_hands()
            except TlsBroken as error:
                broken = error
        client.feed(taken(other))
        if outcome is not None and (is_met or broken is not None):
            break
    assert outcome is not None, "the handshake does not end"
    return Met(outcome, client, other, broken)


def taken(engine: TlsEngine) -> bytes:
    """Take everything that an end has for the other one."""
    memory = memoryview(bytearray(engine.outgoing))
    count = engine.take_into(memory)
    assert count == len(memory), "it has as much as it says"
    return bytes(memory)


def exchange(met: Met) -> bytes:
    """Let the server say something, behind its tickets; return what came."""
    met.server.write(b"hello")
    met.client.feed(taken(met.server))
    view = memoryview(bytearray(100))
    count = met.client.read_into(view)
    met.client.keep_session()
    return bytes(view[:count])


def say_goodbye(met: Met) -> None:
    with contextlib.suppress(TlsBroken, TlsEnded):
        met.client.say_goodbye()
        met.server.say_goodbye()
