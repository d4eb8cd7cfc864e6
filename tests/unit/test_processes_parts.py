"""What the processes of a gate are made of, each by itself: journal, frames, backoff, steering."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import pathlib
import struct
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.app.processes.backoff import Backoff
from sluicegate.app.processes.change import prepare_all
from sluicegate.app.processes.child import Child
from sluicegate.app.processes.crew import Crew, Lead, Worker
from sluicegate.app.processes.gathering import (
    gather_filters,
    gather_listeners,
    gather_phase,
    gather_warnings,
)
from sluicegate.app.processes.orders import Prepared
from sluicegate.app.processes.steering import program, slot
from sluicegate.audit.frames import (
    Batch,
    BatchReader,
    Note,
    NoteKind,
    NoteReader,
    frame_batch,
    frame_note,
)
from sluicegate.audit.journal import JOURNAL_BYTES, Journal
from sluicegate.clock import SystemClock
from sluicegate.gate.views import FilterView, ListenerView, Phase
from sluicegate.limits import RECORD_BATCH_BYTES_MAX
from sluicegate.process_limits import RESTART_CALM_S, RESTART_DELAY_MAX_S, RESTART_DELAY_MIN_S
from tests.status_views import status_view

# -- journal -----------------------------------------------------------------------------------


class Desk:
    """A journal and a log, as the supervisor holds them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "log"
        self.log = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self.memory = os.memfd_create("journal")
        os.ftruncate(self.memory, JOURNAL_BYTES)
        self.journal = Journal(self.memory)

    def next_writer(self) -> Journal:
        """The one that comes when the last was killed at this moment."""
        journal = Journal(self.memory)
        journal.recover(self.log)
        return journal

    def written(self, lines: bytes, batches: dict[int, tuple[int, int]]) -> None:
        self.journal.intend(self.log, len(lines), batches)
        os.write(self.log, lines)
        self.journal.settle()


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    os.close(made.log)
    os.close(made.memory)


def test_writer_that_dies_between_two_writes_leaves_nothing_to_do(desk: Desk) -> None:
    desk.written(b"one\ntwo\n", {3: (1, 2)})
    after = desk.next_writer()
    assert (after.number(3), after.records(3)) == (1, 2)
    assert desk.path.read_bytes() == b"one\ntwo\n"


def test_writer_that_dies_before_its_write_has_written_nothing(desk: Desk) -> None:
    desk.written(b"one\n", {3: (1, 1)})
    desk.journal.intend(desk.log, 4, {3: (2, 1), 4: (1, 1)})
    after = desk.next_writer()
    assert (after.number(3), after.records(3), after.number(4)) == (1, 1, 0)


@pytest.mark.parametrize("length", range(1, 8))
def test_part_of_a_write_is_cut_off(desk: Desk, length: int) -> None:
    desk.written(b"one\n", {3: (1, 1)})
    desk.journal.intend(desk.log, 8, {3: (2, 2)})
    os.write(desk.log, b"two\nthr\n"[:length])
    after = desk.next_writer()
    assert (after.number(3), after.records(3)) == (1, 1)
    assert desk.path.read_bytes() == b"one\n"


def test_whole_write_counts_though_its_writer_could_not_say_so(desk: Desk) -> None:
    desk.written(b"one\n", {3: (1, 1)})
    desk.journal.intend(desk.log, 8, {3: (2, 2), 5: (7, 1)})
    os.write(desk.log, b"two\nthr\n")
    after = desk.next_writer()
    assert (after.number(3), after.records(3)) == (2, 3)
    assert (after.number(5), after.records(5)) == (7, 1)
    again = desk.next_writer()
    assert (again.number(3), again.records(3)) == (2, 3)


def test_rotation_between_two_writers_loses_nothing(desk: Desk, tmp_path: pathlib.Path) -> None:
    desk.journal.intend(desk.log, 4, {3: (1, 1)})
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    os.write(other, b"something else that is longer\n")
    after = Journal(desk.memory)
    after.recover(other)
    assert after.number(3) == 0
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b"something else that is longer\n"


