"""Checks of handles, overlappeds, tasks, timers and threads on a port over some driver.

Each function takes a factory of ports and raises ``NonConforming`` with the broken sentence of the
filter model. The invariant: a check depends on the public port only.
"""

from __future__ import annotations

import errno
import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, OverlappedBusy, WrongThread

from .bench import NonConforming, demand, pattern
from .port_bench import AcceptLog, IoLog, PortBench, PortFactory, SocketLog, TaskLog

__all__ = ["FILE_CHECKS"]


def _demand_raises(error: type[Exception], call: Callable[[], object], sentence: str) -> None:
    try:
        call()
    except error:
        return
    raise NonConforming(sentence)


# -- overlappeds -----------------------------------------------------------------------------------


def check_one_operation_at_a_time(make_port: PortFactory) -> None:
    """A second start on a busy overlapped raises ``OverlappedBusy`` and disturbs nothing."""
    with PortBench(make_port) as bench:
        handle = bench.handle(b"contents")
        log = IoLog()
        overlapped = bench.overlapped(log, "mine")
        buffer = bench.port.create_buffer(8)
        handle.start_read(buffer, overlapped)
        demand(not log.results, "nothing completes inside a start")
        demand(overlapped.is_busy, "a started overlapped is busy")
        for start in (
            lambda: handle.start_read(bench.port.create_buffer(8), overlapped),
            lambda: handle.start_write(b"x", overlapped),
            lambda: handle.start_sync(overlapped),
            lambda: overlapped.set_notification(log, "another"),
        ):
            _demand_raises(OverlappedBusy, start, "a busy overlapped refuses")
        bench.until_results(log, 1)
        bench.settle()
        demand(len(log.results) == 1, "a refused start completes nothing")
        demand(log.results[0][3:] == (overlapped, "mine"), "a refused start changes nothing")
        demand(not overlapped.is_busy, "a completed overlapped is free")


def check_overlapped_is_reusable(make_port: PortFactory) -> None:
    """An overlapped is free in its completion and after it, for ever."""
    with PortBench(make_port) as bench:
        handle = bench.handle(pattern(1000))
        buffer = bench.port.create_buffer(100)
        read = bytearray()
        log = IoLog()
        overlapped = bench.overlapped(log)

        def go_on(overlapped: object) -> None:
            demand(overlapped is mine, "a completion names its overlapped")
            read.extend(buffer.view[: buffer.used])
            if log.results[-1][1]:
                mine.offset += log.results[-1][1]
                handle.start_read(buffer, mine)

        mine = overlapped
        log.then = go_on
        handle.start_read(buffer, overlapped)
        bench.until(lambda: log.results and not log.results[-1][1], "a file is read to its end")
        demand(bytes(read) == pattern(1000), "each read goes to its offset")
        demand(log.results[-1][:3] == (True, 0, 0), "the end of a file is success with 0 bytes")
        log.then = None
        handle.start_sync(overlapped)
        bench.until_results(log, len(log.results) + 1)
        demand(log.results[-1][:3] == (True, 0, 0), "reusable after the completion")


def check_overlapped_at_rest_is_not_kept(make_port: PortFactory) -> None:
    """Nothing of the port keeps an overlapped whose operation has completed, nor whom it told."""
    with PortBench(make_port) as bench:
        handle = bench.handle(b"contents")
        log = IoLog()
        told = weakref.ref(log)
        handle.start_read(bench.port.create_buffer(8), bench.overlapped(log))
        bench.until_results(log, 1)
        bench.settle()
        del log
        gc.collect()
        demand(told() is None, "who was told is kept by nobody")


