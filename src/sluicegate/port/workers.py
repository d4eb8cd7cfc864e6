"""The bounded, growing pool for calls that block.

Filters run blocking code through ``CompletionPort.run_blocking``; inside it, ``heavy_blocking()``
tells the pool that this member waits for something else, so that it may grow. The invariant: the
port's own thread never blocks here, and the pool never has more than its grown maximum.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from sluicegate.errors import LimitExceeded, WrongThread

__all__ = ["BlockingPool", "heavy_blocking"]

ResultT = TypeVar("ResultT")

_member = threading.local()


@contextlib.contextmanager
def heavy_blocking() -> Generator[None]:
    """Mark a stretch inside ``run_blocking`` that waits for a network, a lock of a device, a disk.

    Raises:
        WrongThread: Called outside the pool; on the port's thread it would stall everybody.
    """
    pool: BlockingPool | None = getattr(_member, "pool", None)
    if pool is None:
        raise WrongThread("heavy_blocking belongs inside run_blocking, never on the port's thread")
    if getattr(_member, "is_blocked", False):
        # Nested brackets count once; the outer one owns the mark.
        yield
        return
    _member.is_blocked = True
    pool.enter_blocked()
    try:
        yield
    finally:
        _member.is_blocked = False
        pool.leave_blocked()


class BlockingPool:
    """Threads that run blocking calls; owned by one port, which takes the results on its thread."""

    def __init__(
        self,
        threads_max: int,
        grown_max: int,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.threads_max = threads_max
        self.grown_max = grown_max
        self._post = post
        self._lock = threading.Lock()
        self._wakeup = threading.Condition(self._lock)
        self._queue: deque[Callable[[], None]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._blocked = 0
        self._closing = False

    @property
    def thread_count(self) -> int:
        """Threads alive now."""
        return len(self._threads)

    @property
    def queue_length(self) -> int:
        """Calls that wait for a thread."""
        return len(self._queue)

    def submit(
        self,
        call: Callable[[], ResultT],
        done: Callable[[ResultT | None, BaseException | None], None],
    ) -> None:
        """Run ``call`` on a thread; ``done(result, error)`` runs later on the port's thread.

        Raises:
            LimitExceeded: The pool is closed.
        """

        def job() -> None:
            try:
                result, error = call(), None
            except BaseException as raised:  # noqa: BLE001 - handed to the port's thread whole
                result, error = None, raised
            self._post(lambda: done(result, error))

        with self._lock:
            if self._closing:
                raise LimitExceeded("blocking_threads_max", 0)
            self._queue.append(job)
            # A member that was woken for an earlier call still counts as idle until it runs.
            if self._idle >= len(self._queue):
                self._wakeup.notify()
            else:
                self._grow()

    async def run(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run ``function(*args)`` on a thread and await its result."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()

        def done(result: ResultT | None, error: BaseException | None) -> None:
            if future.done():
                return
            if isinstance(error, StopIteration):
                # asyncio cannot carry one, and the caller would wait for ever.
                future.set_exception(RuntimeError(f"the blocking call raised {error!r}"))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None only where ResultT admits it

        self.submit(lambda: function(*args), done)
        return await future

    def enter_blocked(self) -> None:
        """Count a member as blocked; the pool may grow by one (``heavy_blocking`` only)."""
        with self._lock:
            self._blocked += 1
            if self._queue:
                self._grow()

    def leave_blocked(self) -> None:
        """End ``enter_blocked``."""
        with self._lock:
            self._blocked -= 1

    def close(self) -> None:
        """Let the members finish what is queued, then end them; does not wait for blocked calls."""
        with self._lock:
            self._closing = True
            self._wakeup.notify_all()

    def _grow(self) -> None:
        allowed = min(self.threads_max + self._blocked, self.grown_max)
        if len(self._threads) < allowed:
            thread = threading.Thread(
                target=self._serve, name=f"sluicegate-blocking-{len(self._threads)}", daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _serve(self) -> None:
        _member.pool = self
        while (job := self._next_job()) is not None:
            job()
            # Else a member that waits would keep the last one alive, with all that it leads to.
            del job

    def _next_job(self) -> Callable[[], None] | None:
        with self._lock:
            while not self._queue:
                too_many = len(self._threads) > self.threads_max + self._blocked
                if self._closing or too_many:
                    self._threads.discard(threading.current_thread())
                    return None
                self._idle += 1
                self._wakeup.wait()
                self._idle -= 1
            return self._queue.popleft()
