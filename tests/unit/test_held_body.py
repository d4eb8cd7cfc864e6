"""Held bodies: what came is judged in every reading, and nothing passes before (groups K, M)."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import zlib
from pathlib import Path
from typing import Any

import brotli
import pytest

from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Refuse,
    Release,
    Replace,
    Transfer,
    Wants,
)
from sluicegate.policy.delivery import DeliveryChoice, DeliveryMethod, HeldSettings
from sluicegate.protocols.http1 import CHUNKED, UNTIL_CLOSE, Framing
from sluicegate.testing import FaultPlan
from tests.unit.held_kit import World
from tests.unit.transfer_kit import Scripted, step

DATA = random.Random(2).randbytes(300_000)
TEXT = b"".join(b"line %d of some text\n" % n for n in range(30_000))
GZIPPED = gzip.compress(TEXT, mtime=0)
ACCEPTS = [(b"Accept-Encoding", b"gzip, deflate, br, zstd")]
PDF = (b"Content-Type", b"application/pdf")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def held(method: DeliveryMethod, after_s: float = 10.0) -> HeldSettings:
    return HeldSettings((DeliveryChoice(method, None, after_s),))


class Slow(Scripted):
    """Thinks until it is told to go on."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__(answer)
        self.go = asyncio.Event()
        self.is_asked = False

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.is_asked = True
        await self.go.wait()
        return await super().inspect(transfer)


# -- as it came ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("size", [1, 49_999, 50_001, 300_000])
@pytest.mark.parametrize("pieces", [700, 1 << 16, 1 << 18])
def test_a_released_body_goes_on_whole(
    directory: Path, size: int, method: bytes, pieces: int
) -> None:
    scripted = Scripted()
    world = World(directory, [step(scripted)], method=method, pieces=pieces)
    sink = world.run(DATA[:size])
    assert (sink.body, sink.ended) == (DATA[:size], "finished")
    (head,) = sink.heads
    assert head.framing == Framing.of_length(size)
    assert [(seen, body) for seen, _, body in scripted.seen] == [(size, DATA[:size])]
    (record,) = world.records
    assert (record.verdict, record.bytes, record.bytes_delivered) == ("released", size, size)
    assert record.sha256 == hashlib.sha256(DATA[:size]).hexdigest()
    assert record.direction == ("download" if method == b"GET" else "upload")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_of_a_refused_body_nothing_goes_on(directory: Path, method: bytes) -> None:
    world = World(directory, [step(Scripted(Refuse("macro")))], method=method)
    sink = world.run(DATA)
    assert (sink.heads, sink.body, sink.ended) == ([], b"", "")
    assert world.exchange.refused == (403, "macro")
    (record,) = world.records
    assert (record.verdict, record.reason, record.bytes_delivered) == ("refused", "macro", 0)


@pytest.mark.parametrize("framing", [CHUNKED, UNTIL_CLOSE])
def test_a_body_of_unknown_length_has_one_when_it_goes_on(
    directory: Path, framing: Framing
) -> None:
    world = World(directory, [step(Scripted())], framing=framing)
    assert world.run(DATA).heads[0].framing == Framing.of_length(len(DATA))


def test_nothing_goes_on_before_the_verdict(directory: Path) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(DeliveryMethod.HOLD))

    def look(_turn: int) -> None:
        assert world.sink.heads == []
        assert world.exchange.comforted == 0
        if slow.is_asked:
            slow.go.set()
            world.on_turn = lambda _turn: None

    world.on_turn = look
    assert world.run(DATA).body == DATA


def test_a_sink_that_is_full_is_waited_for(directory: Path) -> None:
    world = World(directory, [step(Scripted())])
    world.sink.room = 1

    def make_room(_turn: int) -> None:
        if world.sink.is_full:
            world.sink.is_full = False
            world.sink.room = 1
            world.stage.resume()

    world.on_turn = make_room
    assert world.run(TEXT).body == TEXT


def test_a_source_that_fails_leaves_nothing(directory: Path) -> None:
    world = World(directory, [step(Scripted())])
    sink = world.run(DATA, is_whole=False)
    assert (sink.heads, sink.ended) == ([], "aborted: server closed early")
    (record,) = world.records
    assert (record.verdict, record.reason) == ("failed", "server closed early")


@pytest.mark.parametrize("turn", range(0, 40, 3))
def test_a_client_that_leaves_at_any_moment_leaves_nothing(directory: Path, turn: int) -> None:
    world = World(directory, [step(Scripted())], seed=turn)

    def leave(at: int) -> None:
        if at == turn and not world.sink.ended:
            world.exchange.end()

    world.on_turn = leave
    world.run(DATA)
    assert len(world.records) == 1


