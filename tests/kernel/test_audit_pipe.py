"""Senders of records and the collector, in one process: bounds, failures, successors."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.app.processes.channel import Channel
from sluicegate.app.processes.orders import AnyMessage, Prepare, Said
from sluicegate.app.texts import Texts
from sluicegate.audit import ConnectionRecord, DecisionRecord, NoteRecord, Record, RecordSender
from sluicegate.audit import collector as collector_module
from sluicegate.audit.collector import Collector
from sluicegate.audit.journal import JOURNAL_BYTES, Journal
from sluicegate.clock import SystemClock
from sluicegate.policy import PolicyTexts

BOUND = 1 << 16


class Desk:
    """One log, its writers in turn, and a sender."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "log"
        self.log = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self.memory = os.memfd_create("journal")
        os.ftruncate(self.memory, JOURNAL_BYTES)
        self.said: list[str] = []
        self.ended: list[int] = []
        self.tally = memoryview(bytearray(64)).cast("Q")
        self.sender = RecordSender(BOUND, SystemClock(), self.said.append, self.tally)
        self.writers: list[Collector] = []

    def start_writer(self) -> Collector:
        writer = Collector(
            Journal(self.memory),
            os.dup(self.log),
            on_ended=self.ended.append,
            on_trouble=self.said.append,
        )
        self.writers.append(writer)
        return writer

    def connect(self, writer: Collector) -> None:
        ours, theirs = socket.socketpair()
        writer.add_stream(1, theirs)
        self.sender.attach(ours)

    def write(self, first: int, count: int, length: int = 0) -> None:
        for number in range(first, first + count):
            self.sender.write(NoteRecord(time=1.0, filter=str(number), message="x" * length))

    def written(self) -> list[int]:
        lines = self.path.read_bytes().splitlines()
        return [int(one["filter"]) for line in lines if "filter" in (one := json.loads(line))]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    def close(self) -> None:
        self.sender.detach()
        for writer in self.writers:
            writer.close()
        os.close(self.log)
        os.close(self.memory)


