"""Checks of what every operation of a driver promises, and of its file operations.

Each function takes a factory of drivers and raises ``NonConforming`` with the broken sentence. The
invariant: a check depends on nothing but the contract, so it passes on every conforming driver.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from sluicegate.port.backend import POLL_IN, POLL_OUT, Operation

from .bench import BackendBench, BackendFactory, Recorder, demand, pattern

__all__ = ["OPERATION_CHECKS"]

_MANY: Final = 600
"""More operations than any queue of a driver has entries."""


@contextmanager
def _temporary_file(contents: bytes = b"") -> Generator[int, None, None]:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(contents)
        yield file.fileno()


# -- every operation -------------------------------------------------------------------------------


def check_start_never_completes_inside(make_backend: BackendFactory) -> None:
    """No start completes inside its call, however ready everything is."""
    with BackendBench(make_backend) as bench, _temporary_file(b"contents") as fd:
        client, server = bench.pair()
        listener, address = bench.listen()
        bench.connect(address)
        bench.send(client, b"waiting")
        polled_client, polled = bench.pair()
        bench.send(polled_client, b"waiting too")
        bench.settle()
        backend = bench.backend
        buffer = bench.buffer(64)
        starts: list[Callable[[Operation], None]] = [
            lambda op: backend.read(op, fd, buffer, 0, 8, 0),
            lambda op: backend.write(op, fd, buffer, 0, 8, 0),
            lambda op: backend.sync(op, fd, data_only=True),
            lambda op: backend.write_back(op, fd, 0, 0),
            lambda op: backend.read(op, -1, buffer, 0, 8, 0),
            lambda op: backend.accept(op, listener),
            lambda op: backend.connect(op, bench.socket(), address),
            lambda op: backend.poll(op, polled.fileno(), POLL_IN),
            lambda op: backend.receive(op, server),
            lambda op: backend.send(op, server, buffer, 0, 8),
            lambda op: backend.receive_into(op, client, buffer, 8, 8),
        ]
        recorders: list[Recorder] = []
        for start in starts:
            recorder = Recorder()
            start(recorder.operation)
            demand(recorder.operation.in_flight, "a started operation is in flight")
            recorders.append(recorder)
        demand(not any(r.results for r in recorders), "nothing completes inside a start")
        bench.until(lambda: all(r.results for r in recorders), "everything completes in a turn")


def check_one_final_completion_each(make_backend: BackendFactory) -> None:
    """An operation ends once, is not in flight then, and can be started from its completion."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        buffer = bench.buffer(3)
        recorder = Recorder()
        in_flight: list[bool] = []

        def again(_result: int, _flags: int) -> None:
            in_flight.append(recorder.operation.in_flight)
            if len(in_flight) < 5:
                bench.backend.read(recorder.operation, fd, buffer, 0, 3, 0)

        recorder.then = again
        bench.backend.read(recorder.operation, fd, buffer, 0, 3, 0)
        bench.until(lambda: len(in_flight) == 5, "an operation restarts in its completion")
        bench.settle()
        demand(not any(in_flight), "an operation that completed is not in flight")
        demand(len(recorder.results) == 5, "one completion for each start")


def check_cancelled_operations_end_once(make_backend: BackendFactory) -> None:
    """A cancelled operation completes exactly once, with ECANCELED or a real result."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        client, server = bench.pair()
        listener, _ = bench.listen()
        backend = bench.backend
        buffer = bench.buffer(64)
        starts: list[Callable[[Operation], None]] = [
            lambda op: backend.read(op, fd, buffer, 0, 3, 0),
            lambda op: backend.sync(op, fd, data_only=False),
            lambda op: backend.accept(op, listener),
            lambda op: backend.poll(op, server.fileno(), POLL_IN),
            lambda op: backend.receive(op, server),
            lambda op: backend.receive_into(op, client, buffer, 0, 8),
        ]
        for settle_before in (True, False):
            recorders = [Recorder() for _ in starts]
            for start, recorder in zip(starts, recorders, strict=True):
                start(recorder.operation)
            if settle_before:
                bench.settle()
            for recorder in recorders:
                backend.cancel(recorder.operation)
                backend.cancel(recorder.operation)
            for recorder in recorders:
                bench.finish(recorder, "a cancelled operation ends")
            bench.settle()
            for recorder in recorders:
                demand(recorder.final_count == 1, "a cancelled operation ends once")
                demand(len(recorder.results) == 1, "nothing comes of an idle operation but its end")
            for recorder in recorders[2:]:
                demand(recorder.final == -errno.ECANCELED, "a cancelled wait ends with ECANCELED")


def check_cancel_of_an_idle_operation_is_harmless(make_backend: BackendFactory) -> None:
    """Cancelling what is not in flight does nothing, also to a later start."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        recorder = Recorder()
        bench.backend.cancel(recorder.operation)
        bench.backend.sync(recorder.operation, fd, data_only=True)
        bench.finish(recorder)
        bench.backend.cancel(recorder.operation)
        bench.settle()
        demand(recorder.final_count == 1, "a cancel of an idle operation completes nothing")
        bench.backend.forget(recorder.operation)
        bench.backend.forget(Recorder().operation)


