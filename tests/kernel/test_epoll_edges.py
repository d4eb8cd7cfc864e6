"""Where edges could be lost: reused numbers, urgent data, bytes that come with their end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from sluicegate.port.backend import POLL_IN, POLL_OUT
from sluicegate.port.backends.epoll import EpollBackend
from sluicegate.port.pool import SMALL_SLOT_SIZE
from sluicegate.testing.conformance.bench import BackendBench, Receiver, Recorder, pattern


@pytest.fixture
def bench() -> Iterator[BackendBench]:
    with BackendBench(EpollBackend) as made:
        yield made


def test_a_number_that_changed_hands_in_the_same_turn_is_no_old_event(bench: BackendBench) -> None:
    client, server = bench.pair()
    other_client, other_server = bench.pair()
    sockets = []

    def reuse(_result: int, _flags: int) -> None:
        # Both sockets have an event in this batch; the second's number goes to a new socket.
        number = other_server.fileno()
        other_server.close()
        sockets.append(bench.socket())
        assert sockets[0].fileno() == number
        bench.backend.connect(connecting.operation, sockets[0], bench.listen()[1])

    connecting, polled = Recorder(), Recorder()
    polled.then = reuse
    bench.backend.poll(polled.operation, server.fileno(), POLL_IN)
    bench.settle()
    client.send(b"x")
    other_client.send(b"x")

    assert bench.finish(connecting) == 0


def test_a_polled_number_that_was_closed_serves_as_a_socket(bench: BackendBench) -> None:
    reader, writer = os.pipe()
    polled = Recorder()
    bench.backend.poll(polled.operation, reader, POLL_IN)
    os.write(writer, b"x")
    bench.finish(polled)
    os.close(reader)
    os.close(writer)
    pairs = [bench.pair() for _ in range(2)]

    for client, server in pairs:
        receiver = bench.receiver(server)
        bench.send(client, b"there")
        bench.until_data(receiver, b"there", "bytes arrive")
        assert receiver.data == b"there"


def test_a_socket_number_that_was_closed_can_be_polled(bench: BackendBench) -> None:
    client, server = bench.pair()
    receiver = bench.receiver(server)
    bench.send(client, b"x")
    bench.until_data(receiver, b"x", "bytes arrive")
    receiver.stop()
    bench.finish(receiver)
    number = server.fileno()
    server.close()
    reader, writer = os.pipe()
    if reader != number:
        os.dup2(reader, number)
    polled = Recorder()

    bench.backend.poll(polled.operation, number, POLL_IN)
    os.write(writer, b"x")

    assert bench.finish(polled) & POLL_IN
    for descriptor in {reader, writer, number}:
        os.close(descriptor)


def test_a_regular_file_is_always_ready(bench: BackendBench, tmp_path: os.PathLike[str]) -> None:
    descriptor = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    polled = Recorder()

    bench.backend.poll(polled.operation, descriptor, POLL_IN | POLL_OUT)

    assert not polled.results
    assert bench.finish(polled) == POLL_IN | POLL_OUT
    os.close(descriptor)


def test_bytes_behind_an_urgent_one_are_not_left_behind(bench: BackendBench) -> None:
    client, server = bench.pair()
    receiver = bench.receiver(server)
    client.send(b"before")
    client.send(b"!", socket.MSG_OOB)
    client.send(b"behind")

    bench.until_data(receiver, b"before!behind", "urgent bytes stay in the stream")
    assert receiver.data == b"before!behind"


@pytest.mark.parametrize("size", [1, SMALL_SLOT_SIZE - 1, SMALL_SLOT_SIZE, SMALL_SLOT_SIZE + 1])
def test_bytes_and_their_end_in_one_event_both_arrive(bench: BackendBench, size: int) -> None:
    client, server = bench.pair()
    client.send(pattern(size))
    client.shutdown(socket.SHUT_WR)
    bench.settle()

    receiver = Receiver(bench, server).start()
    bench.until(lambda: receiver.ends, "the end of the stream is told")

    assert receiver.data == pattern(size)


def test_a_receive_started_long_after_the_bytes_came_finds_them(bench: BackendBench) -> None:
    client, server = bench.pair()
    receiver = bench.receiver(server)
    bench.send(client, b"first")
    bench.until_data(receiver, b"first", "bytes arrive")
    receiver.stop()
    bench.finish(receiver)
    bench.send(client, b"second")
    bench.settle()

    receiver.start()

    bench.until_data(receiver, b"firstsecond", "the edge was remembered")
    assert receiver.data == b"firstsecond"


def test_nothing_registered_costs_nothing_while_idle(bench: BackendBench) -> None:
    client, server = bench.pair()
    bench.receiver(server)
    bench.receiver(client)
    bench.settle()
    completed = bench.backend.completed

    bench.backend.turn(0.05)

    assert bench.backend.completed == completed
