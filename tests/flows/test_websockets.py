"""WebSockets whose messages are judged: what passes, what does not, and how both sides learn it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import FilterFailureRecord
from sluicegate.filterapi import (
    DROP,
    FORWARD,
    HOLD,
    LEAVE,
    SKIP_BODY,
    CloseWith,
    ContentFilter,
    Direction,
    Forward,
    Need,
    Needs,
    Refuse,
    Release,
    Replace,
    Rewrite,
    Wants,
    WebFilter,
    WebMessage,
)
from sluicegate.gate.settings import OnFailure, ServiceSettings
from sluicegate.protocols.websocket import Close, Deflate, Message, Ping, Pong
from tests.flows.entry_kit import rules
from tests.flows.gate_kit import Gate, installation
from tests.flows.websocket_kit import STAYS, End, Judge, chat, echo, handshake, says, switched
from tests.unit.test_websocket import DEFLATED, REFUSED, frame

UP, DOWN = "upload", "download"
WITHOUT = """
[[rule]]
name = "web"
to = ["site.example"]
protocols = ["tcp:80"]
filters = ["f0"]
"""


def test_every_message_of_both_directions_is_shown_whole() -> None:
    judge = Judge()
    found = chat(says(Message("hi"), Message(b"\0\1"), Message("")), filters=[judge])
    assert found.server == [Message("hi"), Message(b"\0\1"), Message(""), Close(1000)]
    assert found.client == [Message("hi"), Message(b"\0\1"), Message(""), Close(1000)]
    shown = [("text", "hi"), ("binary", b"\0\1"), ("text", ""), ("close", "")]
    assert [one[1:] for one in judge.shown if one[0] == UP] == shown
    assert [one[1:] for one in judge.shown if one[0] == DOWN] == shown
    assert [one.number for one in judge.seen if one.direction is Direction.UPLOAD] == [1, 2, 3, 4]
    assert (found.record.status, found.outcome) == (101, ("released", ""))
    assert found.record.facts == {"messages_to_server": 4, "messages_to_client": 4}
    assert (found.record.bytes_to_server, found.record.bytes_to_client) == (4, 4)
    assert judge.ended == [("passed", "allowed-by-rule", 101)]


def test_without_filters_of_messages_the_tunnel_is_pumped_unread() -> None:
    class Heads(WebFilter):
        def on_response(self, exchange):
            exchange.response.headers.set("X-Seen", "yes")
            return FORWARD if False else SKIP_BODY

    async def raw(end: End) -> bytes:
        await end.stream.send_all(b"no frames at all")
        end.stream.end_stream()
        return await end.stream.receive_all()

    async def back(end: End) -> None:
        await end.stream.send_all(await end.stream.receive_all())

    for filters in ([], [Heads()]):
        found = chat(raw, back, filters=filters)
        assert found.client == b"no frames at all"


class Bodies(WebFilter):
    needs = Needs(response=Need.STREAM)

    def on_response_chunk(self, exchange, chunk, is_last):
        return FORWARD


def test_a_filter_that_looks_into_bodies_and_not_into_messages_lets_no_websocket_pass() -> None:
    found = chat(says(), filters=[Bodies()], answer=b"HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n")
    assert b"pgrade" not in found.heads[0]
    assert found.heads[1].startswith(b"HTTP/1.1 426")


@pytest.mark.parametrize("deflate", [None, Deflate(), Deflate(client_forgets=True)])
def test_compressed_messages_are_shown_decompressed_and_go_on_compressed(
    deflate: Deflate | None,
) -> None:
    if deflate is not None and deflate.client_forgets:
        chosen = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"
        options = {"answer": switched(chosen)}
    else:
        options = {}
    judge = Judge()
    texts = ["the same words " * 20] * 3
    found = chat(
        says(*(Message(one, is_compressed=True) for one in texts)),
        filters=[judge],
        deflate=deflate,
        **options,
    )
    assert [one.payload for one in judge.seen if one.direction is Direction.UPLOAD][:-1] == texts
    expected = [Message(one, is_compressed=deflate is not None) for one in texts]
    assert found.server[:-1] == expected
    assert found.client[:-1] == expected


def test_j1_fragments_and_pings_in_between_are_one_message() -> None:
    async def fragments(end: End) -> object:
        data = frame(1, b"a", fin=False, mask=True) + frame(9, b"secret?", mask=True)
        data += frame(0, b"b", fin=False, mask=True) + frame(0, b"c", mask=True)
        for at in range(len(data)):
            await end.stream.send_all(data[at : at + 1])
        found = [await end.receive(), await end.receive()]
        await end.send(Close(1000))
        return found + await end.receive_all()

    judge = Judge()
    found = chat(fragments, filters=[judge])
    assert judge.seen[0].payload == "abc"
    assert sorted(map(repr, found.client)) == sorted(
        map(repr, [Pong(b"secret?"), Message("abc"), Close(1000)])
    )
    asked = [one for one in found.server if isinstance(one, Ping)]
    assert len(asked) == 1
    assert b"secret" not in asked[0].data


def test_what_pings_and_pongs_carry_stays_at_the_gate() -> None:
    async def talk(end: End) -> object:
        for number in range(10):
            await end.send(Ping(b"secret %d" % number))
        await end.send(Pong(b"another secret"), Close(1000))
        return await end.receive_all()

    found = chat(talk, filters=[Judge()])
    assert all(b"secret" not in one.data for one in found.server if isinstance(one, Ping | Pong))
    assert Pong(b"") in found.server
    assert [one for one in found.client if isinstance(one, Pong)] == [
        Pong(b"secret %d" % number) for number in range(10)
    ]


# -- answers ---------------------------------------------------------------------------------------


def upload(data: str, answer: object) -> Callable[[WebMessage], object]:
    """Answer so about one message of the client's, and let the rest go on."""
    return lambda one: (
        answer if (one.direction, one.payload) == (Direction.UPLOAD, data) else FORWARD
    )