@pytest.mark.parametrize("length", [0, 3, 8])
def test_write_to_a_file_that_was_left_since_is_found_there(
    desk: Desk, tmp_path: pathlib.Path, length: int
) -> None:
    """The log is rotated while no writer is there: the last write is in the file before."""
    desk.written(b"one\n", {3: (1, 1)})
    desk.journal.intend(desk.log, 8, {3: (2, 2)})
    os.write(desk.log, b"two\nthr\n"[:length])
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    after = Journal(desk.memory)
    after.recover_left(other)
    assert after.number(3) == 1
    after.recover_left(desk.log)
    after.recover(other)
    is_whole = length == 8
    assert (after.number(3), after.records(3)) == ((2, 3) if is_whole else (1, 1))
    assert desk.path.read_bytes() == (b"one\ntwo\nthr\n" if is_whole else b"one\n")
    os.close(other)


def test_row_of_a_new_sender_begins_at_zero(desk: Desk) -> None:
    desk.written(b"one\n", {3: (9, 1)})
    desk.journal.clear(3)
    assert (desk.journal.number(3), desk.journal.records(3)) == (0, 0)


# -- frames ------------------------------------------------------------------------------------

batches = st.lists(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), max_size=4))


@given(batches, st.data())
def test_every_cut_of_batches_gives_the_same_batches(
    groups: list[list[bytes]], data: st.DataObject
) -> None:
    texts = [b"".join(line + b"\n" for line in group) for group in groups]
    expected = [
        Batch(number, len(group), text)
        for number, (group, text) in enumerate(zip(groups, texts, strict=True), 1)
    ]
    stream = b"".join(frame_batch(one.number, one.lines) for one in expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader = BatchReader()
    found: list[Batch] = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[begin:end])
    assert found == expected


@given(st.integers(0, 60))
def test_every_cut_of_notes_gives_the_same_notes(cut: int) -> None:
    notes = [
        Note(NoteKind.WRITTEN, 7),
        Note(NoteKind.FAILING, text="ENOSPC"),
        Note(NoteKind.WORKING),
    ]
    stream = b"".join(map(frame_note, notes))
    reader = NoteReader()
    assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == notes


def test_batch_that_no_sender_makes_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of"):
        BatchReader().feed(struct.pack("!IIQ", RECORD_BATCH_BYTES_MAX + 1, 1, 1))


# -- backoff -----------------------------------------------------------------------------------


def test_process_that_has_worked_for_a_while_is_replaced_at_once() -> None:
    backoff = Backoff()
    for now in (0.0, 100.0, 200.0):
        backoff.on_started(now)
        assert backoff.on_ended(now + RESTART_CALM_S) == 0.0
    assert not backoff.is_holding_back


def test_process_that_ends_at_its_start_is_tried_ever_more_seldom_and_never_given_up() -> None:
    backoff = Backoff()
    delays = []
    for _ in range(12):
        backoff.on_started(0.0)
        delays.append(backoff.on_ended(1.0))
    assert delays[:3] == [0.0, RESTART_DELAY_MIN_S, 2 * RESTART_DELAY_MIN_S]
    assert delays[-1] == RESTART_DELAY_MAX_S
    assert backoff.is_holding_back
    backoff.on_started(0.0)
    assert backoff.on_ended(RESTART_CALM_S) == 0.0
    assert not backoff.is_holding_back


# -- steering ----------------------------------------------------------------------------------


def run_filter(code: bytes, packet: bytes) -> int:
    """A machine for those instructions of classic BPF that ``program`` may use."""
    a = x = 0
    for at in range(0, len(code), 8):
        opcode, _, _, k = struct.unpack_from("HBBI", code, at)
        match opcode:
            case 0x01:
                x = k
            case 0x20:
                a = int.from_bytes(packet[k - 0xFFF00000 :][:4], "big")
            case 0x07:
                x = a
            case 0xAC:
                a ^= x
            case 0x24:
                a = a * k & 0xFFFFFFFF
            case 0x74:
                a >>= k
            case 0x94:
                a %= k
            case 0x16:
                return a
            case _:
                raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("it does not return")


@given(st.ip_addresses(), st.integers(1, 64), st.integers(0, 0xFFFFFFFF))
def test_program_chooses_the_slot_that_python_computes(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, slots: int, seed: int
) -> None:
    family, at = (2, 12) if address.version == 4 else (10, 8)
    packet = bytes(at) + address.packed + bytes(20)
    assert run_filter(program(family, slots, seed), packet) == slot(str(address), slots, seed)


