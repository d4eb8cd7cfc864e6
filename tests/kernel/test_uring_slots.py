"""Provided buffers: how many circulate, who waits for one, and that nobody waits for ever."""

from __future__ import annotations

import contextlib
import errno

from sluicegate.limits import Limits
from sluicegate.port.backend import SLOT_SHIFT, Operation
from sluicegate.port.backends import uring_slots, uring_turns

from .uring_bench import Log, Reader, driver, pair, settle, until


def test_few_slots_circulate_until_they_do_not_suffice():
    with driver(Limits(interactive_buffers_max=256)) as backend, pair(backend) as (raw, peer):
        reader = Reader(backend, raw, holds=True)
        assert len(backend._slots.small.reserve) == 192
        while len(reader.held) < 100:
            peer.sendall(b"x")
            held = len(reader.held)
            until(backend, lambda held=held: len(reader.held) > held)
        assert len(backend._slots.small.reserve) == 128
        assert backend.starved == 0
        reader.let_go()


def test_slots_that_are_not_needed_any_more_rest(monkeypatch):
    monkeypatch.setattr(uring_slots, "_CALM_ROUNDS", 2)
    with driver(Limits(interactive_buffers_max=256)) as backend, pair(backend) as (raw, peer):
        reader = Reader(backend, raw, holds=True)
        while len(reader.held) < 100:
            peer.sendall(b"x")
            held = len(reader.held)
            until(backend, lambda held=held: len(reader.held) > held)
        reader.let_go()
        group = backend._slots.small
        while len(group.reserve) < 192:
            chunks = reader.chunks
            peer.sendall(b"y")
            until(backend, lambda chunks=chunks: reader.chunks > chunks)
            assert reader.chunks < 3000
        assert reader.data.endswith(b"yy")
        assert backend.starved == 0


def test_each_starved_stream_has_its_turn_though_all_are_full():
    limits = Limits(interactive_buffers_max=2)
    with driver(limits) as backend, contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(pair(backend)) for _ in range(6)]
        hog_raw, hog_peer = stack.enter_context(pair(backend))
        hog = Reader(backend, hog_raw, holds=True)
        hog_peer.sendall(b"h" * 8192)
        until(backend, lambda: len(hog.held) == 2)
        readers = [Reader(backend, raw) for raw, _ in pairs]
        for _, peer in pairs:
            peer.sendall(b"x" * 65536)
        settle(backend)
        hog.let_go()
        chunks_at_end: list[list[int]] = []
        until(
            backend,
            lambda: (
                any(len(reader.data) == 65536 for reader in readers)
                and chunks_at_end.append([reader.chunks for reader in readers]) is None
            ),
        )
        assert min(chunks_at_end[0]) >= max(chunks_at_end[0]) // 2
        until(backend, lambda: all(len(reader.data) == 65536 for reader in readers))


def test_an_idle_parked_receive_does_not_keep_a_slot_from_a_busy_one():
    limits = Limits(interactive_buffers_max=1)
    with driver(limits) as backend, contextlib.ExitStack() as stack:
        hog_raw, hog_peer = stack.enter_context(pair(backend))
        hog = Reader(backend, hog_raw, holds=True)
        hog_peer.sendall(b"h")
        until(backend, lambda: hog.held)
        idle = [stack.enter_context(pair(backend)) for _ in range(20)]
        idle_readers = [Reader(backend, raw) for raw, _ in idle]
        busy_raw, busy_peer = stack.enter_context(pair(backend))
        busy = Reader(backend, busy_raw)
        busy_peer.sendall(b"b")
        settle(backend)
        assert backend.starved > 0
        hog.let_go()
        until(backend, lambda: busy.data == b"b")
        for reader, (_, peer) in zip(idle_readers, idle, strict=True):
            peer.sendall(b"i")
            until(backend, lambda reader=reader: reader.data == b"i")


