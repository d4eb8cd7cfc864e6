"""The kit for messages: what is said and heard, what a filter did, and whose failure it was."""

from __future__ import annotations

import asyncio

import pytest

from sluicegate.filterapi import (
    DROP,
    FORWARD,
    HOLD,
    CloseWith,
    Direction,
    HeadVerdict,
    MessageKind,
    Needs,
    Refuse,
    Rewrite,
    WebExchange,
    WebFilter,
    WebMessage,
)
from sluicegate.testing import ChecksFailed, WebPlay, check_web_filter, talk_web

UP, DOWN = Direction.UPLOAD, Direction.DOWNLOAD


class Says(WebFilter):
    name = "says"
    needs = Needs(messages=True)

    def on_message(self, exchange: WebExchange, message: WebMessage) -> object:  # type: ignore[override]
        answers = {"drop": DROP, "hold": HOLD, "no": Refuse("no"), "away": CloseWith("go", 4000)}
        if message.text == "count":
            exchange.state = (exchange.state or 0) + 1
            return Rewrite(str(exchange.state).encode())
        if message.text == "note":
            exchange.note("seen")
        if message.text == "think":
            return self.think()
        if message.text == "raise":
            raise KeyError("lost")
        return answers.get(message.text, FORWARD)

    async def think(self) -> object:
        await asyncio.sleep(1)
        return FORWARD


def down(text: str) -> WebMessage:
    return WebMessage(DOWN, MessageKind.TEXT, text)


def test_both_ends_are_heard() -> None:
    seen = talk_web(Says, "a", down("b"), b"c", "count", "count", "drop", "note")
    assert seen.verdict == "passed"
    assert (seen.to_server, seen.to_client) == (("a", b"c", "1", "2", "note"), ("b",))
    assert seen.notes == ("seen",)
    assert (seen.close_code, seen.closes[UP].close_code) == (0, 1000)


def test_what_is_held_goes_on_later() -> None:
    assert talk_web(Says, "hold", "a").to_server == ("hold", "a")
    assert talk_web(Says, "hold", WebMessage(UP, MessageKind.CLOSE, "")).to_server == ("hold",)


def test_what_ends_it_is_said() -> None:
    seen = talk_web(Says, "a", "no", "b")
    assert (seen.verdict, seen.reason, seen.close_code) == ("refused", "no", 1008)
    assert seen.to_server == ("a",)
    assert talk_web(Says, "away").close_code == 4000
    seen = talk_web(Says, "raise")
    assert (seen.close_code, seen.failures) == (1011, ("KeyError: 'lost'",))


def test_a_coroutine_is_waited_for_in_virtual_time() -> None:
    assert talk_web(Says, "think", "a", down("b")).verdict == ""
    seen = talk_web(Says, "think", "a", down("b"), wait_s=5)
    assert (seen.verdict, seen.to_server, seen.to_client) == ("passed", ("think", "a"), ("b",))


class Refuses(Says):
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        return Refuse("not at all")


def test_a_handshake_may_be_refused() -> None:
    seen = talk_web(Refuses, "a")
    assert (seen.verdict, seen.reason, seen.close_code) == ("refused", "not at all", 0)


def test_several_websockets_are_several_exchanges() -> None:
    with WebPlay(Says) as play:
        assert play.talk("count").to_server == ("1",)
        assert play.talk("count").to_server == ("1",)


class Fragile(WebFilter):
    name = "fragile"
    needs = Needs(messages=True)

    def on_message(self, exchange: WebExchange, message: WebMessage) -> object:  # type: ignore[override]
        message.data.decode()
        return FORWARD


def test_a_filter_that_cannot_take_what_may_come_fails_its_checks() -> None:
    check_web_filter(Says)
    with pytest.raises(ChecksFailed, match="takes whatever is said"):
        check_web_filter(Fragile)
