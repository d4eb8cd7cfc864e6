"""Gates that open TLS, on the simulated port: their authorities, clients and servers."""

from __future__ import annotations

import dataclasses
import functools
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import Installation, ServiceSettings
from sluicegate.testing.peers import PeerStream
from sluicegate.tls.authority import Authority
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.signed_leaves import SignedLeaves
from tests.chains import Certified, root
from tests.flows.entry_kit import MODES, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, Peer, play
from tests.flows.tls_kit import (
    TlsPeer,
    inside_tls,
    server_context,
    serving_tls,
    verifying,
    with_tls,
)
from tests.flows.web_kit import Message, Origin, read_message, reply
from tests.unit.leaf_kit import LocalMinter, authority

NAME = "site.example"
SITE = SocketAddress.parse("93.184.216.34:443")
OTHER = SocketAddress.parse("93.184.216.35:443")
NAMES = {NAME: SITE.host, "other.example": OTHER.host, "alias.example": SITE.host}
CONNECT = EntryMode.HTTP_CONNECT


class RealClock:
    """The machine's clock: OpenSSL judges certificates by no other."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@functools.cache
def trusted() -> Authority:
    return authority("the gate's authority", now=time.time())


@functools.cache
def untrusted() -> Authority:
    return authority("nobody's authority", now=time.time())


def minter(**options: Any) -> LocalMinter:
    return LocalMinter(trusted(), untrusted(), RealClock(), **options)


def rule(
    tls: str = 'mode = "inspect"',
    *,
    to: str = '"site.example"',
    name: str = "web",
    more: str = "",
    ports: str = '"tcp:443"',
) -> str:
    keys = f"tls = {{ {tls} }}" if tls else ""
    return f'[[rule]]\nname = "{name}"\nto = [{to}]\nprotocols = [{ports}]\n{keys}\n{more}\n'


def plan_of(
    text: str, filters: Sequence[Installation] = (), *authorities: Certified
) -> ServiceSettings:
    return verifying(proxy_settings(text, filters=filters), *authorities)


def unshared(text: str = "") -> ServiceSettings:
    """Return settings by which each connection has a server of its own."""
    plan = plan_of(text or rule())
    assert plan.server_tls is not None, "servers are verified"
    return dataclasses.replace(
        plan, server_tls=dataclasses.replace(plan.server_tls, are_shared=False)
    )


def client_context(
    *protocols: str,
    knows: Authority | None = None,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """Return what a client speaks TLS by, who trusts the gate's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem_of(knows or trusted()))
    context.maximum_version = maximum
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def pem_of(one: Authority) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return one.certificate.public_bytes(Encoding.PEM).decode()


class Inside(TlsPeer):
    """A client's end inside TLS that it believes to be a server's."""

    def __init__(
        self, stream: PeerStream, context: ssl.SSLContext, name: str | None = NAME
    ) -> None:
        super().__init__(stream, context if name else _unnamed(context))
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)