def check_forgotten_operation_knows_nobody(make_backend: BackendFactory) -> None:
    """Who owns an operation and is told by it is free without the collector, once forgotten."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        recorder = Recorder()
        bench.backend.sync(recorder.operation, fd, data_only=True)
        bench.finish(recorder)
        bench.backend.forget(recorder.operation)
        told = recorder.operation.complete
        demand(getattr(told, "__self__", None) is None, "a forgotten operation tells nobody")


def check_close_completes_everything(make_backend: BackendFactory) -> None:
    """Closing ends everything in flight, and what the last completions start."""
    with BackendBench(make_backend) as bench, _temporary_file(pattern(4096)) as fd:
        client, server = bench.pair()
        listener, _ = bench.listen()
        buffer = bench.buffer(4096)
        backend = bench.backend
        recorders = [Recorder() for _ in range(6)]
        backend.receive(recorders[0].operation, server)
        backend.accept(recorders[1].operation, listener)
        backend.poll(recorders[2].operation, client.fileno(), POLL_IN)
        bench.settle()
        backend.receive_into(recorders[3].operation, client, buffer, 0, 64)
        backend.read(recorders[4].operation, fd, buffer, 64, 64, 0)

        def start_another(_result: int, _flags: int) -> None:
            recorders[0].then = None
            backend.receive(recorders[5].operation, server)

        recorders[0].then = start_another
        backend.close()
        for recorder in recorders:
            demand(recorder.final_count == 1, "closing completes each operation once")
            demand(not recorder.operation.in_flight, "nothing is in flight after the close")
        for recorder in (*recorders[:4], recorders[5]):
            demand(recorder.final == -errno.ECANCELED, "closing ends what waits with ECANCELED")
        backend.close()
        backend.wake()


def check_exception_does_not_stop_the_batch(make_backend: BackendFactory) -> None:
    """An exception out of a completion goes to ``on_unhandled``; the others run."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        recorders = [Recorder() for _ in range(6)]

        def fail(_result: int, _flags: int) -> None:
            raise LookupError("a completion failed")

        for recorder in recorders[::2]:
            recorder.then = fail
        for recorder in recorders:
            bench.backend.sync(recorder.operation, fd, data_only=True)
        bench.until(lambda: all(r.results for r in recorders), "all complete despite failures")
        failed = [operation for operation, _ in bench.unhandled]
        demand(len(failed) == 3, "each failure is told once")
        demand(
            {id(op) for op in failed} == {id(r.operation) for r in recorders[::2]},
            "on_unhandled is told whose completion failed",
        )
        demand(
            all(isinstance(error, LookupError) for _, error in bench.unhandled),
            "on_unhandled is told the exception",
        )
        bench.unhandled.clear()


def check_redirect(make_backend: BackendFactory) -> None:
    """A redirected operation tells its new completion, in flight or not."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        first, second = Recorder(), Recorder()
        bench.backend.poll(first.operation, server.fileno(), POLL_IN)
        bench.settle()
        bench.backend.redirect(first.operation, second.operation.complete)
        bench.send(client, b"x")
        bench.until(lambda: second.results, "a redirected operation tells the new completion")
        demand(not first.results, "a redirected operation does not tell the old one")


def check_woken_is_told_before_completions(make_backend: BackendFactory) -> None:
    """Each turn calls ``on_woken`` once, before its first completion."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        told: list[str] = []
        recorder = Recorder()
        recorder.then = lambda _result, _flags: told.append("completion")
        bench.backend.on_woken = lambda: told.append("woken")
        bench.backend.sync(recorder.operation, fd, data_only=True)
        turns = bench.backend.turns
        bench.until(lambda: recorder.results, "a sync completes")
        demand(told.count("woken") == bench.backend.turns - turns, "on_woken once per turn")
        demand(told[-2:] == ["woken", "completion"], "on_woken comes before the completions")


