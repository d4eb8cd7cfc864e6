"""What waits for a start is bounded, and want of descriptors pauses without spinning."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

import pytest

from sluicegate.address import SocketAddress
from sluicegate.limits import ACCEPT_AHEAD_MAX, RECEIVE_AHEAD_MAX, Limits
from sluicegate.port.backend import MORE
from sluicegate.testing import SimulatedBackend
from sluicegate.testing.conformance import BackendFactory, PortFactory
from sluicegate.testing.conformance.bench import BackendBench, Recorder
from sluicegate.testing.conformance.port_bench import AcceptLog, PortBench, SocketLog

BATCH = 64


def test_accepted_sockets_that_wait_for_a_start_are_bounded(make_port: PortFactory) -> None:
    with PortBench(make_port) as bench:
        listener, address = bench.listen()
        log = AcceptLog()
        listener.start_accept(log)
        for _ in range(ACCEPT_AHEAD_MAX + 40):
            bench.connect(address)
        bench.until_results(log, 1)
        accepted = log.results[0][2].socket
        assert accepted is not None
        bench.keep(accepted)
        bench.settle()

        assert len(listener._ahead) <= ACCEPT_AHEAD_MAX + BATCH


def test_received_buffers_that_wait_for_a_start_are_bounded(make_port: PortFactory) -> None:
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        log = SocketLog()
        server.start_receive(None, log)
        for number in range(RECEIVE_AHEAD_MAX * 4):
            sent = SocketLog()
            client.start_send(bytes([number]), sent)
            bench.until_results(sent, 1)
            bench.settle()

        assert len(server._ahead) <= RECEIVE_AHEAD_MAX + 1
        received = log.results[0][2]
        received += bench.receive_exactly(server, RECEIVE_AHEAD_MAX * 4 - len(received))
        assert received == bytes(range(RECEIVE_AHEAD_MAX * 4))


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_want_of_descriptors_ends_an_accept_and_loses_nobody(make_backend: BackendFactory) -> None:
    with BackendBench(make_backend) as bench:
        listener, address = bench.listen()
        _, connected = bench.connect(address)
        accepted = Recorder()
        if isinstance(bench.backend, SimulatedBackend):
            network = bench.backend.network
            network.descriptors_max = len(network.open_sockets)
            bench.backend.accept(accepted.operation, listener)
            assert bench.finish(accepted) == -errno.EMFILE
            network.descriptors_max = 1000
        else:
            assert bench.finish(connected) == 0
            with no_descriptors_left():
                bench.backend.accept(accepted.operation, listener)
                assert bench.finish(accepted) == -errno.EMFILE
        turns = bench.backend.turns
        bench.backend.turn(0.01)
        assert bench.backend.turns == turns + 1
        assert accepted.final_count == 1

        bench.backend.accept(accepted.operation, listener)
        bench.until_completions(accepted, 2, "the client that waited is accepted")
        descriptor, flags = accepted.results[-1]
        assert flags & MORE
        bench.keep(bench.backend.adopt(descriptor, address.family))


def test_no_descriptor_for_a_socket_is_an_os_error(make_backend: BackendFactory) -> None:
    with BackendBench(make_backend) as bench:
        if isinstance(bench.backend, SimulatedBackend):
            bench.backend.network.descriptors_max = 0
            with pytest.raises(OSError, match="too many"):
                bench.backend.create_socket(SocketAddress("127.0.0.1", 0).family)
        else:
            with no_descriptors_left(), pytest.raises(OSError, match="Too many"):
                bench.backend.create_socket(SocketAddress("127.0.0.1", 0).family)


def test_slots_of_a_pool_are_bounded_by_the_limits(make_backend: BackendFactory) -> None:
    limits = Limits(interactive_buffers_max=16, bulk_buffers_max=2)
    with BackendBench(make_backend, limits) as bench:
        assert len(bench.backend.pool.slots) == 18
        assert bench.backend.pool.small_count == 16
