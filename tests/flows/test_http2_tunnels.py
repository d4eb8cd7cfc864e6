"""CONNECT on streams of HTTP/2: tunnels as all others, several on one connection (case D11)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.protocols.http2 import ErrorCode
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import WEB, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.http2_kit import Answer, Http2Peer, ask, hears_its_end, speaks_http2
from tests.flows.tls_kit import with_tls

HOST = "93.184.216.34:443"
LARGE = bytes(range(256)) * 4096
"""1 MiB."""


def connect(authority: str = HOST, *fields: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"CONNECT"),
        (b":authority", authority.encode()),
        *((name.encode(), value.encode()) for name, value in fields),
    ]


def settings(**options: Any) -> Any:
    return with_tls(proxy_settings(**options), protocols=("h2", "http/1.1"))


def tunnel(then: Any, *, serve: Any = echoes, plan: Any = None, **options: Any) -> tuple[Any, Gate]:
    """Let one client of HTTP/2 in; return what it saw, and the gate."""
    seen: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(*[serve] * 8, address=WEB)
        (result,) = await gate.ended(gate.call(speaks_http2(then)))
        if isinstance(result, BaseException):
            raise result
        seen.append(result)
        await gate.idle()
        await gate.until(lambda: gate.service.entries.handshake_count == 0)

    gate = play(scenario, plan or settings(), **options)
    return seen[0], gate


async def opened(client: Http2Peer, *fields: tuple[str, str]) -> int:
    number = await client.send(connect(HOST, *fields), ends=False)
    answer = client.answers[number]
    await client.until(lambda: bool(answer.status) or answer.reset is not None)
    return number


def test_a_tunnel_carries_bytes_both_ways() -> None:
    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"hello", ends=False)
        answer = client.answers[number]
        await client.until(lambda: answer.body == b"hello")
        await client.send_body(number, b" again")
        return await client.answered(number)

    answer, gate = tunnel(then)
    assert (answer.status, answer.body, answer.is_whole) == (200, b"hello again", True)
    ends = {one.entry: one for one in gate.ends}
    assert ends["http-connect"].outcome == "released"
    assert ends["http-connect"].bytes_to_server == 11
    assert "content-length" not in answer.fields


def test_bytes_that_came_before_the_answer_are_the_tunnels() -> None:
    async def then(client: Http2Peer) -> Answer:
        number = await client.send(connect(), ends=False)
        await client.send_body(number, b"early")
        return await client.answered(number)

    answer, _ = tunnel(then)
    assert (answer.status, answer.body) == (200, b"early")


def test_tunnels_and_requests_share_a_connection() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        numbers = [await opened(client) for _ in range(4)]
        denied = await client.ask(ask("/", "evil.example"))
        for place, number in enumerate(numbers):
            await client.send_body(number, b"%d" % place)
        return [denied, *[await client.answered(number) for number in numbers]]

    answers, gate = tunnel(then)
    assert answers[0].status == 403
    assert [one.body for one in answers[1:]] == [b"0", b"1", b"2", b"3"]
    assert sum(one.entry == "http-connect" for one in gate.ends) == 4


@pytest.mark.parametrize("seed", range(5))
def test_much_goes_both_ways_at_the_pace_of_the_windows(seed: int) -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        numbers = [await opened(client) for _ in range(2)]
        for start in range(0, len(LARGE), 65536):
            for number in numbers:
                await client.send_body(number, LARGE[start : start + 65536], ends=False)
        for number in numbers:
            client.h2.end_stream(number)
        await client.flush()
        return [await client.answered(number) for number in numbers]

    answers, _ = tunnel(then, seed=seed)
    for answer in answers:
        assert answer.body == LARGE
        assert answer.is_whole


@pytest.mark.parametrize(
    ("authority", "status"),
    [("unknown.example:443", 502), ("127.0.0.1:443", 403), ("93.184.216.34:22", 403)],
)
def test_what_comes_to_nothing_is_told_as_in_http_1(authority: str, status: int) -> None:
    async def then(client: Http2Peer) -> Answer:
        return await client.answered(await client.send(connect(authority), ends=False))

    answer, gate = tunnel(then)
    assert answer.status == status
    assert b"Reference" in answer.body
    assert [one.verdict for one in gate.decisions if one.target.startswith(authority[:4])] == [
        "denied"
    ]


def test_who_asks_is_asked_for_with_407_and_known_by_a_password() -> None:
    plan = settings(authenticate=Authenticate.REQUIRED)

    async def then(client: Http2Peer) -> list[Answer]:
        first = await client.answered(await client.send(connect(), ends=False))
        wrong = "Basic " + base64.b64encode(b"alice:wrong").decode()
        fields = connect(HOST, ("proxy-authorization", wrong))
        second = await client.answered(await client.send(fields, ends=False))
        return [first, second]

    answers, _ = tunnel(then, plan=plan)
    assert [one.status for one in answers] == [407, 407]
    assert answers[0].fields["proxy-authenticate"].startswith("Basic")


def test_a_stream_that_the_client_resets_resets_its_server() -> None:
    seen: list[str] = []

    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"x", ends=False)
        client.h2.reset_stream(number, 8)
        await client.flush()
        return await client.ask(ask("/", "evil.example"))

    answer, gate = tunnel(then, serve=hears_its_end(seen))
    assert answer.status == 403
    assert seen == ["reset"]
    assert [one.outcome for one in gate.ends if one.entry == "http-connect"] == ["failed"]


def test_a_server_that_resets_is_told_by_a_reset() -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.receive()
        stream.reset()

    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"x", ends=False)
        return await client.answered(number)

    answer, _ = tunnel(then, serve=serve)
    assert answer.reset == ErrorCode.CONNECT_ERROR
    assert not answer.is_whole


def test_each_direction_ends_by_itself() -> None:
    async def serve(stream: PeerStream) -> None:
        received = await stream.receive_all()
        await stream.send_all(b"late " + received)
        stream.close()

    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"x")
        return await client.answered(number)

    answer, _ = tunnel(then, serve=serve)
    assert (answer.body, answer.is_whole) == (b"late x", True)


def test_who_leaves_ends_all_of_its_tunnels() -> None:
    async def then(client: Http2Peer) -> int:
        for _ in range(3):
            await opened(client)
        return 0

    _, gate = tunnel(then)
    assert sum(one.entry == "http-connect" for one in gate.ends) == 3


MALFORMED = [
    [*connect(), (b":path", b"/")],
    [*connect(), (b":scheme", b"https")],
    connect("93.184.216.34"),
    connect("93.184.216.34:0"),
    connect("a@93.184.216.34:443"),
    [*connect(), (b":protocol", b"websocket")],
    [*connect(), (b"content-length", b"5")],
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_what_is_no_connect_is_refused_before_it_is_asked(fields: Any) -> None:
    """Hostile cases D8, D11, B10, B11 on streams."""

    async def then(client: Http2Peer) -> Answer:
        return await client.answered(await client.send(fields, ends=False))

    answer, _ = tunnel(then)
    assert answer.status == 400
