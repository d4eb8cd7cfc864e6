"""Recovery: filters are asked to give back what they can while a resource runs short.

``service`` owns one; it looks every second while a filter is registered, and at once when the gate
itself found no descriptor. The invariant: a filter is asked again and again until it says that it
has done what it can, or until the shortage is over, and one that fails costs the others nothing.
"""

from __future__ import annotations

import os
import pathlib
import resource
from collections.abc import Callable, Mapping
from typing import Final

from sluicegate.errors import FILTER_ERRORS, LimitExceeded
from sluicegate.filterapi import Shortage
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, Timer
from sluicegate.spool import SpoolStore

__all__ = ["Recovery", "descriptor_share", "memory_share", "shares_of"]

_CHECK_S: Final = 1.0
"""How often resources are measured while a filter wants to know, and filters asked again."""

_DATA_FIELD: Final = 5
"""Of /proc/self/statm: data and stack, which is what RLIMIT_DATA bounds (proc(5))."""


class Recovery:
    """Watches resources for filters; satisfies ``filterapi.ResourceRecovery``.

    Args:
        port: Whose timers it uses.
        limits: In force.
        shares: For each resource, how much of it is used, from 0 to 1.
        on_low: Told, for a record, when a resource begins to run short.
        on_failure: Told of a filter's failure, with its name.
    """

    def __init__(
        self,
        port: CompletionPort,
        limits: Limits,
        shares: Mapping[Shortage, Callable[[], float]],
        on_low: Callable[[LimitExceeded], None],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._port = port
        self._limits = limits
        self._shares = shares
        self._on_low = on_low
        self._on_failure = on_failure
        self._registered: list[_Registered] = []
        self._low: set[Shortage] = set()
        self._timer: Timer | None = None

    def register(self, recover: Callable[[Shortage], bool]) -> _Registered:
        """As ``filterapi.ResourceRecovery.register``."""
        registered = _Registered(self, recover)
        self._registered.append(registered)
        if self._timer is None:
            self._look_later()
        return registered

    def drop(self, registered: _Registered) -> None:
        """Forget one (called by its ``cancel``)."""
        if registered in self._registered:
            self._registered.remove(registered)

    def note(self, shortage: Shortage) -> None:
        """Take that the gate could not have something; filters are asked on the next turn."""
        for registered in self._registered:
            registered.open.add(shortage)
        self._begin(shortage)
        if self._registered:
            self._port.post(self._ask)

    def _begin(self, shortage: Shortage) -> None:
        if shortage not in self._low:
            self._low.add(shortage)
            self._on_low(LimitExceeded(f"resource_low_percent ({shortage})", self._bound))

    @property
    def _bound(self) -> float:
        return self._limits.resource_low_percent / 100

    def _look_later(self) -> None:
        self._timer = self._port.call_after(_CHECK_S, self._look)

    def _look(self) -> None:
        """Measure, and ask those who have not done what they can."""
        self._timer = None
        if not self._registered:
            return
        self._look_later()
        for shortage, share in self._shares.items():
            if share() >= self._bound:
                if shortage not in self._low:
                    for registered in self._registered:
                        registered.open.add(shortage)
                self._begin(shortage)
            elif shortage in self._low:
                self._low.discard(shortage)
                for registered in self._registered:
                    registered.open.discard(shortage)
        self._ask()

    def _ask(self) -> None:
        for registered in list(self._registered):
            for shortage in sorted(registered.open):
                try:
                    is_done = bool(registered.recover(shortage))
                except FILTER_ERRORS as error:
                    name = getattr(registered.recover, "__qualname__", type(registered).__name__)
                    self._on_failure(str(name), error)
                    is_done = True
                if is_done:
                    registered.open.discard(shortage)


class _Registered:
    """One who gives back; satisfies ``filterapi.Recoverer``."""

    __slots__ = ("_recovery", "open", "recover")

    def __init__(self, recovery: Recovery, recover: Callable[[Shortage], bool]) -> None:
        self._recovery = recovery
        self.recover = recover
        self.open: set[Shortage] = set()
        #: What it is asked about until it has done what it can.

    def signal(self) -> None:
        """Be asked every second until it works."""
        self.open.add(Shortage.SIGNALLED)

    def cancel(self) -> None:
        """Be asked no more."""
        self._recovery.drop(self)


def shares_of(spool: SpoolStore) -> dict[Shortage, Callable[[], float]]:
    """Return how the resources of this process are measured."""
    return {
        Shortage.DESCRIPTORS: descriptor_share,
        Shortage.MEMORY: memory_share,
        Shortage.SPOOL: lambda: spool.quota.share,
    }


def descriptor_share() -> float:
    """Return how much of the limit of descriptors is used: the lowest free number says it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest_free = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return 1.0
    os.close(lowest_free)
    return lowest_free / max(limit, 1)


def memory_share() -> float:
    """Return how much of what this process may allocate is allocated; 0 where nothing bounds it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit in {0, resource.RLIM_INFINITY}:
        return 0.0
    fields = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[_DATA_FIELD]) * resource.getpagesize() / limit
