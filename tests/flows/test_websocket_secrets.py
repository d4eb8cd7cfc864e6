"""Secrets in WebSockets: found over fragments, messages, codings, and where no message is."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence

import pytest

from sluicegate.bundled.data_loss import DataLoss, DataLossSettings
from sluicegate.protocols.websocket import Close, Deflate, Message, Ping, Pong, WebSocketEvent
from tests.flows.websocket_kit import End, Judge, chat, says
from tests.unit.test_websocket import frame

CARD = "4111 1111 1111 1111"
TOKEN = "glpat-" + "a1B2c3D4e5F6g7H8i9J0"


@functools.cache
def usual() -> DataLoss:
    """Return the filter as it comes; compiling what it looks for takes a while."""
    return filter_of()


def filter_of(**settings: object) -> DataLoss:
    return DataLoss(DataLossSettings.model_validate(settings))


def cut(text: str, *sizes: int) -> list[Message]:
    pieces = []
    for size in sizes:
        pieces.append(Message(text[:size]))
        text = text[size:]
    return [*pieces, Message(text)]


B64 = base64.b64encode(f"the card is {CARD}, take it".encode()).decode()

CASES: list[tuple[str, Sequence[WebSocketEvent]]] = [
    ("in one text", [Message(f"it is {CARD}.")]),
    ("in one binary", [Message(f"it is {CARD}.".encode())]),
    ("compressed", [Message(f"it is {CARD}.", is_compressed=True)]),
    ("behind others", [Message("hello"), Message(b"\0\1"), Message(CARD)]),
    ("behind a word of the message before", [Message("number"), Message(CARD)]),
    ("in two messages", cut(CARD, 10)),
    ("in two binary messages", [Message(CARD[:7].encode()), Message(CARD[7:].encode())]),
    ("in a text and a binary message", [Message(CARD[:7]), Message(CARD[7:].encode())]),
    ("in a message for each character", cut(CARD, *[1] * 18)),
    ("in three, with empty ones between", [Message(CARD[:5]), Message(""), Message(CARD[5:])]),
    ("in base 64", [Message(B64)]),
    ("in base 64 over messages", cut(B64, 10, 11, 7)),
    ("in JSON escapes", [Message(r'{"n": "\u0034111 1111 1111 1111"}')]),
    ("a token in two", cut(TOKEN, 20)),
    ("in the reason of a close", [Close(4000, CARD)]),
    ("begun in a message, ended by the close", [Message(CARD[:12]), Close(4000, CARD[12:])]),
]


@pytest.mark.parametrize("events", [pytest.param(row[1], id=row[0]) for row in CASES])
@pytest.mark.parametrize("deflate", [None, Deflate()])
def test_j2_secrets_do_not_leave_however_they_are_cut(
    events: Sequence[WebSocketEvent], deflate: Deflate | None
) -> None:
    found = chat(says(*events), filters=[usual()], deflate=deflate)
    left = "".join(
        one.payload if isinstance(one.payload, str) else one.payload.decode()
        for one in found.server
        if isinstance(one, Message)
    )
    whole = "".join(
        one.payload if isinstance(one.payload, str) else one.payload.decode()
        for one in events
        if isinstance(one, Message)
    )
    assert left != whole or any(isinstance(one, Close) for one in events)
    assert found.server[-1] == Close(1008)
    assert all(not getattr(one, "reason", "") for one in found.server)
    assert found.outcome[0] == "refused"
    assert found.outcome[1].startswith("secrets: 1 x ")
    assert "4111" not in found.outcome[1]
    assert found.client[-1].code == 1008


def test_j2_secrets_do_not_leave_in_fragments() -> None:
    text = f"it is {CARD}, said".encode()
    for at in range(1, len(text)):

        async def talk(end: End, at: int = at) -> object:
            await end.stream.send_all(
                frame(1, text[:at], fin=False, mask=True) + frame(0, text[at:], mask=True)
            )
            return await end.receive_all()

        found = chat(talk, filters=[usual()])
        assert found.server == [Close(1008)]


def test_j2_pings_and_pongs_carry_nothing_out() -> None:
    async def talk(end: End) -> object:
        await end.send(Ping(CARD.encode()), Pong(CARD.encode()), Close(1000))
        return await end.receive_all()

    found = chat(talk, filters=[usual()])
    assert Pong(CARD.encode()) in found.client, "its own, sent back"
    assert all(
        CARD.encode() not in one.data for one in found.server if isinstance(one, Ping | Pong)
    )
    assert found.outcome == ("released", "")


HARMLESS: list[tuple[str, Sequence[WebSocketEvent]]] = [
    ("words", [Message("hello"), Message("4111"), Message(" is a number")]),
    ("a wrong check digit", cut("4111 1111 1111 1112", 10)),
    ("what the server sends", []),
]


@pytest.mark.parametrize("events", [pytest.param(row[1], id=row[0]) for row in HARMLESS])
def test_what_is_no_secret_passes(events: Sequence[WebSocketEvent]) -> None:
    async def server(end: End) -> list[WebSocketEvent]:
        await end.send(Message(CARD))
        seen: list[WebSocketEvent] = []
        while not isinstance(event := await end.receive(), Close):
            assert event is not None
            seen.append(event)
        await end.send(event)
        return seen

    found = chat(says(*events), server, filters=[usual()])
    assert found.server == list(events)
    assert found.client == [Message(CARD), Close(1000)]


def test_what_the_server_sends_is_looked_at_where_an_operator_says_so() -> None:
    async def server(end: End) -> object:
        await end.send(Message(CARD[:8]), Message(CARD[8:]))
        return await end.receive_all()

    async def listens(end: End) -> object:
        return await end.receive_all()

    found = chat(listens, server, filters=[filter_of(directions=["download"])])
    assert found.client[0] == Message(CARD[:8])
    assert found.client[1].code == 1008


def test_secrets_are_masked_where_they_stand_in_one_message() -> None:
    redacting = filter_of(action="redact")
    found = chat(says(Message(f"it is {CARD}."), Message("more")), filters=[redacting])
    assert found.server[:-1] == [Message("it is 9999 9999 9999 9999."), Message("more")]
    found = chat(says(*cut(CARD, 10)), filters=[redacting])
    assert found.server == [Message(CARD[:10]), Close(1008)]
    assert "cut into several messages" in found.outcome[1]


def test_a_few_of_what_may_pass_in_small_numbers_are_counted_over_messages() -> None:
    some = filter_of(kinds=["payment-card"], counts_min={"payment-card": 3})
    cards = ["4111 1111 1111 1111", "5500 0000 0000 0004", "3400 0000 0000 009"]
    found = chat(says(*(Message(f"{one} ") for one in cards)), filters=[some])
    assert found.server[:2] == [Message(f"{one} ") for one in cards[:2]]
    assert found.server[2] == Close(1008)


def test_it_judges_what_web_filters_let_go_on() -> None:
    from sluicegate.filterapi import Rewrite

    judge = Judge(lambda one: Rewrite(CARD.encode()) if one.text == "safe" else Rewrite(one.data))
    found = chat(says(Message("safe")), filters=[judge, usual()])
    assert found.server == [Close(1008)]