def test_a_starved_bulk_receive_goes_on():
    limits = Limits(bulk_buffers_max=1)
    with driver(limits) as backend, pair(backend) as (one, peer_one), pair(backend) as (two, peer):
        first, second = Log(), Log()
        backend.receive_bulk(first.operation, one)
        peer_one.sendall(b"1")
        until(backend, lambda: first.is_over)
        backend.receive_bulk(second.operation, two)
        peer.sendall(b"2")
        settle(backend)
        assert not second.results
        assert backend.starved == 1
        backend.pool.recycle(backend.pool.slots[first.results[0][1] >> 16])
        until(backend, lambda: second.is_over)
        assert second.results[0][0] == 1


def test_a_bulk_receive_that_starts_while_others_wait_stands_behind_them():
    limits = Limits(bulk_buffers_max=1)
    with driver(limits) as backend, pair(backend) as (one, peer_one), pair(backend) as (two, peer):
        order: list[int] = []
        slots = backend.pool.slots

        def take(number: int, flags: int) -> None:
            order.append(number)
            backend.pool.recycle(slots[flags >> 16])
            if len(order) < 6:
                backend.receive_bulk(operations[number], (one, two)[number])

        operations = [
            Operation(lambda result, flags: take(0, flags) if result > 0 else None),
            Operation(lambda result, flags: take(1, flags) if result > 0 else None),
        ]
        for sender in (peer_one, peer):
            sender.sendall(b"x" * (2 << 20))
        for operation, raw in zip(operations, (one, two), strict=True):
            backend.receive_bulk(operation, raw)
        until(backend, lambda: len(order) >= 6)
        assert order[:6] in ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0])


def test_overflow_of_the_completion_queue_loses_nothing(monkeypatch):
    monkeypatch.setattr(uring_turns, "RING_ENTRIES", 8)
    monkeypatch.setattr(uring_turns, "RING_COMPLETIONS", 16)
    with driver() as backend, contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(pair(backend)) for _ in range(40)]
        readers = [Reader(backend, raw) for raw, _ in pairs]
        settle(backend)
        for number, (_, peer) in enumerate(pairs):
            peer.sendall(bytes([number]) * 100)
        for _ in range(3):
            until(backend, lambda: all(len(reader.data) >= 100 for reader in readers))
        for number, reader in enumerate(readers):
            assert reader.data == bytes([number]) * 100
        for _, peer in pairs:
            peer.close()
        until(backend, lambda: all(reader.last == 0 for reader in readers))


def test_an_accept_that_overflow_ended_goes_on(monkeypatch):
    monkeypatch.setattr(uring_turns, "RING_ENTRIES", 4)
    monkeypatch.setattr(uring_turns, "RING_COMPLETIONS", 4)
    import socket

    with driver() as backend, contextlib.ExitStack() as stack:
        listener = backend.create_socket(socket.AF_INET)
        stack.callback(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        log = Log()
        backend.accept(log.operation, listener)
        backend.turn(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            for _ in range(20):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            settle(backend)
        until(backend, lambda: len(log.results) == 60)
        assert not log.is_over
        for descriptor, _ in log.results:
            backend.adopt(descriptor, socket.AF_INET).close()
        backend.cancel(log.operation)
        until(backend, lambda: log.is_over)
        assert log.results[-1][0] == -errno.ECANCELED


def test_memory_that_somebody_kept_is_named_by_no_entry_any_more():
    # 64 slots circulate in a ring of 128: each is named by two entries in turn.
    with (
        driver(Limits(interactive_buffers_max=128)) as backend,
        pair(backend) as (raw, peer),
    ):
        reader = Reader(backend, raw)
        kept: list[memoryview] = []

        def keep(result: int, flags: int) -> None:
            slot = backend.pool.slots[flags >> SLOT_SHIFT]
            slot.used = result
            with slot.window().lease() as view:
                kept.append(view[:])

        for number in range(500):
            if number in {150, 290}:
                backend.redirect(reader.operation, keep)
            else:
                backend.redirect(reader.operation, reader.on_data)
            taken = reader.chunks + len(kept)
            peer.sendall(b"%03d" % number)
            until(backend, lambda taken=taken: reader.chunks + len(kept) > taken)
        assert [bytes(view) for view in kept] == [b"150", b"290"]
        assert backend.pool.replaced == 2
        expected = b"".join(b"%03d" % number for number in range(500) if number not in {150, 290})
        assert reader.data == expected
