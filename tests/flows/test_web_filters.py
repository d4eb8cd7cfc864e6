"""Web filters in a whole gate: a proxy's client, a web server, and the filters between them."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import gzip
import json
import pathlib
import tempfile
import weakref
from typing import Any

import pytest

from sluicegate.audit import FilterFailureRecord, TransferRecord
from sluicegate.bundled.http_filter import HttpFilter, HttpFilterSettings
from sluicegate.filterapi import (
    FORWARD,
    GO_ON,
    Answer,
    Need,
    Needs,
    Redirect,
    Refuse,
    RefuseWith,
    Release,
    Replace,
    Rewrite,
    RouteTo,
    WebFilter,
)
from sluicegate.gate.settings import Installation, OnFailure, PerRule
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import installation
from tests.flows.web_kit import (
    OTHER,
    Message,
    Origin,
    Visit,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)

RULES = """
[[rule]]
name = "web"
to = ["site.example"]
protocols = ["tcp:80"]
filters = {names}
{more}

[[rule]]
name = "other"
to = ["other.example"]
protocols = ["tcp:80"]
filters = {names}
{more}
"""
BROWSER = "Accept: text/html,*/*;q=0.8"


def visit(*requests: bytes, filters: list[Any], more: str = "", **options: Any) -> Visit:
    installed = [
        one if isinstance(one, Installation) else installation(one, f"f{number}")
        for number, one in enumerate(filters)
    ]
    names = json.dumps([one.name for one in installed])
    plan = web_settings(RULES.format(names=names, more=more), filters=installed)
    with tempfile.TemporaryDirectory() as folder:
        limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0}
        return browse(*requests, plan=plan, spool=pathlib.Path(folder), **limits, **options)


class Heads(WebFilter):
    """Answers as a test says, and counts."""

    def __init__(self, request: object = GO_ON, response: object = GO_ON) -> None:
        self.answers = (request, response)
        self.ended: list[tuple[str, str, int]] = []

    def on_request(self, exchange):
        exchange.request.headers.set("X-Seen", "request")
        return self.answers[0]

    def on_response(self, exchange):
        exchange.response.headers.set("X-Seen", "response")
        return self.answers[1]

    def on_log(self, exchange):
        return {"seen": exchange.request.url}

    def on_end(self, exchange, outcome):
        self.ended.append((outcome.verdict, outcome.reason, outcome.status))


def test_every_request_of_a_connection_passes_the_filters() -> None:
    heads = Heads()
    found = visit(get("/a"), get("/b"), filters=[heads])
    assert found.statuses == [200, 200]
    assert [one.field("X-Seen") for one in found.answers] == ["response", "response"]
    assert [one.field("X-Seen") for one in found.origin.seen] == ["request", "request"]
    assert found.origin.connections == 1
    assert heads.ended == [("passed", "allowed-by-rule", 200)] * 2
    assert [one.facts for one in found.gate.requests] == [
        {"seen": "http://site.example/a"},
        {"seen": "http://site.example/b"},
    ]


@pytest.mark.parametrize(
    ("answer", "status"),
    [(Refuse("no such thing"), 403), (RefuseWith("no such thing", 405), 405)],
)
def test_a_refusal_is_a_page_or_a_problem_and_the_connection_goes_on(
    answer: object, status: int
) -> None:
    heads = Heads(answer)
    found = visit(get("/a", "site.example", BROWSER), get("/secret"), filters=[heads])
    assert found.statuses == [status, status]
    page, problem = found.answers
    records = found.gate.requests
    assert page.field("Content-Type") == "text/html; charset=utf-8"
    assert b"no such thing" in page.body
    assert records[0].request.encode() in page.body
    said = json.loads(problem.body)
    assert (said["reason"], said["rule"], said["record"]) == (
        "no such thing", "web", records[1].request,
    )  # fmt: skip
    assert b"secret" not in problem.body
    assert problem.field("Cache-Control") == "no-store"
    assert found.origin.seen == []
    assert heads.ended == [("refused", "no such thing", status)] * 2


def test_a_response_that_is_refused_is_not_told() -> None:
    found = visit(get("/a"), get("/b"), filters=[Heads(response=Refuse("bad"))])
    assert found.statuses == [403, 403]
    assert [json.loads(one.body)["reason"] for one in found.answers] == ["bad", "bad"]


def test_what_a_filter_sets_is_its_own_exchanges_alone() -> None:
    class Numbers(WebFilter):
        def on_request(self, exchange):
            exchange.state = exchange.request.path
            if exchange.state != "/c":
                exchange.request.headers.set("X-Path", exchange.state)
            return GO_ON

        def on_response(self, exchange):
            if exchange.state != "/c":
                exchange.response.headers.add("X-Path", exchange.state)
            return GO_ON

    found = visit(*[get(path) for path in ("/a", "/a", "/b", "/c")], filters=[Numbers()])
    assert found.statuses == [200] * 4
    assert [one.field("X-Path") for one in found.origin.seen] == ["/a", "/a", "/b", None]
    assert [one.field("X-Path") for one in found.answers] == ["/a", "/a", "/b", None]
    assert {one.body for one in found.answers} == {b"hello"}


def test_a_response_waits_for_a_filter_that_thinks_about_its_head() -> None:
    class Thinks(WebFilter):
        async def on_response(self, exchange):
            await asyncio.sleep(1)
            exchange.response.headers.set("X-Thought", exchange.request.path)
            return Refuse("bad") if exchange.request.path == "/b" else GO_ON

    found = visit(get("/a"), get("/a"), get("/b"), get("/c"), filters=[Thinks()])
    assert found.statuses == [200, 200, 403, 200]
    assert [one.field("X-Thought") for one in found.answers] == ["/a", "/a", None, "/c"]
    assert [found.answers[at].body for at in (0, 1, 3)] == [b"hello"] * 3


def test_what_a_filter_keeps_of_an_exchange_goes_with_its_end() -> None:
    class Kept:
        pass

    class Keeps(WebFilter):
        def on_request(self, exchange):
            # Of the request before there must be nothing left, and no collector was needed.
            left.append(sum(one() is not None for one in kept))
            exchange.state = Kept()
            kept.append(weakref.ref(exchange.state))
            return GO_ON

        def on_response(self, exchange):
            exchange.response.headers.set("X-Kept", "yes")
            return GO_ON

    kept: list[weakref.ref[Kept]] = []
    left: list[int] = []
    gc.disable()
    try:
        found = visit(get("/a"), get("/b"), get("/c"), get("/d"), filters=[Keeps()])
    finally:
        gc.enable()
    assert found.statuses == [200] * 4
    assert max(left) <= 1, "the exchange that ends while the next one begins"


def test_a_filter_answers_itself_and_redirects() -> None:
    found = visit(get("/a"), filters=[Heads(Answer(200, b"mine", {"X-By": "filter"}))])
    assert (found.statuses, found.answers[0].body) == ([200], b"mine")
    assert found.answers[0].field("X-By") == "filter"
    found = visit(get("/a"), filters=[Heads(response=Redirect("/b", 303))])
    assert (found.statuses, found.answers[0].field("Location")) == ([303], "/b")


@pytest.mark.parametrize(("on_failure", "status"), [(OnFailure.DENY, 500), (OnFailure.BYPASS, 200)])
def test_a_filter_that_fails_refuses_unless_the_operator_said_otherwise(
    on_failure: OnFailure, status: int
) -> None:
    class Raises(WebFilter):
        def on_request(self, exchange):
            raise ValueError("a bug")

    installed = dataclasses.replace(installation(Raises(), "bad"), on_failure=on_failure)
    found = visit(get("/a"), filters=[installed])
    assert found.statuses == [status]
    failures = [one for one in found.gate.recorder.records if isinstance(one, FilterFailureRecord)]
    assert [(one.filter, one.cause) for one in failures] == [("bad", "ValueError: a bug")]
    assert failures[0].action == ("refused" if status == 500 else "bypassed")


def test_a_filter_that_is_never_done_is_a_failure_after_its_time() -> None:
    class Hangs(WebFilter):
        async def on_response(self, exchange):
            await asyncio.sleep(3600)

    found = visit(get("/a"), filters=[Hangs()], filter_event_timeout_s=3)
    assert found.statuses == [500]


class Upper(WebFilter):
    """Changes bodies, slowly if it is told to."""

    needs = Needs(Need.STREAM, Need.STREAM, alters=True)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    async def on_request_chunk(self, exchange, chunk, is_last):
        data = bytes(chunk)
        await asyncio.sleep(self.seconds)
        return Rewrite(data.upper())

    def on_response_chunk(self, exchange, chunk, is_last):
        return Rewrite(bytes(chunk).upper())


def post(body: bytes, *fields: str) -> bytes:
    return get("/a", "site.example", f"Content-Length: {len(body)}", *fields, method="POST") + body


@pytest.mark.parametrize("size", [0, 5, 300_000])
@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_bodies_are_changed_both_ways_and_the_connection_goes_on(size: int, seconds: float) -> None:
    body = b"abc" * (size // 3) + b"x" * (size % 3)
    origin = Origin(lambda request: reply(b"you said " + request.body, 'ETag: "1"'))
    found = visit(post(body), post(body), filters=[Upper(seconds)], origin=origin)
    assert found.statuses == [200, 200]
    assert [one.body for one in found.answers] == [b"YOU SAID " + body.upper()] * 2
    assert [one.body for one in found.origin.seen] == [body.upper()] * 2
    assert found.answers[0].field("ETag") == 'W/"1"'
    assert found.answers[0].field("Content-Length") is None


def test_a_compressed_page_is_shown_as_text() -> None:
    origin = Origin(lambda request: reply(gzip.compress(b"page " * 1000), "Content-Encoding: gzip"))
    found = visit(get("/a", "site.example", "Accept-Encoding: gzip, zz"), filters=[Upper()],
                  origin=origin)  # fmt: skip
    assert found.answers[0].body == b"PAGE " * 1000
    assert found.origin.seen[0].field("Accept-Encoding") == "gzip"


class Whole(WebFilter):
    needs = Needs(Need.OBJECT, Need.OBJECT, alters=True)

    def __init__(self, answer: object = None) -> None:
        self.answer = answer or Release()

    async def on_request_body(self, exchange, body):
        exchange.request.headers.set("X-Sum", body.sha256[:8])
        return self.answer

    async def on_response_body(self, exchange, body):
        exchange.response.headers.set("X-Sum", body.sha256[:8])
        return self.answer


@pytest.mark.parametrize("size", [1, 5000, 700_000])
def test_whole_bodies_are_held_and_heads_may_say_what_was_found(size: int) -> None:
    body = b"z" * size
    origin = Origin(lambda request: reply(body))
    found = visit(post(body, "Expect: 100-continue"), get("/b"), filters=[Whole()], origin=origin,
                  peer=uploads(post(body, "Expect: 100-continue"), get("/b")))  # fmt: skip
    assert found.statuses == [200, 200]
    assert [one.body for one in found.answers] == [body, body]
    assert found.origin.seen[0].body == body
    sums = {found.origin.seen[0].field("X-Sum"), *(one.field("X-Sum") for one in found.answers)}
    assert len(sums) == 1
    assert None not in sums
    held = [one for one in found.gate.recorder.records if isinstance(one, TransferRecord)]
    assert [(one.verdict, one.bytes) for one in held] == [("released", size)] * 3


def uploads(*requests: bytes):
    """Be a client that waits for 100 where it says so."""

    async def peer(stream: PeerStream) -> list[Message]:
        answers: list[Message] = []
        for request in requests:
            head, _, body = request.partition(b"\r\n\r\n")
            await stream.send_all(head + b"\r\n\r\n")
            if b"100-continue" in head:
                first = await read_message(stream, has_body=False)
                assert first is not None
                assert first.status == 100
            if body:
                await stream.send_all(body)
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            answers.append(answer)
        stream.close()
        return answers

    return peer


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (Refuse("bad"), 403, None),
        (Replace(b"cleaned"), 200, b"cleaned"),
        (Answer(200, b"mine"), 200, b"mine"),
    ],
)
def test_what_becomes_of_a_whole_body(answer: object, status: int, body: bytes | None) -> None:
    class Downloads(Whole):
        needs = Needs(response=Need.OBJECT, alters=True)

    found = visit(get("/a"), get("/b"), filters=[Downloads(answer)])
    assert found.statuses == [status, status]
    if body is not None:
        assert [one.body for one in found.answers] == [body, body]


def test_a_refusal_behind_the_first_bytes_is_a_reset() -> None:
    class Late(WebFilter):
        needs = Needs(response=Need.STREAM)

        def on_response_chunk(self, exchange, chunk, is_last):
            return Refuse("secret") if b"secret" in bytes(chunk) else FORWARD

    body = b"x" * 600_000 + b"secret" + b"x" * 600_000
    found = visit(get("/a"), filters=[Late()], origin=Origin(lambda request: reply(body)))
    assert not found.answers or not found.answers[0].whole
    assert found.reasons == ["secret"]


def test_a_request_is_led_elsewhere_only_where_policy_lets_it() -> None:
    class Leads(WebFilter):
        def __init__(self, host: str) -> None:
            self.host = host

        def on_route(self, exchange):
            return RouteTo(self.host, 80)

    other = Origin(lambda request: reply(b"other"))
    found = visit(get("/a"), filters=[Leads("other.example")], origin=other, address=OTHER)
    assert (found.statuses, found.answers[0].body) == ([200], b"other")
    assert other.seen[0].field("Host") == "other.example:80"
    found = visit(get("/a"), filters=[Leads("denied.example")])
    assert found.statuses == [403]
    assert found.origin.seen == []


def test_a_path_that_a_filter_changes_is_judged_again() -> None:
    class Rewrites(WebFilter):
        def on_request(self, exchange):
            exchange.request.target = "/private?x"
            return GO_ON

    found = visit(get("/a"), filters=[Rewrites()], more='paths = ["/a"]')
    assert found.statuses == [403]
    found = visit(get("/a"), filters=[Rewrites()])
    assert found.origin.lines == ["GET /private?x HTTP/1.1"]


def test_a_rule_sets_up_its_own_filter() -> None:
    installed = Installation(
        "http_filter", PerRule(HttpFilter, HttpFilterSettings), OnFailure.DENY, "bundled"
    )
    more = '[rule.settings.http_filter]\nmethods_allowed = ["GET"]\nserver_header = ""'
    origin = Origin(lambda request: reply(b"x", "Server: Apache"))
    found = visit(get("/a"), get("/a", method="PUT"), filters=[installed], more=more, origin=origin)
    assert found.statuses == [200, 405]
    assert found.answers[0].field("Server") is None


def test_a_filter_that_could_not_be_shown_what_it_needs_blocks_its_rule() -> None:
    class Wants(WebFilter):
        needs = Needs(response=Need.OBJECT)

    found = visit(get("/a"), filters=[Wants()])
    assert found.statuses == [503]
    assert "has no on_response_body" in found.reasons[0]


def test_filters_are_told_of_an_end_that_nobody_wanted() -> None:
    heads = Heads()

    async def leaves(stream: PeerStream) -> list[Message]:
        await stream.send_all(get("/a"))
        stream.reset()
        return []

    async def silent(stream: PeerStream) -> None:
        await read_message(stream)
        await stream.receive_until(b"\r\n\r\n")

    origin = Origin()
    origin.serve = silent  # type: ignore[method-assign]
    visit(filters=[heads], origin=origin, peer=leaves)
    assert [verdict for verdict, _, _ in heads.ended] == ["failed"]


def test_filters_see_which_rule_each_request_of_a_connection_came_by() -> None:
    seen: list[str] = []

    class Notes(WebFilter):
        def on_request(self, exchange):
            seen.append(exchange.rule)
            return Answer(200)

    visit(get("/a"), get("/b", "other.example"), filters=[Notes()])
    assert seen == ["web", "other"]