def test_a_full_disk_refuses(directory: Path) -> None:
    world = World(directory, [step(Scripted())], faults=FaultPlan(no_space=1.0))
    world.run(DATA)
    assert world.exchange.refused is not None
    status, reason = world.exchange.refused
    assert status == 503
    assert "ENOSPC" in reason


def test_an_object_over_a_quota_is_refused_by_its_name(directory: Path) -> None:
    world = World(directory, [step(Scripted())], spool_object_bytes_max=100_000)
    world.run(DATA)
    assert world.exchange.refused == (503, "limit spool_object_bytes_max")


def test_an_upload_over_a_quota_is_too_large(directory: Path) -> None:
    world = World(directory, [step(Scripted())], method=b"PUT", spool_object_bytes_max=100_000)
    world.run(DATA)
    assert world.exchange.refused == (413, "limit spool_object_bytes_max")


def test_a_filter_that_fails_refuses(directory: Path) -> None:
    world = World(directory, [step(Scripted(ValueError("broken")))])
    world.run(DATA)
    assert world.exchange.refused == (503, "filter failure: scripted: ValueError: broken")


def test_what_no_filter_asks_for_passes_by(directory: Path) -> None:
    class Documents(Scripted):
        wants = Wants(content_types=("application/msword",))

    world = World(directory, [step(Documents())], response=[PDF])
    world.run(DATA)
    assert world.stage is None
    assert world.exchange.refused is None


@pytest.mark.parametrize(("status", "method"), [(204, b"GET"), (304, b"GET"), (200, b"HEAD")])
def test_a_response_without_a_body_passes_by(directory: Path, status: int, method: bytes) -> None:
    world = World(directory, [step(Scripted())], status=status, method=method)
    world.run(b"" if status == 304 else DATA)
    assert world.stage is None
    assert world.exchange.refused is None


# -- replaced --------------------------------------------------------------------------------------


def test_what_replaces_a_body_has_its_own_length_and_no_validators(directory: Path) -> None:
    fields = [
        (b"ETag", b'"x"'),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Digest", b"sha-256=:x:"),
        (b"Accept-Ranges", b"bytes"),
        PDF,
    ]
    world = World(directory, [step(Scripted(Replace(b"other")))], request=ACCEPTS, response=fields)
    sink = world.run(GZIPPED)
    assert sink.body == b"other"
    (head,) = sink.heads
    assert head.framing == Framing.of_length(5)
    assert [name for name, _ in head.fields.items()] == [b"Content-Type"]


# -- coded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        (b"gzip", GZIPPED),
        (b"deflate", zlib.compress(TEXT)),
        (b"br", brotli.compress(TEXT, quality=3)),
        (b"gzip, br", brotli.compress(GZIPPED, quality=3)),
    ],
)
@pytest.mark.parametrize("pieces", [1000, 1 << 17])
def test_a_coded_body_is_judged_decoded_and_goes_on_coded(
    directory: Path, coding: bytes, coded: bytes, pieces: int
) -> None:
    scripted = Scripted()
    world = World(
        directory,
        [step(scripted)],
        request=ACCEPTS,
        response=[(b"Content-Encoding", coding)],
        pieces=pieces,
    )
    sink = world.run(coded)
    assert sink.body == coded
    assert [body for _, _, body in scripted.seen] == [TEXT]
    (head,) = sink.heads
    assert head.framing == Framing.of_length(len(coded))
    assert head.fields.all(b"content-encoding") == [coding]
    (record,) = world.records
    assert (record.bytes, record.bytes_delivered) == (len(TEXT), len(coded))
    assert record.sha256 == hashlib.sha256(TEXT).hexdigest()


@pytest.mark.parametrize(
    ("request_fields", "response_fields", "method"),
    [
        ([], [], b"GET"),
        ([(b"Accept-Encoding", b"br")], [], b"GET"),
        (ACCEPTS, [(b"Content-Type", b"application/x-gzip")], b"GET"),
        (ACCEPTS, [], b"POST"),
    ],
)
def test_a_coded_body_that_may_be_read_as_it_is_is_judged_in_both_forms(
    directory: Path, request_fields: Any, response_fields: Any, method: bytes
) -> None:
    scripted = Scripted()
    fields = [(b"Content-Encoding", b"gzip"), *response_fields]
    requested = request_fields + (fields if method == b"POST" else [])
    world = World(directory, [step(scripted)], request=requested, response=fields, method=method)
    assert world.run(GZIPPED).body == GZIPPED
    assert sorted(len(body) for _, _, body in scripted.seen) == [len(GZIPPED), len(TEXT)]
    assert len(world.records) == 2


