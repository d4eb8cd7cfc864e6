"""What a client gets while its object is held: nothing of use before its verdict (M1, M10)."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sluicegate.filterapi import Refuse, Replace
from sluicegate.limits import KEPT_DOWNLOAD_S, KEPT_DOWNLOADS_MAX, TRICKLE_TAIL_BYTES
from sluicegate.policy.delivery import DeliveryChoice, DeliveryMethod, HeldSettings
from sluicegate.protocols.http1 import CHUNKED, Fields, Request, Target
from sluicegate.protocols.media import MEDIA_HEAD_BYTES, is_media
from tests.unit.held_kit import Exchange, World
from tests.unit.test_held_body import Slow
from tests.unit.transfer_kit import Scripted, step

RANDOM = random.Random(3).randbytes(1 << 20)
VIDEO = b"\0\0\0\x20ftypisom" + RANDOM
BROWSER = [(b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.8")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def held(method: DeliveryMethod, after_s: float = 10.0) -> HeldSettings:
    return HeldSettings((DeliveryChoice(method, None, after_s),))


def think(world: World, slow: Slow, seconds: float) -> None:
    """Let the filter answer when it has thought so long."""

    def look(_turn: int) -> None:
        if slow.is_asked and not slow.go.is_set() and not look_is_armed:
            look_is_armed.append(True)
            world.port.call_after(seconds, slow.go.set)

    look_is_armed: list[bool] = []
    world.on_turn = look


# -- trickle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "thinks_s", "comforts"),
    [
        (DeliveryMethod.HOLD, 100.0, 0),
        (DeliveryMethod.TRICKLE, 5.0, 0),
        (DeliveryMethod.TRICKLE, 35.0, 3),
        (DeliveryMethod.PROGRESS_PAGE, 35.0, 3),
        (DeliveryMethod.FAST_TRICKLE, 35.0, 3),
    ],
)
def test_a_client_that_waits_is_comforted_from_the_delay_on(
    directory: Path, method: DeliveryMethod, thinks_s: float, comforts: int
) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(method))
    think(world, slow, thinks_s)
    sink = world.run(RANDOM[:1000])
    assert world.exchange.comforted == comforts
    assert (sink.body, sink.ended) == (RANDOM[:1000], "finished")


def test_comfort_ends_when_its_exchange_does(directory: Path) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(DeliveryMethod.TRICKLE, 1.0))

    def leave(_turn: int) -> None:
        if world.exchange.comforted == 2 and not world.exchange.is_over:
            world.exchange.end()

    world.on_turn = leave
    world.run(RANDOM[:1000])
    assert world.exchange.comforted == 2


def test_a_part_is_not_promised_before_its_size_is_known(directory: Path) -> None:
    slow = Slow()
    world = World(
        directory,
        [step(slow)],
        held=held(DeliveryMethod.TRICKLE, 1.0),
        request=[(b"Range", b"bytes=5-9")],
    )
    think(world, slow, 1000.0)
    sink = world.run(RANDOM[:1000])
    assert world.exchange.comforted == 9
    assert world.exchange.committed is None
    assert (sink.heads[0].status, sink.body) == (206, RANDOM[5:10])


def test_what_was_promised_of_the_length_is_kept(directory: Path) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(DeliveryMethod.TRICKLE, 1.0))
    think(world, slow, 150.0)
    sink = world.run(RANDOM[:1000])
    assert world.exchange.committed is not None
    assert sink.heads[0].framing == world.exchange.committed


def test_an_object_that_is_replaced_behind_its_promised_head_is_no_object(directory: Path) -> None:
    slow = Slow(Replace(b"other"))
    world = World(directory, [step(slow)], held=held(DeliveryMethod.TRICKLE, 1.0))
    think(world, slow, 150.0)
    assert world.run(RANDOM[:1000]).body == b""
    assert "replaced" in world.exchange.aborted


def test_an_upload_is_comforted_when_it_is_whole(directory: Path) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(DeliveryMethod.TRICKLE, 1.0), method=b"POST")
    think(world, slow, 35.0)
    assert world.run(RANDOM[:1000]).body == RANDOM[:1000]
    assert 3 <= world.exchange.comforted <= 4
    assert world.exchange.committed is None


# -- fast trickle ----------------------------------------------------------------------------------


def test_media_pass_but_their_last_part(directory: Path) -> None:
    slow = Slow()
    world = World(directory, [step(slow)], held=held(DeliveryMethod.FAST_TRICKLE))
    seen: list[int] = []

    def look(_turn: int) -> None:
        assert len(world.sink.body) <= max(0, world.source.fed - TRICKLE_TAIL_BYTES)
        assert VIDEO.startswith(world.sink.body)
        if slow.is_asked and not slow.go.is_set():
            seen.append(len(world.sink.body))
            slow.go.set()

    world.on_turn = look
    sink = world.run(VIDEO)
    assert (sink.body, sink.ended) == (VIDEO, "finished")
    assert len(VIDEO) - TRICKLE_TAIL_BYTES - (1 << 16) < seen[0]
    assert world.records[0].bytes_delivered == len(VIDEO)


def test_a_bad_verdict_behind_a_part_is_no_end(directory: Path) -> None:
    world = World(
        directory, [step(Scripted(Refuse("bad")))], held=held(DeliveryMethod.FAST_TRICKLE)
    )
    sink = world.run(VIDEO)
    assert 0 < len(sink.body) <= len(VIDEO) - TRICKLE_TAIL_BYTES
    assert sink.ended == ""
    assert world.exchange.refused == (403, "bad")


@pytest.mark.parametrize(
    "body",
    [
        RANDOM,
        b"MZ" + RANDOM,
        b"\x7fELF" + RANDOM,
        b"#!/bin/sh\n" + RANDOM,
        b"PK\3\4" + RANDOM,
        b"<html><script>" + RANDOM,
        b"%PDF-1.7" + RANDOM,
        b"\xff\xfe<\0h\0t\0m\0l\0" + RANDOM,
        b"RIFF1234ACON" + RANDOM,
        VIDEO[:TRICKLE_TAIL_BYTES],
    ],
)
def test_of_anything_but_media_nothing_passes(directory: Path, body: bytes) -> None:
    slow = Slow(Refuse("bad"))
    world = World(
        directory,
        [step(slow)],
        held=held(DeliveryMethod.FAST_TRICKLE),
        response=[(b"Content-Type", b"video/mp4")],
    )
    slow.go.set()
    sink = world.run(body)
    assert (sink.heads, sink.body) == ([], b"")


def test_a_slow_viewer_slows_its_server(directory: Path) -> None:
    world = World(directory, [step(Scripted())], held=held(DeliveryMethod.FAST_TRICKLE))
    world.sink.room = 1

    def look(_turn: int) -> None:
        ahead = world.source.fed - len(world.sink.body)
        assert ahead <= TRICKLE_TAIL_BYTES + 3 * (1 << 16)
        if world.sink.is_full:
            world.sink.is_full = False
            world.sink.room = 1
            world.stage.resume()

    world.on_turn = look
    world.port.turn(0.0)
    sink = world.run(VIDEO)
    assert (sink.body, sink.ended) == (VIDEO, "finished")


def test_media_that_are_replaced_behind_a_part_are_no_media(directory: Path) -> None:
    world = World(
        directory, [step(Scripted(Replace(b"x")))], held=held(DeliveryMethod.FAST_TRICKLE)
    )
    assert world.run(VIDEO).ended == ""
    assert "replaced" in world.exchange.aborted


def test_beyond_the_bound_on_memory_media_are_trickled(directory: Path) -> None:
    world = World(
        directory,
        [step(Scripted(Refuse("bad")))],
        held=held(DeliveryMethod.FAST_TRICKLE),
        fast_trickle_bytes_max=100_000,
    )
    assert world.run(VIDEO).body == b""
    assert world.transfers.ahead_bytes == 0


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x18ftypmp42", True),
        (b"\x1a\x45\xdf\xa3\1\0\0", True),
        (b"OggS\0\2", True),
        (b"ID3\4\0", True),
        (b"\xff\xfb\x90\x64", True),
        (b"fLaC\0\0\0\x22", True),
        (b"RIFF\1\2\3\4WAVEfmt ", True),
        (b"RIFF\1\2\3\4AVI LIST", True),
        (b"G" + b"\0" * 187 + b"G" + b"\0" * 187 + b"G", True),
        (b"G" + b"\0" * 187 + b"G" + b"\0" * 187 + b"g", False),
        (b"MZ\0\0ftypmp42", False),
        (b"GIF89a", False),
        (b"\xff\xfe", False),
        (b"\xff\xd8\xff\xe0", False),
        (b"ID3 not", False),
        (b"", False),
    ],
)
def test_media_are_known_by_how_they_begin(head: bytes, expected: bool) -> None:
    assert is_media(head + b"\0" * MEDIA_HEAD_BYTES) is expected
    assert not is_media((head + b"\0" * MEDIA_HEAD_BYTES)[: MEDIA_HEAD_BYTES - 1])


# -- the progress page -----------------------------------------------------------------------------


def paged(directory: Path, slow: Slow, **more: Any) -> World:
    return World(
        directory,
        [step(slow)],
        held=held(DeliveryMethod.PROGRESS_PAGE, 2.0),
        request=more.pop("request", BROWSER),
        **more,
    )


def test_a_browser_is_shown_a_page_and_then_a_button(directory: Path) -> None:
    slow = Slow()
    world = paged(directory, slow, path=b"/a/setup%20one.zip")
    think(world, slow, 10.0)
    sink = world.run(RANDOM)
    assert sink.ended == "finished"
    (head,) = sink.heads
    assert head.fields.first(b"content-type") == b"text/html; charset=utf-8"
    page = sink.body.decode()
    assert "1024.0 KiB received; being inspected" in page or "1.0 MiB received" in page
    (place,) = re.findall(r'id="download" href="([^"]+)"', page)
    assert place.endswith("/setup%20one.zip")
    assert page.rstrip().endswith("</html>")
    assert "<script" not in page
    assert world.kept.count == 1
    assert world.records == []


def fetch(world: World, place: str, **changes: Any) -> Exchange:
    """Ask for a kept download, on the same connection or another."""
    exchange: Any = Exchange(world)
    exchange.request = Request(
        changes.get("method", b"GET"), Target.origin(place.encode()), Fields()
    )
    if "client" in changes:
        exchange.connection = SimpleNamespace(
            client_address=SimpleNamespace(host=changes["client"])
        )
    if "user" in changes:
        exchange.user = SimpleNamespace(name=changes["user"])
    world.sink.__init__()  # type: ignore[misc]
    assert world.kept.serve(exchange)
    return exchange


def keep(directory: Path, **more: Any) -> tuple[World, str]:
    slow = Slow()
    world = paged(directory, slow, **more)
    think(world, slow, 10.0)
    page = world.run(RANDOM).body.decode()
    (place,) = re.findall(r'id="download" href="([^"]+)"', page)
    world.on_turn = lambda _turn: None
    return world, place


def test_a_kept_download_is_fetched_once_as_it_came(directory: Path) -> None:
    world, place = keep(directory, response=[(b"Content-Type", b"application/zip")])

    async def run() -> None:
        exchange = fetch(world, place)
        await world.turn_until(lambda: world.sink.ended)
        exchange.end()
        await world.settle()

    asyncio.run(run())
    assert (world.sink.body, world.sink.ended) == (RANDOM, "finished")
    (head,) = world.sink.heads
    assert head.fields.first(b"content-type") == b"application/zip"
    assert head.fields.first(b"content-disposition") == b"attachment; filename*=UTF-8''file"
    (record,) = world.records
    assert (record.verdict, record.bytes_delivered) == ("released", len(RANDOM))
    again = fetch(world, place)
    assert again.refused == (404, "held-download-gone")


def test_a_fetch_that_breaks_off_may_be_tried_again(directory: Path) -> None:
    world, place = keep(directory)

    async def run() -> None:
        first = fetch(world, place)
        await world.turn_until(lambda: len(world.sink.body) > 0)
        first.end()
        assert world.sink.ended != "finished"
        assert world.kept.count == 1
        assert world.records == []
        again = fetch(world, place)
        await world.turn_until(lambda: world.sink.ended)
        again.end()
        await world.settle()

    asyncio.run(run())
    assert (world.sink.body, world.sink.ended) == (RANDOM, "finished")
    (record,) = world.records
    assert (record.verdict, record.bytes_delivered) == ("released", len(RANDOM))
    assert world.kept.count == 0


@pytest.mark.parametrize("changes", [{"client": "192.0.2.8"}, {"user": "eve"}, {"method": b"POST"}])
def test_a_kept_download_is_for_nobody_else(directory: Path, changes: dict[str, Any]) -> None:
    world, place = keep(directory)
    exchange = fetch(world, place, **changes)
    assert exchange.refused is not None
    assert exchange.refused[0] in {404, 405}
    assert world.kept.count == 1
    world.kept.close()
    asyncio.run(world.settle())


def test_a_kept_download_is_given_up_when_nobody_fetches_it(directory: Path) -> None:
    world, _place = keep(directory)

    async def run() -> None:
        end = world.port.now + KEPT_DOWNLOAD_S + 1
        world.port.call_after(KEPT_DOWNLOAD_S + 1, lambda: None)
        await world.turn_until(lambda: world.port.now >= end)
        await world.settle()

    asyncio.run(run())
    assert world.kept.count == 0
    (record,) = world.records
    assert (record.verdict, record.reason) == ("released", "nobody fetched it")


def test_of_too_many_kept_downloads_the_oldest_is_given_up(directory: Path) -> None:
    world, place = keep(directory)
    nothing: Any = SimpleNamespace(move_to=lambda _owner: None, end=lambda *_: None)
    for _ in range(KEPT_DOWNLOADS_MAX - 1):
        world.kept.keep(world.exchange, nothing, world.response, "x")
    assert world.records == []
    world.kept.keep(world.exchange, nothing, world.response, "x")
    assert len(world.records) == 1
    assert fetch(world, place).refused == (404, "held-download-gone")
    world.kept.close()


def test_a_client_that_leaves_while_it_fetches_leaves_what_it_may_fetch_again(
    directory: Path,
) -> None:
    world, place = keep(directory)

    async def run() -> None:
        exchange = fetch(world, place)
        world.sink.room = 1
        await world.turn_until(lambda: world.sink.is_full)
        exchange.end()
        assert world.kept.count == 1
        world.kept.close()
        await world.settle()

    asyncio.run(run())
    (record,) = world.records
    assert record.verdict == "released"


def test_a_refused_download_is_said_on_its_page_in_words_that_cannot_be_code(
    directory: Path,
) -> None:
    slow = Slow(Refuse("<b>bad & worse</b>"))
    world = paged(directory, slow)
    think(world, slow, 10.0)
    sink = world.run(RANDOM)
    page = sink.body.decode()
    assert sink.ended == "finished"
    assert "&lt;b&gt;bad &amp; worse&lt;/b&gt;" in page
    assert "c-1-1" in page
    assert 'id="download"' not in page
    assert world.exchange.noted == "refused: <b>bad & worse</b>"


def test_a_server_that_fails_is_said_on_the_page(directory: Path) -> None:
    world = paged(directory, Slow(), framing=CHUNKED)
    original = world.source.send

    def send(body: bytes, is_whole: bool) -> None:
        world.port.call_after(5.0, lambda: original(body, is_whole))

    world.source.send = send  # type: ignore[method-assign]
    sink = world.run(b"", is_whole=False)
    assert sink.ended == "finished"
    assert "did not arrive" in sink.body.decode()


def test_a_page_shows_how_much_has_come(directory: Path) -> None:
    world = paged(directory, Slow())
    whole = RANDOM[:100_000]
    world.framing = None

    def send(body: bytes, is_whole: bool) -> None:
        world.stage.feed(body[:50_000])
        world.port.call_after(5.0, world.exchange.end)

    world.source.send = send  # type: ignore[method-assign]
    page = world.run(whole).body.decode()
    assert "48.8 KiB of 97.7 KiB" in page
    assert "#bar { width: 50%; }" in page


@pytest.mark.parametrize(
    ("request_fields", "method"),
    [
        ([(b"Accept", b"*/*")], b"GET"),
        ([], b"GET"),
        ([*BROWSER, (b"Sec-Fetch-Dest", b"image")], b"GET"),
        ([*BROWSER, (b"Range", b"bytes=0-9")], b"GET"),
    ],
)
def test_who_does_not_ask_for_a_page_gets_none(
    directory: Path, request_fields: Any, method: bytes
) -> None:
    slow = Slow()
    world = paged(directory, slow, request=request_fields, method=method)
    think(world, slow, 10.0)
    sink = world.run(RANDOM)
    assert RANDOM.startswith(sink.body)
    assert world.exchange.comforted


def test_a_page_has_nothing_of_what_others_wrote(directory: Path) -> None:
    evil = b"/<script>alert(1)</script>\"'>.zip"
    world, place = keep(
        directory,
        path=evil.replace(b"<", b"%3C").replace(b'"', b"%22").replace(b">", b"%3E"),
        response=[(b"Content-Disposition", b'attachment; filename="<img src=x>.zip"')],
    )
    page = world.sink.body.decode()
    assert "<img" not in page
    assert "alert(1)" not in page or "%3C" in place
    world.kept.close()
    asyncio.run(world.settle())
