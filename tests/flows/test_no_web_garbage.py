"""Web connections that have ended leave no circles either, however they spoke."""

from __future__ import annotations

import asyncio
import pathlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.settings import ServiceSettings
from sluicegate.protocols.websocket import Message
from sluicegate.testing.peers import PeerStream
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.signed_leaves import SignedLeaves
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, installation, play
from tests.flows.http2_kit import asks_in_http2, on_a_stream
from tests.flows.opening_kit import SITE as SITE_TLS
from tests.flows.opening_kit import (
    Met,
    RealClock,
    TlsOrigin,
    meets,
    minter,
    plan_of,
    requests,
    rule,
)
from tests.flows.opening_kit import get as get_inside
from tests.flows.test_no_garbage import Garbage, collecting
from tests.flows.tls_kit import with_tls
from tests.flows.web_kit import NAMES, SITE, Origin, asks, get, reply, web_settings
from tests.flows.websocket_kit import RULES, End, Judge, echo, handshake, says, switched

Peer = Callable[[PeerStream], Coroutine[Any, Any, Any]]


async def chats(stream: PeerStream) -> None:
    await stream.send_all(handshake())
    await stream.receive_until(b"\r\n\r\n")
    await says(Message("hello"), Message(b"world"))(End(stream, is_client=True, deflate=None))
    stream.close()


async def leaves_early(stream: PeerStream) -> None:
    await stream.send_all(get())
    await stream.receive_exactly(10)
    stream.reset()


async def breaks_off_chats(stream: PeerStream) -> None:
    await stream.send_all(handshake())
    await stream.receive_until(b"\r\n\r\n")
    await End(stream, is_client=True, deflate=None).send(Message("hello"))
    stream.reset()


async def answers_chats(stream: PeerStream) -> None:
    head = await stream.receive_until(b"\r\n\r\n")
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    assert key is not None
    await stream.send_all(switched(key=key[1].decode()))
    try:
        await echo(End(stream, is_client=False, deflate=None))
    except OSError:
        return  # its client was cut off
    stream.close()


@dataclass
class Kind:
    """A way to speak."""

    client: Peer
    server: Peer
    plan: Callable[[], ServiceSettings]
    address: SocketAddress = SITE


def chatting(names: str, *filters: Any) -> ServiceSettings:
    return web_settings(RULES.format(names=names, more=""), filters=list(filters))


def judged() -> ServiceSettings:
    return chatting('["f"]', installation(Judge(), "f"))


def answers() -> Peer:
    return Origin(lambda _request: reply(b"x" * 100_000)).serve


BOTH = (get(), get("/other"))
KINDS: dict[str, Kind] = {
    "requests": Kind(asks(*BOTH), answers(), web_settings),
    "refused requests": Kind(asks(get(host="elsewhere.example")), answers(), web_settings),
    "broken off requests": Kind(leaves_early, answers(), web_settings),
    "HTTP/2": Kind(asks_in_http2(*BOTH), answers(), lambda: over_tls(web_settings())),
    "spliced WebSocket": Kind(chats, answers_chats, lambda: chatting("[]")),
    "judged WebSocket": Kind(chats, answers_chats, judged),
    "broken off WebSocket": Kind(breaks_off_chats, answers_chats, judged),
    "spliced WebSocket of HTTP/2": Kind(
        on_a_stream(chats), answers_chats, lambda: over_tls(chatting("[]"))
    ),
    "judged WebSocket of HTTP/2": Kind(
        on_a_stream(chats), answers_chats, lambda: over_tls(judged())
    ),
    "opened TLS": Kind(
        meets(requests(get_inside()), met=Met()),
        TlsOrigin().serve,
        lambda: plan_of(rule()),
        address=SITE_TLS,
    ),
}


def over_tls(plan: ServiceSettings) -> ServiceSettings:
    return with_tls(plan, protocols=("h2", "http/1.1"))


@pytest.mark.parametrize("kind", KINDS)
def test_ended_web_connections_leave_nothing_to_the_collector(
    kind: str, tmp_path: pathlib.Path
) -> None:
    speaks = KINDS[kind]
    found: list[Garbage] = []
    names = Names()
    for name, rows in NAMES.items():
        names.put(name, *rows)

    async def scenario(gate: Gate) -> None:
        gate.service.leaves = SignedLeaves(minter(), LeafKeys(has_rsa=False), RealClock())
        gate.serve(speaks.server, address=speaks.address)

        async def visit() -> None:
            for _ in range(3):
                (result,) = await gate.ended(gate.call(speaks.client))
                assert not isinstance(result, BaseException), result
            await gate.idle()

        await visit()  # so that pools are filled
        with collecting() as garbage:
            await visit()
            await asyncio.sleep(1.0)
        found.append(garbage)

    gate = play(scenario, speaks.plan(), exchange=names, spool=tmp_path)
    assert found[0].kinds == {}
    assert len(gate.requests) >= 6