@pytest.mark.parametrize("refused_size", [len(GZIPPED), len(TEXT)])
def test_one_form_that_is_refused_refuses_both(directory: Path, refused_size: int) -> None:
    class Sized(ContentFilter):
        async def inspect(self, transfer: Transfer) -> ContentVerdict:
            return Refuse("that one") if transfer.size == refused_size else Release()

    world = World(directory, [step(Sized())], response=[(b"Content-Encoding", b"gzip")])
    sink = world.run(GZIPPED)
    assert world.exchange.refused == (403, "that one")
    assert sink.heads == []


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        (b"gzip", GZIPPED + b"x", 502, "content-coding-malformed"),
        (b"gzip", GZIPPED[:-1], 502, "content-coding-truncated"),
        (b"gzip", TEXT, 502, "content-coding-malformed"),
        (b"gzip", gzip.compress(b"\0" * (20 << 20)), 503, "content-coding-bomb"),
        (b"compress", TEXT, 502, "content-coding-unknown"),
        (b"gzip, identity", GZIPPED, 502, "content-coding-unknown"),
        (b", ".join([b"gzip"] * 6), GZIPPED, 502, "content-codings-too-many"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    directory: Path, coding: bytes, body: bytes, status: int, code: str
) -> None:
    world = World(
        directory,
        [step(Scripted())],
        request=ACCEPTS,
        response=[(b"Content-Encoding", coding)],
    )
    sink = world.run(body)
    assert sink.heads == []
    assert world.exchange.refused is not None
    assert world.exchange.refused[0] == status
    assert world.exchange.refused[1].startswith(code)


def test_a_coding_that_cannot_be_read_is_judged_as_it_is_where_the_rule_says_so(
    directory: Path,
) -> None:
    scripted = Scripted()
    world = World(
        directory,
        [step(scripted)],
        response=[(b"Content-Encoding", b"compress")],
        held=HeldSettings(holds_unknown_codings=True),
    )
    assert world.run(TEXT).body == TEXT
    assert [body for _, _, body in scripted.seen] == [TEXT]


def test_a_bomb_is_not_unpacked_to_the_disk(directory: Path) -> None:
    world = World(
        directory,
        [step(Scripted())],
        request=ACCEPTS,
        response=[(b"Content-Encoding", b"gzip")],
        pieces=100,
    )
    most = 0

    def look(_turn: int) -> None:
        nonlocal most
        most = max(most, world.store.statistics().bytes_held)

    world.on_turn = look
    world.run(gzip.compress(b"\0" * (200 << 20)))
    assert world.exchange.refused is not None
    assert most < 10 << 20


def test_the_memory_of_decoders_is_bounded(directory: Path) -> None:
    world = World(
        directory,
        [step(Scripted())],
        request=ACCEPTS,
        response=[(b"Content-Encoding", b"br")],
        coding_memory_bytes_max=1 << 20,
    )
    world.run(brotli.compress(TEXT, quality=3))
    assert world.exchange.refused == (503, "limit coding_memory_bytes_max")


# -- what a server is told -------------------------------------------------------------------------


def test_a_server_is_asked_for_whole_objects_in_codings_that_can_be_read(directory: Path) -> None:
    asked = [
        (b"Accept-Encoding", b"gzip, dcb, br"),
        (b"Available-Dictionary", b":x:"),
        (b"Range", b"bytes=0-9"),
        (b"If-Range", b'"x"'),
        (b"If-None-Match", b'"x"'),
    ]
    world = World(directory, [step(Scripted())], request=asked)
    world.run(DATA)
    assert list(world.request.fields.items()) == [
        (b"Accept-Encoding", b"gzip, br"),
        (b"If-None-Match", b'"x"'),
    ]


