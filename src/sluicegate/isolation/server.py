"""In a cell: loads the filter, runs it against the ordinary filter API, and answers the gate.

``app.cell`` runs it in the cell's process. The invariant: the filter's code meets here what it
would meet in the gate, and each question gets exactly one answer, whatever the filter does with it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import AnyDataFilter, ContentFilter, Filter, Refuse, Release, Replace
from sluicegate.gate.rule_settings import maker_of
from sluicegate.gate.settings import PerConnection
from sluicegate.limits import Limits
from sluicegate.sandbox.wire import Wire

from .calls import Forgotten, Make, Piece, Returned
from .cell_events import CellEvents, LoadFailedError
from .cell_firewall import CellFirewall
from .cell_place import CellPlace
from .failures import shortened
from .lent_object import LentObject
from .messages import (
    PART_BYTES_MAX,
    Cancel,
    Detached,
    Fault,
    Inspect,
    Manifest,
    Message,
    NeverOpened,
    Open,
    Part,
    Ping,
    Pong,
    Probe,
    Raised,
    Ready,
    Received,
    Replaced,
    Sent,
    SessionEnded,
    Start,
    Stop,
    Tell,
    ToCell,
    Unusable,
    Verdict,
)

if TYPE_CHECKING:
    from sluicegate.filterapi import Connection
    from sluicegate.port import CompletionPort

__all__ = ["CellServer", "CellWire", "FilterSource", "LoadFailedError"]


class CellWire(Wire, Protocol):
    """The cell's end: it may also stand still until the gate has said something."""

    def wait_for(self, is_wanted: Callable[[ToCell], bool]) -> ToCell:
        """Block until a message comes that is wanted; others are told later, in their order.

        Raises:
            WireBroken: It will not come.
        """
        ...


class FilterSource(Protocol):
    """Loads filters, as the gate would."""

    def make(self, start: Start) -> tuple[object, Manifest]:
        """Load a filter's class and make the filter.

        Raises:
            LoadFailedError: It cannot be had.
        """
        ...

    def probe(self, probe: Probe) -> tuple[Manifest, list[Fault]]:
        """Load a filter's class, and find what is wrong with its settings.

        Raises:
            LoadFailedError: It cannot be had.
        """
        ...


