"""A judge that notes what it was asked, servers that answer from a table, and virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import dns.message
import dns.rcode
import dns.rrset

from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.limits import Limits
from sluicegate.names import CanonicalHost, HostPattern
from sluicegate.names.address_class import AddressClassifier, AddressJudgement
from sluicegate.names.destination import deny_unless_public
from sluicegate.names.packets import Match, Query
from sluicegate.names.resolver import Resolver
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.port import PortEventLoop
from sluicegate.testing import SimulatedBackend, simulated_completion_port
from sluicegate.verdict import Deny

SERVER = SocketAddress("192.0.2.53", 53)
OTHER_SERVER = SocketAddress("192.0.2.54", 53)


class Rules:
    """A judge by patterns; everything below ``.example`` may be named, public addresses dialled."""

    def __init__(self, *patterns: str, denied_aliases: tuple[str, ...] = ()) -> None:
        self.patterns = [HostPattern.parse(text) for text in patterns or ("*.example",)]
        self.denied_aliases = [HostPattern.parse(text) for text in denied_aliases]
        self.private_is_allowed = False
        self.asked: list[str] = []

    def judge_name(self, host: CanonicalHost, port: int) -> Deny | None:
        self.asked.append(f"name {host}:{port}")
        if host.is_address or any(pattern.matches(host) for pattern in self.patterns):
            return None
        return Deny("not in the list")

    def judge_alias(self, host: CanonicalHost, alias: CanonicalHost, port: int) -> Deny | None:
        self.asked.append(f"alias {host} {alias}")
        denied = any(pattern.matches(alias) for pattern in self.denied_aliases)
        return Deny("a refused zone") if denied else None

    def judge_address(
        self, host: CanonicalHost, judgement: AddressJudgement, port: int
    ) -> Deny | None:
        self.asked.append(f"address {host} {judgement.address}")
        return None if self.private_is_allowed else deny_unless_public(judgement)


def rrset(record: str) -> dns.rrset.RRset:
    owner, ttl, kind, rest = record.split(" ", 3)
    return dns.rrset.from_text(owner, int(ttl), "IN", kind, rest)


def answer(wire: bytes, *records: str, rcode: str = "NOERROR", truncated: bool = False) -> bytes:
    """Answer a query with what fits it of the records: its type, and aliases."""
    asked = dns.message.from_wire(wire)
    message = dns.message.make_response(asked, recursion_available=True)
    message.set_rcode(dns.rcode.from_text(rcode))
    for record in map(rrset, records):
        if record.rdtype == asked.question[0].rdtype or record.rdtype == 5:
            message.answer.append(record)
    if truncated:
        message.flags |= 0x0200
    return message.to_wire(max_size=65535)


Behavior = Callable[[bytes, bool], bytes | Exception | None]
"""What a server does with a query's bytes, over TCP or not; None is silence."""


class TableExchange:
    """Stands in for the network: each server is a function; notes every query."""

    def __init__(self, **behaviors: Behavior) -> None:
        self.behaviors = {SERVER.host: behaviors.get("first"), OTHER_SERVER.host: None}
        self.behaviors[OTHER_SERVER.host] = behaviors.get("second")
        self.asked: list[str] = []
        self.delay_s = 0.01

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        return await self._ask(server, query, "udp")

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        return await self._ask(server, query, "tcp")

    async def _ask(self, server: SocketAddress, query: Query, how: str) -> bytes:
        question = query.question
        self.asked.append(f"{how} {server.host} {question.name} {question.record_type.name}")
        await asyncio.sleep(self.delay_s)
        behavior = self.behaviors[server.host]
        found = behavior(query.wire, how == "tcp") if behavior is not None else None
        if isinstance(found, Exception):
            raise found
        if found is None:
            await asyncio.get_running_loop().create_future()
        assert found is not None
        assert query.match(found) is Match.SAME
        return found


def records(*lines: str, **options: Any) -> Behavior:
    """A server that knows these records and nothing else."""
    return lambda wire, _tcp: answer(wire, *lines, **options)


class Lookups:
    """One resolver on virtual time."""

    def __init__(self, exchange: TableExchange, **options: Any) -> None:
        self.exchange = exchange
        self._limits = options.pop("limits", Limits())
        self._classifier = options.pop("classifier", AddressClassifier())
        servers = options.pop("servers", (SERVER,))
        self._settings = ResolverSettings(servers=servers, **options)
        self.clock: Clock

    def run(self, main: Callable[[Resolver], Coroutine[Any, Any, Any]]) -> Any:
        port = simulated_completion_port(SimulatedBackend())
        self.clock = port.clock
        resolver = Resolver(
            self._settings,
            port.clock,
            self._limits,
            classifier=self._classifier,
            exchange=self.exchange,
            randbits=random.Random(5).getrandbits,
        )

        async def checked() -> Any:
            try:
                return await main(resolver)
            finally:
                await resolver.close()
                assert resolver.statistics()["asking"] == 0

        with asyncio.Runner(loop_factory=lambda: PortEventLoop(port)) as runner:
            return runner.run(checked())
