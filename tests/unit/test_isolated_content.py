"""Content filters behind the wire: the same verdicts as in the gate, and every failure refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import FilterFailureRecord, TransferRecord
from sluicegate.bundled.exe_block import ExeBlock
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Refuse,
    Release,
    Replace,
    Transfer,
)
from sluicegate.isolation.content import isolated_content
from sluicegate.testing import Playbook, check_content_filter
from sluicegate.testing.inline_cell import InlineCell, isolated
from sluicegate.testing.inspecting import inspect_object

ZIP = b"PK\x03\x04" + bytes(range(200))


class Shout(ContentFilter):
    name = "shout"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            return Replace((await file.read()).upper())


class Reader(ContentFilter):
    """Reads on a thread, with a position of its own, and refuses what says so."""

    name = "reader"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            first, second = file.blocking_file(), file.blocking_file()
            with first, second:
                assert await transfer.run_blocking(first.read, 3) == transfer.head[:3]
                body = await transfer.run_blocking(second.read)
        assert len(body) == transfer.size
        return Refuse("says so") if b"refuse" in body else Release()


class Broken(ContentFilter):
    name = "broken"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Never(ContentFilter):
    name = "never"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await asyncio.Event().wait()
        return Release()


@pytest.mark.parametrize("where", [lambda make: make, isolated], ids=["in the gate", "in a cell"])
@pytest.mark.parametrize("make", [ExeBlock, Reader, Shout])
def test_what_holds_for_every_content_filter_holds_in_both_places(
    make: Callable[[], ContentFilter], where: Callable[[Any], Any]
) -> None:
    check_content_filter(
        where(make), (b"", b"plain text", b"refuse this", b"MZ" + bytes(70), ZIP), bulk="1 MiB"
    )


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("make", [Reader, Shout])
def test_records_say_the_same_of_both_places(make: Callable[[], ContentFilter], size: int) -> None:
    for body in (b"a" * size, b"refuse" * size):
        here, there = inspect_object(make(), body), inspect_object(isolated(make)(), body)
        assert (here.verdict, here.outcome, here.reason) == (
            there.verdict,
            there.outcome,
            there.reason,
        )
        assert here.received == there.received
        assert here.record is not None
        assert there.record is not None
        assert here.record.sha256 == there.record.sha256


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (SystemExit(3), "SystemExit: 3"),
        ("yes", "answered 'yes', which is no verdict"),
        (None, "answered None, which is no verdict"),
    ],
)
def test_filter_that_fails_in_its_cell_refuses_and_is_named(answer: Any, cause: str) -> None:
    with Playbook(isolated(lambda: Broken(answer))) as play:
        play.server.sends(b"object")
        play.server.ends()
        assert play.client.reads() == b""
        (failure,) = play.records_of(FilterFailureRecord)
        assert failure.filter == "broken"
        assert cause in failure.cause
        assert play.records_of(TransferRecord)[0].verdict == "refused"
        play.filter_errors.clear()


def in_cell(content_filter: ContentFilter, **limits: Any) -> tuple[InlineCell, ContentFilter]:
    cell = InlineCell(lambda: content_filter, **limits)
    return cell, isolated_content(cell, cell.manifest, 1000)


def test_cell_killed_in_the_middle_of_an_object_refuses_it_and_the_next_one_is_judged() -> None:
    cell, stand_in = in_cell(Never())
    with Playbook(stand_in) as play:
        play.server.sends(b"first")
        play.server.ends()
        cell.use(Reader)
        cell.launched[0].kill()
        assert play.client.reads() == b""
        (record,) = play.records_of(TransferRecord)
        assert record.verdict == "refused"
        assert "was killed by SIGKILL" in record.reason
        (failure,) = play.records_of(FilterFailureRecord)
        assert (failure.filter, failure.action) == ("never", "refused")
        play.filter_errors.clear()
        after = play.connect()
        after.server.sends(b"second")
        after.server.ends()
        play.wait(0.5)
        assert after.client.reads() == b"second"
        after.client.ends()
    assert len(cell.launched) == 2
    assert cell.restarts == 1


def test_cell_whose_loop_stands_is_killed_by_the_watchdog() -> None:
    cell, stand_in = in_cell(Never())
    with Playbook(stand_in) as play:
        play.server.sends(b"first")
        play.server.ends()
        play.settle()
        cell.launched[0].is_mute = True
        other = play.connect()
        other.server.sends(b"second")
        other.server.ends()
        play.wait(cell.limits.isolated_hang_s * 2)
        records = play.records_of(TransferRecord)
        assert [record.verdict for record in records] == ["refused", "refused"]
        assert all("did not react for 5 s (isolated_hang_s)" in one.reason for one in records)
        assert cell.hangs == 1
        play.filter_errors.clear()


def test_object_given_up_by_the_gate_is_given_up_in_the_cell() -> None:
    cell, stand_in = in_cell(Never())
    with Playbook(stand_in) as play:
        play.server.sends(b"first")
        play.server.ends()
        assert cell.launched[0].server.asked_count == 1
        play.client.resets()
        play.wait(0.1)
        assert cell.launched[0].server.asked_count == 0


def test_body_larger_than_its_bound_is_refused() -> None:
    _, stand_in = in_cell(Shout())
    with Playbook(stand_in) as play:
        play.server.sends(b"x" * 1001)
        play.server.ends()
        assert play.client.reads() == b""
        assert "isolated_memory_bytes_max" in play.records_of(TransferRecord)[0].reason
        play.filter_errors.clear()


class AsksScanner(ContentFilter):
    name = "asks"

    @property
    def scanners(self) -> tuple[str, ...]:
        return ("clamd",)

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Release()


def test_filter_that_asks_scanners_has_failed_at_its_start() -> None:
    cell = InlineCell(AsksScanner)
    with Playbook(cell.stand_in) as play:
        play.server.sends(b"object")
        play.server.ends()
        play.client.receives_reset()
        assert "it asks clamd: scanners are not asked from cells" in str(cell.failures[0])
        play.filter_errors.clear()
