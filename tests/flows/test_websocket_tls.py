"""WebSockets inside TLS that a rule opens: judged as in the open, whoever names the server how."""

from __future__ import annotations

from typing import Any

import pytest
from typing_extensions import override

from sluicegate.filterapi import FORWARD, EntryMode, Refuse
from sluicegate.protocols.websocket import Close, Message
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import installation
from tests.flows.opening_kit import EVERY_MODE, Inside, Met, TlsOrigin, open_tls, rule
from tests.flows.tls_kit import serving_tls
from tests.flows.websocket_kit import End, Judge, echo, handshake, says, switched

ASK = handshake().replace(b"GET http://site.example/chat", b"GET /chat")
POLICY = rule(more='upgrades = ["websocket"]\nfilters = ["judge"]')


class Echo(TlsOrigin):
    """A server of WebSockets inside TLS."""

    heard: Any = None

    @override
    async def serve(self, stream: PeerStream) -> None:
        async def inside(peer: PeerStream) -> None:
            await peer.receive_until(b"\r\n\r\n")
            await peer.send_all(switched())
            self.heard = await echo(End(peer, is_client=False, deflate=None))
            peer.close()

        await serving_tls(inside, self.context, self.ends)(stream)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_messages_inside_tls_are_judged(mode: EntryMode) -> None:
    got: list[object] = []

    async def talk(inside: Inside, _met: Met) -> None:
        await inside.send_all(ASK)
        await inside.receive_until(b"\r\n\r\n")
        end = End(inside, is_client=True, deflate=None)
        got.extend(await says(Message("hi"), Message("secret"), Message("late"))(end))

    judge = Judge(lambda one: Refuse("a secret") if one.text == "secret" else FORWARD)
    origin = Echo()
    found = open_tls(
        talk=talk,
        policy=POLICY,
        origin=origin,
        filters=[installation(judge, "judge")],
        mode=mode,
    )
    assert origin.heard == [Message("hi"), Close(1008)]
    assert got[-1] == Close(1008, "a secret")
    (record,) = found.gate.requests
    assert record.url == "https://site.example/chat"
    assert (record.status, record.outcome, record.ended) == (101, "refused", "a secret")
