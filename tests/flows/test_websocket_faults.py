"""WebSockets under short reads, short sends, resets, starved buffers and delays, by seed."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from sluicegate.filterapi import FORWARD, HOLD, Direction, WebMessage
from sluicegate.protocols.websocket import Close, Deflate, Message
from sluicegate.testing import FaultPlan
from tests.flows.test_web_faults import BENIGN, HARMFUL
from tests.flows.websocket_kit import End, Judge, chat

PLANS = {"none": FaultPlan(), "benign": BENIGN, "harmful": HARMFUL}


def messages_of(chance: random.Random) -> list[Message]:
    return [
        Message(
            chance.randbytes(chance.choice([0, 1, 125, 126, 5000, 70_000])), chance.random() < 0.5
        )
        if chance.random() < 0.5
        else Message("é " * chance.choice([0, 1, 60, 3000]), chance.random() < 0.5)
        for _ in range(chance.randrange(1, 25))
    ]


async def _late(seconds: float) -> object:
    await asyncio.sleep(seconds)
    return FORWARD


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("plan", PLANS)
def test_what_arrives_is_what_was_said_in_order_or_the_record_says_that_it_failed(
    seed: int, plan: str
) -> None:
    chance = random.Random(seed)
    said = messages_of(chance)

    def judge(one: WebMessage) -> object:
        roll = chance.random()
        if roll < 0.1 and one.kind != "close":
            return HOLD
        return _late(chance.random()) if roll < 0.2 else FORWARD

    heard: list[object] = []

    async def talk(end: End) -> object:
        with contextlib.suppress(OSError):
            await end.send(*said, Close(1000))
        return await end.receive_all()

    async def server(end: End) -> object:
        while (event := await end.receive()) is not None:
            heard.append(event)
            if isinstance(event, Close):
                with contextlib.suppress(OSError):
                    await end.send(event)
                break
        return heard

    watched = Judge(judge)
    found = chat(
        talk,
        server,
        filters=[watched],
        deflate=Deflate() if seed % 2 else None,
        seed=seed,
        faults=PLANS[plan],
    )
    got = [one.payload for one in heard if isinstance(one, Message)]
    expected = [one.payload for one in said]
    assert got == expected[: len(got)], "in order, and nothing else"
    shown = [one.payload for one in watched.seen if one.direction is Direction.UPLOAD]
    assert shown[: len(said)] == expected[: len(shown)]
    if plan != "harmful" or (found.visit.gate.requests and found.outcome == ("released", "")):
        assert got == expected
