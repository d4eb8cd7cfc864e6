"""What clients get while a web filter is shown a whole object, by their rule's method."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import tempfile
from typing import Any

import pytest

from sluicegate.filterapi import (
    Answer,
    Need,
    Needs,
    Refuse,
    Release,
    Replace,
    Transfer,
    WebExchange,
    WebFilter,
)
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import Gate, installation
from tests.flows.http2_kit import ask, asks, speaks_http2
from tests.flows.tls_kit import with_tls
from tests.flows.web_kit import Origin, Visit, browse, get, read_message, reply, web_settings

TEXT = b"".join(b"line %d of some text\n" % n for n in range(20_000))
RULE = """
[[rule]]
name = "web"
to = ["site.example"]
protocols = ["tcp:80"]
filters = {names}
held = {{ delivery = [{{ method = "{method}" }}] }}
"""
CHANGED = "a filter changed an object whose head was sent"


class SlowOrigin(Origin):
    """Sends the first half of a body, and the second much later."""

    def __init__(self, gates: list[Gate]) -> None:
        super().__init__()
        self.gates = gates

    async def serve(self, stream: PeerStream) -> None:
        await read_message(stream)
        whole = reply(TEXT)
        await stream.send_all(whole[: len(whole) // 2])
        await self.gates[0].peers.sleep(35.0)
        await stream.send_all(whole[len(whole) // 2 :])
        stream.close()


class Watcher(WebFilter):
    """Takes its time, and notes what the client had by then."""

    needs = Needs(Need.OBJECT, Need.OBJECT)

    def __init__(self, thinks_s: float, answer: object = None, *, marks: bool = False) -> None:
        self.thinks_s = thinks_s
        self.answer = answer or Release()
        self.marks = marks
        self.inbox: bytearray = bytearray()
        self.had = b""

    async def on_request_body(self, exchange: WebExchange, body: Transfer) -> Any:
        return await self._judge()

    async def on_response_body(self, exchange: WebExchange, body: Transfer) -> Any:
        answer = await self._judge()
        assert exchange.response is not None
        if self.marks:
            exchange.response.headers.set("X-Seen", "yes")
        return answer

    async def _judge(self) -> object:
        await asyncio.sleep(self.thinks_s)
        self.had = bytes(self.inbox)
        return self.answer


class Downloads(Watcher):
    needs = Needs(response=Need.OBJECT)


class Uploads(Watcher):
    needs = Needs(request=Need.OBJECT)


class Altering(Watcher):
    needs = Needs(response=Need.OBJECT, alters=True)


def reads(request: bytes, received: bytearray) -> Any:
    """Be a client that reads every byte of one answer, also one that is reset."""

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(request)
        try:
            while data := await stream.receive(65536):
                received.extend(data)
                head, _, body = received.partition(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                if length is not None and len(body) >= int(length[1]):
                    break
        except OSError:
            received.extend(b"<reset>")
        stream.close()
        return bytes(received)

    return peer


def visit(
    *watchers: Watcher,
    method: str = "trickle",
    request: bytes = b"",
    in_http2: bool = False,
    kind: str = "",
    origin: Origin | None = None,
    gates: list[Gate] | None = None,
) -> Visit:
    names = [f"watcher{number}" for number in range(len(watchers))]
    plan = web_settings(
        RULE.format(names=json.dumps(names), method=method),
        filters=[installation(one, name) for one, name in zip(watchers, names, strict=True)],
    )
    received = bytearray()
    for one in watchers:
        one.inbox = received
    asked = ask("/a", "site.example", *([("content-type", kind)] if kind else []))
    in_http1 = reads(request or get("/a"), received)
    with tempfile.TemporaryDirectory() as folder:
        return browse(
            peer=speaks_http2(asks(asked)) if in_http2 else in_http1,
            plan=with_tls(plan, protocols=("h2",)) if in_http2 else plan,
            within_s=800.0,
            prepare=[].append if gates is None else gates.append,
            origin=origin or Origin(lambda _request: reply(TEXT)),
            spool=pathlib.Path(folder),
            spool_free_bytes_min=0,
            spool_free_inodes_min=0,
        )


@pytest.mark.parametrize(
    ("watchers", "method", "had"),
    [
        ([Downloads(5.0)], "trickle", b""),
        ([Downloads(35.0)], "trickle", b"HTT"),
        ([Downloads(135.0)], "trickle", b"HTTP/1.1 200 "),
        ([Downloads(135.0)], "hold", b""),
        # A page waits for an object that content filters hold; so do audio and video.
        ([Downloads(135.0)], "progress-page", b"HTTP/1.1 200 "),
        # A filter that may still have another head sent promises nothing of it.
        ([Altering(35.0)], "trickle", b"HTT"),
        ([Altering(135.0)], "trickle", b"HTTP/1.1 "),
        ([Altering(135.0, Replace(b"other"))], "trickle", b"HTTP/1.1 "),
        ([Altering(135.0, marks=True)], "trickle", b"HTTP/1.1 "),
        ([Altering(35.0, Answer(200, b"other"))], "trickle", b"HTT"),
        ([Altering(135.0, Answer(200, b"other"))], "trickle", b"HTTP/1.1 "),
    ],
)
def test_a_client_that_waits_is_comforted_and_its_answer_is_whole(
    watchers: list[Watcher], method: str, had: bytes
) -> None:
    found = visit(*watchers, method=method)
    assert watchers[0].had == had
    head, _, body = found.answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.count(b"HTTP/1.1") == 1
    assert (b"X-Seen: yes" in head) is watchers[0].marks
    is_own = not isinstance(watchers[0].answer, Release)
    assert body == (b"other" if is_own else TEXT)
    assert [one.outcome for one in found.gate.requests] == ["released"]


def test_a_client_is_comforted_while_its_download_still_comes() -> None:
    watcher = Downloads(0.0)
    gates: list[Gate] = []
    found = visit(watcher, origin=SlowOrigin(gates), gates=gates)
    assert watcher.had == b"HTT"
    assert found.answers.endswith(TEXT)


def test_of_two_the_one_next_to_the_client_promises_the_head() -> None:
    watchers = [Downloads(150.0), Downloads(150.0)]
    found = visit(*watchers)
    first, second = sorted((one.had for one in watchers), key=len)
    assert first == b"HTTP/1.1 "
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.answers.endswith(TEXT)


@pytest.mark.parametrize(
    ("answer", "marks", "outcome", "why"),
    [
        (Refuse("bad"), False, "refused", "bad"),
        (Answer(200, b"mine"), False, "refused", "answered by the filter"),
        (Replace(b"other"), False, "failed", CHANGED),
        (Release(), True, "failed", CHANGED),
    ],
)
def test_what_takes_a_promised_head_back_is_a_reset(
    answer: object, marks: bool, outcome: str, why: str
) -> None:
    found = visit(Downloads(150.0, answer, marks=marks))
    assert found.answers.startswith(b"HTTP/1.1 200 ")
    assert found.answers.endswith(b"<reset>")
    assert b"line 1" not in found.answers
    (record,) = found.gate.requests
    assert (record.outcome, record.ended) == (outcome, why)


def test_a_refusal_while_the_status_is_open_is_a_page() -> None:
    watcher = Downloads(60.0, Refuse("bad"))
    found = visit(watcher)
    assert watcher.had == b"HTTP/1"
    assert found.answers.startswith(b"HTTP/1.1 403 ")
    assert found.answers.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("method", "answer", "processing", "status"),
    [
        ("trickle", Release(), 13, 200),
        ("hold", Release(), 0, 200),
        ("trickle", Refuse("bad"), 13, 403),
        ("trickle", Answer(200, b"mine"), 13, 200),
    ],
)
def test_a_client_of_http2_is_told_that_it_is_worked_on(
    method: str, answer: object, processing: int, status: int
) -> None:
    found = visit(Downloads(135.0, answer), method=method, in_http2=True)
    (got,) = found.answers
    assert (got.informational, got.status, got.is_whole) == ([102] * processing, status, True)
    if isinstance(answer, Release):
        assert got.body == TEXT


@pytest.mark.parametrize("answer", [Release(), Refuse("bad")])
def test_a_client_of_grpc_which_takes_102_for_the_end_of_its_call_waits_untold(
    answer: object,
) -> None:
    found = visit(Downloads(135.0, answer), in_http2=True, kind="application/grpc")
    (got,) = found.answers
    assert (got.informational, got.status, got.is_whole) == ([], 200, True)
    if isinstance(answer, Release):
        assert got.body == TEXT
    else:
        assert "bad" in got.fields["grpc-message"]


def test_an_upload_is_comforted_when_it_is_whole_and_promised_nothing() -> None:
    watcher = Uploads(250.0)
    upload = get("/up", "site.example", f"Content-Length: {len(TEXT)}", method="PUT") + TEXT
    found = visit(watcher, request=upload)
    assert watcher.had == b"HTTP/1.1 "
    assert found.answers.startswith(b"HTTP/1.1 200 ")
    assert found.answers.count(b"HTTP/1.1") == 1
    assert found.origin.seen[0].body == TEXT
