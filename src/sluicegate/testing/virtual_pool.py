"""Blocking calls in a simulation: real threads, at virtual times, one after the other.

``simulated_completion_port`` gives the port this pool in place of its own. The invariant: while a
call runs on its thread, virtual time and the rest of the world stand still, so the order of results
depends on the seed alone; and inside the call everything is as on the real pool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from typing_extensions import override

from sluicegate.errors import LimitExceeded
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort
from sluicegate.port.workers import BlockingPool

from .flight_backend import SimulationStalled
from .simulated_port import SimulatedBackend

__all__ = ["VirtualPool", "simulated_completion_port"]

ResultT = TypeVar("ResultT")

_CALL_S_MAX: Final = 60.0
"""Real seconds after which a call is taken for one that waits for the world it has stopped."""


class VirtualPool(BlockingPool):
    """The blocking pool of one simulated port."""

    def __init__(
        self,
        backend: SimulatedBackend,
        threads_max: int,
        grown_max: int,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        super().__init__(threads_max, grown_max, self._post_and_go_on)
        self._backend = backend
        self._post_to_port = post
        self._is_over = threading.Event()

    @override
    def submit(
        self,
        call: Callable[[], ResultT],
        done: Callable[[ResultT | None, BaseException | None], None],
    ) -> None:
        """Run ``call`` after the time that such things take.

        Raises:
            LimitExceeded: The pool is closed.
        """
        if self._closing:
            raise LimitExceeded("blocking_threads_max", 0)

        def run() -> None:
            if self._closing:
                return  # nobody is there to be told
            self._is_over.clear()
            super(VirtualPool, self).submit(call, done)
            if not self._is_over.wait(_CALL_S_MAX):
                raise SimulationStalled(
                    f"seed {self._backend.seed}: a blocking call waits for the world it has stopped"
                )

        self._backend.clock.call_after(self._backend.dice.latency_s(), run)

    def _post_and_go_on(self, action: Callable[[], None]) -> None:
        self._post_to_port(action)
        self._is_over.set()


def simulated_completion_port(
    backend: SimulatedBackend, limits: Limits | None = None
) -> CompletionPort:
    """Make a port on virtual time over a simulated driver, its blocking pool included."""
    return CompletionPort(
        backend,
        clock=backend.clock,
        limits=limits,
        make_pool=lambda threads_max, grown_max, post: VirtualPool(
            backend, threads_max, grown_max, post
        ),
    )
