"""`python -m benchmarks.soak`: mixed traffic, workers killed, settings reloaded; nothing may leak.

`make soak` comes here; `SOAK_S` says for how long (600 s).  Clients of all kinds run all the time,
each from an address of its own.  It fails on wrong content, on clients that break off when no
worker died, and on memory, descriptors, files or records that are not where they were.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.processes import BenchmarkError, free_port, raise_descriptor_limit
from benchmarks.soak.gate import SoakGate, processes_of
from benchmarks.soak.kind import Kind, Site, WrongAnswer
from benchmarks.soak.kinds import KINDS
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.watch import Watch, descriptor_counts, descriptors_left, files_of
from sluicegate.gate.control_client import GateUnreachable

SOAK_S = 600.0
KILL_EVERY_S = 20.0
RELOAD_EVERY_S = 5.0
LOOK_EVERY_S = 1.0
EXCUSED_S = 3.0
"""So long after a worker's death, or while its place is empty, its clients may break off."""
EXCHANGE_S_MAX = 45.0
SETTLE_S = 8.0
ALL_DIE_SHARE = 0.25
"""In the first part of the soak each worker is killed in turn, then only the last one: the first
grows as old as the soak, so that a slow leak shows."""


class Soak:
    """One soak."""

    def __init__(self, folder: Path, duration_s: float) -> None:
        self._folder = folder
        self._duration_s = duration_s
        self._watch = Watch()
        self._kinds = [_made(kind, folder) for kind in KINDS]
        self._gate = SoakGate(folder, self._kinds)
        self._done: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._complaints: list[str] = []
        self._killed_at = -EXCUSED_S
        self._number = 0
        self._is_over = False

    async def run(self) -> int:
        """Soaks; returns the status for the shell."""
        async with contextlib.AsyncExitStack() as stack:
            for kind in self._kinds:
                await stack.enter_async_context(kind.serve())
            await self._gate.start()
            try:
                await self._traffic()
            finally:
                status = await self._gate.end()
        ledger = Ledger.read(self._gate.state / "records.jsonl")
        self._complaints += ledger.complaints(self._gate.killed)
        if status:
            self._complaints.append(f"the gate ended with {status}:\n{self._gate.output()}")
        self._print(ledger)
        return 1 if self._complaints else 0

    async def _traffic(self) -> None:
        gate = self._gate
        await self._warm_up()
        await asyncio.sleep(SETTLE_S)
        descriptors = descriptor_counts(await gate.processes())
        files = files_of(self._folder)
        began = time.monotonic()
        chores = [
            asyncio.create_task(one)
            for one in (self._kill(began), self._reload(), self._look(began))
        ]
        try:
            async with asyncio.timeout(self._duration_s + 3 * EXCHANGE_S_MAX):
                await asyncio.gather(
                    asyncio.sleep(self._duration_s), self._stop_later(), *self._clients()
                )
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
        self._note_failures(chores)
        await self._settle()
        after = descriptor_counts(await gate.processes())
        self._complaints += descriptors_left(descriptors, after)
        left = files_of(self._folder) - files
        if left:
            self._complaints.append(f"files are left: {sorted(left)[:10]}")
        self._complaints += self._watch.complaints()

    def _note_failures(self, chores: list[asyncio.Task[None]]) -> None:
        for chore in chores:
            if chore.done() and not chore.cancelled() and (error := chore.exception()):
                self._complaints.append(f"{type(error).__name__}: {error}")

    # -- clients -------------------------------------------------------------------------------

    async def _warm_up(self) -> None:
        """One exchange of each kind by each worker, so that pools are filled before counting."""
        for kind in self._kinds:
            for client in range(2, 10):
                await self._exchange(kind, f"127.0.0.{client}")

    def _clients(self) -> list[asyncio.Task[None]]:
        addresses = iter(range(10, 250))
        return [
            asyncio.create_task(self._client(kind, f"127.0.0.{next(addresses)}"))
            for kind in self._kinds
            for _ in range(kind.clients)
        ]

    async def _client(self, kind: Kind, address: str) -> None:
        while not self._is_over:
            if not await self._exchange(kind, address):
                await asyncio.sleep(0.2)

    async def _exchange(self, kind: Kind, address: str) -> bool:
        self._number += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(EXCHANGE_S_MAX):
                self._bytes[kind.name] += await kind.one(address, self._number)
        except WrongAnswer as error:
            self._complaints.append(f"{kind.name}: {error}")
        except (OSError, EOFError, TimeoutError) as error:
            self._broken[kind.name] += 1
            # Whatever was under way when a worker died, and a moment longer.
            if self._killed_at + EXCUSED_S < began:
                cause = f"{type(error).__name__}: {error}"
                self._complaints.append(f"{kind.name} broke off without a death: {cause}")
            return False
        else:
            self._done[kind.name] += 1
        return True

    async def _stop_later(self) -> None:
        await asyncio.sleep(self._duration_s)
        self._is_over = True

    # -- what is done to the gate --------------------------------------------------------------

    async def _kill(self, began: float) -> None:
        turn = 0
        while True:
            await asyncio.sleep(KILL_EVERY_S)
            is_early = time.monotonic() - began < self._duration_s * ALL_DIE_SHARE
            await self._gate.kill_worker(turn % 2 if is_early else 1)
            self._killed_at = time.monotonic()
            turn += 1

    async def _reload(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_EVERY_S)
            await self._gate.reload()

    async def _look(self, began: float) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._gate.check_alive()
            with contextlib.suppress(GateUnreachable):
                status = await self._gate.status()
                if any(row["state"] != "ready" for row in status["workers"]):
                    self._killed_at = time.monotonic()  # its place is not filled yet
                self._watch.take(processes_of(status), time.monotonic() - began)

    async def _settle(self) -> None:
        """Waits until nothing is open any more."""
        status = await self._gate.status()
        for _ in range(30):
            rows = status["workers"]
            if not status.get("connections") and all(row["state"] == "ready" for row in rows):
                break
            await asyncio.sleep(1)
            status = await self._gate.status()
        else:
            self._complaints.append(f"{status.get('connections')} connections do not end")
        await asyncio.sleep(SETTLE_S)
        held = status.get("spool_transfers", 0), status.get("spool_bytes", 0)
        if held != (0, 0):
            self._complaints.append(f"the spool holds {held[0]} objects, {held[1]} bytes")
        for warning in status.get("warnings", []):
            if "internal error" in warning:
                self._complaints.append(warning)

    # -- the figures ---------------------------------------------------------------------------

    def _print(self, ledger: Ledger) -> None:
        gate, killed = self._gate, len(self._gate.killed)
        print(
            f"soak of {self._duration_s:g} s: {killed} workers killed, {gate.reloads} reloads; "
            f"{len(ledger.replaced)} workers with clients replaced by reloads they were late for"
        )
        for kind in self._kinds:
            name = kind.name
            print(
                f"  {name}: {self._done[name]} exchanges, {self._bytes[name] / 1e6:.1f} MB, "
                f"{self._broken[name]} broke off when a worker died"
            )
        print(f"records: {ledger.text()}")
        print(self._watch.text())
        for complaint in self._complaints[:20]:
            print(f"WRONG: {complaint}")
        if self._complaints:
            print(f"the gate said:\n{self._gate.output()}")
        print("soak: " + ("failed" if self._complaints else "nothing leaked"))


def _made(kind: type[Kind], folder: Path) -> Kind:
    own = folder / kind.name
    own.mkdir()
    return kind(Site(own, free_port(), free_port()))


def main() -> int:
    """Soaks for `SOAK_S` seconds."""
    raise_descriptor_limit()
    duration_s = float(os.environ.get("SOAK_S", SOAK_S))
    with tempfile.TemporaryDirectory(prefix="sluicegate-soak-") as folder:
        try:
            return asyncio.run(Soak(Path(folder), duration_s).run())
        except BenchmarkError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
