"""One held body in virtual time: a source, the held stage, a sink, and an exchange that notes.

The exchange here does what the engine's does with a stage; ``tests/flows`` has the engine itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.filterapi import Outcome, TransferOffer
from sluicegate.gate.registry import ContentStep
from sluicegate.gate.transfer import TransferService
from sluicegate.gate.web.held_body import hold_request, hold_response
from sluicegate.gate.web.kept_downloads import KeptDownloads
from sluicegate.policy.delivery import NO_HELD_SETTINGS, HeldSettings
from sluicegate.protocols.http1 import (
    CHUNKED,
    NO_BODY,
    Fields,
    Framing,
    FramingKind,
    Request,
    Response,
    Target,
)
from sluicegate.spool import SpoolStore
from sluicegate.testing import FaultPlan, SimulatedBackend
from tests.unit.spool_kit import check_empty, simulated_port
from tests.unit.transfer_kit import LIMITS, Recorder, Session

HEAD = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"


class Connection:
    id = "c-1"
    session = Session()
    rule = "web"
    client_address = SocketAddress.parse("192.0.2.7:4000")

    def __init__(self, service: Any, desk: Any, objection: Callable[[TransferOffer], str]) -> None:
        self.service = service
        self.desk = desk
        self.objection_to = objection


class End:
    """A sink and a source in one: what it was fed is noted; what it feeds is given to it."""

    def __init__(self) -> None:
        self.heads: list[Any] = []
        self.body = b""
        self.ended = ""
        self.trailers: Fields | None = None
        self.room: int | None = None
        #: How many more pieces it takes before it says no; None: all.
        self.is_full = False
        self.stage: Any = None

    def begin(self, head: Any) -> None:
        assert not self.ended
        self.heads.append(head)

    def feed(self, data: bytes | memoryview) -> bool:
        assert not self.ended
        assert self.heads, "a body comes behind its head"
        assert not self.is_full, "fed although it said no"
        assert len(data)
        self.body += bytes(data)
        if self.room is not None:
            self.room -= 1
            self.is_full = self.room <= 0
        return not self.is_full

    def finish(self, trailers: Fields) -> None:
        assert self.heads
        assert not self.ended
        self.ended, self.trailers = "finished", trailers

    def abort(self, reason: str) -> None:
        assert not self.ended
        self.ended = f"aborted: {reason}"


class Exchange:
    """As much of an exchange as a held stage sees."""

    def __init__(self, world: World) -> None:
        self.id = "c-1-1"
        self.world = world
        self.connection: Any = world.connection
        self.request = world.request
        self.response = world.response
        self.plan = SimpleNamespace(content=tuple(world.steps))
        self.rule = SimpleNamespace(held=world.held)
        self.user: Any = None
        self.held: Any = None
        self.committed: Framing | None = None
        self.is_over = False
        self.refused: tuple[int, str] | None = None
        self.aborted = ""
        self.noted = ""
        self.comforted = 0

    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        assert not self.is_over
        self.refused = status, reason
        self.end()

    def abort(self, reason: str) -> None:
        if not self.is_over:
            self.aborted = reason
            self.end()

    def note_end(self, outcome: Outcome, why: str) -> None:
        self.noted = f"{outcome.value}: {why}"

    def comfort(self, head: Response | None) -> bool:
        promised = len(HEAD) if head is not None else 9
        self.comforted += 1
        if head is not None and self.comforted > 9:
            self.committed = head.framing
        return self.comforted < promised

    def answer_from(self, source: Any) -> End:
        self.world.sink.stage = source
        self.world.closes.append(source.close)
        return self.world.sink

    def end(self) -> None:
        self.is_over = True
        for close in self.world.closes:
            close()
        self.world.closes.clear()


class World:
    """One body, one way."""

    def __init__(
        self,
        directory: Path,
        steps: Sequence[ContentStep],
        *,
        seed: int = 0,
        faults: FaultPlan | None = None,
        request: Sequence[tuple[bytes, bytes]] = (),
        response: Sequence[tuple[bytes, bytes]] = (),
        method: bytes = b"GET",
        path: bytes = b"/file",
        status: int = 200,
        framing: Framing | None = None,
        held: HeldSettings = NO_HELD_SETTINGS,
        objection: Callable[[TransferOffer], str] = lambda _offer: "",
        pieces: int = 1 << 16,
        **limits: Any,
    ) -> None:
        self.directory, self.steps, self.held = directory, steps, held
        self.pieces, self.framing = pieces, framing
        self.is_upload = method not in {b"GET", b"HEAD"}
        self.request = Request(method, Target.origin(path), Fields(request))
        self.response = Response(status, b"OK", Fields(response))
        self.limits = dataclasses.replace(LIMITS, **limits)
        self.port = simulated_port(seed, faults or FaultPlan(), self.limits)
        assert isinstance(self.port.backend, SimulatedBackend)
        self.recorder = Recorder()
        self.store = SpoolStore(self.port, directory, self.limits)
        self.transfers: TransferService[Any] = TransferService(
            self.port,
            self.store,
            self.limits,
            self.port.clock,
            lambda _connection: steps,
            self.recorder,
            objection=lambda _connection, offer: objection(offer),
        )
        self.kept = KeptDownloads(self.port)
        desk = SimpleNamespace(kept_downloads=self.kept)
        self.connection = Connection(SimpleNamespace(transfers=self.transfers), desk, objection)
        self.sink, self.source = End(), Source(self)
        self.closes: list[Callable[[], None]] = []
        self.exchange: Any = Exchange(self)
        self.stage: Any = None
        self.on_turn: Callable[[int], None] = lambda turn: None
        self.turns = 0

    @property
    def records(self) -> list[Any]:
        return self.recorder.of_kind("TransferRecord")

    def run(self, body: bytes, *, is_whole: bool = True, until: Any = None) -> End:
        """Send a body through, to its end at the sink."""
        asyncio.run(self._run(body, is_whole, until))
        return self.sink

    async def _run(self, body: bytes, is_whole: bool, until: Any) -> None:
        framing = self.framing or Framing.of_length(len(body))
        message = self.request if self.is_upload else self.response
        message.framing = framing
        hold: Any = hold_request if self.is_upload else hold_response
        if not self.is_upload:
            hold_request(self.exchange)
        self.stage = hold(self.exchange)
        if self.stage is None:
            return
        self.closes.append(self.stage.close)
        self.stage.source, self.stage.sink = self.source, self.sink
        self.sink.stage = self.stage
        self.stage.begin(message)
        self.source.send(body, is_whole)
        await self.turn_until(until or (lambda: self.sink.ended or self.exchange.is_over))
        if until is None:
            if not self.exchange.is_over:
                self.exchange.end()
            self.kept.close() if self.kept.count == 0 else None
            await self.settle()

    async def turn_until(self, done: Callable[[], Any]) -> None:
        while not done():
            self.on_turn(self.turns)
            self.port.turn(1.0)
            for _ in range(4):
                await asyncio.sleep(0)
            self.turns += 1
            assert self.turns < 50_000, "the body does not end"

    async def settle(self) -> None:
        """See that everything was given back."""
        for _ in range(20):
            self.port.turn(1.0)
            await asyncio.sleep(0)
        if self.kept.count == 0:
            check_empty(self.port, self.store)
        assert self.transfers.coding_bytes == 0 or self.kept.count
        assert self.transfers.ahead_bytes == 0
        assert os.listdir(self.directory) == []
        assert self.port.statistics().unhandled_errors == 0


class Source:
    """Feeds a body piece by piece, and waits when it is told to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._body = b""
        self._is_whole = True
        self._is_waiting = self._is_over = False
        self.fed = 0

    def send(self, body: bytes, is_whole: bool) -> None:
        self._body, self._is_whole = body, is_whole
        self._go_on()

    def resume(self) -> None:
        assert self._is_waiting, "resumed although it does not wait"
        self._is_waiting = False
        self._world.port.post(self._go_on)

    def _go_on(self) -> None:
        world = self._world
        while self.fed < len(self._body) and not world.exchange.is_over:
            piece = memoryview(self._body)[self.fed : self.fed + world.pieces]
            self.fed += len(piece)
            if not world.stage.feed(piece):
                self._is_waiting = True
                return
        if not self._is_over and not world.exchange.is_over:
            self._is_over = True
            if self._is_whole:
                world.stage.finish(Fields())
            else:
                world.stage.abort("server closed early")


__all__ = ["CHUNKED", "NO_BODY", "FramingKind", "World"]