def check_user_data_comes_back_unchanged(make_port: PortFactory) -> None:
    """Any object is user data; one completion object serves many operations."""
    with PortBench(make_port) as bench:
        handle = bench.handle(b"x")
        log = IoLog()
        marks: list[object] = [object(), None, 7, "text", [], log]
        overlappeds = [bench.overlapped(log, mark) for mark in marks]
        for overlapped in overlappeds:
            handle.start_sync(overlapped)
        bench.until_results(log, len(marks))
        told = {id(result[3]): result[4] for result in log.results}
        for overlapped, mark in zip(overlappeds, marks, strict=True):
            demand(told[id(overlapped)] is mark, "user data comes back unchanged")


def check_bytes_count_only_on_success(make_port: PortFactory) -> None:
    """A failure has its errno and 0 bytes; a success its bytes and errno 0."""
    with PortBench(make_port) as bench:
        fd = bench.file(b"")
        path = f"/proc/self/fd/{fd}"
        handle = bench.port.hook(os.open(path, os.O_RDONLY))
        log = IoLog()
        overlapped = bench.overlapped(log)
        handle.start_write(b"refused", overlapped)
        bench.until_results(log, 1)
        demand(log.results[0][:3] == (False, 0, errno.EBADF), "a failure has 0 bytes")
        handle.close()
        handle = bench.port.hook(fd, owns=False)
        handle.start_write(b"x", overlapped)
        bench.until_results(log, 2)
        demand(log.results[1][:3] == (True, 1, 0), "a success has its bytes and errno 0")


def check_buffer_belongs_to_its_operation(make_port: PortFactory) -> None:
    """A buffer in flight cannot be written; in the completion it can again."""
    with PortBench(make_port) as bench:
        handle = bench.handle()
        buffer = bench.port.create_buffer(16)
        buffer.append(b"first")
        log = IoLog()
        taken: list[int] = []
        log.then = lambda _overlapped: taken.append(buffer.append(b"second"))
        handle.start_write(buffer, bench.overlapped(log))
        _demand_raises(BadContext, lambda: buffer.append(b"x"), "a buffer in flight is refused")
        bench.until_results(log, 1)
        demand(taken == [6], "a buffer is its owner's again in the completion")


def check_cancelled_overlapped_completes_once(make_port: PortFactory) -> None:
    """A cancelled overlapped completes once, as success or with ECANCELED."""
    with PortBench(make_port) as bench:
        handle = bench.handle(pattern(4096))
        log = IoLog()
        overlapped = bench.overlapped(log)
        overlapped.cancel()
        handle.start_read(bench.port.create_buffer(4096), overlapped)
        overlapped.cancel()
        overlapped.cancel()
        bench.until_results(log, 1)
        bench.settle()
        demand(len(log.results) == 1, "a cancelled overlapped completes once")
        success, count, error, _, _ = log.results[0]
        demand(success or (count == 0 and error == errno.ECANCELED), "a cancellation is ECANCELED")


# -- handles ---------------------------------------------------------------------------------------


def check_close_joins(make_port: PortFactory) -> None:
    """A descriptor is closed behind the last completion of its operations, and then at once."""
    with PortBench(make_port) as bench:
        fd = os.dup(bench.file(pattern(4096)))
        handle = bench.port.hook(fd)
        log = IoLog()
        still_open: list[bool] = []
        log.then = lambda _overlapped: still_open.append(handle.fileno() >= 0)
        overlappeds = [bench.overlapped(log) for _ in range(8)]
        for overlapped in overlappeds:
            handle.start_read(bench.port.create_buffer(512), overlapped)
        demand(handle.in_flight == 8, "a handle counts its operations")
        handle.close()
        handle.close()
        demand(handle.fileno() == fd, "a handle stays open while operations are in flight")
        demand(os.fstat(fd).st_size == 4096, "its descriptor stays open")
        _demand_raises(
            BadContext,
            lambda: handle.start_sync(bench.port.create_overlapped()),
            "a closing handle refuses starts",
        )
        bench.until_results(log, 8)
        bench.settle()
        demand(len(log.results) == 8, "each operation completes once")
        demand(handle.fileno() == -1, "the handle closes behind the last")
        _demand_raises(OSError, lambda: os.fstat(fd), "its descriptor is closed")