TALK = (Message("one"), Message("two"), Message("three"))


@pytest.mark.parametrize(
    ("answer", "gets"),
    [
        (upload("two", DROP), ["one", "three"]),
        (upload("two", Rewrite(b"zwei")), ["one", "zwei", "three"]),
        (upload("one", HOLD), ["one", "two", "three"]),
        (upload("three", HOLD), ["one", "two", "three"]),
        (upload("one", LEAVE), ["one", "two", "three"]),
    ],
)
def test_what_is_answered_about_a_message_is_what_happens(
    answer: Callable[[WebMessage], object], gets: list[str]
) -> None:
    found = chat(says(*TALK), filters=[Judge(answer)])
    assert [one.payload for one in found.server if isinstance(one, Message)] == gets
    assert found.server[-1] == Close(1000)


def test_what_is_held_goes_on_with_the_next_one_and_in_order() -> None:
    passed: list[object] = []

    def holds(one: WebMessage) -> object:
        if one.direction is Direction.DOWNLOAD:
            passed.append(one.payload)
            return FORWARD
        return HOLD if one.number < 3 else FORWARD

    async def talk(end: End) -> object:
        await end.send(Message("1"), Message("2"))
        await end.send(Ping(b"are you there"))
        assert await end.receive() == Pong(b"are you there")
        assert passed == [], "nothing was sent back, so nothing has gone on"
        await end.send(Message("3"), Close(1000))
        return await end.receive_all()

    found = chat(talk, filters=[Judge(holds)])
    assert [one.payload for one in found.client if isinstance(one, Message)] == ["1", "2", "3"]


def test_filters_are_asked_in_order_and_back() -> None:
    first = Judge(upload("hi", Rewrite(b"ho")))
    second = Judge()
    chat(says(Message("hi")), filters=[first, second])
    assert [one[2] for one in second.shown if one[0] == UP] == ["ho", ""]
    order: list[str] = []

    def noting(name: str) -> Judge:
        return Judge(lambda one: order.append(f"{name} {one.direction.value}") or FORWARD)

    chat(says(), filters=[noting("a"), noting("b")])
    assert order == ["a upload", "b upload", "b download", "a download"]


async def late(_message: WebMessage) -> object:
    await asyncio.sleep(0.5)
    return FORWARD


async def never(_message: WebMessage) -> object:
    await asyncio.Event().wait()
    return FORWARD


def raises(_message: WebMessage) -> object:
    raise KeyError("lost")


def test_a_coroutine_that_thinks_holds_its_direction_and_no_other() -> None:
    judge = Judge(lambda one: late(one) if one.direction is Direction.UPLOAD else FORWARD)
    found = chat(says(*TALK), filters=[judge])
    assert [one.payload for one in found.server if isinstance(one, Message)] == [
        "one", "two", "three",
    ]  # fmt: skip

    async def greets(end: End) -> object:
        await end.send(Message("meanwhile"))
        return await echo(end)

    async def hears(end: End) -> object:
        await end.send(Message("slow"))
        first = await end.receive()
        await end.send(Close(1000))
        return [first, *await end.receive_all()]

    found = chat(hears, greets, filters=[judge])
    assert found.client == [Message("meanwhile"), Message("slow"), Close(1000)]


