"""Requests that come at once for a server nobody has met: one dial, if it chooses HTTP/2."""

from __future__ import annotations

import pytest
from typing_extensions import override

from sluicegate.testing.peers import PeerStream
from sluicegate.web_limits import WEB_FIRST_DIAL_S
from tests.flows.http2_kit import Answer, Http2Peer, asks
from tests.flows.test_http2_servers import Http2Origin, secure, visit
from tests.flows.test_web_server_tls import TlsOrigin
from tests.flows.web_kit import Visit

PATHS = [f"/{place}" for place in range(12)]


def at_once(origin: TlsOrigin) -> Visit:
    return visit(then=asks(*secure(*PATHS)), origin=origin)  # type: ignore[arg-type]


def test_a_server_that_chooses_http_2_is_dialled_once() -> None:
    found = at_once(Http2Origin())
    assert [one.status for one in found.answers] == [200] * len(PATHS)
    assert found.origin.connections == 1
    assert sorted(found.origin.lines) == sorted(f"GET {path} HTTP/2" for path in PATHS)


def test_a_server_that_does_not_is_dialled_for_each() -> None:
    found = at_once(TlsOrigin())
    assert [one.status for one in found.answers] == [200] * len(PATHS)
    assert found.origin.connections == len(PATHS)


def test_nobody_waits_for_a_server_that_is_known_to_choose_http_1() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        first = [await client.ask(one) for one in secure("/first")]
        numbers = [await client.send(one) for one in secure(*PATHS)]
        return [*first, *[await client.answered(number) for number in numbers]]

    found = visit(then=then, origin=TlsOrigin())  # type: ignore[arg-type]
    assert [one.status for one in found.answers] == [200] * (1 + len(PATHS))
    kept = found.gate.service.web.first_dials
    assert len(kept._in_http_1) == 1
    assert not kept._dials


class Stalls(Http2Origin):
    """Does not answer whoever comes first."""

    comers = 0
    resets = False

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.comers += 1
        if self.comers == 1:
            await stream.receive()
            if self.resets:
                stream.reset()
            while await stream.receive():
                pass
            return
        await super().serve(stream)


def test_a_dial_that_stalls_holds_the_others_up_for_a_bounded_time() -> None:
    found = at_once(Stalls())
    statuses = [one.status for one in found.answers]
    assert (statuses[0], set(statuses[1:])) == (504, {200})
    waited = [one.duration_ms for one in found.gate.requests if one.status == 200]
    assert len(waited) == len(PATHS) - 1
    assert max(waited) < (WEB_FIRST_DIAL_S + 0.5) * 1000


def test_a_dial_that_fails_lets_the_others_dial() -> None:
    origin = Stalls()
    origin.resets = True
    found = at_once(origin)
    statuses = [one.status for one in found.answers]
    assert (statuses[0], set(statuses[1:])) == (502, {200})


@pytest.mark.parametrize("given_up", [0, 5])
def test_whoever_gives_up_does_not_keep_the_others(given_up: int) -> None:
    """The one that dials, or one that waits for it."""

    async def then(client: Http2Peer) -> list[Answer]:
        numbers = [await client.send(one) for one in secure(*PATHS)]
        client.h2.reset_stream(numbers[given_up], 8)
        await client.flush()
        del numbers[given_up]
        return [await client.answered(number) for number in numbers]

    found = visit(then=then)
    assert [one.status for one in found.answers] == [200] * (len(PATHS) - 1)
    assert not found.gate.service.web.first_dials._dials