def check_hook_is_once(make_port: PortFactory) -> None:
    """A descriptor is hooked once at a time."""
    with PortBench(make_port) as bench:
        fd = bench.file()
        handle = bench.port.hook(fd, owns=False)
        _demand_raises(OSError, lambda: bench.port.hook(fd), "a second hook is refused")
        handle.close()
        bench.port.hook(fd, owns=False).close()
        demand(os.fstat(fd).st_size == 0, "a handle that does not own leaves the descriptor open")


# -- tasks, timers, threads ------------------------------------------------------------------------


def check_starts_belong_on_the_ports_thread(make_port: PortFactory) -> None:
    """Off the port's thread every start raises ``WrongThread``, but the thread-safe post."""
    with PortBench(make_port) as bench:
        handle = bench.handle(b"x")
        client, _ = bench.pair()
        listener, _ = bench.listen()
        posted, log = TaskLog(), IoLog()
        overlapped = bench.overlapped(log)
        starts: list[Callable[[], object]] = [
            lambda: handle.start_read(bench.port.create_buffer(1), overlapped),
            lambda: handle.start_write(b"x", overlapped),
            lambda: handle.start_sync(overlapped),
            lambda: client.start_receive(None, SocketLog()),
            lambda: client.start_send(b"x"),
            lambda: listener.start_accept(AcceptLog()),
            lambda: bench.port.hook(bench.file()),
            lambda: bench.port.listen(SocketAddress("127.0.0.1", 0)),
            lambda: bench.port.post_task(posted),
            lambda: bench.port.turn(0),
        ]
        refused: list[bool] = []

        def elsewhere() -> None:
            for start in starts:
                try:
                    start()
                except WrongThread:
                    refused.append(True)
                else:
                    refused.append(False)
            bench.port.post_task_threadsafe(posted, "from elsewhere")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        demand(refused == [True] * len(starts), f"starts off the thread are refused: {refused}")
        bench.until_results(posted, 1)
        demand(posted.results == ["from elsewhere"], "the thread-safe post arrives, once")
        handle.start_read(bench.port.create_buffer(1), overlapped)
        bench.until_results(log, 1)


def check_tasks_run_once_and_later(make_port: PortFactory) -> None:
    """A posted task runs once, later, in order; one posted by a task runs after it."""
    with PortBench(make_port) as bench:
        log, follower = TaskLog(), TaskLog()

        def follow() -> None:
            bench.port.post_task(follower, len(log.results))
            demand(len(follower.results) < len(log.results), "a task never runs inside the post")

        log.then = follow
        for number in range(3):
            bench.port.post_task(log, number)
        demand(not log.results, "a task never runs inside the post")
        bench.until_results(follower, 3)
        bench.settle()
        demand(log.results == [0, 1, 2], "tasks run once, in order")
        demand(follower.results == [1, 2, 3], "what tasks post runs too")


def check_timers_in_order(make_port: PortFactory) -> None:
    """Timers fire in the order of their times, never early, never inside, not when cancelled."""
    with PortBench(make_port) as bench:
        port = bench.port
        fired: list[tuple[str, float]] = []

        def timer(name: str, delay_s: float) -> None:
            due = port.clock.monotonic() + delay_s
            port.call_after(delay_s, lambda: fired.append((name, port.clock.monotonic() - due)))

        timer("third", 0.03)
        timer("first", 0.01)
        timer("second", 0.02)
        timer("at once", 0.0)
        cancelled = port.call_after(0.015, lambda: fired.append(("cancelled", 0.0)))
        demand(cancelled.is_pending, "a timer is pending")
        demand(not fired, "a timer never fires inside the call")
        cancelled.cancel()
        bench.until(lambda: len(fired) == 4, "timers fire")
        bench.settle()
        names = [name for name, _ in fired]
        demand(names == ["at once", "first", "second", "third"], f"timers fire in order: {names}")
        demand(all(late >= 0 for _, late in fired), "a timer never fires early")
        demand(port.timers.next_deadline() is None, "fired and cancelled timers are forgotten")


