"""How tunnels that are read end when somebody fails: the client, the server, a filter, time."""

from __future__ import annotations

from typing import Any

import pytest
from typing_extensions import override

from sluicegate.filterapi import GO_ON, Needs, WebFilter
from sluicegate.gate.registry import BYTES_UNSEEN
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Ask
from tests.flows.gate_kit import Gate
from tests.flows.test_clear_tunnels import CONNECT, Found, get, tunnel
from tests.flows.web_kit import Origin, read_message, reply

POST = get("/form", "site.example", "Content-Length: 3", method="POST") + b"abc"


async def reads(stream: PeerStream, count: int) -> bytes:
    """Return the statuses of so many answers; 0 for one that did not come whole."""
    statuses: list[int] = []
    for _ in range(count):
        try:
            answer = await read_message(stream, is_response=True)
        except OSError:
            answer = None
        statuses.append(answer.status if answer is not None and answer.whole else 0)
    return repr(statuses).encode()


def sends(*pieces: bytes, answers: int, ends: bool = False) -> Any:
    async def then(stream: PeerStream) -> bytes:
        for piece in pieces:
            await stream.send_all(piece)
        if ends:
            stream.end_stream()
        return await reads(stream, answers)

    return then


# -- requests that wait behind each other ----------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "ends its direction"])
def test_requests_that_come_at_once_are_answered_in_their_order(ends: bool) -> None:
    sent = get("/a") + get("/no") + get("/b")
    found = tunnel(then=sends(sent, answers=3, ends=ends))
    assert found.rest == b"[200, 403, 200]"
    assert found.origin.lines == ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]
    assert [one.status for one in found.gate.requests] == [200, 403, 200]


def test_what_waits_behind_a_request_for_another_host_reaches_no_server() -> None:
    sent = get("/a") + get("/x", "other.example") + get("/b")
    found = tunnel(then=sends(sent, answers=2))
    assert found.rest.startswith(b"[200, 421")
    assert "GET /x HTTP/1.1" not in found.origin.lines


def test_what_waits_behind_a_malformed_request_is_never_read() -> None:
    sent = get("/a") + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + get("/b")
    found = tunnel(then=sends(sent, answers=3))
    assert found.rest == b"[200, 400, 0]"
    assert found.origin.lines == ["GET /a HTTP/1.1"]


# -- servers that fail -----------------------------------------------------------------------------


