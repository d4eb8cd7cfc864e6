"""What the driver adds to the kernel's operations: non-blocking sockets, rests, ends, wakes."""

from __future__ import annotations

import array
import errno
import os
import signal
import socket
import threading

import pytest

from sluicegate.buffer import Buffer
from sluicegate.limits import Limits
from sluicegate.port.backend import POLL_IN, Operation
from sluicegate.port.backends.sockets import SplicePipe
from sluicegate.port.backends.uring import UringBackend

from .uring_bench import Log, Reader, driver, pair, settle, until


def filled(size: int) -> Buffer:
    buffer = Buffer(size)
    buffer.view[:] = os.urandom(size)
    buffer.used = size
    return buffer


def receive_all(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += peer.recv(size - len(data))
    return data


def test_accepted_sockets_inherit_nodelay_from_the_listener():
    with driver() as backend:
        listener = backend.create_socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        log = Log()
        backend.accept(log.operation, listener)
        with socket.create_connection(listener.getsockname()):
            until(backend, lambda: log.results)
            accepted = backend.adopt(log.results[0][0], socket.AF_INET)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not os.get_inheritable(accepted.fileno())
            accepted.close()
        listener.close()


def test_accept_on_a_nonblocking_listener_waits():
    with driver() as backend:
        listener = backend.create_socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        backend.prepare_splice(listener)
        log = Log()
        backend.accept(log.operation, listener)
        settle(backend)
        assert not log.results
        with (
            socket.create_connection(listener.getsockname()),
            socket.create_connection(listener.getsockname()),
        ):
            until(backend, lambda: len(log.results) == 2)
        assert not log.is_over
        for descriptor, _ in log.results:
            os.close(descriptor)
        listener.close()


def test_receive_on_a_nonblocking_socket_waits_for_data():
    with driver() as backend, pair(backend) as (raw, peer):
        backend.prepare_splice(raw)
        reader = Reader(backend, raw)
        settle(backend)
        for number in range(5):
            peer.sendall(bytes([number]) * 5000)
            until(backend, lambda number=number: len(reader.data) == (number + 1) * 5000)
        peer.close()
        until(backend, lambda: reader.last == 0)
        assert reader.data == b"".join(bytes([number]) * 5000 for number in range(5))


def test_receive_goes_on_when_the_socket_becomes_nonblocking_under_it():
    with driver() as backend, pair(backend) as (raw, peer):
        reader = Reader(backend, raw)
        settle(backend)
        backend.prepare_splice(raw)
        peer.sendall(b"abc")
        until(backend, lambda: reader.data == b"abc")
        peer.sendall(b"def")
        until(backend, lambda: len(reader.data) >= 6)
        assert reader.data == b"abcdef"


def test_send_on_a_nonblocking_socket_sends_all():
    with driver() as backend, pair(backend) as (raw, peer):
        backend.prepare_splice(raw)
        buffer = filled(8 << 20)
        log = Log()
        backend.send(log.operation, raw, buffer, 0, buffer.used)
        received: list[bytes] = []
        thread = threading.Thread(target=lambda: received.append(receive_all(peer, buffer.used)))
        thread.start()
        until(backend, lambda: log.is_over)
        thread.join()
        assert log.results[0][0] == buffer.used
        assert received[0] == bytes(buffer.view)


@pytest.mark.parametrize("is_nonblocking", [False, True])
def test_a_send_that_was_cut_by_a_cancellation_does_not_claim_success(is_nonblocking):
    with driver() as backend, pair(backend) as (raw, _peer):
        if is_nonblocking:
            backend.prepare_splice(raw)
        buffer = filled(16 << 20)
        log = Log()
        backend.send(log.operation, raw, buffer, 0, buffer.used)
        settle(backend)
        assert not log.results
        backend.cancel(log.operation)
        until(backend, lambda: log.is_over)
        assert log.results[0][0] == -errno.ECANCELED


def test_a_cancelled_wait_for_readiness_is_a_cancelled_receive():
    with driver() as backend, pair(backend) as (raw, peer):
        backend.prepare_splice(raw)
        log = Log()
        backend.receive(log.operation, raw)
        settle(backend)
        peer.sendall(b"x")
        backend.cancel(log.operation)
        until(backend, lambda: log.is_over)
        assert log.results[-1][0] == -errno.ECANCELED


def test_a_pipe_with_bytes_left_is_not_used_again():
    with driver(Limits(splice_pipes_max=1)) as backend, pair(backend) as (raw, peer):
        backend.prepare_splice(raw)
        pipe = backend.open_pipe()
        assert isinstance(pipe, SplicePipe)
        peer.sendall(b"secret")
        poll = Log()
        backend.poll(poll.operation, raw.fileno(), POLL_IN)
        until(backend, lambda: poll.is_over)
        assert pipe.fill(raw, 100) == 6
        assert backend.open_pipe() is None
        pipe.held = 0  # a count gone wrong must not matter
        backend.close_pipe(pipe)
        other = backend.open_pipe()
        assert isinstance(other, SplicePipe)
        assert other is not pipe
        assert other.is_empty()
        backend.close_pipe(other)
        assert backend.open_pipe() is other
        other.close()


def test_wake_from_another_thread_ends_a_turn_without_timeout():
    with driver() as backend:
        for _ in range(3):
            thread = threading.Thread(target=backend.wake)
            thread.start()
            backend.turn(None)
            thread.join(10)
            assert not thread.is_alive()
            settle(backend)


def test_wake_after_close_is_harmless():
    backend = UringBackend(Limits())
    backend.turn(0)
    before = set(os.listdir("/proc/self/fd"))
    backend.close()
    # Whoever gets the number next must not find a wake-up in it.
    others = [os.pipe() for _ in range(8)]
    backend.wake()
    for reading, writing in others:
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 8)
        os.close(reading)
        os.close(writing)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_signal_ends_a_turn_without_timeout():
    with driver() as backend:
        backend.turn(0)
        seen: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
        try:
            timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            timer.start()
            while not seen:
                backend.turn(None)
        finally:
            signal.signal(signal.SIGUSR1, before)
            timer.join()
        assert seen == [signal.SIGUSR1]