def _unnamed(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    return context


@dataclasses.dataclass
class Met:
    """What a client has seen."""

    error: str = ""
    """Why its handshake, or its connection, failed."""
    alpn: str | None = None
    version: str | None = None
    issuer: str = ""
    names: tuple[str, ...] = ()
    serial: str = ""
    answers: list[Message] = dataclasses.field(default_factory=list)
    said: bytes = b""

    @property
    def statuses(self) -> list[int]:
        return [one.status for one in self.answers]


Talk = Callable[[Inside, Met], Coroutine[Any, Any, None]]


def get(path: str = "/", host: str = NAME, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def requests(*all_of_them: bytes) -> Talk:
    """Send one request after the other, and read each answer."""

    async def talk(inside: Inside, met: Met) -> None:
        for one in all_of_them:
            await inside.send_all(one)
            answer = await read_message(
                inside, has_body=not one.startswith(b"HEAD"), is_response=True
            )
            if answer is None:
                return
            met.answers.append(answer)

    return talk


def meets(
    talk: Talk,
    *,
    context: ssl.SSLContext | None = None,
    name: str | None = NAME,
    mode: EntryMode = CONNECT,
    host: str = NAME,
    port: int = 443,
    made: type[Inside] = Inside,
    met: Met,
) -> Peer:
    """Be a client that comes in a mode, and speaks TLS in its tunnel."""

    async def in_tunnel(stream: PeerStream) -> bytes:
        inside = made(stream, context or client_context("http/1.1"), name)
        try:
            await inside.shake_hands()
            _look(inside, met)
            await talk(inside, met)
        except (ssl.SSLError, OSError) as error:
            met.error = getattr(error, "reason", None) or type(error).__name__
        inside.close()
        return b""

    return asks(Ask(mode, host, port), in_tunnel)


def _look(inside: Inside, met: Met) -> None:
    met.alpn, met.version = inside.tls.selected_alpn_protocol(), inside.tls.version()
    shown = inside.tls.getpeercert()
    assert shown is not None
    if shown:
        met.issuer = dict(one[0] for one in shown["issuer"])["commonName"]  # type: ignore[misc]
        met.names = tuple(str(one[1]) for one in shown["subjectAltName"])  # type: ignore[misc]
        met.serial = str(shown["serialNumber"])


class TlsOrigin(Origin):
    """A web server inside TLS."""

    def __init__(
        self,
        shown: Certified | None = None,
        answers: Callable[[Message], bytes] | Sequence[bytes] | None = None,
        context: ssl.SSLContext | None = None,
        protocols: Sequence[str] = ("http/1.1",),
    ) -> None:
        super().__init__(answers or (lambda _request: reply()))
        self.context = context or server_context(
            shown or root().issue(names=[NAME, SITE.host]), protocols=protocols
        )
        self.ends: list[Any] = []

    @override
    async def serve(self, stream: PeerStream) -> None:
        await serving_tls(super().serve, self.context, self.ends)(stream)


@dataclasses.dataclass
class Came:
    """What came of one client at a gate."""

    gate: Gate
    reply: Any
    origin: Any

    @property
    def end(self) -> Any:
        (end,) = self.gate.ends
        return end

    @property
    def reasons(self) -> list[str]:
        return [one.ended or one.reason for one in self.gate.requests]


@dataclasses.dataclass
class Opened(Came):
    """Where the gate opens TLS."""

    met: Met
    minter: LocalMinter


def open_tls(
    *all_requests: bytes,
    talk: Talk | None = None,
    policy: str | None = None,
    plan: ServiceSettings | None = None,
    origin: Any = None,
    names: Names | None = None,
    signs: LocalMinter | None = None,
    leaves: Callable[[Gate], Any] | None = None,
    address: SocketAddress = SITE,
    filters: Sequence[Installation] = (),
    during: Callable[[Gate], Coroutine[Any, Any, None]] | None = None,
    options: dict[str, Any] | None = None,
    within_s: float = 120.0,
    in_tls: bool = False,
    **client: Any,
) -> Opened:
    """Let one client ask a gate that opens TLS, with one server behind it.

    With ``in_tls`` the client speaks TLS with the proxy, too.
    """
    server = origin or TlsOrigin()
    names = names or Names()
    for known, found in NAMES.items():
        if known not in names.records:
            names.put(known, found)
    met, replies = Met(), []
    signing = signs or minter()

    async def scenario(gate: Gate) -> None:
        gate.service.leaves = (
            leaves(gate) if leaves else SignedLeaves(signing, LeafKeys(has_rsa=False), RealClock())
        )
        gate.serve(server.serve, address=address)
        peer = meets(talk or requests(*all_requests), met=met, **client)
        caller = gate.call(inside_tls(peer) if in_tls else peer)
        if during is not None:
            await during(gate)
        (result,) = await gate.ended(caller, within_s=within_s)
        if isinstance(result, BaseException):
            raise result
        replies.append(result)
        await gate.idle()

    plan = plan or plan_of(policy or rule(), filters)
    plan = with_tls(plan) if in_tls else plan
    gate = play(scenario, plan, exchange=names, **(options or {}))
    return Opened(gate, replies[0], server, met, signing)


EVERY_MODE = MODES