@pytest.mark.parametrize(
    ("answer", "to_client", "to_server", "reason"),
    [
        (Refuse("a secret"), Close(1008, "a secret"), Close(1008), "a secret"),
        (CloseWith("try less", 4001), Close(4001, "try less"), Close(4001), "try less"),
        (raises, Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
        (never, Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
        (None, Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
        (Forward(3), Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
        (Rewrite(b"\xff"), Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
        (Rewrite(b"a", 1), Close(1011, "filter failure: f0"), Close(1011), "filter failure: f0"),
    ],
)
def test_what_ends_a_websocket_is_told_to_both_sides_and_recorded(
    answer: object, to_client: Close, to_server: Close, reason: str
) -> None:
    def say(one: WebMessage) -> object:
        if one.payload != "two":
            return FORWARD
        return answer(one) if callable(answer) else answer

    judge = Judge(say)
    found = chat(says(*TALK), filters=[judge])
    assert found.server == [Message("one"), to_server]
    assert found.client[-1] == to_client
    assert all(one.payload == "one" for one in found.client if isinstance(one, Message))
    assert found.outcome[0] == "refused"
    assert found.outcome[1].startswith(reason)
    assert [one[0] for one in judge.ended] == ["refused"]
    failures = [one for one in found.visit.gate.recorder.records
                if isinstance(one, FilterFailureRecord)]  # fmt: skip
    assert len(failures) == (reason.startswith("filter failure"))


def test_what_a_server_sends_is_refused_likewise() -> None:
    judge = Judge(lambda one: Refuse("bad") if one.direction is Direction.DOWNLOAD else FORWARD)
    found = chat(says(Message("hi")), filters=[judge])
    assert found.client == [Close(1008, "bad")]
    assert found.outcome == ("refused", "bad")


@pytest.mark.parametrize("answer", [raises, never, None])
def test_a_filter_that_may_be_bypassed_fails_alone(answer: object) -> None:
    judge = Judge(answer)
    found = chat(says(*TALK), filters=[installation(judge, "f", OnFailure.BYPASS)])
    assert [one.payload for one in found.client if isinstance(one, Message)] == [
        "one", "two", "three",
    ]  # fmt: skip
    assert len(judge.seen) == 2, "once in each direction"


def test_a_close_is_judged_by_its_reason() -> None:
    seen = Judge(lambda one: Rewrite(b"") if one.kind == "close" else FORWARD)
    found = chat(says(Close(4000, "the password is hunter2")), filters=[seen])
    assert found.server == [Close(4000)]
    assert seen.seen[0].text == "the password is hunter2"
    assert seen.seen[0].close_code == 4000
    refusing = Judge(lambda one: Refuse("told too much") if one.text else FORWARD)
    found = chat(says(Close(4000, "the password is hunter2")), filters=[refusing])
    assert found.server == [Close(1008)]
    for answer in (DROP, HOLD, Rewrite(b"x" * 124)):
        found = chat(says(Close(4000)), filters=[Judge(answer)])
        assert found.server == [Close(1011)]


def test_messages_that_are_held_are_bounded() -> None:
    many = [Message(str(one)) for one in range(70)]
    found = chat(says(*many), filters=[Judge(HOLD)])
    assert found.server == [Close(1009)]
    assert "holds more than WEBSOCKET_HELD_MAX" in found.outcome[1]
    large = [Message(b"x" * 60_000)] * 3
    found = chat(says(*large), filters=[Judge(HOLD)], web_message_bytes_max=100_000)
    assert "holds more than web_message_bytes_max" in found.outcome[1]


def test_a_filter_may_let_one_websocket_pass_unjudged() -> None:
    class Skips(Judge):
        def on_response(self, exchange):
            return SKIP_BODY

    judge = Skips()
    found = chat(says(Message("hi")), filters=[judge])
    assert judge.seen == []
    assert found.client == [Message("hi"), Close(1000)]


def test_a_filter_may_refuse_the_handshake_and_its_answer() -> None:
    class Refuses(Judge):
        def on_response(self, exchange):
            assert exchange.response.status == 101
            return Refuse("not today")

    found = chat(says(), filters=[Refuses()])
    assert found.heads[-1].startswith(b"HTTP/1.1 403")
    assert found.outcome == ("refused", "not today")


# -- hostile peers ---------------------------------------------------------------------------------


def masked(data: bytes) -> bytes:
    """Write a server's frames as a client would: the first one is masked with zeros."""
    size = data[1] & 0x7F
    head = 2 + {126: 2, 127: 8}.get(size, 0)
    return bytes([data[0], data[1] | 0x80]) + data[2:head] + bytes(4) + data[head:]


CODES = {"websocket-frame": 1002, "websocket-text": 1007, "websocket-deflate": 1007,
         "websocket-bomb": 1009, "websocket-message-too-large": 1009,
         "websocket-fragments-too-many": 1009}  # fmt: skip
LIMITS = {"web_message_bytes_max": 100_000}


@pytest.mark.parametrize(
    ("data", "code", "deflate"),
    [pytest.param(*row[1:], None, id=row[0]) for row in REFUSED if "fragments" not in row[0]]
    + [pytest.param(*row[1:], Deflate(), id=row[0]) for row in DEFLATED if "bomb" not in row[0]],
)
def test_j1_j3_j4_j5_what_is_no_websocket_is_closed_and_nothing_of_it_passes(
    data: bytes, code: str, deflate: Deflate | None
) -> None:
    async def bad_server(end: End) -> object:
        await end.stream.send_all(data)
        return await end.receive_all()

    judge = Judge()
    found = chat(says(), bad_server, filters=[judge], deflate=deflate, **LIMITS)
    assert found.server[-1] == Close(CODES[code], code)
    assert found.client == [Close(1001)]
    assert found.outcome[0] == "failed"
    assert found.outcome[1].startswith(f"server-{code}")
    assert all(one.direction is Direction.UPLOAD for one in judge.seen)


def test_j3_a_bomb_of_a_client_is_closed_with_1009() -> None:
    async def bomb(end: End) -> object:
        from tests.unit.test_websocket import pack

        packed = pack(b"\0" * (3 << 20))
        await end.stream.send_all(frame(2, packed, rsv=4, mask=True))
        return await end.receive_all()

    found = chat(bomb, filters=[Judge()], deflate=Deflate())
    assert found.client == [Close(1009, "websocket-bomb")]
    assert found.server == [Close(1001)]
    assert found.outcome[0] == "refused"
    assert found.outcome[1].startswith("malformed-message: ")


def test_j4_a_client_that_does_not_mask_is_closed() -> None:
    async def talk(end: End) -> object:
        await end.stream.send_all(frame(1, b"hi"))
        return await end.receive_all()

    found = chat(talk, filters=[Judge()])
    assert found.client == [Close(1002, "websocket-frame")]
    assert found.server == [Close(1001)]


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (handshake(version="8"), 400),
        (handshake(key="short"), 400),
        (handshake("Sec-WebSocket-Version: 13"), 400),
        (handshake("Sec-WebSocket-Extensions: ;"), 400),
    ],
)
def test_j1_handshakes_that_no_server_would_switch_for_are_refused(ask: bytes, status: int) -> None:
    found = chat(says(), filters=[Judge()], ask=ask)
    assert found.heads[-1].startswith(b"HTTP/1.1 %d" % status)
    assert found.record.ended.startswith("websocket-handshake")
    assert len(found.heads) == 1, "no server was asked"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (switched(key="AAAAAAAAAAAAAAAAAAAAAA=="), "server-websocket-accept"),
        (switched("Sec-WebSocket-Protocol: chat"), "server-websocket-subprotocol"),
        (switched("Sec-WebSocket-Extensions: permessage-deflate"), "server-websocket-extension"),
    ],
)
def test_j3_answers_to_what_was_not_asked_are_errors_of_the_server(
    answer: bytes, code: str
) -> None:
    found = chat(says(), filters=[Judge()], answer=answer)
    assert found.heads[-1].startswith(b"HTTP/1.1 502")
    assert found.record.ended.startswith(code)


def test_extensions_that_the_gate_cannot_read_are_not_offered_on() -> None:
    offered = "Sec-WebSocket-Extensions: permessage-bzip2, permessage-deflate; a=1"
    found = chat(says(Message("hi")), filters=[Judge()], ask=handshake(offered))
    assert b"Extensions" not in found.heads[0]
    assert found.client == [Message("hi"), Close(1000)]


def test_all_messages_of_a_worker_together_are_bounded() -> None:
    async def half(end: End) -> object:
        await end.stream.send_all(frame(2, os.urandom(60_000), fin=False, mask=True))
        return await end.receive_all()

    found = chat(half, filters=[Judge()], web_messages_bytes_max=50_000)
    assert found.client == [Close(1013, "limit web_messages_bytes_max")]
    assert found.visit.gate.service.web.message_bytes == 0


# -- ends ------------------------------------------------------------------------------------------


async def leaves(end: End) -> object:
    await end.send(Message("hi"))
    await end.receive()
    end.stream.close()
    return None


def test_a_client_that_leaves_without_a_close() -> None:
    judge = Judge()
    found = chat(leaves, filters=[judge])
    assert found.server == [Message("hi")]
    assert found.outcome == ("failed", "client ended without a close")
    assert judge.ended[0][0] == "failed"


def test_a_server_that_leaves_without_a_close() -> None:
    found = chat(says(), leaves, filters=[Judge()])
    assert found.outcome == ("failed", "server ended without a close")


def test_a_server_that_closes_first() -> None:
    async def bye(end: End) -> object:
        await end.send(Close(1001, "bye"))
        return await end.receive_all()

    async def answers(end: End) -> object:
        close = await end.receive()
        assert isinstance(close, Close)
        await end.send(close)
        return [close, *await end.receive_all()]

    found = chat(answers, bye, filters=[Judge()])
    assert found.client == [Close(1001, "bye")]
    assert found.server == [Close(1001, "bye")]
    assert found.outcome == ("released", "")


def test_a_close_that_is_not_answered_is_waited_for_in_bounds() -> None:
    async def deaf(end: End) -> object:
        return await end.receive_all()

    found = chat(says(Close(1000)), deaf, filters=[Judge()])
    assert found.server == [Close(1000)]
    assert found.client == [Close(1001)]
    assert found.outcome == ("failed", "the close is not answered")


def test_a_silent_websocket_ends_at_its_idle_time_out() -> None:
    async def silent(end: End) -> object:
        return await end.receive_all()

    found = chat(silent, filters=[Judge()], idle_timeout_s=30.0)
    assert found.client == [Close(1001)]
    assert found.outcome == ("failed", "idle time-out")


def test_a_rule_of_so_many_bytes_holds() -> None:
    more = "[rule.limits]\nbytes_max = 10"
    found = chat(says(Message("x" * 8), Message("y" * 8)), filters=[Judge()], more=more)
    assert found.client[-1] == Close(1013, "limit rule web bytes_max")
    assert found.outcome[0] == "refused"


def test_n12_a_fast_server_waits_for_a_client_that_reads_nothing() -> None:
    async def floods(end: End) -> object:
        for _ in range(2000):
            await end.send(Message(b"x" * 10_000))
        return None

    async def reads_nothing(end: End) -> object:
        return STAYS

    judge = Judge()
    found = chat(reads_nothing, floods, filters=[judge], send_stall_s=5.0)
    assert found.outcome == ("failed", "client stalled")
    assert len(judge.seen) < 200, "the rest was not read"


def test_n11_ten_thousand_tiny_messages_are_taken_turn_by_turn() -> None:
    async def many(end: End) -> object:
        data = b"".join(end.codec.send(Message("")) for _ in range(10_000))
        await end.stream.send_all(data + end.codec.send(Close(1000)))
        return len(await end.receive_all())

    found = chat(many, filters=[Judge()])
    assert found.client == 10_001


async def stays_until_told(end: End) -> object:
    await end.send(Message("hi"))
    first = await end.receive()
    return [first, *await end.receive_all()]


def chat_while(act: Callable[[Gate, ServiceSettings], object]) -> tuple[Any, Any]:
    """Let both talk, and do something to the gate meanwhile; return what came of it."""
    told: list[object] = []
    judge = Judge(lambda one: told.append(one) or FORWARD)

    async def meanwhile(gate: Gate, settings: ServiceSettings) -> None:
        await gate.until(lambda: len(told) == 2)
        done = act(gate, settings)
        if inspect.isawaitable(done):
            await done

    found = chat(stays_until_told, filters=[judge], meanwhile=meanwhile)
    return found, found.record


def test_p4_a_websocket_ends_when_its_rule_does_not_let_it_any_more() -> None:
    def forbid(gate: Gate, settings: ServiceSettings) -> object:
        return gate.service.apply(dataclasses.replace(settings, policy=rules(WITHOUT)))

    found, record = chat_while(forbid)
    assert found.client == [Message("hi"), Close(1008, record.ended)]
    assert found.server == [Message("hi"), Close(1008)]
    assert record.outcome == "refused"
    assert record.ended.startswith("revoked: ")


def test_a_gate_that_drains_tells_its_websockets_to_go() -> None:
    found, record = chat_while(lambda gate, _settings: gate.service.web.drain())
    assert found.client == [Message("hi"), Close(1001, "draining")]
    assert found.server == [Message("hi"), Close(1001)]
    assert record.outcome == "released"


def test_a_websocket_that_is_killed_is_told() -> None:
    def kill(gate: Gate, _settings: ServiceSettings) -> None:
        (connection,) = gate.service.web.connections()
        connection.refuse("killed by ann")

    found, record = chat_while(kill)
    assert found.client == [Message("hi"), Close(1008, "killed by ann")]
    assert (record.outcome, record.ended) == ("refused", "killed by ann")


# -- content filters -------------------------------------------------------------------------------


class Content(ContentFilter):
    """Judges objects as a test says."""

    name = "content"

    def __init__(self, verdicts: dict[bytes, object]) -> None:
        self.verdicts = verdicts
        self.seen: list[tuple[str, str, bytes, bytes]] = []

    async def inspect(self, transfer):
        async with transfer.open() as file:
            data = await file.read()
        offer = transfer.offer
        self.seen.append((offer.protocol, offer.direction.value, data, offer.preceding))
        verdict = self.verdicts.get(data, Release())
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


def test_each_message_is_an_object_for_content_filters() -> None:
    content = Content({b"two": Replace(b"zwei")})
    found = chat(says(*TALK), filters=[content])
    gets = [one.payload for one in found.server if isinstance(one, Message)]
    assert gets == ["one", "zwei", "three"]
    up = [one for one in content.seen if one[1] == UP]
    assert up == [
        ("websocket", UP, b"one", b""),
        ("websocket", UP, b"two", b"one"),
        ("websocket", UP, b"three", b"onezwei"),
    ]
    assert found.outcome == ("released", "")


@pytest.mark.parametrize(
    ("verdict", "code", "reason"),
    [
        (Refuse("malware"), 1008, "malware"),
        (KeyError("lost"), 1011, "filter failure"),
        (Replace(b"\xff"), 1011, "filter failure"),
        (Replace(b"x" * 200_000), 1009, "limit web_message_bytes_max"),
    ],
)
def test_what_content_filters_refuse_closes(verdict: object, code: int, reason: str) -> None:
    found = chat(says(*TALK), filters=[Content({b"two": verdict})], **LIMITS)
    assert found.server == [Message("one"), Close(code)]
    assert found.client[-1].code == code
    assert found.outcome[0] == "refused"
    assert found.outcome[1].startswith(reason)


@pytest.mark.parametrize(
    ("wants", "passes"),
    [
        (Wants(), True),
        (Wants(protocols=frozenset({"websocket", "http"})), True),
        (Wants(directions=frozenset({Direction.UPLOAD})), True),
        (Wants(protocols=frozenset({"http", "ftp"})), False),
        (Wants(content_types=("application/pdf",)), False),
    ],
)
def test_a_content_filter_that_is_not_shown_messages_lets_no_websocket_pass(
    wants: Wants, passes: bool
) -> None:
    content = Content({})
    content.wants = wants  # type: ignore[misc]
    answer = None if passes else b"HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n"
    found = chat(says(Message("hi")), filters=[content], answer=answer)
    assert (b"pgrade" in found.heads[0]) is passes
    assert bool(content.seen) is passes


def test_web_filters_are_asked_before_content_filters() -> None:
    content = Content({})
    chat(says(Message("one")), filters=[Judge(upload("one", Rewrite(b"uno"))), content])
    assert content.seen[0][2] == b"uno"


def test_a_client_that_goes_on_with_what_is_too_large_still_reads_its_close() -> None:
    async def talk(end: End) -> object:
        await end.stream.send_all(frame(2, os.urandom(3_000_000), mask=True))
        return await end.receive_all()

    found = chat(talk, filters=[Judge()], **LIMITS)
    assert found.client == [Close(1009, "websocket-message-too-large")]
    assert found.server == [Close(1001)]
