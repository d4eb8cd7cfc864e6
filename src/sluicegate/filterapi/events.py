"""Firewall events: what filters are told, and how they register for it.

``gate/dispatch`` makes them and hands them to session filters. The invariant: an event is valid
while it is being handled; afterwards what it allows (attaching, denying) raises ``BadContext``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext

from .position import Position

if TYPE_CHECKING:
    from .data_filter import AnyDataFilter
    from .views import Connection

__all__ = [
    "ConnectRequested",
    "ConnectionAccepted",
    "ConnectionEstablished",
    "ConnectionTerminating",
    "Event",
    "Events",
]


class Event:
    """What all events carry; made for one dispatch."""

    __slots__ = ("_is_open", "connection", "is_secondary", "rule_settings")

    def __init__(
        self,
        connection: Connection,
        *,
        is_secondary: bool = False,
        rule_settings: Mapping[str, object] | None = None,
    ) -> None:
        self.connection = connection
        #: The connection it is about.
        self.is_secondary = is_secondary
        #: Whether another connection announced this one.
        self.rule_settings: Mapping[str, object] = rule_settings or {}
        #: The matched rule's settings for the filter that is being told.
        self._is_open = True

    def attach_data_filter(
        self, data_filter: AnyDataFilter, position: Position | None = None, context: Any = None
    ) -> None:
        """Put a data filter into the connection's chain.

        Args:
            data_filter: A data, callback or stream filter, made for this connection.
            position: Default: the filter's own.
            context: Handed to ``set_sockets`` of a callback filter.

        Raises:
            BadContext: The event is over, or it brings no connection that can have a chain.
        """
        self.check_open()
        self.connection.attach_data_filter(data_filter, position, context)

    def check_open(self) -> None:
        """Raise ``BadContext`` when the event has been handled."""
        if not self._is_open:
            raise BadContext("the event has been handled; decide while it is")

    def close(self) -> None:
        """End the event's validity (the dispatcher only)."""
        self._is_open = False


class ConnectRequested(Event):
    """A client wants a connection to a server: before anything is dialled.

    Answers: ``Pass``, ``Allow``, ``Deny``; data filters may be attached.
    """

    __slots__ = ("target",)

    def __init__(
        self,
        connection: Connection,
        target: SocketAddress,
        *,
        is_secondary: bool = False,
        rule_settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.target = target
        #: The address that was judged and will be dialled.


class ConnectionAccepted(Event):
    """A server connected to an address that was bound for a client (``bind_for_client``).

    Answers: ``Pass``, ``Allow``, ``Deny`` (the connection is aborted); filters may be attached.
    """

    __slots__ = ("remote",)

    def __init__(
        self,
        connection: Connection,
        remote: SocketAddress,
        *,
        is_secondary: bool = True,
        rule_settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.remote = remote
        #: Who connected.


class ConnectionEstablished(Event):
    """An expected connection came up; told only to the session filter that expected it."""

    __slots__ = ("context",)

    def __init__(self, connection: Connection, context: Any) -> None:
        super().__init__(connection, is_secondary=True)
        self.context = context
        #: What was given with the expectation.


class ConnectionTerminating(Event):
    """A connection ends; references to it must be dropped. The answer is ignored."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Events:
    """What a filter registers for, in two phases: at start, and narrower for one session."""

    types: frozenset[type[Event]] = frozenset()
    secondary: bool = False
    """Whether secondary connections are wanted too."""

    @classmethod
    def of(cls, *types: type[Event], secondary: bool = False) -> Events:
        """Register for these types."""
        return cls(frozenset(types), secondary)

    def has(self, kind: type[Event], *, is_secondary: bool) -> bool:
        """Tell whether an event of this type is wanted."""
        return kind in self.types and (self.secondary or not is_secondary)
