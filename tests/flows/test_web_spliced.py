"""Large bodies that nobody looks at are moved in the kernel, and never a byte more."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import Any

import pytest

from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, play
from tests.flows.test_web_filters import Heads, visit
from tests.flows.web_kit import (
    RULES,
    SITE,
    Message,
    Origin,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)

LARGE = random.Random(7).randbytes(6_000_000)


def spliced(gate: Gate) -> int:
    return sum(end.bytes_spliced for end in gate.ends)


def test_a_large_response_is_moved_in_the_kernel_and_the_connection_goes_on() -> None:
    origin = Origin([reply(LARGE), reply(b"small"), reply(LARGE[:2_000_000])])
    found = browse(get("/a"), get("/b"), get("/c"), origin=origin)
    assert [one.body for one in found.answers] == [LARGE, b"small", LARGE[:2_000_000]]
    assert origin.connections == 1
    assert spliced(found.gate) > 7_000_000
    assert [one.bytes_to_client for one in found.gate.requests] == [6_000_000, 5, 2_000_000]
    assert found.gate.ends[0].bytes_to_client > 8_000_000


def test_what_follows_a_moved_body_is_not_the_bodys() -> None:
    """A server that sends more than it said has only what it said passed on."""
    origin = Origin([reply(LARGE) + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", reply()])
    found = browse(get("/a"), get("/b"), origin=origin)
    assert [len(one.body) for one in found.answers] == [6_000_000, 5]
    assert origin.connections == 2
    assert spliced(found.gate) > 5_000_000


def test_a_large_body_that_ends_with_its_connection_goes_out_in_chunks() -> None:
    origin = Origin([b"HTTP/1.1 200 OK\r\n\r\n" + LARGE], closes=True)
    found = browse(get(), get(), origin=origin)
    assert [(one.body == LARGE, one.field("Transfer-Encoding")) for one in found.answers] == [
        (True, "chunked")
    ] * 2
    assert spliced(found.gate) > 10_000_000


def test_clients_of_http_1_0_have_it_until_the_end() -> None:
    wire = b"GET http://site.example/ HTTP/1.0\r\nHost: site.example\r\n\r\n"
    origin = Origin([b"HTTP/1.1 200 OK\r\n\r\n" + LARGE], closes=True)
    found = browse(wire, origin=origin)
    assert found.answers[0].body == LARGE
    assert spliced(found.gate) > 5_000_000


def upload(body: bytes, *fields: str) -> bytes:
    return get("/up", "site.example", f"Content-Length: {len(body)}", *fields, method="PUT") + body


def test_a_large_request_is_moved_in_the_kernel() -> None:
    origin = Origin(lambda request: reply(hashlib.sha256(request.body).digest()))
    found = browse(upload(LARGE), upload(b"small"), upload(LARGE), origin=origin)
    sums = [hashlib.sha256(one).digest() for one in (LARGE, b"small", LARGE)]
    assert [one.body for one in found.answers] == sums
    assert origin.connections == 1
    assert spliced(found.gate) > 10_000_000
    assert [one.bytes_to_server for one in found.gate.requests] == [6_000_000, 5, 6_000_000]


def test_requests_pipelined_behind_a_moved_body_are_requests() -> None:
    async def peer(stream: PeerStream) -> list[Message | None]:
        await stream.send_all(upload(LARGE) + get("/evil", "evil.example") + get("/next"))
        found = [await read_message(stream, is_response=True) for _ in range(3)]
        stream.close()
        return found

    found = browse(peer=peer)
    assert [one.status for one in found.answers] == [200, 403, 200]
    assert found.origin.seen[0].body == LARGE
    assert spliced(found.gate) > 5_000_000


def test_an_answer_before_the_request_is_whole_ends_the_connection() -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.receive_exactly(3_000_000)
        await stream.send_all(reply(b"enough", status="413 Too Large"))
        stream.end_stream()
        await stream.receive_all()

    async def peer(stream: PeerStream) -> Message | None:
        with contextlib.suppress(OSError):
            await stream.send_all(upload(LARGE) + get("/next"))
        answer = await read_message(stream, is_response=True)
        stream.close()
        return answer

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(origin=origin, peer=peer)
    assert found.answers is None or found.answers.status == 413
    assert len(found.gate.requests) == 1


def test_a_rule_that_counts_bytes_copies_them() -> None:
    plan = web_settings(RULES + "limits = { bytes_max = 100_000_000 }\n")
    found = browse(get(), origin=Origin([reply(LARGE)]), plan=plan)
    assert found.answers[0].body == LARGE
    assert spliced(found.gate) == 0


def test_filters_on_heads_alone_do_not_keep_bodies_out_of_the_kernel() -> None:
    found = visit(get(), filters=[Heads()], origin=Origin([reply(LARGE)]))
    assert found.answers[0].body == LARGE
    assert spliced(found.gate) > 5_000_000


def test_bodies_in_chunks_are_read() -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)
    found = browse(get(), origin=Origin([wire]))
    assert found.answers[0].body == LARGE
    assert spliced(found.gate) == 0


def test_a_server_that_goes_in_the_middle_of_a_moved_body_resets_the_client() -> None:
    async def serve(stream: PeerStream) -> None:
        await read_message(stream)
        await stream.send_all(reply(LARGE)[:3_000_000])
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(get(), origin=origin)
    (answer,) = found.answers or [None]
    assert answer is None or not answer.whole
    assert found.gate.requests[0].outcome == "failed"
    assert spliced(found.gate) > 1_000_000


def test_a_client_that_goes_in_the_middle_of_a_moved_body_takes_its_server_along() -> None:
    async def peer(stream: PeerStream) -> None:
        await stream.send_all(get())
        await stream.receive_exactly(2_000_000)
        stream.reset()

    found = browse(origin=Origin([reply(LARGE)]), peer=peer)
    assert found.gate.requests[0].outcome == "failed"


@pytest.mark.parametrize("seed", range(12))
def test_moved_bodies_are_right_under_faults(seed: int) -> None:
    """Short moves, refused pipes, delays: what looks whole is right."""
    right: list[bool] = []

    async def serve(stream: PeerStream) -> None:
        try:
            while (request := await read_message(stream)) is not None and request.whole:
                kind, size = request.line.split(" ")[1].split("/")[1:]
                body = LARGE[: int(size)]
                if kind == "up":
                    await stream.send_all(reply(hashlib.sha256(request.body).digest()))
                elif kind == "length":
                    await stream.send_all(reply(body))
                else:
                    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                    break
        except OSError:
            return
        stream.close()

    def client(name: str) -> Any:
        chooser = random.Random(f"{seed} {name}")

        async def peer(stream: PeerStream) -> None:
            try:
                for _ in range(4):
                    kind = chooser.choice(["up", "length", "close"])
                    size = chooser.randrange(900_000)
                    sent = LARGE[:size] if kind == "up" else b""
                    fields = (f"Content-Length: {len(sent)}",) if sent else ()
                    method = "PUT" if sent else "GET"
                    wire = get(f"/{kind}/{size}", "site.example", *fields, method=method) + sent
                    await stream.send_all(wire)
                    answer = await read_message(stream, is_response=True)
                    if answer is None or not answer.whole or answer.status != 200:
                        return
                    wanted = hashlib.sha256(sent).digest() if kind == "up" else LARGE[:size]
                    assert answer.body == wanted, (kind, size, len(answer.body))
                    right.append(True)
            except OSError:
                return
            stream.close()

        return peer

    async def scenario(gate: Gate) -> None:
        gate.serve(serve, address=SITE)
        clients = [gate.call(client(str(number))) for number in range(4)]
        for result in await gate.ended(*clients, within_s=3000):
            assert not isinstance(result, AssertionError), result

    faults = FaultPlan(
        short_receive=0.1, partial_send=0.1, multishot_end=0.1, late_result=0.1, pipe_refused=0.2
    )
    names = Names(site_example=["93.184.216.34"])
    play(scenario, web_settings(), exchange=names, seed=seed, faults=faults)
    assert right