def check_wake_ends_a_turn(make_backend: BackendFactory) -> None:
    """``wake`` from another thread ends a waiting turn, also one that begins later."""
    with BackendBench(make_backend) as bench:
        bench.settle()
        bench.backend.wake()
        bench.backend.turn(None)
        bench.settle()
        thread = threading.Timer(0.02, bench.backend.wake)
        thread.start()
        bench.backend.turn(None)
        thread.join()


def check_a_turn_without_work_ends(make_backend: BackendFactory) -> None:
    """A turn ends with its time-out, and one with 0 does not wait."""
    with BackendBench(make_backend) as bench:
        bench.backend.turn(0)
        bench.backend.turn(0.001)
        demand(bench.backend.turns >= 2, "turns are counted")


def check_many_operations_at_once(make_backend: BackendFactory) -> None:
    """More operations than the queues have entries all complete."""
    with BackendBench(make_backend) as bench, _temporary_file(pattern(_MANY)) as fd:
        buffer = bench.buffer(_MANY)
        recorders = [Recorder() for _ in range(_MANY)]
        for index, recorder in enumerate(recorders):
            bench.backend.read(recorder.operation, fd, buffer, index, 1, index)
        bench.until(lambda: all(r.results for r in recorders), "many operations all complete")
        demand(all(r.results == [(1, 0)] for r in recorders), "each has its own result")
        demand(bytes(buffer.memory) == pattern(_MANY), "each has its own bytes")
        demand(bench.backend.submitted >= _MANY, "submissions are counted")
        demand(bench.backend.completed >= _MANY, "completions are counted")


# -- files -----------------------------------------------------------------------------------------


def check_read_back_what_was_written(make_backend: BackendFactory) -> None:
    """Writes and reads go to their offsets; the range of the buffer is kept to."""
    with BackendBench(make_backend) as bench, _temporary_file() as fd:
        data = pattern(100_000)
        source = bench.const(data)
        target = bench.buffer(100_010)
        recorder = Recorder()
        done = 0
        while done < len(data):
            recorder.results.clear()
            bench.backend.write(recorder.operation, fd, source, done, len(data) - done, done + 7)
            done += (count := bench.finish(recorder))
            demand(count > 0, f"a write has the result {count}")
        done = 0
        while done < len(data):
            recorder.results.clear()
            bench.backend.read(recorder.operation, fd, target, done + 5, len(data) - done, done + 7)
            done += (count := bench.finish(recorder))
            demand(count > 0, f"a read has the result {count}")
        demand(bytes(target.memory[5:-5]) == data, "what was written is read back")
        demand(bytes(target.memory[:5] + target.memory[-5:]) == bytes(10), "no byte beside")
        demand(os.fstat(fd).st_size == len(data) + 7, "nothing is written beside its offset")


def check_end_of_file_is_zero(make_backend: BackendFactory) -> None:
    """A read at or behind the end has the result 0."""
    with BackendBench(make_backend) as bench, _temporary_file(b"abc") as fd:
        for offset in (3, 1000):
            recorder = Recorder()
            bench.backend.read(recorder.operation, fd, bench.buffer(8), 0, 8, offset)
            demand(bench.finish(recorder) == 0, "the end of a file is the result 0")


def check_file_errors_are_errnos(make_backend: BackendFactory) -> None:
    """What a file operation cannot do is a negative errno, told by its completion."""
    with BackendBench(make_backend) as bench, tempfile.TemporaryDirectory() as folder:
        fd = os.open(folder, os.O_RDONLY)
        try:
            read, write, bad = Recorder(), Recorder(), Recorder()
            bench.backend.read(read.operation, fd, bench.buffer(8), 0, 8, 0)
            bench.backend.write(write.operation, fd, bench.const(b"x"), 0, 1, 0)
            bench.backend.sync(bad.operation, 1 << 20, data_only=True)
            demand(bench.finish(read) == -errno.EISDIR, "reading a folder is EISDIR")
            demand(bench.finish(write) == -errno.EBADF, "writing to a read-only one is EBADF")
            demand(bench.finish(bad) == -errno.EBADF, "an unknown descriptor is EBADF")
        finally:
            os.close(fd)