class CellServer:
    """The filter's side of one cell."""

    def __init__(
        self, port: CompletionPort, source: FilterSource, on_end: Callable[[], None]
    ) -> None:
        """Make one.

        Args:
            port: The cell's own.
            source: Where filters come from.
            on_end: Called when the cell has nothing more to do.
        """
        self.wire: CellWire
        #: Set before the first message.
        self._port = port
        self._source = source
        self._on_end = on_end
        self._filter: object = None
        self._firewall = CellFirewall(self, port, Limits())
        self._calls = self._firewall.calls
        self._calls.wait_for = self._wait_for
        self._events = CellEvents(self, self._firewall)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._places: dict[int, CellPlace] = {}

    # -- the wire ------------------------------------------------------------------------------

    def on_message(self, message: ToCell, descriptors: list[int]) -> None:
        """Take what the gate said."""
        match message:
            case Inspect(number):
                self._run(number, self._inspect(message, descriptors.pop(0)))
            case Open():
                self._open(message)
            case Received() | Sent() | Detached() | Piece():
                self._tell_place(message)
            case Returned():
                self._calls.on_returned(message)
            case Make():
                self._events.make(message)
            case Tell(number):
                self._run(number, self._events.tell(message))
            case SessionEnded() | NeverOpened():
                self._events.forget(message)
            case _:
                self._on_life(message)
        for one in descriptors:
            os.close(one)

    def _on_life(self, message: ToCell) -> None:
        match message:
            case Ping(number):
                self.tell(Pong(number))
            case Start():
                self._start(message)
            case Probe():
                self._probe(message)
            case Cancel(number) if number in self._tasks:
                self._tasks[number].cancel()
            case Forgotten(tokens):
                self._calls.forget(*tokens)
            case Stop():
                self.end()
            case _:
                pass  # the cancellation of what was answered meanwhile

    def tell(self, message: Message) -> None:
        """As ``cell_firewall.GateSide.tell``."""
        self.wire.send(message)

    def _wait_for(self, is_wanted: Callable[[ToCell], bool]) -> ToCell:
        return self.wire.wait_for(is_wanted)

    def end(self) -> None:
        """Stop the filter and end."""
        self.abandon()
        self._events.stop()
        self._on_end()

    def abandon(self) -> None:
        """Give up what is under way."""
        for task in self._tasks.values():
            task.cancel()

    @property
    def asked_count(self) -> int:
        """Questions that are not answered."""
        return len(self._tasks)

    @property
    def kept_count(self) -> int:
        """What is kept until the gate does not need it any more."""
        return self._calls.kept_count

    def _run(self, number: int, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    # -- the filter ----------------------------------------------------------------------------

    def _start(self, start: Start) -> None:
        self._firewall.limits = Limits(**start.limits)
        try:
            self._filter, manifest = self._source.make(start)
            registration = None
            if isinstance(self._filter, Filter):
                registration = self._events.start(self._filter)
            elif isinstance(self._filter, ContentFilter) and self._filter.scanners:
                asked = ", ".join(self._filter.scanners)
                cause = f"it asks {asked}: scanners are not asked from cells"
                raise LoadFailedError(cause, 'leave "isolation" out')
        except LoadFailedError as error:
            self.tell(Unusable(error.cause, error.cure))
        else:
            self.tell(Ready(manifest, [], registration))

    def _probe(self, probe: Probe) -> None:
        try:
            manifest, faults = self._source.probe(probe)
        except LoadFailedError as error:
            self.tell(Unusable(error.cause, error.cure))
        else:
            self.tell(Ready(manifest, faults))

    # -- data ----------------------------------------------------------------------------------

    def _open(self, message: Open) -> None:
        number = message.number
        connection = self._firewall.connection(message.connection)
        place = CellPlace(
            self,
            connection,
            number,
            has_server=message.has_server,
            has_datagrams=message.has_datagrams,
            on_gone=lambda: self._forget(number),
        )
        self._places[number] = place
        announced = self._events.take(message.handle)
        if announced is not None:
            place.start(announced.made, announced.context)
        else:
            place.start(lambda: self._make(message), None)

    def _forget(self, number: int) -> None:
        self._places.pop(number, None)

    def _make(self, message: Open) -> AnyDataFilter:
        target = self._filter
        if not isinstance(target, PerConnection):
            raise TypeError(f"{target!r} makes no data filters")
        return maker_of(target, message.rule_settings)()

    def _tell_place(self, message: Received | Sent | Detached | Piece) -> None:
        place = self._places.get(message.number)
        if place is None:
            return
        if isinstance(message, Detached):
            place.detach()
            return
        if isinstance(message, Piece):
            place.on_piece(message)
            return
        socket = place.server if message.is_server else place.client
        if socket is None:
            return
        if isinstance(message, Received):
            socket.on_received(message)
        else:
            socket.on_sent(message.error)

    # -- content -------------------------------------------------------------------------------

    async def _inspect(self, message: Inspect, descriptor: int) -> None:
        number = message.number
        connection = self._firewall.connection(message.connection)
        transfer = LentObject(self._port, message, cast("Connection", connection), descriptor)
        try:
            answer = await self._verdict(transfer)
        except FILTER_ERRORS as error:
            answer = f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            answer = "inspect was cancelled"
        finally:
            transfer.end()
        match answer:
            case Release():
                self.tell(Verdict(number, True, ""))
            case Refuse(reason):
                self.tell(Verdict(number, False, shortened(reason)))
            case Replace(body):
                await self._send_body(number, body)
            case str():
                self.tell(Raised(number, shortened(answer)))
            case _:
                self.tell(Raised(number, shortened(f"answered {answer!r}, which is no verdict")))

    async def _verdict(self, transfer: LentObject) -> object:
        assert isinstance(self._filter, ContentFilter)
        asked: object = self._filter.inspect(transfer)
        if not inspect.isawaitable(asked):
            return f"inspect is not a coroutine: it returned {asked!r}"
        answer: object = await asked
        return f"answered {answer!r}, which is no verdict" if isinstance(answer, str) else answer

    async def _send_body(self, number: int, body: bytes) -> None:
        rest = memoryview(body)
        while rest:
            self.tell(Part(number, bytes(rest[:PART_BYTES_MAX])))
            rest = rest[PART_BYTES_MAX:]
            await self.wire.drain()
        self.tell(Replaced(number))
