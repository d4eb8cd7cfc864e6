"""Clients and servers of TLS as far as their first bytes go, in every entry mode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import Installation, ListenerSettings, ServiceSettings
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import MODES, WEB, Ask, Names, asks, proxy_settings, rules
from tests.flows.gate_kit import ENTRY, LIMITS, Gate, Peer, play
from tests.flows.tls_kit import inside_tls, with_tls
from tests.unit.hello_kit import server_hello

PUBLISHED = EntryMode.PUBLISHED
EVERY_MODE = (*MODES, PUBLISHED)
NAME = "www.example"
ANSWER = server_hello()
AGAIN = server_hello(asks_again=True)
NAMES = {NAME: WEB.host, "b.example": "198.51.99.9", "alias.example": WEB.host}


def policy(
    tls: str = "",
    *,
    to: str = NAME,
    more: str = "",
    mode: EntryMode = MODES[0],
    name: str = "web",
) -> str:
    """Return a policy with one rule, or one publication, that looks at hellos."""
    if mode is PUBLISHED:
        names = [] if 'sni = "any"' in tls or "names" in tls else [f'names = ["{NAME}"]']
        keys = ", ".join(filter(None, (*names, tls)))
        return f"""
            [[publish]]
            name="web"
            listener = "web"
            server = "{WEB}"
            clients = ["10.0.0.0/8"]
            tls = {{ {keys} }}
            {more}
        """
    keys = f"tls = {{ {tls} }}" if tls else "# tls is left out"
    return f'[[rule]]\nname = "{name}"\nto = ["{to}"]\nprotocols = ["tcp"]\n{keys}\n{more}\n'


def plan_of(mode: EntryMode, text: str, filters: Sequence[Installation] = ()) -> ServiceSettings:
    if mode is PUBLISHED:
        listeners = (ListenerSettings("web", ENTRY),)
        return ServiceSettings(listeners, rules(text), tuple(filters), LIMITS)
    return proxy_settings(text, filters=filters)


def opens(
    mode: EntryMode, talk: Peer, *, host: str = NAME, port: int = WEB.port, early: bytes = b""
) -> Peer:
    """Be a client that comes in a mode, and talks once its tunnel is there."""
    if mode is PUBLISHED:
        return talk
    peer = asks(Ask(mode, host, port, early=early), talk)

    async def client(stream: PeerStream) -> Any:
        reply = await peer(stream)
        return reply.tunnelled if reply.is_granted else reply.code

    return client


def says(*pieces: bytes, ends: bool = False) -> Peer:
    """Send a hello in pieces, wait for the answer, and have a word echoed behind it.

    Returns ``through``, ``reset`` or ``ended``.
    """

    async def talk(stream: PeerStream) -> str:
        try:
            for piece in pieces:
                await stream.send_all(piece)
            if ends:
                stream.end_stream()
            elif await stream.receive_exactly(len(ANSWER)) == ANSWER:
                await stream.send_all(b"a word")
                assert await stream.receive_exactly(6) == b"a word"
                stream.close()
                return "through"
            await stream.receive_all()
        except ConnectionResetError:
            return "reset"
        return "ended"

    return talk


@dataclasses.dataclass
class Server:
    """A server of TLS: answers the first bytes, echoes what comes behind them."""

    answers: Sequence[bytes] = (ANSWER,)
    length: int = 1
    """How much it waits for before it answers."""
    greeting: bytes = b""
    heard: bytearray = dataclasses.field(default_factory=bytearray)
    dialled: int = 0

    async def __call__(self, stream: PeerStream) -> None:
        self.dialled += 1
        try:
            await stream.send_all(self.greeting)
            for answer in self.answers:
                before = len(self.heard)
                while len(self.heard) < before + self.length:
                    piece = await stream.receive()
                    if not piece:
                        stream.close()
                        return
                    self.heard += piece
                await stream.send_all(answer)
            while piece := await stream.receive():
                self.heard += piece
                await stream.send_all(piece)
            stream.close()
        except OSError:
            pass


@dataclasses.dataclass
class Outcome:
    """What came of one client."""

    said: Any
    gate: Gate
    server: Server
    names: Names

    @property
    def end(self) -> tuple[str, str]:
        """How its record says it ended."""
        (end,) = self.gate.ends
        return end.outcome, end.reason


def meet(
    mode: EntryMode,
    talk: Peer,
    text: str,
    *,
    server: Server | None = None,
    names: Names | None = None,
    filters: Sequence[Installation] = (),
    then: Callable[[Gate], Any] | None = None,
    address: SocketAddress = WEB,
    seed: int = 0,
    faults: FaultPlan | None = None,
    inside: bool = False,
    **client: Any,
) -> Outcome:
    """Let one client talk to one server."""
    server = server or Server()
    names = names or Names()
    for name, found in NAMES.items():
        names.records.setdefault(name, [found])
    said: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(server, address=address)
        peer = opens(mode, talk, **client)
        task = gate.call(inside_tls(peer) if inside else peer)
        if then is not None:
            await then(gate)
        said.extend(await gate.ended(task))
        await gate.idle()

    plan = plan_of(mode, text, filters)
    plan = with_tls(plan) if inside else plan
    gate = play(scenario, plan, exchange=names, seed=seed, faults=faults)
    return Outcome(said[0], gate, server, names)
