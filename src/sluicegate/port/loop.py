"""asyncio on the port: the event loop, and ``run``, the door for programs of one's own.

Any asyncio library works on this loop; native operations complete between its steps, on the same
thread, out of the same wait. The invariant: the loop and the port share one clock and one end:
closing the loop closes the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from typing_extensions import override

from sluicegate.limits import Limits

from .diagnosis import Preference, choose_backend
from .port import CompletionPort
from .selector import PortSelector

__all__ = ["PortEventLoop", "current_port", "run"]

ResultT = TypeVar("ResultT")
ArgumentTs = TypeVarTuple("ArgumentTs")


# Found once; every step of every coroutine passes here.
_call_soon = asyncio.SelectorEventLoop.call_soon


class PortEventLoop(asyncio.SelectorEventLoop):
    """asyncio's selector loop, waiting on a completion port which it owns."""

    def __init__(self, port: CompletionPort) -> None:
        self.port = port
        self._waiting = PortSelector(port)
        super().__init__(self._waiting)

    @override
    def time(self) -> float:
        """Return the port's clock."""
        return self.port.clock.monotonic()

    # Whatever asks asyncio for a step passes one of these, futures and tasks included.

    @override
    def call_soon(
        self,
        callback: Callable[[*ArgumentTs], object],
        *args: *ArgumentTs,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As in asyncio; ends the wait for native completions."""
        self._waiting.is_due = True
        return _call_soon(self, callback, *args, context=context)

    @override
    def call_at(
        self,
        when: float,
        callback: Callable[[*ArgumentTs], object],
        *args: *ArgumentTs,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As in asyncio; ends the wait for native completions."""
        self._waiting.is_due = True
        return super().call_at(when, callback, *args, context=context)

    @override
    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Take an exception of a step, or of a task that nobody waits for, as the port's own."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.port.take_error(error)
        else:
            super().default_exception_handler(context)

    @override
    def stop(self) -> None:
        """As in asyncio, also out of a native completion."""
        self._waiting.is_due = True
        super().stop()

    @override
    def close(self) -> None:
        """Close the port, whose last completions may still ask for steps, then the loop."""
        if self.is_closed():
            return
        try:
            if not self.is_running():
                self.port.close()
        finally:
            super().close()


def run(
    main: Coroutine[Any, Any, ResultT],
    *,
    backend: Preference = "auto",
    limits: Limits | None = None,
    debug: bool | None = None,
) -> ResultT:
    """Run a coroutine on a port of its own, as ``asyncio.run`` does, and return its result.

    Raises:
        BackendUnavailable: The driver that was asked for by name is refused.
    """
    bounds = limits or Limits()

    def make_loop() -> PortEventLoop:
        return PortEventLoop(CompletionPort(choose_backend(backend, bounds), limits=bounds))

    try:
        with asyncio.Runner(debug=debug, loop_factory=make_loop) as runner:
            return runner.run(main)
    finally:
        # Harmless when it ran; else, with the driver refused, it would be left unawaited.
        main.close()


def current_port() -> CompletionPort:
    """Return the port that the running loop waits on.

    Raises:
        RuntimeError: No loop runs, or one that waits on no port.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, PortEventLoop):
        raise RuntimeError(  # noqa: TRY004 - as asyncio does where no loop runs
            "the running loop waits on no port: start it with sluicegate.port.run"
        )
    return loop.port
