"""Steps of traced connections: what is written of them, and for whom nothing is."""

from __future__ import annotations

import asyncio
import types

import pytest

from sluicegate.audit import Record, StepRecord
from sluicegate.audit.sampling import is_sampled
from sluicegate.filterapi import (
    Contents,
    ContentScanner,
    Direction,
    ScanOutcome,
    ScanResult,
    TransferOffer,
    Unpacked,
)
from sluicegate.gate.steps import StepRecords
from sluicegate.gate.traced_scanner import traced_scanner
from sluicegate.log_limits import TRACE_STEPS_PER_S_MAX
from sluicegate.testing.clock import ManualClock


class Written:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_accepting = True

    def write(self, record: Record) -> None:
        self.records.append(record)


@pytest.fixture
def written() -> Written:
    return Written()


def test_step_says_when_it_began_and_how_long_it_took(written: Written) -> None:
    clock = ManualClock()
    steps = StepRecords(written, clock)
    steps.ratio = 1.0
    clock.advance(1.5)
    steps.write("c-1", "filter", 1.5, filter_name="f", request="c-1-0")
    assert written.records == [
        StepRecord(
            time=clock.wall(),
            connection="c-1",
            step="filter",
            started=clock.wall() - 1.5,
            duration_ms=1500.0,
            filter="f",
            request="c-1-0",
        )
    ]


def test_nothing_is_written_of_what_is_not_traced(written: Written) -> None:
    steps = StepRecords(written, ManualClock())
    assert steps.dialled("c-1", 0.25) == 0.25
    steps.ratio = 0.2
    names = [f"c-{number}" for number in range(500)]
    for name in names:
        steps.write(name, "leaf", 0.1)
    found = [one.connection for one in written.records if isinstance(one, StepRecord)]
    assert found == [name for name in names if is_sampled(name, 0.2)]
    assert 0 < len(found) < 500


def test_streams_are_traced_with_what_carries_them(written: Written) -> None:
    steps = StepRecords(written, ManualClock())
    steps.ratio = 0.5
    for number in range(100):
        before = len(written.records)
        steps.write(f"c-{number}", "dial", 0.1)
        steps.write(f"c-{number}.7", "dial", 0.1)
        assert len(written.records) - before in {0, 2}


def test_steps_of_one_second_have_a_bound_and_the_next_second_is_new(written: Written) -> None:
    clock = ManualClock()
    steps = StepRecords(written, clock)
    steps.ratio = 1.0
    for _ in range(TRACE_STEPS_PER_S_MAX + 30):
        steps.write("c-1", "filter", 0.0)
    assert (len(written.records), steps.left_out) == (TRACE_STEPS_PER_S_MAX, 30)
    clock.advance(1.0)
    steps.write("c-1", "filter", 0.0)
    assert (len(written.records), steps.left_out) == (TRACE_STEPS_PER_S_MAX + 1, 30)


# -- scanners --------------------------------------------------------------------------------------


class Connected:
    """An object, as far as a scanner's answer is about its connection."""

    connection = types.SimpleNamespace(id="c-1.4")
    offer = TransferOffer("x", Direction.DOWNLOAD, "http", facts={"exchange": "c-1-7"})


class PlainScanner:
    """Says what a test wants."""

    name = "av"

    def __init__(self, clock: ManualClock, result: ScanResult) -> None:
        self.clock = clock
        self.result = result

    async def version(self) -> str:
        return "v1"

    async def scan(self, transfer: object) -> ScanResult:
        assert isinstance(transfer, Connected)
        self.clock.advance(0.25)
        return self.result


class OpeningScanner(PlainScanner):
    async def examine(self, transfer: object) -> Contents:
        return Contents(await self.scan(transfer))

    async def unpack(self, transfer: object) -> Unpacked:
        return Unpacked(await self.scan(transfer))


CLEAN = ScanResult(ScanOutcome.CLEAN)
LATE = ScanResult(ScanOutcome.NOT_SCANNED, "no answer within 30 s")


def test_scanner_is_itself_where_nothing_is_traced(written: Written) -> None:
    clock = ManualClock()
    scanner = PlainScanner(clock, CLEAN)
    assert traced_scanner(scanner, StepRecords(written, clock)) is scanner


@pytest.mark.parametrize(("result", "reason"), [(CLEAN, ""), (LATE, "no answer within 30 s")])
def test_scan_is_a_step_and_its_answer_the_scanners(
    written: Written, result: ScanResult, reason: str
) -> None:
    clock = ManualClock()
    steps = StepRecords(written, clock)
    steps.ratio = 1.0
    traced = traced_scanner(PlainScanner(clock, result), steps)
    assert not isinstance(traced, ContentScanner)
    assert (traced.name, asyncio.run(traced.version())) == ("av", "v1")
    assert asyncio.run(traced.scan(Connected())) is result  # type: ignore[arg-type]
    (record,) = written.records
    assert isinstance(record, StepRecord)
    assert (record.step, record.scanner, record.connection) == ("scan", "av", "c-1.4")
    assert (record.duration_ms, record.reason, record.request) == (250.0, reason, "c-1-7")


def test_scanner_that_opens_archives_still_does(written: Written) -> None:
    clock = ManualClock()
    steps = StepRecords(written, clock)
    steps.ratio = 1.0
    traced = traced_scanner(OpeningScanner(clock, CLEAN), steps)
    assert isinstance(traced, ContentScanner)
    assert asyncio.run(traced.examine(Connected())).result is CLEAN  # type: ignore[arg-type]
    assert asyncio.run(traced.unpack(Connected())).result is CLEAN  # type: ignore[arg-type]
    found = [one.step for one in written.records if isinstance(one, StepRecord)]
    assert found == ["scan", "scan"]
