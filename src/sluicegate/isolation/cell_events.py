"""In a cell: a filter that handles events, its session filters, and what they attach.

``server`` has one. The invariant: an event is valid here while the gate waits for its answer, and
what was attached during it goes along with the answer, so it is in the chain or the event is over.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sluicegate.address import SocketAddress
from sluicegate.errors import FILTER_ERRORS, BadContext
from sluicegate.filterapi import (
    Allow,
    AnyDataFilter,
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectionTerminating,
    ConnectRequested,
    Deny,
    Emulate,
    Event,
    Events,
    EventVerdict,
    Filter,
    Pass,
    Position,
    SessionFilter,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.gate.rule_settings import rule_settings_of

from .calls import Make
from .cell_connection import DATA_FILTERS, Attachment, CellConnection, check_kind
from .facts import facts_of
from .failures import shortened
from .messages import (
    AttachedFilter,
    DenyPeer,
    EventAnswer,
    NeverOpened,
    Raised,
    Registration,
    SessionEnded,
)

if TYPE_CHECKING:
    from .cell_firewall import CellFirewall, GateSide
    from .messages import Tell

__all__ = ["CellEvents", "LoadFailedError"]

_VERDICTS: Final[dict[type, str]] = {
    Allow: "allow",
    Deny: "deny",
    Emulate: "emulate",
    Pass: "pass",
}

_KNOWN: tuple[type[Event], ...] = (
    ConnectRequested,
    UdpBindRequested,
    UdpDestination,
    ConnectionAccepted,
    ConnectionTerminating,
)
"""What an isolated filter can be told of."""


class LoadFailedError(Exception):
    """The filter cannot be had; ``cause`` and ``cure`` are for the operator."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


@dataclass(frozen=True, slots=True)
class _Announced:
    """A data filter that waits for its connection, or why there is none."""

    data_filter: AnyDataFilter | None
    context: Any
    failure: BaseException | None = None

    def made(self) -> AnyDataFilter:
        """Return the filter, or raise what its factory raised."""
        if self.failure is not None:
            raise self.failure
        assert self.data_filter is not None, "one of both"
        return self.data_filter


class _CellPeer:
    """A peer of a UDP connection; satisfies ``filterapi.UdpPeer`` while its event is handled."""

    def __init__(self, gate: GateSide, number: int, address: SocketAddress) -> None:
        self.address = address
        self.is_denied = False
        self.is_open = True
        self._gate = gate
        self._number = number

    def deny(self, reason: str) -> None:
        """As ``filterapi.UdpPeer.deny``."""
        if not self.is_open:
            raise BadContext("a peer is denied while its UdpDestination is handled")
        self.is_denied = True
        self._gate.tell(DenyPeer(self._number, shortened(reason)))


