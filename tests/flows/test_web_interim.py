"""Informational responses: 100 for who waits for it, early hints past filters, none out of turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sluicegate.bundled.header_rewriting import HeaderRewriting, HeaderRewritingSettings, HeaderRule
from sluicegate.bundled.http_filter import HttpFilter, HttpFilterSettings
from sluicegate.filterapi import (
    DROP,
    GO_ON,
    Drop,
    GoOn,
    HeadVerdict,
    Need,
    Needs,
    Refuse,
    Release,
    WebExchange,
    WebFilter,
    WebResponse,
)
from sluicegate.testing.peers import PeerStream
from tests.flows.test_web_filters import visit
from tests.flows.web_kit import Message, Origin, get, read_message, reply

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Debug: 7\r\n\r\n"


class Hints(Origin):
    """Sends hints before its answer."""

    def __init__(self, before: bytes = HINTS) -> None:
        super().__init__(lambda _request: before + reply())


async def read_all(stream: PeerStream) -> list[Message]:
    found: list[Message] = []
    while (answer := await read_message(stream, is_response=True)) is not None:
        found.append(answer)
        if answer.status >= 200:
            break
    return found


def ask(
    *filters: Any, origin: Origin | None = None, request: bytes = b"", body: bytes = b""
) -> tuple[list[Message], Any]:
    async def peer(stream: PeerStream) -> list[Message]:
        await stream.send_all(request or get())
        found: list[Message] = []
        if body:
            first = await read_message(stream, is_response=True, has_body=False)
            assert first is not None
            found.append(first)
            await stream.send_all(body)
        found += await read_all(stream)
        stream.close()
        return found

    found = visit(filters=list(filters), origin=origin or Hints(), peer=peer)
    return found.answers, found.gate


class Heads(WebFilter):
    name = "heads"

    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        assert exchange.response is not None
        exchange.response.headers.set("X-Seen", "1")
        return GO_ON


class Whole(WebFilter):
    name = "whole"
    needs = Needs(request=Need.OBJECT, response=Need.OBJECT)

    def on_request_body(self, exchange: WebExchange, body: Any) -> Release:
        return Release()

    def on_response_body(self, exchange: WebExchange, body: Any) -> Release:
        return Release()


class Interim(WebFilter):
    name = "interim"
    answer: Any = GO_ON

    def on_interim(self, exchange: WebExchange, interim: WebResponse) -> GoOn | Drop | Refuse:
        assert interim.status == 103
        interim.headers.remove("X-Debug")
        interim.headers.add("X-Seen", "1")
        return self.answer  # type: ignore[no-any-return]


def answering(answer: Any) -> Interim:
    made = Interim()
    made.answer = answer
    return made


@pytest.mark.parametrize("filters", [[], [Heads()], [Whole()]])
def test_early_hints_pass_filters_that_do_not_ask_for_them(filters: Sequence[WebFilter]) -> None:
    answers, _ = ask(*filters)
    assert [one.status for one in answers] == [103, 200]
    hints = answers[0]
    assert (hints.field("Link"), hints.field("X-Seen")) == ("</a.css>; rel=preload", None)


def test_a_filter_sees_and_changes_early_hints() -> None:
    answers, _ = ask(Interim())
    assert [one.status for one in answers] == [103, 200]
    assert (answers[0].field("X-Debug"), answers[0].field("X-Seen")) == (None, "1")


async def _late() -> GoOn:
    return GO_ON


ANSWERS: dict[str, tuple[Callable[[], Any], list[int], str]] = {
    "drops": (lambda: DROP, [200], ""),
    "refuses": (lambda: Refuse("no hints"), [403], "no hints"),
    "nonsense": (lambda: 7, [500], "filter failure: f0: answered 7"),
    "a coroutine": (_late, [500], "filter failure: f0: on_interim is a coroutine"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_filter_answers_about_early_hints(name: str) -> None:
    make, statuses, ended = ANSWERS[name]
    answers, gate = ask(answering(make()))
    assert [one.status for one in answers] == statuses
    assert gate.requests[0].ended == ended


class Says(WebFilter):
    name = "says"

    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        for status, headers in ((100, {}), (101, {}), (200, {}), (103, {"Content-Length": "1"})):
            with pytest.raises(ValueError, match=r"."):
                exchange.inform(status, headers)
        assert exchange.inform(103, {"Link": ["</a>; rel=preload", "</b>; rel=preload"]})
        return GO_ON


def test_a_filter_sends_early_hints_of_its_own() -> None:
    answers, _ = ask(Says(), origin=Origin())
    assert [one.status for one in answers] == [103, 200]
    assert answers[0].head.count(b"\r\nLink: ") == 2


EXPECTS = (
    b"POST http://site.example/ HTTP/1.1\r\nHost: site.example\r\n"
    b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
)


class Waits(Origin):
    """Says 100 to who asks for it, and to nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def serve(self, stream: PeerStream) -> None:
        head = await stream.receive_until(b"\r\n\r\n")
        if b"Expect: 100-continue" in head:
            self.asked += 1
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await stream.receive_exactly(2) == b"ok"
        await stream.send_all(reply())
        await stream.receive_all()
        stream.close()


@pytest.mark.parametrize(("filters", "asked"), [([], 1), ([Heads()], 1), ([Whole()], 0)])
def test_a_client_that_waits_gets_one_100(filters: Sequence[WebFilter], asked: int) -> None:
    """From the server, or from the gate where it waits for the body itself."""
    origin = Waits()
    answers, _ = ask(*filters, origin=origin, request=EXPECTS, body=b"ok")
    assert [one.status for one in answers] == [100, 200]
    assert origin.asked == asked


def test_100_that_nobody_waits_for_is_not_passed_on() -> None:
    answers, _ = ask(origin=Hints(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert [one.status for one in answers] == [200]


def test_clients_of_http_1_0_get_no_early_hints() -> None:
    wire = b"GET http://site.example/ HTTP/1.0\r\nHost: site.example\r\n\r\n"
    answers, _ = ask(request=wire)
    assert [one.status for one in answers] == [200]


def test_bundled_filters_hold_early_hints_to_their_settings() -> None:
    rules = (
        HeaderRule(on="response", action="remove", name="X-Debug"),
        HeaderRule(on="response", action="set", name="X-Set", value="1"),
    )
    answers, _ = ask(HeaderRewriting(HeaderRewritingSettings(rules=rules)))
    assert [one.status for one in answers] == [103, 200]
    assert (answers[0].field("X-Debug"), answers[0].field("X-Set")) == (None, None)
    assert answers[1].field("X-Set") == "1"
    answers, _ = ask(HttpFilter(HttpFilterSettings(response_headers_denied=("X-Debug",))))
    assert [one.status for one in answers] == [403]
