"""Data filter factories: filters that the gate makes when something that was foreseen happens.

A session filter sets one for an expected connection, or for events of one type and address that it
did not register for; ``secondary`` and ``dispatch`` use them. The invariant: a factory that was
cancelled, used up or timed out makes nothing, and one that fails ends its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import (
    ConnectionAccepted,
    ConnectRequested,
    DataFilterFactory,
    Event,
    Position,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.port import Timer

if TYPE_CHECKING:
    from .connection import GateConnection
    from .secondary import ExpectedConnection, Use
    from .session import GateSession
    from .udp_connection import UdpConnection

__all__ = ["EventFactory", "ExpectedFactory", "What", "attach_foreseen"]

_EVENTS = (ConnectRequested, UdpDestination, UdpBindRequested, ConnectionAccepted)
"""Events that bring a connection whose chain can take a filter."""


class ExpectedFactory:
    """A data filter factory set for an expected connection; satisfies ``filterapi.Action``."""

    __slots__ = ("_expected", "context", "factory", "position")

    def __init__(
        self,
        expected: ExpectedConnection,
        factory: DataFilterFactory,
        position: Position,
        context: Any,
    ) -> None:
        self._expected = expected
        self.factory = factory
        self.position = position
        self.context = context

    @property
    def address(self) -> SocketAddress:
        """The expected connection's address."""
        return self._expected.address

    @property
    def is_pending(self) -> bool:
        """Whether the factory can still be used."""
        return self._expected.has_factory(self)

    def cancel(self) -> None:
        """Take the factory back; harmless afterwards."""
        self._expected.drop_factory(self)


@dataclass(frozen=True, slots=True)
class What:
    """What an event factory makes, and where it goes."""

    factory: DataFilterFactory
    position: Position
    context: Any


class EventFactory:
    """A factory set for events of one type and address; satisfies ``filterapi.Action``."""

    __slots__ = ("_is_over", "_kind", "_session", "_timer", "_use", "_what", "address", "on_over")

    def __init__(
        self,
        session: GateSession,
        kind: type[Event],
        address: SocketAddress,
        what: What,
        use: Use,
    ) -> None:
        if kind not in _EVENTS:
            names = ", ".join(one.__name__ for one in _EVENTS)
            raise ValueError(f"{kind.__name__} brings no connection of its own; take {names}")
        self.address = address
        #: Which address the event is about; port 0 means any, an unspecified host any.
        self.on_over: Callable[[], None] | None = None
        #: Told that it can be used no more; its last filter may be about to be made.
        self._session = session
        self._kind = kind
        self._what = what
        self._use = use
        self._is_over = False
        self._timer: Timer | None = None
        self._set_timer()

    @property
    def is_pending(self) -> bool:
        """Whether the factory can still be used."""
        return not self._is_over

    def cancel(self) -> None:
        """Take the factory back; harmless afterwards."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._session.drop_factory(self)
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over()

    def is_for(self, event: Event) -> bool:
        """Tell whether an event is what it was set for."""
        if type(event) is not self._kind or self._is_over:
            return False
        found = _address_of(event)
        wanted = self.address
        return (wanted.port in {0, found.port}) and (
            wanted.ip.is_unspecified or wanted.ip == found.ip
        )

    def attach(self, event: Event) -> None:
        """Make a filter and attach it; raises what the factory raises."""
        what = self._what
        if self._use.allow_multiple:
            self._set_timer()
        else:
            self.cancel()
        made = what.factory(event.connection)
        event.connection.attach_data_filter(made, what.position, what.context)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._use.timeout_s is not None:
            self._timer = self._session.call_after(self._use.timeout_s, self.cancel)


def _address_of(event: Event) -> SocketAddress:
    """Return the address that a factory's is compared with, as the SDK has it."""
    match event:
        case ConnectRequested():
            return event.target
        case UdpDestination() | UdpBindRequested():
            return event.address
        case ConnectionAccepted():
            return event.local or event.remote
        case _:
            raise AssertionError(f"no factory is set for {type(event).__name__}")


def attach_foreseen(
    session: GateSession, connection: GateConnection | UdpConnection, event: Event
) -> bool:
    """Attach what was foreseen for an event; False when a factory failed, which ends it."""
    for factory in list(session.factories):
        if factory.is_for(event):
            try:
                factory.attach(event)
            except FILTER_ERRORS as error:
                connection.on_filter_failure(error)
                return False
    return True
