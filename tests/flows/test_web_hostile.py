"""Groups H, J6, K4, N1 and N4 of the hostile cases against a whole gate: one line a case.

The tables are those of the codec; here it counts what becomes of them in a gate: nothing of a
malformed request reaches a server, its client is told why and disconnected, and a server that
answers nonsense is never used again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.settings import ServiceSettings
from sluicegate.protocols.http1 import HttpFault
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import SERVER, Gate, play, publication, settings
from tests.flows.web_kit import (
    SITE,
    Message,
    Origin,
    asks,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)
from tests.unit.http1 import test_hostile_requests as requests
from tests.unit.http1 import test_hostile_responses as responses

A_SITE = """
[[rule]]
name = "a"
to = ["a.example", "site.example"]
protocols = ["tcp:80"]
"""


def published() -> ServiceSettings:
    return settings(dataclasses.replace(publication(), is_http=True))


def each_alone(
    wires: Sequence[bytes], plan: ServiceSettings, origin: Origin, address: SocketAddress
) -> tuple[Gate, list[bytes]]:
    """Send each of these by a client of its own; return what each was told until the end."""
    told: list[bytes] = []

    async def peer_of(stream: PeerStream, wire: bytes) -> bytes:
        received = b""
        try:
            await stream.send_all(wire)
            while piece := await stream.receive():
                received += piece
        except OSError:
            received += b"<reset>"
        stream.close()
        return received

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=address)
        for wire in wires:
            client = gate.call(lambda stream, wire=wire: peer_of(stream, wire))
            (received,) = await gate.ended(client)
            told.append(received)
        await gate.idle()

    names = Names().put("a.example", "93.184.216.34").put("site.example", "93.184.216.34")
    gate = play(scenario, plan, exchange=names, web_window_s=5.0, web_head_timeout_s=5.0)
    return gate, told


def status_of(told: bytes) -> int:
    return int(told.split(b" ")[1]) if told.startswith(b"HTTP/1.1 ") else 0


def test_malformed_heads_are_told_why_and_never_reach_a_published_server() -> None:
    origin = Origin()
    cases = [case for case in requests.HEADS if not case[1].startswith(b"CONNECT")]
    gate, told = each_alone([wire for _, wire, _ in cases], published(), origin, SERVER)
    assert origin.connections == 0
    for (case, wire, fault), answer in zip(cases, told, strict=True):
        assert status_of(answer) == fault.status, (case, wire, answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (case, wire, answer)
        assert b"Connection: close" in answer, (case, wire)
    reasons = {
        record.reason.partition(":")[2].partition(":")[0].strip() for record in gate.requests
    }
    assert reasons == {fault.code for _, _, fault in cases}


def absolute(wire: bytes) -> bytes | None:
    """Return a request as it is asked of a proxy; None for one that has no path to ask for."""
    found = re.match(rb"(GET|POST|HEAD|DELETE|PUT|TRACE|OPTIONS) (/\S*) HTTP/1\.1\r\n", wire)
    if found is None:
        return None
    method, path = found.groups()
    return b"%b http://a.example%b HTTP/1.1\r\n%b" % (method, path, wire[found.end() :])


def test_malformed_heads_never_reach_a_server_through_the_proxy() -> None:
    origin = Origin()
    cases = [(one, wire, fault) for one, data, fault in requests.HEADS if (wire := absolute(data))]
    assert len(cases) > 80
    _, told = each_alone([wire for _, wire, _ in cases], web_settings(A_SITE), origin, SITE)
    assert origin.connections == 0
    for (case, wire, fault), answer in zip(cases, told, strict=True):
        assert status_of(answer) == fault.status, (case, wire, answer)


@pytest.mark.parametrize("is_published", [True, False])
def test_malformed_bodies_never_look_whole_to_a_server(*, is_published: bool) -> None:
    wholes: list[Message] = []

    async def serve(stream: PeerStream) -> None:
        try:
            while (message := await read_message(stream)) is not None:
                if message.whole:
                    wholes.append(message)
                    await stream.send_all(reply())
        except (OSError, ValueError):
            return
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    cases = requests.BODIES
    wires = [wire if is_published else absolute(wire) or b"" for _, wire, _ in cases]
    plan, address = (published(), SERVER) if is_published else (web_settings(A_SITE), SITE)
    gate, told = each_alone(wires, plan, origin, address)
    assert wholes == []
    for (case, wire, fault), answer in zip(cases, told, strict=True):
        assert status_of(answer) == fault.status, (case, wire, answer)
    assert {record.outcome for record in gate.requests} == {"refused"}


def test_malformed_answers_become_502_and_their_server_is_not_used_again() -> None:
    cases = responses.HEADS
    for case, wire, fault in cases:
        origin = Origin([wire])
        found = browse(get(), get(), origin=origin)
        assert found.statuses == [502, 502], (case, wire)
        assert found.reasons[0].startswith(f"server-{fault.code}"), (case, wire, found.reasons)
        assert origin.connections == 2, (case, wire)


def test_answers_that_go_wrong_behind_their_head_never_look_whole() -> None:
    for case, wire, fault in responses.BODIES:
        origin = Origin([wire])
        found = browse(get(), get(), origin=origin)
        if fault is HttpFault.UNSOLICITED:
            # The answer was whole; what follows it is nobody's.
            assert all(one.whole for one in found.answers), (case, wire)
            assert origin.connections == len(found.answers), (case, wire)
        elif fault is HttpFault.INFORMATIONAL_FLOOD:
            assert 200 not in found.statuses, (case, wire)
        else:
            assert not any(one.whole and one.status == 200 for one in found.answers), (case, wire)


TARGETS_TOO_LONG = [
    # H8, N4, N5: what is too large, and what the client is told
    (b"GET http://a.example/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a.example\r\n\r\n", 414),
    (b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    (b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 70_000, 431),
    (
        b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 17_000 + b"\r\n\r\n",
        431,
    ),
]


@pytest.mark.parametrize(("wire", "status"), TARGETS_TOO_LONG)
def test_what_is_too_large_is_refused_with_its_status(wire: bytes, status: int) -> None:
    origin = Origin()
    _, told = each_alone([wire], web_settings(A_SITE), origin, SITE)
    assert (status_of(told[0]), origin.connections) == (status, 0)


def test_an_early_answer_ends_both_connections_when_the_body_was_not_read() -> None:
    # H11, CVE-2025-4366: the rest of the body must not become a request.
    async def serve(stream: PeerStream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        origin.connections += 1
        await stream.send_all(reply(b"early"))
        await stream.receive_all()
        stream.close()

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(
            b"POST http://site.example/ HTTP/1.1\r\nHost: site.example\r\n"
            b"Content-Length: 500\r\n\r\n"
        )
        received = b""
        while b"early" not in received:
            received += await stream.receive()
        await stream.send_all(get("/smuggled"))
        try:
            received += await stream.receive_all()
        except OSError:
            received += b"<reset>"
        stream.close()
        return received

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(origin=origin, peer=peer)
    assert found.answers.count(b"HTTP/1.1 ") == 1
    assert origin.connections == 1


def test_417_ends_the_connection() -> None:
    wire = b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nExpect: x\r\n\r\n" + get()
    _, told = each_alone([wire], web_settings(A_SITE), Origin(), SITE)
    assert (status_of(told[0]), told[0].count(b"HTTP/1.1 ")) == (417, 1)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_request_that_comes_in_two_pieces_is_the_same_request(cut: int) -> None:
    async def peer(stream: PeerStream) -> Message | None:
        wire = get("/cut")
        await stream.send_all(wire[:cut])
        await stream.send_all(wire[cut:])
        answer = await read_message(stream, is_response=True)
        stream.close()
        return answer

    found = browse(peer=peer)
    assert found.answers.body == b"hello"
    assert found.origin.lines == ["GET /cut HTTP/1.1"]


def test_n1_heads_that_never_end_are_refused_in_time() -> None:
    wire = b"GET http://a.example/ HTTP/1.1\r\nHost: a.exa"
    gate, told = each_alone([wire], web_settings(A_SITE), Origin(), SITE)
    assert status_of(told[0]) == 408
    (record,) = gate.requests
    assert record.reason == "limit web_head_timeout_s"


def test_n1_bodies_that_never_come_are_refused_in_time() -> None:
    wire = (
        b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\nslow"
    )
    gate, told = each_alone([wire], web_settings(A_SITE), Origin(), SITE)
    assert status_of(told[0]) == 408
    (record,) = gate.requests
    assert record.ended == "limit web_window_bytes_min"


def test_n1_clients_that_read_nothing_are_reset_in_time() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(Origin([reply(b"x" * 4_000_000)]).serve, address=SITE)

        async def peer(stream: PeerStream) -> None:
            await stream.send_all(get())
            await stream.receive_until(b"\r\n\r\n")
            stopped.append(stream)

        stopped: list[PeerStream] = []
        gate.call(peer)
        await gate.until(lambda: stopped)
        await gate.idle()

    names = Names().put("site.example", "93.184.216.34")
    gate = play(scenario, web_settings(), exchange=names, web_window_s=5.0)
    (record,) = gate.requests
    assert (record.outcome, record.ended) == ("failed", "client takes its answer too slowly")


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.receive_all()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(get(), origin=origin, web_response_timeout_s=5.0)
    assert (found.statuses, found.reasons) == ([504], ["server silent"])


def test_a_server_that_cannot_be_reached_is_502() -> None:
    found = browse(get("/", "other.example"))
    assert found.statuses == [502]
    assert found.reasons[0].startswith("server connect")


def test_j6_events_of_an_endless_stream_pass_as_they_come() -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            for byte in f"data: {number}\n\n".encode():
                await stream.send_all(bytes([byte]))
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(get(), origin=origin)
    assert found.answers[0].body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_connections_that_log_in_are_never_shared() -> None:
    # NTLM and Negotiate log in a connection: whoever came by it next would be that client.
    origin = Origin()

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=SITE)
        logged_in = get("/", "site.example", "Authorization: NTLM abc")
        for wanted in ([logged_in, get()], [get(), get()]):
            await gate.ended(gate.call(asks(*wanted)))
        await gate.idle()

    play(scenario, web_settings(), exchange=Names().put("site.example", "93.184.216.34"))
    assert origin.connections == 2