def check_sync_and_write_back(make_backend: BackendFactory) -> None:
    """``sync`` and ``write_back`` have the result 0."""
    with BackendBench(make_backend) as bench, _temporary_file(pattern(65536)) as fd:
        recorders = [Recorder() for _ in range(3)]
        bench.backend.sync(recorders[0].operation, fd, data_only=True)
        bench.backend.sync(recorders[1].operation, fd, data_only=False)
        bench.backend.write_back(recorders[2].operation, fd, 0, 65536)
        for recorder in recorders:
            demand(bench.finish(recorder) == 0, "a sync has the result 0")


def check_splice_from_file_to_pipe(make_backend: BackendFactory) -> None:
    """A splice moves bytes of a file into a pipe, and none at its end."""
    data = pattern(20_000)
    with BackendBench(make_backend) as bench, _temporary_file(data) as fd:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            recorder = Recorder()
            bench.backend.splice(recorder.operation, fd, 100, writer, -1, 8192)
            moved = bench.finish(recorder)
            demand(0 < moved <= 8192, f"a splice has the result {moved}")
            demand(os.read(reader, 8192) == data[100 : 100 + moved], "a splice moves the bytes")
            recorder = Recorder()
            bench.backend.splice(recorder.operation, fd, len(data), writer, -1, 8192)
            demand(bench.finish(recorder) == 0, "a splice at the end of a file is 0")
        finally:
            os.close(reader)
            os.close(writer)


# -- polling ---------------------------------------------------------------------------------------


def check_poll_is_one_shot_and_level(make_backend: BackendFactory) -> None:
    """A poll completes once; started again on what is still ready, it completes again."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        backend = bench.backend
        readable, writable = Recorder(), Recorder()
        backend.poll(readable.operation, server.fileno(), POLL_IN)
        backend.poll(writable.operation, server.fileno(), POLL_OUT)
        demand(bench.finish(writable) & POLL_OUT > 0, "an empty socket is writable")
        bench.settle()
        demand(not readable.results, "a poll waits for readiness")
        bench.send(client, b"x")
        for rounds in range(1, 4):
            demand(bench.finish(readable) & POLL_IN > 0, "a poll tells what is ready")
            bench.settle()
            demand(len(readable.results) == rounds, "a poll completes once")
            if rounds < 3:
                backend.poll(readable.operation, server.fileno(), POLL_IN)
                bench.until_completions(readable, rounds + 1, "what is still ready completes again")


def check_poll_tells_the_end(make_backend: BackendFactory) -> None:
    """A poll completes when the peer ended its stream."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        recorder = Recorder()
        bench.backend.poll(recorder.operation, server.fileno(), POLL_IN)
        bench.settle()
        client.shutdown(1)
        demand(bench.finish(recorder) > 0, "a poll completes at the end of the stream")


def check_poll_of_a_foreign_descriptor(make_backend: BackendFactory) -> None:
    """A poll works on any descriptor: a pipe, and a nested epoll set, again and again."""
    import select  # noqa: PLC0415 - only this check needs it

    with BackendBench(make_backend) as bench, select.epoll() as nested:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        recorder = Recorder()
        try:
            nested.register(reader, select.EPOLLIN)
            for rounds in range(1, 4):
                bench.backend.poll(recorder.operation, nested.fileno(), POLL_IN)
                bench.settle()
                demand(len(recorder.results) < rounds, "a poll waits for its descriptor")
                os.write(writer, b"x")
                bench.until_completions(recorder, rounds, "a poll of a nested epoll set completes")
                os.read(reader, 1)
        finally:
            bench.backend.cancel(recorder.operation)
            bench.settle()
            os.close(reader)
            os.close(writer)


OPERATION_CHECKS: Final[tuple[Callable[[BackendFactory], None], ...]] = (
    check_start_never_completes_inside,
    check_one_final_completion_each,
    check_cancelled_operations_end_once,
    check_cancel_of_an_idle_operation_is_harmless,
    check_forgotten_operation_knows_nobody,
    check_close_completes_everything,
    check_exception_does_not_stop_the_batch,
    check_redirect,
    check_woken_is_told_before_completions,
    check_wake_ends_a_turn,
    check_a_turn_without_work_ends,
    check_many_operations_at_once,
    check_read_back_what_was_written,
    check_end_of_file_is_zero,
    check_file_errors_are_errnos,
    check_sync_and_write_back,
    check_splice_from_file_to_pipe,
    check_poll_is_one_shot_and_level,
    check_poll_tells_the_end,
    check_poll_of_a_foreign_descriptor,
)
