"""Held objects: what is read back equals what was appended, and everything is given back."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.buffer import Buffer, ConstBuffer
from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.limits import SPOOL_READ_BUFFERS_MAX, Limits
from sluicegate.port import CompletionPort
from sluicegate.spool import Delivery, SpooledFile, SpoolStore
from sluicegate.spool.buffers import READ_BUFFER_SIZE
from sluicegate.testing import FaultPlan
from tests.unit.spool_kit import (
    Collector,
    Owner,
    check_empty,
    deliver,
    fill,
    pieces_of,
    real_port,
    run,
    simulated_port,
)

LIMITS = Limits(
    interactive_buffers_max=8,
    bulk_buffers_max=2,
    spool_object_bytes_max=4 << 20,
    spool_free_bytes_min=0,
    spool_free_inodes_min=0,
)
CONTENT = random.Random(1).randbytes(3 << 20)


@pytest.fixture(scope="module")
def port(backend_name: str) -> Iterator[CompletionPort]:
    port = real_port(backend_name, LIMITS)
    yield port
    port.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spool")
    path.chmod(0o700)
    return path


def make_store(port: CompletionPort, directory: Path, **changes: int) -> SpoolStore:
    return SpoolStore(port, directory, dataclasses.replace(LIMITS, **changes))


border_sizes = st.sampled_from(
    [1, 100, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 262143, 262144, 262145]
)
memory_sizes = st.sampled_from([0, 1, 4096, 16384, 16385, 262144, 600_000])


@settings(max_examples=60)
@given(size=border_sizes, sizes=st.lists(border_sizes, max_size=12), memory=memory_sizes)
def test_what_is_delivered_equals_what_was_received_for_every_cut(
    port: CompletionPort, directory: Path, size: int, sizes: list[int], memory: int
) -> None:
    data = CONTENT[: min(len(CONTENT), size + sum(sizes))]
    store, owner = make_store(port, directory, spool_memory_bytes_max=memory), Owner()
    body = store.create_body(owner, "client")

    buffers = fill(port, body, owner, pieces_of(data, sizes), directory)

    assert owner.told[-1] == "finished"
    assert body.size == len(data)
    assert body.head == data[:4096]
    assert body.sha256 == hashlib.sha256(data).hexdigest()
    assert body.is_in_memory == (len(data) <= memory)
    assert all(buffer.leases == 0 for buffer in buffers)
    assert deliver(port, store, body) == data
    body.close()
    check_empty(port, store)


def test_empty_object_is_finished_and_delivered(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [], directory)
    assert body.sha256 == hashlib.sha256(b"").hexdigest()
    assert deliver(port, store, body) == b""
    body.close()
    check_empty(port, store)


def test_small_pieces_are_collected_into_few_writes(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, pieces_of(CONTENT, [262144] + [1000] * 250), directory)
    before = port.backend.submitted
    body.close()
    check_empty(port, store)
    assert port.backend.submitted - before < 50


def test_stream_that_turns_small_does_not_leave_its_large_buffer_behind(
    port: CompletionPort, directory: Path
) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    data = CONTENT[: 2 << 20] + CONTENT[:100_000] + CONTENT[:5000]
    for offset in range(0, 2 << 20, 262_144):
        run(port, lambda: owner.ready)
        owner.ready = body.append(ConstBuffer(data[offset : offset + 262_144]).window())
    run(port, lambda: owner.ready)
    buffer = body.receive_buffer()
    assert buffer is not None
    buffer.append(data[2 << 20 : (2 << 20) + 100_000])
    owner.ready = body.append(buffer.window())
    run(port, lambda: owner.ready)

    owner.ready = body.append(ConstBuffer(data[-5000:]).window())

    run(port, lambda: owner.ready)
    body.finish()
    run(port, lambda: owner.is_over)
    assert body.sha256 == hashlib.sha256(data).hexdigest()
    assert deliver(port, store, body) == data
    body.close()
    check_empty(port, store)


def test_source_waits_while_two_writes_are_in_flight(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory, spool_memory_bytes_max=0), Owner()
    body = store.create_body(owner, "client")
    piece = ConstBuffer(CONTENT[:262144])
    assert not body.append(piece.window())  # the file is not open yet
    run(port, lambda: bool(owner.told))
    assert body.append(piece.window()) in {True, False}
    assert not body.append(piece.window())
    body.close()
    check_empty(port, store)
    assert piece.leases == 0


@pytest.mark.parametrize(
    ("limit", "bound"),
    [
        ("spool_object_bytes_max", 100_000),
        ("spool_client_bytes_max", 100_000),
        ("spool_bytes_max", 100_000),
    ],
)
def test_quota_refuses_by_name_and_takes_nothing(
    port: CompletionPort, directory: Path, limit: str, bound: int
) -> None:
    store, owner = make_store(port, directory, **{limit: bound}), Owner()
    body = store.create_body(owner, "client")
    body.append(ConstBuffer(CONTENT[:90_000]).window())
    with pytest.raises(LimitExceeded) as caught:
        body.append(ConstBuffer(CONTENT[:10_001]).window())
    assert (caught.value.limit, caught.value.bound) == (limit, bound)
    assert body.size == 90_000
    body.append(ConstBuffer(CONTENT[:10_000]).window())
    body.close()
    check_empty(port, store)


def test_quota_of_one_client_leaves_another_alone(port: CompletionPort, directory: Path) -> None:
    store = make_store(port, directory, spool_client_bytes_max=1000)
    first, second = store.create_body(Owner(), "a"), store.create_body(Owner(), "b")
    first.append(ConstBuffer(bytes(1000)).window())
    second.append(ConstBuffer(bytes(1000)).window())
    with pytest.raises(LimitExceeded):
        first.append(ConstBuffer(b"x").window())
    store.close()
    check_empty(port, store)


def test_full_disk_refuses_before_a_file_is_made(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory, spool_free_bytes_min=1 << 60), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    assert isinstance(owner.error, LimitExceeded)
    assert owner.error.limit == "spool_free_bytes_min"
    body.close()
    check_empty(port, store)


def test_what_all_objects_keep_in_memory_is_bounded(port: CompletionPort, directory: Path) -> None:
    store = make_store(port, directory, spool_memory_all_bytes_max=300_000)
    owners = [Owner(), Owner()]
    bodies = [store.create_body(owner, "client") for owner in owners]
    for owner, body in zip(owners, bodies, strict=True):
        fill(port, body, owner, [CONTENT[:200_000]], directory)
    assert [body.is_in_memory for body in bodies] == [True, False]
    assert deliver(port, store, bodies[1]) == CONTENT[:200_000]
    store.close()
    check_empty(port, store)


def test_append_after_finish_is_refused(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [b"x"], directory)
    with pytest.raises(BadContext):
        body.append(ConstBuffer(b"y").window())
    body.close()
    with pytest.raises(BadContext):
        body.memory_window()
    check_empty(port, store)


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, 700_000])
def test_filter_reads_the_object_from_memory_and_from_the_file(
    port: CompletionPort, directory: Path, size: int
) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    data = CONTENT[:size]
    fill(port, body, owner, [data], directory)

    async def read() -> None:
        file = SpooledFile(store, body)
        assert await file.read(100) == data[:100]
        assert await file.read() == data[100:]
        assert await file.read() == b""
        assert await file.read_at(size - 5, 100) == data[-5:]
        assert await file.read_at(size + 5, 100) == b""
        with file.blocking_file() as first, file.blocking_file() as second:
            first.seek(50)
            assert first.read(10) == data[50:60]
            assert second.read() == data
        file.close()
        with pytest.raises(BadContext):
            await file.read_at(0, 1)

    drive(port, read())
    body.close()
    check_empty(port, store)


def test_file_object_of_an_ended_transfer_is_not_opened(
    port: CompletionPort, directory: Path
) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    file = SpooledFile(store, body)
    body.close()
    with pytest.raises(BadContext):
        file.blocking_file()
    check_empty(port, store)


def drive(port: CompletionPort, work: object) -> None:
    async def both() -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        while not task.done():
            port.turn(0)
            await asyncio.sleep(0)
        task.result()

    asyncio.run(both())


def test_replacement_is_delivered_in_pieces(port: CompletionPort, directory: Path) -> None:
    store = make_store(port, directory)
    assert deliver(port, store, CONTENT) == CONTENT


def test_failed_send_ends_the_delivery_once(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    collector = Collector(port)
    collector.fail_after = 1
    ends: list[object] = []
    delivery = Delivery(store, body, collector, ends.append)  # type: ignore[arg-type]
    delivery.start()
    run(port, lambda: bool(ends))
    assert isinstance(ends[0], TransportError)
    assert delivery.bytes_delivered == READ_BUFFER_SIZE
    body.close()
    check_empty(port, store)
    assert len(ends) == 1


def test_verified_object_arrives_whole(port: CompletionPort, directory: Path) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    collector = Collector(port)
    ends: list[object] = []
    Delivery(store, body, collector, ends.append, is_verified=True).start()  # type: ignore[arg-type]
    run(port, lambda: bool(ends))
    assert ends == [None]
    assert bytes(collector.received) == CONTENT
    body.close()
    check_empty(port, store)


def test_object_that_changed_after_it_was_judged_never_arrives_whole(
    port: CompletionPort, directory: Path
) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    body.sha256 = "0" * 64  # what was judged was something else
    collector = Collector(port)
    ends: list[object] = []
    Delivery(store, body, collector, ends.append, is_verified=True).start()  # type: ignore[arg-type]
    run(port, lambda: bool(ends))
    assert "verify that the object is still what was judged" in str(ends[0])
    assert CONTENT.startswith(bytes(collector.received))
    assert len(collector.received) < len(CONTENT)
    body.close()
    check_empty(port, store)


def test_pieces_are_small_while_receivers_hold_too_many_buffers(
    port: CompletionPort, directory: Path
) -> None:
    store, owner = make_store(port, directory), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    held = [store.shelf.take_for_reading() for _ in range(SPOOL_READ_BUFFERS_MAX)]
    collector = Collector(port)
    ends: list[object] = []
    Delivery(store, body, collector, ends.append).start()  # type: ignore[arg-type]
    run(port, lambda: bool(ends))
    assert bytes(collector.received) == CONTENT
    assert collector.sends == len(CONTENT) // (16 << 10)
    for buffer in held:
        buffer.give_back()
    body.close()
    check_empty(port, store)


def test_kept_slice_of_a_spool_buffer_never_shows_another_object(
    port: CompletionPort, directory: Path
) -> None:
    store = make_store(port, directory)
    buffer = store.shelf.take(262144)
    buffer.append(b"secret")
    lease = buffer.window().lease()
    with lease as view:
        kept = view[:]
    buffer.give_back()
    following = store.shelf.take(262144)
    following.append(b"others")
    assert bytes(kept) == b"secret"
    assert isinstance(following, Buffer)


# -- faults, in virtual time -------------------------------------------------------------------


def simulate(seed: int, faults: FaultPlan, directory: Path, closing_turn: int | None = None) -> str:
    """Hold, deliver and close one object; return how it ended. Everything must come back."""
    limits = dataclasses.replace(LIMITS, spool_memory_bytes_max=50_000)
    port = simulated_port(seed, faults, limits)
    store, owner = SpoolStore(port, directory, limits), Owner()
    random_sizes = random.Random(seed)
    sizes = [random_sizes.choice([1, 3000, 70_000, 262_144]) for _ in range(8)]
    data = CONTENT[: sum(sizes)]
    descriptors = len(os.listdir("/proc/self/fd"))
    body = store.create_body(owner, "client")
    buffers: list[ConstBuffer] = []
    pieces = pieces_of(data, sizes)
    collector = Collector(port)
    ends: list[object] = []
    delivery: Delivery | None = None
    turn = 0
    while not ends and owner.error is None and turn != closing_turn:
        turn += 1
        if owner.ready and pieces:
            buffers.append(ConstBuffer(pieces.pop(0)))
            owner.ready = body.append(buffers[-1].window())
            if not pieces:
                body.finish()
        if owner.finished and delivery is None:
            assert body.sha256 == hashlib.sha256(data).hexdigest()
            delivery = Delivery(store, body, collector, ends.append)  # type: ignore[arg-type]
            delivery.start()
        port.turn(0.001)
        assert os.listdir(directory) == []
    if delivery is not None:
        delivery.stop()
    body.close()
    check_empty(port, store)
    assert all(buffer.leases == 0 for buffer in buffers)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    port.close()
    if ends == [None]:
        assert bytes(collector.received) == data
        return "delivered"
    return type(owner.error or (ends or [None])[0]).__name__


@pytest.mark.parametrize("seed", range(20))
def test_short_and_late_file_operations_change_nothing(seed: int, directory: Path) -> None:
    faults = FaultPlan(short_write=0.5, short_read=0.5, delay=0.2, delay_s=(0.001, 0.01))
    assert simulate(seed, faults, directory) == "delivered"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fault", ["no_space", "io_error", "cancelled"])
def test_failing_file_operations_end_by_name(seed: int, fault: str, directory: Path) -> None:
    faults = FaultPlan(**{fault: 0.2})
    assert simulate(seed, faults, directory) in {"delivered", "TransportError"}


def test_disk_without_space_is_named(directory: Path) -> None:
    port = simulated_port(0, FaultPlan(no_space=1.0), LIMITS)
    store, owner = SpoolStore(port, directory, LIMITS), Owner()
    body = store.create_body(owner, "client")
    fill(port, body, owner, [CONTENT], directory)
    assert "ENOSPC" in str(owner.error)
    assert owner.told[-1] == "failed"
    body.close()
    check_empty(port, store)
    port.close()


@pytest.mark.parametrize("closing_turn", range(60))
def test_object_given_up_at_any_moment_gives_everything_back(
    closing_turn: int, directory: Path
) -> None:
    faults = FaultPlan(short_write=0.2, short_read=0.2)
    ended = simulate(closing_turn, faults, directory, closing_turn)
    assert ended in {"NoneType", "delivered"}
