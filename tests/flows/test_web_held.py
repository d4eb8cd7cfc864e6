"""Objects of HTTP held by a whole gate: proxied downloads and uploads, page, trickle, parts."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import pathlib
import re
import tempfile
from typing import Any

import pytest

from sluicegate.audit import TransferRecord
from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import SERVER, Gate, installation, publication, settings
from tests.flows.web_kit import (
    Message,
    Origin,
    Visit,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)

TEXT = b"".join(b"line %d of some text\n" % n for n in range(20_000))
EXE = b"MZ" + bytes(300_000)

RULES = """
[[rule]]
name = "web"
to = ["site.example", "other.example"]
protocols = ["tcp:80"]
filters = ["judge"]
{more}
"""


class Judge(ContentFilter):
    """Refuses what begins with MZ, and takes its time if it is told to."""

    name = "judge"

    def __init__(self, thinks_s: float = 0.0) -> None:
        self.thinks_s = thinks_s
        self.seen: list[tuple[str, int]] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.seen.append((transfer.offer.name, transfer.size))
        if self.thinks_s:
            await asyncio.sleep(self.thinks_s)
        return Refuse("executable") if transfer.head.startswith(b"MZ") else Release()


def visit(*requests: bytes, judge: Judge | None = None, held: str = "", **options: Any) -> Visit:
    plan = web_settings(
        RULES.format(more=f"held = {held}" if held else ""),
        filters=[installation(judge or Judge(), "judge")],
    )
    with tempfile.TemporaryDirectory() as folder:
        limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0}
        return browse(*requests, plan=plan, spool=pathlib.Path(folder), **limits, **options)


def transfers(found: Visit) -> list[TransferRecord]:
    return [one for one in found.gate.recorder.records if isinstance(one, TransferRecord)]


def answering(body: bytes, *fields: str) -> Origin:
    return Origin(lambda _request: reply(body, *fields))


@pytest.mark.parametrize("size", [0, 1, 5000, 400_000])
def test_a_download_is_judged_and_given_on_the_same_connection(size: int) -> None:
    judge = Judge()
    body = TEXT[:size]
    found = visit(get("/a.txt"), get("/b.txt"), judge=judge, origin=answering(body))
    assert [(one.status, one.body) for one in found.answers] == [(200, body)] * 2
    assert judge.seen == ([("a.txt", size), ("b.txt", size)] if size else [])
    assert found.origin.connections == 1
    assert [one.outcome for one in found.gate.requests] == ["released"] * 2


def test_a_refused_download_is_a_page_and_the_connection_goes_on() -> None:
    origin = Origin([reply(EXE), reply(b"fine")])
    found = visit(get("/setup.exe"), get("/next"), origin=origin)
    assert found.statuses == [403, 200]
    assert b"MZ" not in found.answers[0].head + found.answers[0].body
    first, second = found.gate.requests
    assert (first.outcome, first.ended, first.status) == ("refused", "executable", 403)
    assert second.outcome == "released"
    refused, _ = transfers(found)
    assert (refused.verdict, refused.name, refused.bytes_delivered) == ("refused", "setup.exe", 0)


def test_a_refused_upload_never_reaches_its_server() -> None:
    upload = get("/up", "site.example", f"Content-Length: {len(EXE)}", method="PUT") + EXE
    found = visit(upload)
    assert found.statuses == [403]
    assert found.origin.seen == []
    (record,) = transfers(found)
    assert (record.direction, record.verdict) == ("upload", "refused")


def test_a_released_upload_reaches_its_server_whole() -> None:
    upload = get("/up", "site.example", f"Content-Length: {len(TEXT)}", method="PUT") + TEXT
    found = visit(upload, get("/next"))
    assert found.statuses == [200, 200]
    assert found.origin.seen[0].body == TEXT


def test_a_client_that_expects_to_be_asked_is_asked() -> None:
    async def peer(stream: PeerStream) -> list[Message | None]:
        fields = f"Content-Length: {len(TEXT)}", "Expect: 100-continue"
        await stream.send_all(get("/up", "site.example", *fields, method="PUT"))
        asked = await read_message(stream, has_body=False, is_response=True)
        await stream.send_all(TEXT)
        answer = await read_message(stream, is_response=True)
        stream.close()
        return [asked, answer]

    found = visit(peer=peer)
    assert found.statuses == [100, 200]
    assert found.origin.seen[0].body == TEXT
    assert found.origin.seen[0].field("Expect") is None


def test_a_coded_download_is_judged_decoded_and_given_as_it_came() -> None:
    judge = Judge()
    coded = gzip.compress(TEXT, mtime=0)
    origin = answering(coded, "Content-Encoding: gzip", 'ETag: "x"')
    found = visit(
        get("/a", "site.example", "Accept-Encoding: gzip, dcb"), judge=judge, origin=origin
    )
    assert found.answers[0].body == coded
    assert found.answers[0].field("ETag") == '"x"'
    assert judge.seen == [("a", len(TEXT))]
    assert found.origin.seen[0].field("Accept-Encoding") == "gzip"


def test_a_part_is_made_from_the_whole() -> None:
    found = visit(
        get("/a", "site.example", "Range: bytes=100-199"),
        get("/a", "site.example", "Range: bytes=400000-"),
        origin=answering(TEXT[:400_000]),
    )
    assert found.statuses == [206, 416]
    assert found.answers[0].body == TEXT[100:200]
    assert found.answers[0].field("Content-Range") == "bytes 100-199/400000"
    assert [one.field("Range") for one in found.origin.seen] == [None, None]
    assert [one.status for one in found.gate.requests] == [206, 416]


@pytest.mark.parametrize("length", [f"Content-Length: {len(TEXT)}", "Transfer-Encoding: chunked"])
def test_a_server_that_ends_in_the_middle_gives_nothing(length: str) -> None:
    begun = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode()
    begun += (b"400\r\n" + TEXT[:1024] + b"\r\n") if "chunked" in length else TEXT[:1024]
    found = visit(get("/a"), origin=Origin([begun], closes=True))
    assert found.statuses == [502]
    assert TEXT[:20] not in found.answers[0].body
    (record,) = transfers(found)
    assert record.verdict == "failed"


def test_heads_and_answers_without_a_body_pass() -> None:
    origin = Origin(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        ]
    )
    found = visit(
        get("/a", method="HEAD"), get("/a", "site.example", 'If-None-Match: "x"'), origin=origin
    )
    assert found.statuses == [200, 304]
    assert found.answers[0].field("Content-Length") == "5000"
    assert found.origin.seen[1].field("If-None-Match") == '"x"'


def test_an_endless_stream_is_refused_not_stalled() -> None:
    origin = Origin([b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"])
    found = visit(get("/events"), origin=origin)
    assert found.statuses == [502]
    assert found.reasons[0].startswith("endless-response")


def test_the_name_of_a_disposition_is_the_objects_name() -> None:
    judge = Judge()
    origin = answering(b"x", 'Content-Disposition: attachment; filename="real.doc"')
    visit(get("/download.php"), judge=judge, origin=origin)
    assert judge.seen == [("real.doc", 1)]


# -- while it is held ------------------------------------------------------------------------------


def reads(request: bytes) -> Any:
    """Be a client that reads every byte of one answer, also one that is reset."""

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(request)
        received = b""
        try:
            while data := await stream.receive(65536):
                received += data
                if b"\r\n\r\n" in received:
                    length = re.search(rb"Content-Length: (\d+)", received)
                    body = received.partition(b"\r\n\r\n")[2]
                    if length is not None and len(body) >= int(length[1]):
                        break
        except OSError:
            received += b"<reset>"
        stream.close()
        return received

    return peer


@pytest.mark.parametrize(
    ("thinks_s", "method"),
    [(5.0, "trickle"), (60.0, "trickle"), (250.0, "trickle"), (250.0, "hold")],
)
def test_a_trickled_answer_is_whole_in_the_end(thinks_s: float, method: str) -> None:
    found = visit(
        judge=Judge(thinks_s),
        held=f'{{ delivery = [{{ method = "{method}" }}] }}',
        peer=reads(get("/a")),
        within_s=400.0,
        origin=answering(TEXT),
    )
    head, _, body = found.answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.count(b"HTTP/1.1") == 1
    assert body == TEXT


@pytest.mark.parametrize("thinks_s", [5.0, 60.0])
def test_a_refusal_while_the_status_is_open_is_a_page(thinks_s: float) -> None:
    found = visit(
        judge=Judge(thinks_s),
        peer=reads(get("/a")),
        within_s=400.0,
        origin=answering(EXE),
    )
    assert found.answers.startswith(b"HTTP/1.1 403 ")
    assert found.answers.count(b"HTTP/1.1") == 1
    assert b"MZ" not in found.answers


def test_a_refusal_behind_a_promised_head_is_a_reset_and_no_byte_of_the_object() -> None:
    found = visit(
        judge=Judge(250.0),
        peer=reads(get("/a")),
        within_s=400.0,
        origin=answering(EXE),
    )
    assert found.answers.startswith(b"HTTP/1.1 200 OK")
    assert found.answers.endswith(b"<reset>")
    assert b"MZ" not in found.answers
    (record,) = found.gate.requests
    assert (record.outcome, record.ended) == ("refused", "executable")


def test_a_browser_gets_a_page_then_its_download_on_the_same_connection() -> None:
    async def peer(stream: PeerStream) -> list[Message | None]:
        await stream.send_all(get("/big.zip", "site.example", "Accept: text/html,*/*"))
        page = await read_message(stream, is_response=True)
        assert page is not None
        (place,) = re.findall(rb'id="download" href="([^"]+)"', page.body)
        await stream.send_all(get(place.decode()))
        download = await read_message(stream, is_response=True)
        await stream.send_all(get(place.decode()))
        again = await read_message(stream, is_response=True)
        stream.close()
        return [page, download, again]

    found = visit(
        judge=Judge(20.0),
        held='{ delivery = [{ method = "progress-page", after_s = 1 }] }',
        peer=peer,
        origin=answering(TEXT, "Content-Type: application/zip"),
    )
    page, download, again = found.answers
    assert (page.status, download.status, again.status) == (200, 200, 404)
    assert download.body == TEXT
    assert download.field("Content-Disposition") == "attachment; filename*=UTF-8''big.zip"
    assert len(found.origin.seen) == 1
    (record,) = transfers(found)
    assert (record.verdict, record.bytes_delivered) == ("released", len(TEXT))


def test_a_server_that_fails_behind_a_page_is_said_on_it() -> None:
    gates: list[Gate] = []

    async def fails(stream: PeerStream) -> None:
        await read_message(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nsome")
        await gates[0].peers.sleep(10.0)
        stream.close()

    origin = Origin()
    origin.serve = fails  # type: ignore[method-assign]
    found = visit(
        get("/big.zip", "site.example", "Accept: text/html,*/*"),
        held='{ delivery = [{ method = "progress-page", after_s = 1 }] }',
        origin=origin,
        prepare=gates.append,
    )
    (page,) = found.answers
    assert page.whole
    assert b"did not arrive" in page.body
    assert found.gate.requests[0].outcome == "failed"


def test_a_client_that_leaves_while_it_waits_leaves_nothing() -> None:
    async def peer(stream: PeerStream) -> None:
        await stream.send_all(get("/a"))
        await stream.receive(3)
        stream.close()

    found = visit(judge=Judge(100.0), peer=peer, origin=answering(TEXT))
    (record,) = transfers(found)
    assert record.verdict == "failed"


# -- published servers -----------------------------------------------------------------------------


def test_uploads_to_a_published_server_and_its_answers_are_held() -> None:
    judge = Judge()
    one = dataclasses.replace(publication("judge"), is_http=True)
    plan = settings(one, filters=[installation(judge, "judge")])
    lines = ["PUT /up HTTP/1.1", "Host: www.example", f"Content-Length: {len(EXE)}", "", ""]
    ask = b"GET /a HTTP/1.1\r\nHost: www.example\r\n\r\n"
    with tempfile.TemporaryDirectory() as folder:
        found = browse(
            ask,
            "\r\n".join(lines).encode() + EXE,
            plan=plan,
            address=SERVER,
            origin=answering(TEXT),
            spool=pathlib.Path(folder),
            spool_free_bytes_min=0,
            spool_free_inodes_min=0,
        )
    assert found.statuses == [200, 403]
    assert found.answers[0].body == TEXT
    assert found.origin.lines == ["GET /a HTTP/1.1"]
    assert judge.seen == [("a", len(TEXT)), ("up", len(EXE))]
