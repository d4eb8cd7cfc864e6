"""Extended CONNECT (RFC 8441): other protocols on streams of HTTP/2, by rule (cases D11, I3, J)."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import FloodBounds
from sluicegate.protocols.http2 import ErrorCode
from sluicegate.protocols.websocket import Close, Message
from sluicegate.testing.peers import PeerStream, SimulatedPeers
from tests.flows.gate_kit import installation
from tests.flows.http2_kit import (
    Answer,
    Http2Peer,
    StreamPeer,
    ask,
    hears_its_end,
    http2_settings,
    visit,
)
from tests.flows.web_kit import RULES, Origin, Visit, reply
from tests.flows.websocket_kit import End, Judge, handshake, switched

UPGRADES = RULES + 'upgrades = ["websocket"]\n'
OTHER_RULE = """
[[rule]]
name = "chat"
to = ["chat.example"]
upgrades = ["websocket"]
"""
LARGE = bytes(range(256)) * 2048
"""512 KiB."""

Serve = Callable[[PeerStream], Awaitable[Any]]


def connect(*fields: tuple[str, str], protocol: str = "websocket") -> list[tuple[bytes, bytes]]:
    pseudo = ask("/chat", "site.example", method="CONNECT")
    pseudo.insert(1, (b":protocol", protocol.encode()))
    version = (b"sec-websocket-version", b"13")
    return [*pseudo, version, *((name.encode(), value.encode()) for name, value in fields)]


class Switching(Origin):
    """A server that proves that it has read the key, and does something then."""

    def __init__(self, then: Serve | None = None, answer: bytes | None = None) -> None:
        super().__init__()
        self.then = then or echoes
        self.answer = answer
        self.heads: list[bytes] = []

    async def serve(self, stream: PeerStream) -> None:
        head = await stream.receive_until(b"\r\n\r\n")
        self.heads.append(head)
        lines = [one.partition(b": ") for one in head.split(b"\r\n")]
        key = next((v.decode() for n, _, v in lines if n.lower() == b"sec-websocket-key"), "")
        await stream.send_all(switched(key=key) if self.answer is None else self.answer)
        await self.then(stream)


async def echoes(stream: PeerStream) -> None:
    while piece := await stream.receive():
        await stream.send_all(piece)
    stream.close()


async def closes(stream: PeerStream) -> None:
    stream.close()


async def announced(client: Http2Peer) -> None:
    await client.until(lambda: bool(client.h2.remote_settings.enable_connect_protocol))


async def opened(client: Http2Peer, *fields: tuple[str, str]) -> int:
    await announced(client)
    number = await client.send(connect(*fields), ends=False)
    answer = client.answers[number]
    await client.until(lambda: bool(answer.status) or answer.reset is not None)
    return number


def tunnel(
    then: Callable[[Http2Peer], Any],
    *,
    origin: Any = None,
    policy: str = UPGRADES,
    filters: Any = (),
    plan: ServiceSettings | None = None,
    **options: Any,
) -> Visit:
    return visit(
        then,
        plan=plan or http2_settings(policy, filters=filters),
        origin=origin or Switching(),
        **options,
    )


def test_a_stream_that_switches_is_a_tunnel_of_its_own_record() -> None:
    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"one ", ends=False)
        answer = client.answers[number]
        await client.until(lambda: answer.body == b"one ")
        await client.send_body(number, b"two")
        return await client.answered(number)

    found = tunnel(then)
    answer = found.answers
    assert (answer.status, answer.body, answer.is_whole) == (200, b"one two", True)
    assert not {"upgrade", "connection", "sec-websocket-accept", "content-length"} & set(
        answer.fields
    )
    head = found.origin.heads[0]
    assert head.startswith(b"GET /chat HTTP/1.1\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert head.lower().count(b"\r\nsec-websocket-key: ") == 1
    (record,) = found.gate.requests
    assert (record.method, record.url) == ("GET", "http://site.example/chat")
    assert (record.status, record.outcome) == (101, "released")
    stream, carrier = sorted(found.gate.ends, key=lambda one: one.connection, reverse=True)
    assert stream.connection == f"{carrier.connection}.1"
    assert (stream.outcome, stream.bytes_to_server, stream.bytes_to_client) == ("released", 7, 7)


@pytest.mark.parametrize("seed", range(3))
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

    found = tunnel(then, seed=seed)
    assert [(one.body == LARGE, one.is_whole) for one in found.answers] == [(True, True)] * 2


def test_a_client_that_does_not_read_holds_up_its_server() -> None:
    sent = 0

    async def pours(stream: PeerStream) -> None:
        nonlocal sent
        try:
            for _ in range(512):
                await stream.send_all(bytes(65536))
                sent += 65536
        except OSError:
            return

    async def then(client: Http2Peer) -> None:
        client.acknowledges = False
        number = await opened(client)
        await client.until(lambda: len(client.answers[number].body) > 65000)

    tunnel(then, origin=Switching(pours))
    assert sent < 4 << 20, "what is not read is not fetched"


def test_what_comes_before_the_server_has_switched_waits_for_it() -> None:
    """Hostile case D12 on a stream."""
    seen: list[bytes] = []

    class Slow(Switching):
        async def serve(self, stream: PeerStream) -> None:
            head = await stream.receive_until(b"\r\n\r\n")
            with pytest.raises(BlockingIOError):
                stream.socket.receive(1)
            seen.append(head)
            key = head.lower().partition(b"sec-websocket-key: ")[2]
            at = len(head) - len(key)
            await stream.send_all(switched(key=head[at:].partition(b"\r\n")[0].decode()))
            seen.append(await stream.receive_exactly(5))
            stream.close()

    async def then(client: Http2Peer) -> Answer:
        await announced(client)
        number = await client.send(connect(), ends=False)
        await client.send_body(number, b"early", ends=False)
        return await client.answered(number)

    found = tunnel(then, origin=Slow())
    assert found.answers.status == 200
    assert seen[1] == b"early"
    assert b"early" not in seen[0]


@pytest.mark.parametrize("ends_with_head", [True, False])
def test_the_end_of_a_stream_is_the_end_of_its_direction(*, ends_with_head: bool) -> None:
    async def late(stream: PeerStream) -> None:
        received = await stream.receive_all()
        await stream.send_all(b"late " + received)
        stream.close()

    async def then(client: Http2Peer) -> Answer:
        await announced(client)
        number = await client.send(connect(), ends=ends_with_head)
        if not ends_with_head:
            await client.send_body(number, b"x")
        return await client.answered(number)

    answer = tunnel(then, origin=Switching(late)).answers
    assert (answer.body, answer.is_whole) == (b"late " if ends_with_head else b"late x", True)


def test_a_reset_of_either_side_resets_the_other() -> None:
    seen: list[str] = []

    async def resets(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"x", ends=False)
        client.h2.reset_stream(number, ErrorCode.CANCEL)
        await client.flush()
        return await client.ask(ask("/", "evil.example"))

    found = tunnel(resets, origin=Switching(hears_its_end(seen)))
    assert found.answers.status == 403, "the connection goes on"
    assert seen == ["reset"]
    assert [one.outcome for one in found.gate.ends if "." in one.connection] == ["failed"]

    async def cuts(stream: PeerStream) -> None:
        await stream.receive()
        stream.reset()

    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        await client.send_body(number, b"x", ends=False)
        return await client.answered(number)

    answer = tunnel(then, origin=Switching(cuts)).answers
    assert (answer.reset, answer.is_whole) == (ErrorCode.CANCEL, False)


def test_websockets_and_requests_share_a_connection() -> None:
    class Both(Switching):
        async def serve(self, stream: PeerStream) -> None:
            head = await stream.receive_until(b"\r\n\r\n")
            if b"Upgrade" not in head:
                await stream.send_all(reply(b"page", "Connection: close"))
                stream.close()
                return
            lines = [one.partition(b": ") for one in head.split(b"\r\n")]
            key = next(v.decode() for n, _, v in lines if n.lower() == b"sec-websocket-key")
            await stream.send_all(switched(key=key))
            await echoes(stream)

    async def then(client: Http2Peer) -> list[Any]:
        numbers = [await opened(client) for _ in range(4)]
        page = await client.ask(ask("/", "site.example"))
        for place, number in enumerate(numbers):
            await client.send_body(number, b"%d" % place)
        echoed = [(await client.answered(number)).body for number in numbers]
        again = await opened(client)
        await client.send_body(again, b"again")
        return [page.body, *echoed, (await client.answered(again)).body]

    found = tunnel(then, origin=Both())
    assert found.answers == [b"page", b"0", b"1", b"2", b"3", b"again"]


# -- what is refused -------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, list[tuple[bytes, bytes]], int, str]] = {
    "no rule lets anything switch": (RULES, connect(), 400, "malformed-request: protocol"),
    "another rule lets it": (OTHER_RULE + RULES, connect(), 403, "upgrade-not-allowed"),
    "another protocol": (UPGRADES, connect(protocol="connect-udp"), 501, "malformed-request: protocol-not-served"),
    "h2c": (UPGRADES, connect(protocol="h2c"), 501, "malformed-request: protocol-not-served"),
    "no token": (UPGRADES, connect(protocol="web socket"), 400, "malformed-request: protocol"),
    "empty": (UPGRADES, connect(protocol=""), 400, "malformed-request: protocol"),
    "of a GET": (UPGRADES, [(b":method", b"GET"), *connect()[1:]], 400, "malformed-request: protocol"),
    "a length": (UPGRADES, connect(("content-length", "5")), 400, "malformed-request: connect"),
    "a length of nothing": (UPGRADES, connect(("content-length", "0")), 400, "malformed-request: connect"),
    "no path": (UPGRADES, [one for one in connect() if one[0] != b":path"], 400, "malformed-request: pseudo-missing"),
    "no scheme": (UPGRADES, [one for one in connect() if one[0] != b":scheme"], 400, "malformed-request: pseudo-missing"),
    "an upgrade besides": (UPGRADES, connect(("upgrade", "websocket")), 400, "malformed-request: field-of-connection"),
    "another host": (UPGRADES, connect(("host", "evil.example")), 400, "malformed-request: host-disagrees"),
    "a scheme of its own": (UPGRADES, [(n, b"ws" if n == b":scheme" else v) for n, v in connect()], 501, "scheme-not-served"),
    "a host that no rule lets": (UPGRADES, [(n, b"evil.example" if n == b":authority" else v) for n, v in connect()], 403, "no-rule"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_not_be_had_is_refused_before_any_server_is_asked(case: str) -> None:
    policy, fields, status, reason = REFUSED[case]

    async def then(client: Http2Peer) -> list[Answer]:
        first = await client.answered(await client.send(fields, ends=False))
        return [first, await client.ask(ask("/", "evil.example"))]

    found = tunnel(then, policy=policy)
    first, second = found.answers
    assert (first.status, second.status) == (status, 403), "the connection goes on"
    assert found.origin.heads == []
    refused = found.gate.requests[0]
    assert (refused.ended or refused.reason).startswith(reason)


def test_it_is_announced_where_some_rule_lets_something_switch() -> None:
    async def then(client: Http2Peer) -> bool:
        await client.ask(ask("/", "evil.example"))
        return bool(client.h2.remote_settings.enable_connect_protocol)

    assert tunnel(then, policy=UPGRADES).answers is True
    assert tunnel(then, policy=RULES).answers is False


ANSWERS: dict[str, tuple[bytes, int, str]] = {
    "a page is not taken for the other protocol": (reply(b"<html>"), 502, "server-has-not-switched"),
    "nor is an empty success": (b"HTTP/1.1 204 No Content\r\n\r\n", 502, "server-has-not-switched"),
    "no proof": (switched().replace(b"Sec-WebSocket-Accept", b"X-Other"), 502, "server-websocket-accept"),
    "another's proof": (switched(), 502, "server-websocket-accept"),
    "another protocol": (switched().replace(b"Upgrade: websocket", b"Upgrade: h2c"), 502, "server-upgrade-unasked"),
    "a refusal passes": (reply(b"go away", status="403 Forbidden"), 403, ""),
    "a redirection passes": (b"HTTP/1.1 307 x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 307, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_only_a_server_that_has_switched_is_a_success(case: str) -> None:
    """Hostile case D13 on a stream."""
    wire, status, ended = ANSWERS[case]

    async def then(client: Http2Peer) -> Answer:
        await announced(client)
        return await client.answered(await client.send(connect(), ends=False))

    found = tunnel(then, origin=Switching(closes, wire))
    assert found.answers.status == status
    if ended:
        assert b"html" not in found.answers.body.replace(b"text/html", b"").lower() or (
            b"Reference" in found.answers.body
        )
    else:
        assert found.answers.is_whole
    (record,) = found.gate.requests
    assert record.ended.startswith(ended)
    assert (record.ended == "") is (ended == "")


def test_streams_that_have_switched_count_as_connections_of_their_client() -> None:
    async def then(client: Http2Peer) -> list[int]:
        return [client.answers[await opened(client)].status for _ in range(4)]

    found = tunnel(then, flood=FloodBounds(connections_max=3))
    assert found.answers == [200, 200, 503, 503]
    refused = [one.ended for one in found.gate.requests if one.status == 503]
    assert refused == ["limit connections_max"] * 2


def test_resets_of_streams_that_switch_are_counted_as_all_others() -> None:
    """Hostile case I3: Rapid Reset by way of tunnels."""

    async def then(client: Http2Peer) -> None:
        await announced(client)
        for _ in range(400):
            number = client.h2.get_next_available_stream_id()
            client.h2.send_headers(number, connect())
            client.h2.reset_stream(number, ErrorCode.CANCEL)
        await client.flush()
        with contextlib.suppress(OSError):
            while await client.tls.receive():
                pass

    found = tunnel(then)
    carrier = next(one for one in found.gate.ends if "." not in one.connection)
    assert carrier.reason == "malformed-http2: reset-flood"


def test_a_window_of_one_byte_ends_the_connection_and_not_the_gate() -> None:
    """Hostile case I3: what has to be cut into frames of a byte is more work than message."""

    async def pours(stream: PeerStream) -> None:
        try:
            while True:
                await stream.send_all(bytes(1000))
        except OSError:
            return

    async def then(client: Http2Peer) -> Any:
        from h2.settings import SettingCodes

        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
        await client.flush()
        await opened(client)
        await client.until(lambda: client.left is not None)
        return client.left

    found = tunnel(then, origin=Switching(pours))
    assert found.answers is None or found.answers.error_code == ErrorCode.ENHANCE_YOUR_CALM
    carrier = next(one for one in found.gate.ends if "." not in one.connection)
    assert carrier.reason == "malformed-http2: tiny-window"


def test_a_policy_that_lets_nothing_switch_any_more_ends_what_has() -> None:
    async def meanwhile(gate: Any) -> None:
        await gate.until(lambda: len(gate.requests) == 1)
        await gate.service.apply(http2_settings(RULES))

    async def then(client: Http2Peer) -> Answer:
        number = await opened(client)
        return await client.answered(number)

    found = tunnel(then, meanwhile=meanwhile)
    assert found.answers.reset == ErrorCode.CANCEL
    stream = next(one for one in found.gate.ends if "." in one.connection)
    assert "may not switch" in stream.reason


def test_a_close_that_the_window_does_not_let_yet_is_not_lost() -> None:
    """Both sides have closed when the client takes it: what waits for it goes first."""

    async def serve(stream: PeerStream) -> None:
        end = End(stream, is_client=False, deflate=None)
        await end.receive()
        await end.send(Message(bytes(65_529)))  # 2 bytes are left of the window
        await end.send(await end.receive() or Close(1011))
        stream.close()

    async def then(client: Http2Peer) -> list[Any]:
        client.acknowledges = False
        await announced(client)
        stream = StreamPeer(client)
        end = End(stream, is_client=True, deflate=None)
        await stream.send_all(handshake())
        await stream.receive_until(b"\r\n\r\n")
        await end.send(Message("go"), Close(4000, "enough"))
        got = [await end.receive()]
        await SimulatedPeers(client.tls.stream._network).sleep(1.0)
        client.h2.increment_flow_control_window(1 << 20)
        client.h2.increment_flow_control_window(1 << 20, stream.number)
        await client.flush()
        got.append(await end.receive())
        stream.close()
        await client.until(lambda: stream.is_over)
        return [*got, stream.answer.reset]

    filters = (installation(Judge(), "judge"),)
    found = tunnel(
        then, policy=UPGRADES + 'filters = ["judge"]\n', filters=filters, origin=Switching(serve)
    )
    message, close, reset = found.answers
    assert isinstance(message, Message)
    assert close == Close(4000, "enough")
    assert reset in {None, ErrorCode.NO_ERROR}
    (record,) = found.gate.requests
    assert (record.outcome, record.ended) == ("released", "")