class Failing(Origin):
    """Answers the first request, then does something else."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        while (request := await read_message(stream)) is not None:
            self.seen.append(request)
            if request.line.startswith("GET /a "):
                await stream.send_all(reply())
            elif self.ending == "reset at once":
                stream.reset()
                return
            elif self.ending == "end at once":
                break
            else:
                await stream.send_all(reply(b"whole")[:-2])
                if self.ending == "reset in its answer":
                    stream.reset()
                    return
                break
        stream.close()


# what the server does, what the client sees of the failed answer
ENDINGS = [
    ("reset at once", 502),
    ("end at once", 502),
    ("reset in its answer", 0),
    ("end in its answer", 0),
]


@pytest.mark.parametrize(("ending", "status"), ENDINGS)
def test_a_server_that_fails_is_told_and_its_answer_never_looks_whole(
    ending: str, status: int
) -> None:
    origin = Failing(ending)
    found = tunnel(then=sends(get("/a"), POST, answers=2), origin=origin)
    assert found.rest == b"[200, %d]" % status
    assert [one.line for one in origin.seen].count("POST /form HTTP/1.1") == 1, "not sent twice"
    ended = found.gate.requests[-1]
    assert ended.outcome == "failed"
    assert ended.ended.startswith("server")


class Closing(Origin):
    """Ends each connection behind its answer, without having said so."""

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        request = await read_message(stream)
        if request is not None:
            self.seen.append(request)
            await stream.send_all(reply())
        stream.close()


@pytest.mark.parametrize("request_", [get("/b"), POST], ids=["GET", "POST"])
@pytest.mark.parametrize("waits", [0.0, 1.0], ids=["at once", "later"])
def test_a_server_that_ended_what_waited_is_dialled_for_the_next_request(
    request_: bytes, waits: float
) -> None:
    async def then(stream: PeerStream) -> bytes:
        await stream.send_all(get("/a"))
        first = await reads(stream, 1)
        if waits:
            await gates[0].peers.sleep(waits)
        await stream.send_all(request_)
        return first + await reads(stream, 1)

    async def note(gate: Gate) -> None:
        gates.append(gate)

    gates: list[Gate] = []
    found = tunnel(then=then, origin=Closing(), during=note)
    assert found.rest == b"[200][200]"
    assert (found.origin.connections, len(found.origin.seen)) == (2, 2)


# -- clients that fail -----------------------------------------------------------------------------


class Slow(Origin):
    """Never answers; notes how its connection ends."""

    ended = ""

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        try:
            while await stream.receive():
                pass
            self.ended = "ended"
        except OSError:
            self.ended = "reset"
        stream.close()


@pytest.mark.parametrize("sent", [get("/a"), POST[:-1]], ids=["behind it", "in it"])
def test_a_client_that_goes_takes_its_request_along(sent: bytes) -> None:
    async def then(stream: PeerStream) -> bytes:
        await stream.send_all(sent)
        while not origin.connections:
            await gates[0].peers.sleep(0.01)
        stream.reset()
        return b""

    async def note(gate: Gate) -> None:
        gates.append(gate)

    gates: list[Gate] = []
    origin = Slow()
    found = tunnel(then=then, origin=origin, during=note)
    assert origin.ended
    (record,) = found.gate.requests
    assert record.outcome == "failed"
    assert found.end.outcome == "failed"


def test_half_a_body_and_then_the_end_is_no_request() -> None:
    found = tunnel(then=sends(POST[:-1], answers=1, ends=True))
    assert found.rest == b"[400]"
    assert found.gate.requests[-1].outcome == "refused"
    assert all(one.body != b"abc" for one in found.origin.seen)


# -- filters that fail -----------------------------------------------------------------------------


class Raising(WebFilter):
    """Raises on the path ``/bad``, in one of its phases."""

    needs = Needs()

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def on_request(self, exchange: Any) -> Any:
        return self._judge("request", exchange)

    def on_response(self, exchange: Any) -> Any:
        return self._judge("response", exchange)

    def _judge(self, phase: str, exchange: Any) -> Any:
        if phase == self.phase and exchange.request.path == "/bad":
            raise ZeroDivisionError
        return GO_ON


@pytest.mark.parametrize("phase", ["request", "response"])
def test_a_filter_that_raises_ends_its_request_and_no_other(phase: str) -> None:
    found = tunnel(get("/a"), get("/bad"), filters=[Raising(phase)])
    assert found.statuses[0] == 200
    assert found.statuses[1] >= 400
    assert "filter failure: f0" in found.reasons[1]
    assert [one.filter for one in found.gate.failures] == ["f0"]
    assert ("GET /bad HTTP/1.1" in found.origin.lines) is (phase == "response")


# -- time and limits -------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"GE"], ids=["silent", "in its method"])
def test_a_client_that_says_too_little_is_refused_in_time(said: bytes) -> None:
    found = tunnel(then=sends(said, answers=1), hello_timeout_s=2.0)
    assert (found.end.outcome, found.end.reason) == ("refused", BYTES_UNSEEN)
    assert 1.5 < found.end.duration_s < 4
    assert found.origin.connections == 0


def timed_out(sent: bytes, origin: Origin | None = None, **limits: float) -> Found:
    return tunnel(then=sends(sent, answers=1), origin=origin or Origin(), **limits)


def test_a_head_that_does_not_end_is_refused_in_time() -> None:
    found = timed_out(get("/a")[:-2], web_head_timeout_s=2.0)
    assert found.rest in {b"[0]", b"[408]"}
    assert found.end.duration_s < 10
    assert found.origin.seen == []


def test_a_server_that_does_not_answer_is_told_in_time() -> None:
    found = timed_out(get("/a"), Slow(), web_response_timeout_s=2.0)
    assert found.rest == b"[504]"
    assert found.gate.requests[-1].outcome == "failed"


def test_a_client_that_asks_nothing_more_is_let_go_in_time() -> None:
    found = tunnel(then=sends(get("/a"), answers=2), web_idle_timeout_s=2.0)
    assert found.rest == b"[200, 0]"
    assert found.end.outcome == "released"
    assert found.end.duration_s < 10


# bounds of the rule, what the client sees of two answers, what is said of the last
BOUNDS = [
    ("bytes_max = 39_000", b"[0]", "limit rule web bytes_max"),
    ("response_bytes_max = 39_999", b"[502, 502]", "limit rule web response_bytes_max"),
]


@pytest.mark.parametrize(("bound", "seen", "reason"), BOUNDS)
def test_a_rule_bounds_the_requests_in_its_tunnels(bound: str, seen: bytes, reason: str) -> None:
    big = Origin(lambda _request: reply(b"x" * 40_000))
    sent, answers = get("/a") + get("/b"), seen.count(b",") + 1
    found = tunnel(then=sends(sent, answers=answers), more=f"limits = {{ {bound} }}", origin=big)
    assert found.rest == seen
    assert found.reasons[-1] == reason


def test_a_client_that_asks_before_its_tunnel_and_leaves_is_answered() -> None:
    async def peer(stream: PeerStream) -> None:
        ask = Ask(CONNECT, "site.example", 80, early=get("/a") + POST)
        await stream.send_all(ask.wire())
        stream.end_stream()
        answers.append(await stream.receive_all())
        stream.close()

    answers: list[bytes] = []
    found = tunnel(peer=peer)
    assert answers[0].count(b"HTTP/1.1 200 OK\r\n") == 2
    assert found.origin.lines == ["GET /a HTTP/1.1", "POST /form HTTP/1.1"]
