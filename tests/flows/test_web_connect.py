"""CONNECT on a connection that has carried other requests: served as if it had come first."""

from __future__ import annotations

import pytest

from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import WEB
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.test_web_connections import ANN_SAYS
from tests.flows.web_kit import RULES, SITE, Names, Origin, get, read_message, web_settings

POLICY = RULES.replace('protocols = ["tcp:80"]', 'protocols = ["tcp:80", "tcp:443"]')
CONNECT = b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n"


async def tunnel(
    stream: PeerStream, *before: bytes, connect: bytes = CONNECT, early: bytes = b""
) -> tuple[list[int], bytes]:
    """Ask, then open a tunnel; return every status, and what comes back through it."""
    statuses: list[int] = []
    for request in before:
        await stream.send_all(request)
        answer = await read_message(stream, is_response=True)
        assert answer is not None
        statuses.append(answer.status)
    await stream.send_all(connect + early)
    head = await stream.receive_until(b"\r\n\r\n")
    statuses.append(int(head.split(b" ")[1]))
    if statuses[-1] != 200:
        stream.close()
        return statuses, b""
    await stream.send_all(b"hello")
    echoed = await stream.receive_exactly(len(early) + 5)
    stream.close()
    return statuses, echoed


def visit(
    *before: bytes, connect: bytes = CONNECT, early: bytes = b"", **options: object
) -> tuple[object, Gate]:
    found: list[object] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        gate.serve(echoes, address=WEB)
        client = gate.call(lambda stream: tunnel(stream, *before, connect=connect, early=early))
        found.extend(await gate.ended(client))
        await gate.idle()

    plan = web_settings(POLICY, **options)
    gate = play(scenario, plan, exchange=Names(site_example=["93.184.216.34"]))
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0], gate


def test_a_tunnel_opens_behind_requests_and_each_is_on_record() -> None:
    found, gate = visit(get("/a"), get("/", "evil.example"), get("/b"), early=b"early ")
    assert found == ([200, 403, 200, 200], b"early hello")
    assert [one.status for one in gate.requests] == [200, 403, 200]
    web, tunnelled = gate.ends
    assert (web.entry, web.outcome) == ("http", "released")
    assert (tunnelled.entry, tunnelled.outcome, tunnelled.server) == (
        "http-connect",
        "released",
        str(WEB),
    )
    assert tunnelled.bytes_to_client == 11
    assert web.connection != tunnelled.connection


def test_a_tunnel_that_no_rule_allows_is_refused_as_the_first_one_would_be() -> None:
    connect = CONNECT.replace(b"site.example", b"evil.example")
    found, gate = visit(get("/a"), connect=connect)
    assert found == ([200, 403], b"")
    assert [(one.verdict, one.reason) for one in gate.decisions] == [("denied", "no-rule")]


@pytest.mark.parametrize(
    ("connect", "status"),
    [
        (CONNECT, 407),
        (CONNECT[:-2] + ANN_SAYS.encode() + b"\r\n\r\n", 200),
    ],
)
def test_each_tunnel_says_by_itself_who_asks(connect: bytes, status: int) -> None:
    found, gate = visit(
        get("/a", "site.example", ANN_SAYS), connect=connect, authenticate=Authenticate.REQUIRED
    )
    assert found[0] == [200, status]  # type: ignore[index]
    if status == 200:
        assert gate.ends[-1].user == "ann"


@pytest.mark.parametrize(
    ("connect", "status"),
    [
        (CONNECT.replace(b":443 ", b":443/x "), 400),
        (CONNECT.replace(b"Host: site.example:443", b"Host: other.example:443"), 400),
        (CONNECT.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"), 400),
    ],
)
def test_what_the_first_request_may_not_be_a_later_one_may_not_be(
    connect: bytes, status: int
) -> None:
    found, _ = visit(get("/a"), connect=connect)
    assert found == ([200, status], b"")


def test_a_listener_without_connect_serves_none() -> None:
    found, gate = visit(get("/a"), protocols=(EntryProtocol.HTTP,))
    assert found == ([200, 405], b"")
    assert gate.requests[-1].reason == "connect-not-served"
