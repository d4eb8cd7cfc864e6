"""Published web servers: the same engine, with the server that the operator wrote."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import FloodBounds, PolicySnapshot, SendProxyProtocol
from sluicegate.policy.rules import RuleLimits
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import SERVER, Gate, play, publication, settings
from tests.flows.web_kit import Message, Origin, Visit, asks, browse, reply


def published(**changes: object) -> ServiceSettings:
    one = dataclasses.replace(publication(), is_http=True, **changes)  # type: ignore[arg-type]
    return settings(one)


def visit(*requests: bytes, origin: Origin | None = None, **changes: object) -> Visit:
    return browse(*requests, origin=origin, plan=published(**changes), address=SERVER)


def get(path: str = "/", *fields: str, host: str = "www.example") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def test_requests_go_to_the_server_that_is_published_whatever_host_they_name() -> None:
    found = visit(get("/a"), get("/b", host="169.254.169.254"))
    assert found.statuses == [200, 200]
    assert found.origin.lines == ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]
    assert [one.field("Host") for one in found.origin.seen] == ["www.example", "169.254.169.254"]
    assert {record.server for record in found.gate.requests} == {str(SERVER)}
    assert [record.url for record in found.gate.requests] == [
        "http://www.example/a",
        "http://169.254.169.254/b",
    ]
    (decision,) = found.gate.decisions
    assert (decision.verdict, decision.reason, decision.rule) == ("allowed", "published", "web")
    assert len(found.gate.ends) == 1


def test_an_absolute_target_names_the_host_and_nothing_else() -> None:
    wire = b"GET http://other.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n"
    found = visit(wire)
    assert found.origin.lines == ["GET /x HTTP/1.1"]
    assert found.origin.seen[0].field("Host") == "other.example"


def test_the_server_is_told_who_asks_and_clients_cannot_say_it() -> None:
    lies = ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1")
    (seen,) = visit(get("/", *lies)).origin.seen
    assert seen.head.count(b"X-Forwarded-For") == 1
    assert seen.field("X-Forwarded-For") == "10.1.1.1"
    assert seen.field("X-Forwarded-Host") == "www.example"
    assert (seen.field("Forwarded"), seen.field("X-Real-IP")) == (None, None)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 405),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET https://www.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\0\x05\x01\0\0\x01\x03", 400),
        (b"SSH-2.0-x\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_for_it_never_reaches_the_server(wire: bytes, status: int) -> None:
    found = visit(wire)
    assert (found.statuses, found.origin.connections) == ([status], 0)


def test_a_server_that_expects_it_is_told_of_each_client_in_front_of_its_bytes() -> None:
    heads: list[bytes] = []

    async def serve(stream: PeerStream) -> None:
        heads.append(await stream.receive_until(b"\r\n"))
        while await stream.receive_until(b"\r\n\r\n"):
            await stream.send_all(reply())
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(serve)
        for host in ("10.1.1.1", "10.1.1.2"):
            source = SocketAddress(host, 0)
            (answers,) = await gate.ended(gate.call(asks(get(), get()), source=source))
            assert [one.status for one in answers] == [200, 200]
        await gate.idle()

    play(scenario, published(send_proxy_protocol=SendProxyProtocol.V1))
    assert [head.split(b" ")[2] for head in heads] == [b"10.1.1.1", b"10.1.1.2"]


def test_bytes_of_one_request_are_bounded_by_its_rule() -> None:
    origin = Origin([reply(b"x" * 5000)])
    found = visit(get(), origin=origin, limits=RuleLimits(bytes_max=4000))
    assert found.reasons == ["limit rule web bytes_max"]
    assert found.answers == [] or not found.answers[0].whole


@pytest.mark.parametrize("is_dial_answered", [True, False], ids=["answered", "never answered"])
def test_n3_clients_are_half_open_until_the_published_server_is_there(
    is_dial_answered: bool,
) -> None:
    def swallow_dials(gate: Gate) -> None:
        connect = gate.network.connect

        def swallowing(sock: Any, address: SocketAddress, done: Callable[[int], None]) -> None:
            if address != SERVER or is_dial_answered:
                connect(sock, address, done)

        gate.network.connect = swallowing  # type: ignore[method-assign]

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve)
        calls = []
        for _ in range(5):
            calls.append(gate.call(asks(get(), get("/more"), b"")))
            await asyncio.sleep(0.2)
        assert gate.service.connection_count == (5 if is_dial_answered else 2)
        await gate.ended(*calls)

    bounds = FloodBounds(half_open_max=2)
    gate = play(scenario, published(), prepare=swallow_dials, flood=bounds)
    reached = [one.limit for one in gate.recorder.of(LimitRecord)]
    assert set(reached) == (set() if is_dial_answered else {"half_open_max"})


def test_what_is_published_no_more_ends_with_the_reload() -> None:
    statuses: list[int] = []

    async def scenario(gate: Gate) -> None:
        async def peer(stream: PeerStream) -> bytes:
            answers: list[Message] = []
            await stream.send_all(get())
            answers += [one for one in [await read(stream)] if one is not None]
            statuses.extend(one.status for one in answers)
            return await stream.receive_all()

        from tests.flows.web_kit import read_message

        async def read(stream: PeerStream) -> Message | None:
            return await read_message(stream, is_response=True)

        gate.serve(Origin().serve)
        client = gate.call(peer)
        await gate.until(lambda: statuses)
        plan = published()
        empty = dataclasses.replace(plan.policy.policy, publications=())
        await gate.service.apply(dataclasses.replace(plan, policy=PolicySnapshot(empty)))
        (rest,) = await gate.ended(client)
        assert rest == b"" or isinstance(rest, OSError)

    gate = play(scenario, published())
    assert statuses == [200]
    (end,) = gate.ends
    assert end.reason.startswith("revoked: ")