@pytest.mark.parametrize("slots", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF, 0x12345678])
@pytest.mark.parametrize("first", ["10.0.0.0", "192.0.2.0", "2001:db8::", "2001:db8:7:1::"])
def test_256_neighbours_are_spread_over_all_workers(slots: int, seed: int, first: str) -> None:
    start = ipaddress.ip_address(first)
    counts = Counter(slot(str(start + n), slots, seed) for n in range(256))
    assert max(counts.values()) <= 256 * 1.2 / slots + 26
    assert len(counts) == slots


# -- gathering ---------------------------------------------------------------------------------


def test_gate_refuses_when_one_worker_does() -> None:
    assert gather_phase([status_view(), status_view()]) is Phase.READY
    assert gather_phase([status_view(), status_view(phase=Phase.REFUSING)]) is Phase.REFUSING
    assert gather_phase([]) is Phase.STARTING


def test_listener_is_one_row_with_what_all_workers_accepted() -> None:
    rows = [
        status_view(listeners=[ListenerView(name="a", address="x:1", accepted=2)]),
        status_view(listeners=[ListenerView(name="a", address="x:1", accepted=3, is_paused=True)]),
    ]
    (row,) = gather_listeners(rows, [ListenerView(name="a", address="x:1")])
    assert (row.accepted, row.is_paused) == (5, True)
    assert rows[0].listeners[0].accepted == 2


def test_listener_that_no_worker_serves_is_there_and_keeps_its_transport() -> None:
    opened = [ListenerView(name="a", address="x:1", transport="udp")]
    assert gather_listeners([], opened) == opened
    rows = [
        status_view(listeners=[ListenerView(name="b", address="x:2", transport="udp", accepted=1)])
    ]
    assert gather_listeners(rows, []) == rows[0].listeners


def test_worker_that_is_being_started_is_asked_nothing() -> None:
    async def ask_crew() -> None:
        crew = Crew(2, SystemClock(), cast("Lead", None))
        loop = asyncio.get_running_loop()
        for place in crew.places:
            ready: asyncio.Future[None] = loop.create_future()
            place.worker = Worker(place.slot, 1, 1, cast("Child", None), 0.0, ready)
        serving = crew.places[1].worker
        assert serving is not None
        serving.ready.set_result(None)
        assert crew.answering == [serving]
        crew.leaving.add(crew.all[0])
        assert crew.answering == [serving]

    asyncio.run(ask_crew())


def test_filter_that_failed_on_one_worker_is_shown_as_failed() -> None:
    good = FilterView(name="f", source="m:F", tier="content", calls=2)
    bad = FilterView(name="f", source="m:F", tier="content", calls=1, state="failed", cause="x")
    (row,) = gather_filters([[good], [bad]])
    assert (row.state, row.cause, row.calls) == ("failed", "x", 3)


def test_warning_of_some_workers_names_them() -> None:
    views = [
        ("worker 0", status_view(warnings=["all", "one"])),
        ("worker 1", status_view(warnings=["all"])),
    ]
    assert gather_warnings(views) == ["all", "worker 0: one"]


class _GrowingCrew:
    """Has another worker that serves by the time the first has prepared a reload."""

    def __init__(self) -> None:
        self.working: list[Any] = [SimpleNamespace(slot=0, name="worker 0")]
        self.prepared: list[Any] = []

    async def order(self, workers: list[Any], make: Any) -> list[Prepared]:
        self.prepared += workers
        if len(self.working) == 1:
            self.working.append(SimpleNamespace(slot=1, name="worker 1"))
        return [Prepared(number=make(one, 1)[0].number, policy="p") for one in workers]


def test_worker_that_serves_when_others_have_prepared_a_reload_prepares_it_too() -> None:
    crew = _GrowingCrew()
    loaded: Any = SimpleNamespace(
        texts={}, settings=SimpleNamespace(policy=SimpleNamespace(hash="p"))
    )
    doors: Any = SimpleNamespace(of_slot=lambda _slot, _opened: [])
    assert asyncio.run(prepare_all(cast("Any", crew), doors, loaded, [])) == []
    assert crew.prepared == crew.working
