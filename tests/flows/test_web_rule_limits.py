"""Bounds of a rule for each request of HTTP: URL, head, bodies, and a server's silence."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy.rules import RuleLimits
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import SERVER, Gate, play
from tests.flows.http2_kit import asks_in_http2
from tests.flows.test_web_publishing import published
from tests.flows.tls_kit import with_tls
from tests.flows.web_kit import (
    RULES,
    SITE,
    Origin,
    asks,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)

WHOLE = reply(b"x" * 2000)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 2
    + b"0\r\n\r\n"
)
EMPTY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"
LONG = get("/" + "a" * 300)
WIDE = get("/", "site.example", "X-A: " + "a" * 300)
PUT = get("/", "site.example", "Content-Length: 2000", method="PUT") + b"x" * 2000
PUT_CHUNKED = (
    get("/", "site.example", "Transfer-Encoding: chunked", method="PUT")
    + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 2
    + b"0\r\n\r\n"
)


class Case(NamedTuple):
    """A request, the answer of the server, the limit, and what the client gets; 0: a reset."""

    request: bytes
    answer: bytes
    name: str
    bound: int
    status: int


CASES = {
    "a URL that is too long": Case(LONG, WHOLE, "url_bytes_max", 319, 414),
    "a URL of just that length": Case(LONG, WHOLE, "url_bytes_max", 320, 200),
    "a head that is too large": Case(WIDE, WHOLE, "head_bytes_max", 200, 431),
    "the URL is part of the head": Case(LONG, WHOLE, "head_bytes_max", 300, 431),
    "a head within the bound": Case(WIDE, WHOLE, "head_bytes_max", 600, 200),
    "a request's body that says its length": Case(PUT, WHOLE, "request_bytes_max", 1999, 413),
    "a request's body of just that length": Case(PUT, WHOLE, "request_bytes_max", 2000, 200),
    "a request's body of no length": Case(PUT_CHUNKED, WHOLE, "request_bytes_max", 1999, 413),
    "one of just that size": Case(PUT_CHUNKED, WHOLE, "request_bytes_max", 2000, 200),
    "a response that says its length": Case(get(), WHOLE, "response_bytes_max", 1999, 502),
    "a response of just that length": Case(get(), WHOLE, "response_bytes_max", 2000, 200),
    "a response of no length": Case(get(), CHUNKED, "response_bytes_max", 1999, 0),
    "a response of just that size": Case(get(), CHUNKED, "response_bytes_max", 2000, 200),
    "a response to HEAD has no body": Case(
        get(method="HEAD"), EMPTY_HEAD, "response_bytes_max", 10, 200
    ),
}


def proxied(name: str, bound: float) -> ServiceSettings:
    return web_settings(RULES + f"limits = {{ {name} = {bound} }}\n")


def met(way: str, case: Case) -> Any:
    origin = Origin(lambda _request: case.answer)
    if way == "published":
        limits = RuleLimits(**{case.name: case.bound})  # type: ignore[arg-type]
        wire = case.request.replace(b" http://site.example", b" ", 1)
        return browse(wire, origin=origin, plan=published(limits=limits), address=SERVER)
    plan = proxied(case.name, case.bound)
    if way == "HTTP/1":
        return browse(case.request, origin=origin, plan=plan)
    plan = with_tls(plan, protocols=("h2", "http/1.1"))
    return browse(origin=origin, plan=plan, peer=asks_in_http2(case.request))


@pytest.mark.parametrize("way", ["HTTP/1", "HTTP/2", "published"])
@pytest.mark.parametrize("name", CASES)
def test_a_rule_bounds_each_request(name: str, way: str) -> None:
    case = CASES[name]
    found = met(way, case)
    (record,) = found.gate.requests
    if case.status == 200:
        assert found.statuses == [200]
        assert (record.verdict, record.ended) == ("allowed", "")
        return
    reason = record.ended or record.reason
    assert reason.startswith("limit rule "), reason
    assert reason.endswith(f" {case.name}"), reason
    assert record.rule
    if case.status:
        assert found.statuses == [case.status]
        assert len(found.answers[0].body) > 0
    else:
        assert not any(one.whole for one in found.answers)
    if case.status in {414, 431}:
        assert found.origin.seen == []


@pytest.mark.parametrize("way", ["HTTP/1", "HTTP/2", "published"])
def test_a_rule_says_how_long_a_server_may_be_silent(way: str) -> None:
    answers: list[Any] = []

    async def serve(gate: Gate, stream: PeerStream) -> None:
        await read_message(stream)
        await gate.peers.sleep(60)
        stream.close()

    is_published = way == "published"
    plan = proxied("response_timeout_s", 5)
    if is_published:
        plan = published(limits=RuleLimits(response_timeout_s=5))
    elif way == "HTTP/2":
        plan = with_tls(plan, protocols=("h2", "http/1.1"))
    wire = get().replace(b" http://site.example", b" ", 1) if is_published else get()

    async def scenario(gate: Gate) -> None:
        gate.serve(lambda stream: serve(gate, stream), address=SERVER if is_published else SITE)
        client = asks_in_http2(wire) if way == "HTTP/2" else asks(wire)
        answers.extend(await gate.ended(gate.call(client), within_s=200))

    gate = play(scenario, plan, exchange=Names(site_example=["93.184.216.34"]))
    (record,) = gate.requests
    assert record.ended.startswith("server silent: rule ")
    assert record.ended.endswith(" response_timeout_s")
    assert 5 <= record.duration_ms / 1000 < 8
    assert [one.status for one in answers[0]] == [504]
