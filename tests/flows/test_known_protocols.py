"""Servers of HTTP/2 alone: what is remembered of them for clients of HTTP/1, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from sluicegate.access_limits import TLS_PROTOCOL_KEPT_S, TLS_PROTOCOLS_KEPT_MAX
from sluicegate.gate.known_protocols import KnownProtocols
from sluicegate.testing.peers import PeerStream
from tests.chains import root
from tests.flows.gate_kit import Gate
from tests.flows.opening_kit import (
    NAME,
    SITE,
    TlsOrigin,
    client_context,
    get,
    meets,
    open_tls,
    requests,
    rule,
    untrusted,
)
from tests.flows.test_extended_connect_servers import (
    ASK,
    UPGRADES,
    Alone,
    Both,
    back,
    says_hello,
)
from tests.flows.test_extended_connect_servers import plan_of as proxy_plan_of
from tests.flows.test_opening_shared import STRANGER, Visit, distrust, reload
from tests.flows.tls_kit import server_context
from tests.flows.web_kit import Message, browse, reply

PAGE = get().replace(b"https://site.example", b"")


class Changing(Alone):
    """A server of HTTP/2 alone, until it becomes one of HTTP/1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.is_old = False
        self.old = TlsOrigin(answers=lambda _: reply(b"old"))

    @override
    async def serve(self, stream: PeerStream) -> None:
        if self.is_old:
            await self.old.serve(stream)
        else:
            await super().serve(stream)


def visits(
    between: Callable[[Gate], Any] | None = None,
    *,
    origin: Any = None,
    policy: str | None = None,
    knows: Any = None,
) -> tuple[list[list[int]], Any]:
    """Let two clients of HTTP/1 come, who share no server; return what each was answered."""
    server = origin or Alone()
    second = Visit(source=STRANGER, sends=[PAGE])

    async def come_again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        if between is not None:
            await between(gate)
        peer = meets(
            requests(*second.sends),
            context=client_context("http/1.1", knows=knows),
            met=second.met,
        )
        await gate.ended(gate.call(peer, source=second.source), within_s=60.0)

    found = open_tls(
        PAGE,
        origin=server,
        context=client_context("http/1.1", knows=knows),
        during=come_again,
        policy=policy,
    )
    return [found.met.statuses, second.met.statuses], server


def test_the_next_client_of_http_1_costs_one_dial() -> None:
    statuses, origin = visits()
    assert statuses == [[200], [200]]
    assert (origin.refused, origin.spoken) == (1, ["h2", "h2"])


async def age(_gate: Gate) -> None:
    await asyncio.sleep(TLS_PROTOCOL_KEPT_S)


async def idle(gate: Gate) -> None:
    await asyncio.sleep(2 * gate.service.limits.web_servers_idle_s)
    assert not len(gate.service.web.pool)


# what happens in between, how many dials are refused in all
BETWEEN = [
    ("another policy", reload, 1),
    ("an idle while", idle, 1),
    ("other authorities", distrust, 2),
    ("a long time", age, 2),
]


@pytest.mark.parametrize(
    ("between", "refused"), [one[1:] for one in BETWEEN], ids=[one[0] for one in BETWEEN]
)
def test_it_holds_for_the_server_and_for_how_it_is_verified(between: Any, refused: int) -> None:
    statuses, origin = visits(between)
    assert statuses == [[200], [200]]
    assert origin.refused == refused


def test_a_server_that_has_unlearned_http_2_is_asked_in_http_1() -> None:
    origin = Changing()

    async def change(_gate: Gate) -> None:
        origin.is_old = True

    statuses, _ = visits(change, origin=origin)
    assert statuses == [[200], [200]]
    assert [one.line for one in origin.old.seen] == ["GET / HTTP/1.1"]


def test_nothing_is_remembered_of_a_server_that_was_not_verified() -> None:
    class Nobody(Alone):
        @override
        def __init__(self) -> None:
            super().__init__()
            nobody = root("nobody").issue(names=[NAME])
            self.context = server_context(nobody, protocols=("h2",))

    policy = rule('mode = "inspect", unverified = "show"')
    statuses, origin = visits(origin=Nobody(), policy=policy, knows=untrusted())
    assert statuses == [[200], [200]]
    assert origin.refused == 2


def test_a_server_that_speaks_neither_is_told_of_and_not_dialled_for_ever() -> None:
    class Neither(Alone):
        dials = 0

        @override
        async def serve(self, stream: PeerStream) -> None:
            self.dials += 1
            if self.dials > 2:
                stream._pending = (await stream.receive()).replace(b"\x02h2", b"")
            await super().serve(stream)

    origin = Neither()
    statuses, _ = visits(origin=origin)
    assert statuses == [[200], []]
    assert origin.dials == 5, "two for the first client, three for the second"


@pytest.mark.parametrize("is_old", [False, True], ids=["stays", "has changed"])
def test_the_next_websocket_is_asked_for_on_a_stream_at_once(is_old: bool) -> None:
    got: list[bytes] = []
    origin = Alone(back)

    class Switching(Both):
        @override
        async def serve(self, stream: PeerStream) -> None:
            await (old if origin.spoken and is_old else origin).serve(stream)

    def answer(request: Message) -> bytes:
        del request
        return reply(b"no", status="404 Not Found")

    old = TlsOrigin(answers=answer)

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(ASK)
        head = await stream.receive_until(b"\r\n\r\n")
        got.append(await says_hello(stream) if b" 101 " in head else head[9:12])
        stream.close()

    async def again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        await idle(gate)
        await gate.ended(gate.call(peer))

    browse(
        origin=Switching(back),
        plan=proxy_plan_of(UPGRADES),
        address=SITE,
        peer=peer,
        meanwhile=again,
    )
    assert got == [b"hello", b"404" if is_old else b"hello"]
    assert origin.refused == 1
    assert origin.spoken == (["h2"] if is_old else ["h2", "h2"])


def test_there_are_never_more_than_there_may_be() -> None:
    known = KnownProtocols()
    keys = [(f"{number}.example", 443, SITE, 0) for number in range(TLS_PROTOCOLS_KEPT_MAX + 2)]
    for key in keys:
        known.keep(key, 1.0)
    assert len(known) == TLS_PROTOCOLS_KEPT_MAX
    assert not known.is_http2_alone(keys[1], 1.0)
    assert known.is_http2_alone(keys[2], TLS_PROTOCOL_KEPT_S)
    assert not known.is_http2_alone(keys[2], TLS_PROTOCOL_KEPT_S + 1.0)
    assert len(known) == TLS_PROTOCOLS_KEPT_MAX - 1, "what is too old is forgotten"