def check_exceptions_reach_on_error_and_stop_nothing(make_port: PortFactory) -> None:
    """An exception out of a completion, a task or a timer is told, and the rest goes on."""
    with PortBench(make_port) as bench:
        handle = bench.handle(b"x")

        def fail(*_arguments: object) -> None:
            raise LookupError("raised by a completion")

        io, task, good_io, good_task = IoLog(), TaskLog(), IoLog(), TaskLog()
        io.then, task.then = fail, fail
        handle.start_sync(bench.overlapped(io))
        handle.start_sync(bench.overlapped(good_io))
        bench.port.post_task(task)
        bench.port.post_task(good_task)
        fired: list[bool] = []
        bench.port.call_after(0.0, fail)
        bench.port.call_after(0.0, lambda: fired.append(True))
        bench.until(lambda: len(bench.errors) == 3, "three failures are told")
        bench.until(lambda: fired and good_io.results and good_task.results, "the others run")
        demand(all(isinstance(e, LookupError) for e in bench.errors), "the exception itself")
        demand(bench.port.statistics().unhandled_errors == 3, "failures are counted")
        bench.errors.clear()


def check_statistics(make_port: PortFactory) -> None:
    """A port counts what it does and holds."""
    with PortBench(make_port) as bench:
        before = bench.port.statistics()
        handle = bench.handle(b"x")
        log = IoLog()
        handle.start_sync(bench.overlapped(log))
        timer = bench.port.call_after(60.0, lambda: None)
        bench.until_results(log, 1)
        after = bench.port.statistics()
        demand(after.backend == bench.port.backend.name, "statistics name the driver")
        demand(after.handles == before.handles + 1, "handles are counted")
        demand(after.timers == before.timers + 1, "timers are counted")
        demand(after.turns > before.turns, "turns are counted")
        demand(after.submitted > before.submitted, "submissions are counted")
        demand(after.completed > before.completed, "completions are counted")
        timer.cancel()
        handle.close()
        demand(bench.port.statistics().handles == before.handles, "closed handles are forgotten")


def check_close_of_the_port(make_port: PortFactory) -> None:
    """Closing a port completes what is in flight, with ECANCELED where it must."""
    with PortBench(make_port) as bench:
        handle = bench.handle(pattern(4096))
        client, _ = bench.pair()
        listener, _ = bench.listen()
        io, receive, accept = IoLog(), SocketLog(), AcceptLog()
        client.start_receive(None, receive)
        listener.start_accept(accept)
        handle.start_read(bench.port.create_buffer(64), bench.overlapped(io))
        bench.demand_slots_home()
        bench.port.close()
        demand(len(io.results) == 1, "closing the port completes file operations")
        demand(len(receive.results) == 1, "closing the port completes receives")
        demand(receive.results[0][:2] == (False, errno.ECANCELED), "with ECANCELED")
        demand(len(accept.results) == 1, "closing the port completes accepts")
        demand(accept.results[0][:2] == (False, errno.ECANCELED), "with ECANCELED")


FILE_CHECKS: Final[tuple[Callable[[PortFactory], None], ...]] = (
    check_one_operation_at_a_time,
    check_overlapped_is_reusable,
    check_overlapped_at_rest_is_not_kept,
    check_user_data_comes_back_unchanged,
    check_bytes_count_only_on_success,
    check_buffer_belongs_to_its_operation,
    check_cancelled_overlapped_completes_once,
    check_close_joins,
    check_hook_is_once,
    check_starts_belong_on_the_ports_thread,
    check_tasks_run_once_and_later,
    check_timers_in_order,
    check_exceptions_reach_on_error_and_stop_nothing,
    check_statistics,
    check_close_of_the_port,
)
