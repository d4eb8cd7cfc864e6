"""The scanners in force: who has processes is started, replaced by a reload, and stopped.

The service owns one. The invariant: a scanner that a reload leaves out answers what it was asked,
then ends, and none is left behind when the service has stopped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sluicegate.filterapi import Scanner
from sluicegate.scan import ScannerView

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["ManagedScanner", "Scanners"]


@runtime_checkable
class ManagedScanner(Scanner, Protocol):
    """A scanner that has something to start and to show."""

    @property
    def kind(self) -> str:
        """As ``[[scanner]]`` calls it."""
        ...

    def start(self, port: CompletionPort, tell: Callable[[str], None]) -> None:
        """Begin; troubles are told, now and later."""
        ...

    def retire(self) -> None:
        """Finish what it was asked, then end; what comes later is not scanned."""
        ...

    def stop(self) -> None:
        """End now; what it was asked is not scanned."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is left: no process, and no question that it was asked."""
        ...

    async def wait_ended(self) -> None:
        """Wait until nothing of it is left."""
        ...

    def view(self) -> ScannerView:
        """Return a copy of this moment, for people."""
        ...


class Scanners:
    """Of one service."""

    def __init__(self, port: CompletionPort, tell: Callable[[str, str], None]) -> None:
        """Make it empty.

        Args:
            port: The service's.
            tell: Told of a scanner's troubles: its name, and what it is.
        """
        self._port = port
        self._tell = tell
        self._found: Mapping[str, Scanner] = {}
        self._ending: list[ManagedScanner] = []

    def apply(self, scanners: Mapping[str, Scanner]) -> None:
        """Put these in force; one that is the same object goes on."""
        before = self._found.values()
        for one in scanners.values():
            if isinstance(one, ManagedScanner) and not _is_among(one, before):
                one.start(self._port, functools.partial(self._tell, one.name))
        gone = [one for one in before if not _is_among(one, scanners.values())]
        self._found = scanners
        self._ending = [one for one in self._ending if not one.is_idle]
        for one in gone:
            if isinstance(one, ManagedScanner):
                one.retire()
                self._ending.append(one)

    def find(self, name: str) -> Scanner:
        """Return a scanner.

        Raises:
            LookupError: There is none of that name.
        """
        found = self._found.get(name)
        if found is None:
            raise LookupError(f"no [[scanner]] is called {name!r}")
        return found

    async def stop(self) -> None:
        """Stop all of them, and wait until they are gone."""
        self.apply({})
        for one in self._ending:
            one.stop()
        while self._ending:
            await self._ending.pop().wait_ended()

    def views(self) -> list[ScannerView]:
        """Return those that have something to show."""
        return [one.view() for one in self._found.values() if isinstance(one, ManagedScanner)]

    def warnings(self) -> list[str]:
        """Return what an operator should look at."""
        return [f"scanner {one.name}: {one.problem}" for one in self.views() if one.problem]


def _is_among(one: Scanner, others: Iterable[Scanner]) -> bool:
    return any(one is other for other in others)