class CellEvents:
    """The events of one cell."""

    def __init__(self, gate: GateSide, firewall: CellFirewall) -> None:
        self._gate = gate
        self._firewall = firewall
        self._filter: Filter | None = None
        self._sessions: dict[str, SessionFilter | None] = {}
        self._announced: dict[int, _Announced] = {}
        self._handles = 0

    # -- life ----------------------------------------------------------------------------------

    def start(self, target: Filter) -> Registration:
        """Start the filter and return what it registered for.

        Raises:
            LoadFailedError: It raised, or wants events that do not reach a cell.
        """
        try:
            events = target.start(cast("Any", self._firewall))
            check_kind(events, (Events,), "what start returned, not Events")
        except FILTER_ERRORS as error:
            raise LoadFailedError(f"{type(error).__name__}: {error}", "") from error
        others = sorted(kind.__name__ for kind in events.types if kind not in _KNOWN)
        if others:
            raise LoadFailedError(
                f"it registers for {', '.join(others)}, of which a cell is not told",
                'leave "isolation" out',
            )
        self._filter = target
        sources = None if events.sources is None else sorted(one.value for one in events.sources)
        return Registration(sorted(one.__name__ for one in events.types), events.secondary, sources)

    def stop(self) -> None:
        """Detach every session filter and stop the filter; a failure now harms nobody."""
        for identifier in list(self._sessions):
            self._end_session(identifier)
        target, self._filter = self._filter, None
        if target is not None:
            try:
                target.stop()
            except FILTER_ERRORS as error:
                self._firewall.note("", "stop failed", {"cause": shortened(str(error))})

    def forget(self, message: SessionEnded | NeverOpened) -> None:
        """Take that a session, or the chance of an announced filter, is over."""
        if isinstance(message, SessionEnded):
            self._end_session(message.session)
            return
        announced = self.take(message.handle)
        if announced is not None and announced.data_filter is not None:
            _detach(self._firewall, announced.data_filter)

    def take(self, handle: int) -> _Announced | None:
        """Return an announced filter, once."""
        return self._announced.pop(handle, None)

    def _end_session(self, identifier: str) -> None:
        session_filter = self._sessions.pop(identifier, None)
        if session_filter is not None:
            _detach(self._firewall, session_filter)

    # -- events --------------------------------------------------------------------------------

    async def tell(self, message: Tell) -> None:
        """Let the filter answer an event."""
        connection = self._firewall.connection(message.connection)
        attached: list[Attachment] = []
        connection.attached = attached
        try:
            answer = await self._answer(message, connection)
        except FILTER_ERRORS as error:
            self._drop(attached)
            self._gate.tell(Raised(message.number, shortened(f"{type(error).__name__}: {error}")))
            return
        finally:
            connection.attached = None
        emulation: AttachedFilter | None = None
        verdict = _VERDICTS[type(answer)]
        if isinstance(answer, Emulate) and answer.data_filter is not None:
            emulation = self._announce(
                Attachment(answer.data_filter, Position.EMULATION, answer.context)
            )
        reason = shortened(answer.reason) if isinstance(answer, Deny) else ""
        made = [self._announce(one) for one in attached]
        self._gate.tell(EventAnswer(message.number, verdict, reason, made, emulation))

    async def _answer(self, message: Tell, connection: CellConnection) -> EventVerdict:
        if message.told:
            session_filter, context = self._firewall.calls.kept(message.told)
            event: Event = ConnectionEstablished(cast("Any", connection), context)
        else:
            session_filter = self._attached(connection)
            if session_filter is None:
                return Pass()
            event = self._event(message, connection)
            if session_filter.events is not None and not session_filter.events.has(event):
                return Pass()
        try:
            answer: Any = session_filter.on_event(event)
            if inspect.isawaitable(answer):
                answer = await answer
        finally:
            event.close()
            if isinstance(event, UdpDestination) and isinstance(event.peer, _CellPeer):
                event.peer.is_open = False
        if message.told:
            return Pass()  # the gate does not look at it
        check_kind(answer, (Allow, Deny, Pass, Emulate), "the answer, not a verdict")
        verdict: EventVerdict = answer
        return verdict

    def _attached(self, connection: CellConnection) -> SessionFilter | None:
        identifier = connection.session.id
        if identifier not in self._sessions and self._filter is not None:
            session = cast("Any", connection.session)
            self._sessions[identifier] = self._filter.attach(session)
        return self._sessions.get(identifier)

    def _event(self, message: Tell, connection: CellConnection) -> Event:
        assert self._filter is not None, "events come after the start"
        written: Mapping[str, object] = message.rule_settings
        told: dict[str, Any] = {
            "is_secondary": message.is_secondary,
            "rule_settings": rule_settings_of(self._filter, written),
        }
        seen = cast("Any", connection)
        if message.kind == ConnectionTerminating.__name__:
            return ConnectionTerminating(seen, **told)
        if message.address is None:
            raise ValueError(f"{message.kind} without its address")
        address = SocketAddress(*message.address)
        if message.kind == ConnectRequested.__name__:
            return ConnectRequested(seen, address, **told)
        if message.kind == UdpBindRequested.__name__:
            return UdpBindRequested(seen, address, **told)
        if message.kind == UdpDestination.__name__:
            return UdpDestination(seen, _CellPeer(self._gate, message.number, address), **told)
        local = None if message.local is None else SocketAddress(*message.local)
        return ConnectionAccepted(seen, address, local=local, **told)

    # -- factories -------------------------------------------------------------------------------

    def make(self, message: Make) -> None:
        """Let a factory make the filter for a connection that came; it waits for its place."""
        context: Any = None
        try:
            factory, context = self._firewall.calls.kept(message.token)
            made: Any = factory(cast("Any", self._firewall.connection(message.connection)))
            check_kind(made, DATA_FILTERS, "no data filter")
            announced = _Announced(made, context)
        except FILTER_ERRORS as error:
            announced = _Announced(None, context, error)
        self._announced[message.handle] = announced

    # -- data filters ----------------------------------------------------------------------------

    def _announce(self, made: Attachment) -> AttachedFilter:
        self._handles += 1
        self._announced[self._handles] = _Announced(made.data_filter, made.context)
        kind = type(made.data_filter)
        place = kind.position if made.position is None else made.position
        peer = None if made.peer is None else facts_of(made.peer)
        return AttachedFilter(self._handles, kind.name or kind.__name__, int(place), peer)

    def _drop(self, attached: list[Attachment]) -> None:
        for one in attached:
            _detach(self._firewall, one.data_filter)


def _detach(firewall: CellFirewall, target: SessionFilter | AnyDataFilter) -> None:
    try:
        target.detach()
    except FILTER_ERRORS as error:
        firewall.note("", "detach failed", {"cause": shortened(str(error))})