def run(tmp_path: pathlib.Path, main: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def live() -> None:
        desk = Desk(tmp_path)
        try:
            await main(desk)
        finally:
            desk.close()

    asyncio.run(live())


def test_records_are_in_the_file_when_the_sender_has_closed(tmp_path: pathlib.Path) -> None:
    async def main(desk: Desk) -> None:
        desk.connect(desk.start_writer())
        desk.write(0, 200)
        assert await desk.sender.close(60)
        assert desk.written() == list(range(200))
        assert desk.tally[0] == 200
        await desk.until(lambda: desk.ended == [1])

    run(tmp_path, main)


def test_successor_of_a_writer_gets_what_is_not_in_the_file_and_nothing_twice(
    tmp_path: pathlib.Path,
) -> None:
    async def main(desk: Desk) -> None:
        first = desk.start_writer()
        desk.connect(first)
        desk.write(0, 100)
        desk.sender.flush()
        await desk.until(lambda: len(desk.written()) == 100)
        # It has written, and dies before the sender could read that.
        first.close()
        desk.writers.clear()
        desk.write(100, 50)
        desk.sender.flush()
        desk.connect(desk.start_writer())
        assert await desk.sender.close(60)
        assert desk.written() == list(range(150))

    run(tmp_path, main)


def test_without_a_writer_records_queue_to_the_bound_and_new_traffic_is_refused_before(
    tmp_path: pathlib.Path,
) -> None:
    async def main(desk: Desk) -> None:
        assert desk.sender.is_accepting
        desk.write(0, 30, length=1000)
        desk.sender.flush()
        assert desk.sender.is_accepting
        desk.write(30, 10, length=1000)
        desk.sender.flush()
        assert not desk.sender.is_accepting
        desk.write(40, 64, length=1000)
        desk.sender.flush()
        lost = desk.sender.lost
        assert lost > 0
        assert desk.tally[0] == 104 - lost
        desk.connect(desk.start_writer())
        await desk.until(lambda: desk.sender.is_accepting)
        assert await desk.sender.close(60)
        assert desk.written() == list(range(104 - lost))
        last = json.loads(desk.path.read_bytes().splitlines()[-1])
        assert (last["limit"], last["count"]) == ("record_queue_bytes_max", lost)

    run(tmp_path, main)


def test_disk_that_is_full_refuses_traffic_and_leaves_whole_lines(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True
    real_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if not is_full:
            return real_write(descriptor, data)
        if len(data) > 10:
            return real_write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    async def main(desk: Desk) -> None:
        nonlocal is_full
        monkeypatch.setattr(collector_module, "RECORD_RETRY_DELAY_S", 0.01)
        desk.connect(desk.start_writer())
        await asyncio.sleep(0)
        monkeypatch.setattr(
            collector_module, "_write_all", lambda log, lines: _write_by(write, log, lines)
        )
        desk.write(0, 10)
        desk.sender.flush()
        await desk.until(lambda: not desk.sender.is_accepting)
        assert desk.sender.failure == "ENOSPC"
        assert desk.path.read_bytes() == b""
        is_full = False
        await desk.until(lambda: desk.sender.is_accepting)
        assert await desk.sender.close(60)
        assert desk.written() == list(range(10))

    run(tmp_path, main)


def _write_by(write: Callable[[int, memoryview], int], log: int, lines: bytes) -> None:
    view = memoryview(lines)
    while view:
        taken = write(log, view)
        if taken < len(view):
            write(log, view[taken:][:1])
        view = view[taken:]


def test_channel_carries_messages_with_many_descriptors_in_order(tmp_path: pathlib.Path) -> None:
    del tmp_path

    async def main() -> None:
        ours, theirs = socket.socketpair()
        got: list[tuple[AnyMessage, list[int]]] = []
        closed: list[str] = []
        sender = Channel(ours, lambda *_: None, closed.append)
        receiver = Channel(theirs, lambda message, fds: got.append((message, fds)), closed.append)
        pipes = [os.pipe() for _ in range(230)]
        reads, writes = [one[0] for one in pipes], [one[1] for one in pipes]
        texts = Texts("x" * 300_000, PolicyTexts(""), None)
        sender.send(Said(line="first"))
        sender.send(Prepare(number=1, texts=texts, addresses=["a"] * 230), reads)
        sender.send(Said(line="last"), writes[:1])
        async with asyncio.timeout(60):
            while len(got) < 3:
                await asyncio.sleep(0.001)
        assert [len(fds) for _, fds in got] == [0, 230, 1]
        for number, descriptor in enumerate(writes):
            os.write(descriptor, b"%d" % number)
        for number, descriptor in enumerate(got[1][1]):
            assert os.read(descriptor, 9) == b"%d" % number
            assert not os.get_inheritable(descriptor)
        sender.close()
        async with asyncio.timeout(60):
            while not closed:
                await asyncio.sleep(0.001)
        for descriptor in [*reads, *writes, *got[1][1], *got[2][1]]:
            os.close(descriptor)
        receiver.close()

    asyncio.run(main())


def decision(verdict: Any, connection: str) -> DecisionRecord:
    return DecisionRecord(
        time=1.0, connection=connection, session="s", client="", listener="", verdict=verdict,
        reason="", policy="",
    )  # fmt: skip


def end(connection: str) -> ConnectionRecord:
    return ConnectionRecord(
        time=1.0, connection=connection, session="s", client="", listener="", rule="", server="",
        started=1.0, duration_s=0.0, outcome="refused", reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("records", "counts"),
    [
        ([decision("allowed", "c"), end("c")], [1, 0]),
        ([decision("allowed", "c"), decision("allowed", "d"), end("c"), end("d")], [1, 2, 1, 0]),
        ([decision("denied", "c"), end("c")], [0, 0]),
        ([decision("allowed", "c"), decision("denied", "c"), end("c")], [1, 1, 0]),
        # Each request that passes to be learned from is one more decision.
        ([decision("allowed", "c"), decision("allowed", "c"), end("c")], [1, 1, 0]),
        # Requests are decided on by themselves, and their connection is recorded when it ends.
        ([end("web"), decision("allowed", "c"), end("c")], [0, 1, 0]),
    ],
)
def test_connections_that_were_let_in_and_have_not_ended_are_counted(
    tmp_path: pathlib.Path, records: list[Record], counts: list[int]
) -> None:
    async def main(desk: Desk) -> None:
        for record, count in zip(records, counts, strict=True):
            desk.sender.write(record)
            assert desk.tally[1] == count

    run(tmp_path, main)