def test_close_joins_what_is_in_flight_and_what_its_completions_start():
    backend = UringBackend(Limits())
    with pair(backend) as (raw, _peer):
        results: list[int] = []

        def on_end(result: int, _flags: int) -> None:
            results.append(result)
            if len(results) < 3:
                backend.receive(operation, raw)

        operation = Operation(on_end)
        backend.receive(operation, raw)
        backend.close()
        assert results == [-errno.ECANCELED] * 3
        assert not operation.in_flight


def test_close_survives_an_interrupt_between_kernel_and_completion():
    backend = UringBackend(Limits())
    with pair(backend) as (raw, peer):
        log = Log()
        buffer = Buffer(10)
        backend.receive_into(log.operation, raw, buffer, 0, 10)
        settle(backend)
        peer.sendall(b"x")
        run = backend._run
        backend._run = lambda _batch: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            backend.turn(1)
        backend._run = run
        backend.close()
        assert log.results == [(-errno.ECANCELED, 0)]


def test_the_rest_of_a_batch_runs_though_on_unhandled_raises():
    with driver() as backend:
        done: list[int] = []

        def first(_result: int, _flags: int) -> None:
            raise KeyboardInterrupt

        def on_unhandled(_operation: object, error: BaseException) -> None:
            raise error

        backend.on_unhandled = on_unhandled
        read_fd, write_fd = os.pipe()
        os.write(write_fd, array.array("i", [0]).tobytes())
        operations = [Operation(first), Operation(lambda result, _: done.append(result))]
        for operation in operations:
            backend.poll(operation, read_fd, POLL_IN)
        with pytest.raises(KeyboardInterrupt):
            until(backend, lambda: False)
        until(backend, lambda: done)
        os.close(read_fd)
        os.close(write_fd)


def test_more_starts_than_the_queue_holds_are_all_done():
    with driver() as backend:
        read_fd, write_fd = os.pipe()
        os.write(write_fd, b"x")
        logs = [Log() for _ in range(1000)]
        for log in logs:
            backend.poll(log.operation, read_fd, POLL_IN)
        until(backend, lambda: all(log.is_over for log in logs))
        assert sum(log.is_over for log in logs) == 1000
        for log in logs:
            backend.forget(log.operation)
        os.close(read_fd)
        os.close(write_fd)


def test_a_forgotten_token_is_used_again():
    with driver() as backend:
        read_fd, write_fd = os.pipe()
        os.write(write_fd, b"x")
        tokens = set()
        for _ in range(50):
            log = Log()
            backend.poll(log.operation, read_fd, POLL_IN)
            until(backend, lambda log=log: log.is_over)
            tokens.add(log.operation.token)
            backend.forget(log.operation)
            assert log.operation.token == -1
        assert len(tokens) == 1
        os.close(read_fd)
        os.close(write_fd)


def test_closing_out_of_a_completion_is_refused():
    with driver() as backend:
        refused: list[BaseException] = []
        backend.on_unhandled = lambda _operation, error: refused.append(error)
        read_fd, write_fd = os.pipe()
        os.write(write_fd, b"x")
        operation = Operation(lambda *_: backend.close())
        backend.poll(operation, read_fd, POLL_IN)
        until(backend, lambda: refused)
        assert isinstance(refused[0], RuntimeError)
        os.close(read_fd)
        os.close(write_fd)


def test_a_range_beyond_the_kernels_field_is_no_error_of_ours():
    with driver() as backend, open("/dev/zero", "rb", buffering=0) as zero:
        log = Log()
        buffer = Buffer(1 << 16)
        backend.write_back(log.operation, zero.fileno(), 0, 1 << 40)
        until(backend, lambda: log.is_over)
        assert log.results[0][0] == -errno.ESPIPE
        assert not log.operation.in_flight
        again = Log()
        backend.read(again.operation, zero.fileno(), buffer, 0, 1 << 16, 0)
        until(backend, lambda: again.is_over)
        assert again.results[0][0] == 1 << 16