def test_a_rule_that_judges_uploads_alone_leaves_requests_as_they_are(directory: Path) -> None:
    class Uploads(Scripted):
        wants = Wants(directions=frozenset({Direction.UPLOAD}))

    asked = [(b"Range", b"bytes=0-9"), (b"Accept-Encoding", b"dcb")]
    world = World(directory, [step(Uploads())], request=asked)
    world.run(DATA)
    assert list(world.request.fields.items()) == asked


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (b"bytes=0-9", range(10)),
        (b"bytes=299990-", range(299_990, 300_000)),
        (b"bytes=-5", range(299_995, 300_000)),
        (b"bytes=100000-199999", range(100_000, 200_000)),
        (b"bytes=0-", range(300_000)),
    ],
)
def test_a_part_is_made_of_the_whole_that_was_judged(
    directory: Path, asked: bytes, part: range
) -> None:
    scripted = Scripted()
    world = World(directory, [step(scripted)], request=[(b"Range", asked)])
    sink = world.run(DATA)
    assert sink.body == DATA[part.start : part.stop]
    (head,) = sink.heads
    assert (head.status, head.framing) == (206, Framing.of_length(len(part)))
    expected = b"bytes %d-%d/300000" % (part.start, part.stop - 1)
    assert head.fields.all(b"content-range") == [expected]
    assert [size for size, _, _ in scripted.seen] == [300_000]
    assert world.records[0].bytes_delivered == len(part)


def test_of_a_refused_object_no_part_is_given(directory: Path) -> None:
    world = World(directory, [step(Scripted(Refuse("exe")))], request=[(b"Range", b"bytes=5-9")])
    assert world.run(DATA).body == b""
    assert world.exchange.refused == (403, "exe")


@pytest.mark.parametrize("asked", [b"bytes=0-1,5-6", b"items=1-2", b"bytes=5-2"])
def test_a_range_that_is_none_gets_the_whole(directory: Path, asked: bytes) -> None:
    world = World(directory, [step(Scripted())], request=[(b"Range", asked)])
    sink = world.run(DATA)
    assert (sink.heads[0].status, sink.body) == (200, DATA)


@pytest.mark.parametrize(("condition", "status"), [(b'"v1"', 206), (b'"v2"', 200)])
def test_a_part_is_given_only_of_the_object_that_the_client_knows(
    directory: Path, condition: bytes, status: int
) -> None:
    world = World(
        directory,
        [step(Scripted())],
        request=[(b"Range", b"bytes=5-"), (b"If-Range", condition)],
        response=[(b"ETag", b'"v1"')],
    )
    sink = world.run(DATA)
    assert sink.heads[0].status == status
    assert sink.body == (DATA[5:] if status == 206 else DATA)


def test_a_range_behind_the_end_is_not_satisfiable(directory: Path) -> None:
    world = World(directory, [step(Scripted())], request=[(b"Range", b"bytes=300000-")])
    sink = world.run(DATA)
    assert (sink.heads[0].status, sink.body, sink.ended) == (416, b"", "finished")
    assert sink.heads[0].fields.all(b"content-range") == [b"bytes */300000"]


def test_a_part_of_a_coded_body_is_of_its_coded_bytes(directory: Path) -> None:
    scripted = Scripted()
    world = World(
        directory,
        [step(scripted)],
        request=[*ACCEPTS, (b"Range", b"bytes=10-19")],
        response=[(b"Content-Encoding", b"gzip")],
    )
    assert world.run(GZIPPED).body == GZIPPED[10:20]
    assert [body for _, _, body in scripted.seen] == [TEXT]


@pytest.mark.parametrize(
    ("status", "content_type", "reason"),
    [
        (206, b"application/pdf", "partial-response"),
        (206, b"multipart/byteranges; boundary=x", "partial-response"),
        (200, b"text/event-stream", "endless-response"),
        (200, b"multipart/x-mixed-replace; boundary=x", "endless-response"),
    ],
)
def test_what_cannot_be_had_whole_is_refused(
    directory: Path, status: int, content_type: bytes, reason: str
) -> None:
    fields = [(b"Content-Type", content_type)]
    world = World(directory, [step(Scripted())], status=status, response=fields)
    world.run(DATA)
    assert world.exchange.refused is not None
    assert world.exchange.refused[0] == 502
    assert world.exchange.refused[1].startswith(reason)


# -- uploads of several parts ----------------------------------------------------------------------

FORM = (b"Content-Type", b"multipart/form-data; boundary=x1")


def form(*files: tuple[str, bytes]) -> bytes:
    return (
        b"".join(
            b'--x1\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n%b\r\n" % (name.encode(), data)
            for name, data in files
        )
        + b"--x1--\r\n"
    )


class Named(ContentFilter):
    """Refuses objects by what they begin with, and notes the names of all."""

    def __init__(self, refused: bytes = b"MZ") -> None:
        self.refused = refused
        self.names: list[str] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.names.append(transfer.offer.name)
        return Refuse("executable") if transfer.head.startswith(self.refused) else Release()


