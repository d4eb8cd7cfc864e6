"""Server-sent events through web filters: one by one, in every coding, wherever they are cut."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest

from sluicegate.filterapi import (
    DROP,
    FORWARD,
    HOLD,
    LEAVE,
    SKIP_BODY,
    Direction,
    GoOn,
    HeadVerdict,
    Need,
    Needs,
    Refuse,
    ReplaceEvent,
    ServerSentEvent,
    WebExchange,
    WebFilter,
)
from sluicegate.testing import WebPlay, exchange_web

GET = b"GET /events HTTP/1.1\r\nHost: www.example\r\n\r\n"
STREAM = b": hello\n\ndata: one\n\nevent: add\ndata: two\ndata: lines\nid: 7\n\ndata: three\n\n"
DATA = [None, "one", "two\nlines", "three"]


class Watch(WebFilter):
    name = "watch"
    needs = Needs(events=True)

    def __init__(self, answer: Callable[[ServerSentEvent], object] | object = FORWARD) -> None:
        self.seen: list[str | None] = []
        self.answer = answer

    def on_event(self, exchange: WebExchange, event: ServerSentEvent) -> object:  # type: ignore[override]
        self.seen.append(event.data)
        return self.answer(event) if callable(self.answer) else self.answer


class Another(Watch):
    name = "another"


def stream(
    body: bytes = STREAM, *fields: str, content_type: str = "text/event-stream; charset=utf-8"
) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return f"{head}{lines}\r\n".encode() + chunk


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODED = {
    "": STREAM,
    "gzip": gzip.compress(STREAM),
    "deflate": zlib.compress(STREAM),
    "x-gzip": gzip.compress(STREAM),
    "br": brotli.compress(STREAM),
}


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("is_slow", [False, True])
def test_j6_events_are_shown_whole_wherever_the_stream_is_cut(coding: str, is_slow: bool) -> None:
    fields = [f"Content-Encoding: {coding}"] if coding else []
    for piece_bytes in (0, 1, 2, 3, 7, 20):
        watch = Watch()
        seen = exchange_web(
            watch, GET, stream(CODED[coding], *fields), piece_bytes=piece_bytes, is_slow=is_slow
        )
        assert watch.seen == DATA
        assert seen.verdict == "passed"
        assert seen.body == STREAM.replace(b"data: two\ndata: lines\nid: 7\n", b"id: 7\ndata: two\ndata: lines\n")  # fmt: skip  # noqa: E501
        assert seen.response is not None
        assert seen.response.fields.first(b"content-encoding") is None


def test_raw_deflate_of_old_servers_is_read_too() -> None:
    watch = Watch()
    exchange_web(watch, GET, stream(raw_deflate(STREAM), "Content-Encoding: deflate"))
    assert watch.seen == DATA


def of_data(data: str, answer: object) -> Callable[[ServerSentEvent], object]:
    return lambda event: answer if event.data == data else FORWARD


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (of_data("one", DROP), b"data: zero\n\ndata: two\n\n"),
        (of_data("one", ReplaceEvent(ServerSentEvent("1", "number"))),
         b"data: zero\n\nevent: number\ndata: 1\n\ndata: two\n\n"),
        (of_data("zero", LEAVE), b"data: zero\n\ndata: one\n\ndata: two\n\n"),
    ],
)  # fmt: skip
def test_what_is_answered_about_an_event_is_what_happens(answer: object, body: bytes) -> None:
    seen = exchange_web(Watch(answer), GET, stream(b"data: zero\n\ndata: one\n\ndata: two\n\n"))
    assert (seen.verdict, seen.body) == ("passed", body)


async def never(_event: ServerSentEvent) -> object:
    await asyncio.Event().wait()
    return FORWARD


def raises(_event: ServerSentEvent) -> object:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("answer", "reason", "failed"),
    [
        (of_data("one", Refuse("a secret")), "a secret", False),
        (of_data("one", HOLD), "filter failure", True),
        (of_data("one", None), "filter failure", True),
        (of_data("one", ReplaceEvent), "filter failure", True),
        (lambda event: raises(event) if event.data == "one" else FORWARD, "filter failure", True),
        (lambda event: never(event) if event.data == "one" else FORWARD, "filter failure", True),
    ],
)
def test_what_is_no_verdict_ends_the_stream_and_shows_nothing_of_the_event(
    answer: Callable[[ServerSentEvent], object], reason: str, failed: bool
) -> None:
    body = b"data: zero\n\ndata: one\n\ndata: two\n\n"
    for piece_bytes in (0, 1):
        seen = exchange_web(Watch(answer), GET, stream(body), piece_bytes=piece_bytes, wait_s=60)
        assert seen.verdict == "refused"
        assert seen.reason.startswith(reason)
        assert seen.body == b"data: zero\n\n"
        assert seen.trailers is None, "a reset, never a clean end"
        assert bool(seen.failures) is failed


def test_a_coroutine_that_thinks_keeps_the_order() -> None:
    async def slowly(event: ServerSentEvent) -> object:
        await asyncio.sleep(0.01 if event.data == "two\nlines" else 0.5)
        return FORWARD

    watch = Watch(slowly)
    for piece_bytes in (0, 1, 9):
        seen = exchange_web(watch, GET, stream(), piece_bytes=piece_bytes, wait_s=10)
        assert seen.body.index(b"one") < seen.body.index(b"two") < seen.body.index(b"three")


def test_filters_see_what_those_nearer_to_the_server_let_go_on() -> None:
    near_client = Watch()
    near_server = Another(of_data("one", ReplaceEvent(ServerSentEvent("uno"))))
    with WebPlay(near_client, near_server) as play:
        play.exchange(GET, stream())
    assert near_server.seen == DATA
    assert near_client.seen == [None, "uno", *DATA[2:]]


def test_an_event_without_an_end_is_refused_at_its_limit() -> None:
    with WebPlay(Watch(), limits={"web_event_bytes_max": 100}) as play:
        seen = play.exchange(GET, stream(b"data: ok\n\ndata: " + b"x" * 200))
    assert (seen.verdict, seen.reason) == ("refused", "event-too-large")
    assert seen.body == b""


def test_what_has_no_end_when_the_stream_ends_is_shown_to_nobody() -> None:
    watch = Watch()
    seen = exchange_web(watch, GET, stream(b"data: one\n\ndata: two"))
    assert (watch.seen, seen.body) == (["one"], b"data: one\n\n")


def test_other_bodies_are_not_read_as_events() -> None:
    watch = Watch()
    seen = exchange_web(watch, GET, stream(content_type="text/plain"))
    assert (watch.seen, seen.body) == ([], STREAM)


class Skips(Watch):
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        return SKIP_BODY


def test_a_filter_may_let_a_stream_pass_unseen() -> None:
    watch = Skips()
    seen = exchange_web(watch, GET, stream())
    assert (watch.seen, seen.body) == ([], STREAM)


class WantsAll(WebFilter):
    name = "wants-all"
    needs = Needs(response=Need.OBJECT)

    def __init__(self) -> None:
        self.unmet: list[str] = []

    def on_response_body(self, exchange: WebExchange, body: object) -> object:  # type: ignore[override]
        raise AssertionError("an endless stream is no object")

    def on_unmet(self, exchange: WebExchange, direction: Direction, cause: str) -> GoOn | Refuse:
        self.unmet.append(cause)
        return SKIP_BODY


def test_j7_a_filter_that_asks_for_a_whole_stream_is_told_beside_one_that_takes_events() -> None:
    watch, wants_all = Watch(), WantsAll()
    with WebPlay(watch, wants_all) as play:
        seen = play.exchange(GET, stream())
    assert wants_all.unmet == ["an endless stream"]
    assert watch.seen == DATA
    assert seen.verdict == "passed"


class Forgets(WebFilter):
    name = "forgets"

    def on_event(self, exchange: WebExchange, event: ServerSentEvent) -> object:  # type: ignore[override]
        return FORWARD


class HasNone(WebFilter):
    name = "has-none"
    needs = Needs(events=True)


@pytest.mark.parametrize("kind", [Forgets, HasNone])
def test_needs_and_hooks_that_do_not_fit_block_the_rule(kind: type[WebFilter]) -> None:
    from sluicegate.gate.web.declared_needs import objection_to_needs

    assert "events" in objection_to_needs(kind())
    assert not objection_to_needs(Watch())