@pytest.mark.parametrize("pieces", [11, 1 << 16])
def test_each_file_of_a_form_is_judged(directory: Path, pieces: int) -> None:
    body = form(("a.txt", b"one"), ("b.bin", DATA[:90_000]), ("c", b""))
    named = Named()
    world = World(directory, [step(named)], method=b"POST", request=[FORM], pieces=pieces)
    sink = world.run(body)
    assert (sink.body, sink.ended) == (body, "finished")
    assert sorted(named.names) == ["a.txt", "b.bin", "c"]
    assert sorted(record.name for record in world.records) == ["a.txt", "b.bin", "c"]


def test_one_bad_file_stops_the_form(directory: Path) -> None:
    body = form(("a.txt", b"one"), ("b.exe", b"MZ" + DATA), ("c", b"x"))
    world = World(directory, [step(Named())], method=b"POST", request=[FORM])
    assert world.run(body).heads == []
    assert world.exchange.refused == (403, "executable")


def test_a_form_of_many_parts_holds_few_at_a_time(directory: Path) -> None:
    body = form(*((f"{n}", b"x%d" % n) for n in range(300)))
    world = World(directory, [step(Named())], method=b"POST", request=[FORM])
    most = 0

    def look(_turn: int) -> None:
        nonlocal most
        most = max(most, world.store.statistics().bodies)

    world.on_turn = look
    assert world.run(body).body == body
    assert len(world.records) == 300
    assert most


@pytest.mark.parametrize(
    "body", [b"no boundary", form(("a", b"x"))[:-4], form(("a", b"x")) + b"more"]
)
def test_a_malformed_form_is_refused(directory: Path, body: bytes) -> None:
    world = World(directory, [step(Named())], method=b"POST", request=[FORM])
    assert world.run(body).heads == []
    assert world.exchange.refused is not None
    assert world.exchange.refused[0] == 415


def test_a_name_that_policy_refuses_stops_the_form(directory: Path) -> None:
    world = World(
        directory,
        [step(Named())],
        method=b"POST",
        request=[FORM],
        objection=lambda offer: "no programs" if offer.name.endswith(".exe") else "",
    )
    world.run(form(("a.txt", b"one"), ("b.exe", b"x")))
    assert world.exchange.refused == (403, "no programs")


def test_a_part_that_a_filter_replaces_stops_the_form(directory: Path) -> None:
    world = World(directory, [step(Scripted(Replace(b"other")))], method=b"POST", request=[FORM])
    assert world.run(form(("a", b"x"))).heads == []
    assert world.exchange.refused is not None


def test_a_form_that_is_coded_is_judged_part_by_part_too(directory: Path) -> None:
    body = gzip.compress(form(("a.txt", b"one"), ("b.exe", b"MZ")), mtime=0)
    fields = [FORM, (b"Content-Encoding", b"gzip")]
    world = World(directory, [step(Named())], method=b"POST", request=fields)
    world.run(body)
    assert world.exchange.refused == (403, "executable")


@pytest.mark.parametrize(
    ("fields", "is_let"),
    [
        ([(b"Content-Range", b"bytes 0-9/20")], False),
        ([(b"Content-Range", b"bytes 10-19/20")], False),
        ([(b"Content-Range", b"bytes 0-9/*")], False),
        ([(b"Content-Range", b"bytes 0-19/20"), (b"Content-Range", b"bytes 0-9/20")], False),
        ([(b"Content-Range", b"nonsense")], False),
        ([(b"Content-Range", b"bytes 0-19/20")], True),
        ([(b"Upload-Offset", b"10")], False),
        ([(b"Upload-Offset", b"0"), (b"Upload-Complete", b"?0")], False),
        ([(b"Upload-Offset", b"0"), (b"Upload-Complete", b"?1")], True),
    ],
)
def test_an_upload_in_slices_is_refused(directory: Path, fields: Any, is_let: bool) -> None:
    world = World(directory, [step(Scripted())], method=b"PUT", request=fields)
    body = DATA[:20]
    assert world.run(body).body == (body if is_let else b"")
    assert (world.exchange.refused is None) is is_let


def test_slices_pass_where_no_filter_asks_for_uploads(directory: Path) -> None:
    class Downloads(Scripted):
        wants = Wants(directions=frozenset({Direction.DOWNLOAD}))

    fields = [(b"Content-Range", b"bytes 0-9/20")]
    world = World(directory, [step(Downloads())], method=b"PUT", request=fields)
    world.run(DATA[:10])
    assert world.stage is None
    assert world.exchange.refused is None
