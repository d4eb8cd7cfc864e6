"""Firewall events: what filters are told, and what they may answer.

``gate/dispatch`` hands them to session filters; ``event_types`` says who is told of what. The
invariant: an event is valid while it is being handled; afterwards what it allows (attaching,
denying, answering a lookup) raises ``BadContext``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.errors import BadContext
from sluicegate.verdict import Allow, Deny, Pass

from .emulate import Emulate
from .position import Position

if TYPE_CHECKING:
    from .data_filter import AnyDataFilter
    from .udp_peer import UdpPeer
    from .views import Bind, Connection, Session

__all__ = [
    "AddressLookup",
    "ConnectRequested",
    "ConnectionAccepted",
    "ConnectionEstablished",
    "ConnectionEvent",
    "ConnectionTerminating",
    "EntryMode",
    "Event",
    "ListenRequested",
    "NameLookup",
    "TcpBindRequested",
    "UdpBindRequested",
    "UdpDestination",
]


class EntryMode(enum.StrEnum):
    """How a client came: what the event's source is."""

    PUBLISHED = "published"
    """By a published port: the client does not know of the gate."""
    TRANSPARENT = "transparent"
    """Intercepted on its way: the client does not know of the gate."""
    SOCKS4 = "socks4"
    SOCKS5 = "socks5"
    HTTP_CONNECT = "http-connect"
    HTTP = "http"
    """By the URL of a request, as a browser asks a proxy for ``http:``."""
    PRIVATE = "private"
    """By a filter, in a private session or through a session's own network socket."""

    @property
    def is_explicit(self) -> bool:
        """Whether the client asks the gate by name: binds, listens and lookups are its own."""
        return self in _EXPLICIT


_EXPLICIT = frozenset({EntryMode.SOCKS4, EntryMode.SOCKS5, EntryMode.HTTP_CONNECT, EntryMode.HTTP})


class Event:
    """What all events carry; made for one dispatch."""

    __slots__ = ("_connection", "_is_open", "is_secondary", "rule_settings", "session", "source")

    verdicts: ClassVar[tuple[type, ...]] = (Pass,)
    """What may be answered; another answer is a failure of the filter."""

    def __init__(
        self,
        session: Session,
        source: EntryMode,
        connection: Connection | None = None,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        self._connection = connection
        self.session = session
        #: Whose client it is about.
        self.source = source
        #: How that client came.
        self.is_secondary = is_secondary
        #: Whether another connection announced this one.
        self.rule_settings: Any = {} if rule_settings is None else rule_settings
        #: The matched rule's settings for the filter that is being told: what its class declares as
        #: ``RuleSettings``, complete; a plain table where it declares nothing.
        self._is_open = True

    @property
    def connection(self) -> Connection:
        """The connection it is about.

        Raises:
            BadContext: It is about none: a lookup outside any connection.
        """
        if self._connection is None:
            raise BadContext(f"{type(self).__name__} is about no connection")
        return self._connection

    def attach_data_filter(
        self,
        data_filter: AnyDataFilter,
        position: Position | None = None,
        context: Any = None,
        *,
        peer: SocketAddress | None = None,
    ) -> None:
        """Put a data filter into the connection's chain.

        Args:
            data_filter: A data, callback or stream filter, made for this connection.
            position: Default: the filter's own.
            context: Handed to ``set_sockets`` of a callback filter.
            peer: On a UDP connection: remove it when this peer is forgotten. It sees the
                datagrams of every peer meanwhile.

        Raises:
            BadContext: The event is over, or it brings no connection that can have a chain; or
                the connection does not know the peer.
        """
        self.check_open()
        self.connection.attach_data_filter(data_filter, position, context, peer=peer)

    def check_open(self) -> None:
        """Raise ``BadContext`` when the event has been handled."""
        if not self._is_open:
            raise BadContext("the event has been handled; decide while it is")

    def close(self) -> None:
        """End the event's validity (the dispatcher only)."""
        self._is_open = False


class ConnectionEvent(Event):
    """An event about one connection, whose session and entry mode it takes."""

    __slots__ = ()

    def __init__(
        self,
        connection: Connection,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(
            connection.session,
            connection.entry_mode,
            connection,
            is_secondary=is_secondary,
            rule_settings=rule_settings,
        )


class ConnectRequested(ConnectionEvent):
    """A client wants a connection to a server: before anything is dialled.

    Answers: ``Pass``, ``Allow``, ``Deny``, ``Emulate(data_filter)``; filters may be attached.
    """

    __slots__ = ("target",)
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny, Emulate)

    def __init__(
        self,
        connection: Connection,
        target: SocketAddress,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.target = target
        #: The address that was judged and will be dialled.


class UdpDestination(ConnectionEvent):
    """A UDP connection has a peer that is not in its cache: a datagram is to go there, or came.

    Answers: ``Pass``, ``Allow``, ``Deny`` (datagrams to and from this peer are dropped); filters
    may be attached. To see what comes in, register for ``UdpBindRequested``.
    """

    __slots__ = ("peer",)
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny)

    def __init__(
        self,
        connection: Connection,
        peer: UdpPeer,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.peer = peer

    @property
    def address(self) -> SocketAddress:
        """The peer's address."""
        return self.peer.address


class TcpBindRequested(ConnectionEvent):
    """An address of the gate is to be bound for a client: SOCKS BIND, or ``bind_for_client``.

    Answers: ``Pass``, ``Allow``, ``Deny`` (the client is told that the bind failed), ``Emulate()``.
    ``connection`` is the one that asked, or the one that ``bind_for_client`` was called for.
    """

    __slots__ = ("address", "bind")
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny, Emulate)

    def __init__(
        self,
        connection: Connection,
        address: SocketAddress,
        bind: Bind,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.address = address
        #: What is wanted; port 0 means any.
        self.bind = bind
        #: The bind itself: who may connect, and what an emulating filter does with it.


class UdpBindRequested(ConnectionEvent):
    """A UDP connection is to be bound on the gate: SOCKS UDP ASSOCIATE, or a published port.

    Answers: ``Pass``, ``Allow``, ``Deny``; filters that are attached see what comes in, too.
    """

    __slots__ = ("address",)
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny)

    def __init__(
        self,
        connection: Connection,
        address: SocketAddress,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.address = address
        #: What is wanted; port 0 means any.


class ListenRequested(ConnectionEvent):
    """A bound address begins to listen for a client; told after the bind was allowed.

    It cannot be refused (refuse the bind, or what connects): only ``Pass`` may be answered.
    """

    __slots__ = ("address", "bind")

    def __init__(
        self,
        connection: Connection,
        address: SocketAddress,
        bind: Bind,
        *,
        is_secondary: bool = False,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.address = address
        #: Where: assigned, not wanted.
        self.bind = bind


class ConnectionAccepted(ConnectionEvent):
    """Somebody connected to an address that was bound for a client.

    Answers: ``Pass``, ``Allow``, ``Deny`` (the connection is aborted); filters may be attached.
    """

    __slots__ = ("local", "remote")
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny)

    def __init__(
        self,
        connection: Connection,
        remote: SocketAddress,
        *,
        local: SocketAddress | None = None,
        is_secondary: bool = True,
        rule_settings: Any = None,
    ) -> None:
        super().__init__(connection, is_secondary=is_secondary, rule_settings=rule_settings)
        self.remote = remote
        #: Who connected.
        self.local = local
        #: The address of the gate where; None where there is no socket of it.


class ConnectionEstablished(ConnectionEvent):
    """An expected connection came up; told only to the session filter that expected it.

    Nobody can register for it. The answer is ignored.
    """

    __slots__ = ("context",)

    def __init__(self, connection: Connection, context: Any) -> None:
        super().__init__(connection, is_secondary=True)
        self.context = context
        #: What was given with the expectation.


class ConnectionTerminating(ConnectionEvent):
    """A connection ends; references to it must be dropped. The answer is ignored."""

    __slots__ = ()


class NameLookup(Event):
    """The gate looks a name up for a client; told before, and again with the answer.

    Answers: ``Pass``, ``Allow``, ``Deny`` (the client is told that there is no such name).
    """

    __slots__ = ("_result", "addresses", "host", "is_before")
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny)

    def __init__(
        self,
        session: Session,
        source: EntryMode,
        host: str,
        addresses: tuple[IpAddress, ...] | None = None,
        connection: Connection | None = None,
    ) -> None:
        super().__init__(session, source, connection)
        self.host = host
        #: The name in its canonical form.
        self.is_before = addresses is None
        #: Whether nothing has been asked yet.
        self.addresses: tuple[IpAddress, ...] = addresses or ()
        #: The answer; empty before, and where there is none.
        self._result: tuple[IpAddress, ...] | None = None

    def set_result(self, addresses: Iterable[IpAddress]) -> None:
        """Answer in the resolver's place; policy judges these addresses like any others.

        Before, nothing is asked and the second event brings them; after, they replace the answer.

        Raises:
            BadContext: The event is over.
            ValueError: No address; deny the lookup instead.
        """
        self.check_open()
        result = tuple(addresses)
        if not result:
            raise ValueError("an answer has at least one address; to refuse, answer Deny")
        self._result = result

    @property
    def result(self) -> tuple[IpAddress, ...] | None:
        """What a filter answered; None while none did."""
        return self._result


class AddressLookup(Event):
    """The gate looks up which names an address has; told before, and again with the answer.

    Answers: ``Pass``, ``Allow``, ``Deny`` (there is no name).
    """

    __slots__ = ("_result", "address", "is_before", "names")
    verdicts: ClassVar[tuple[type, ...]] = (Pass, Allow, Deny)

    def __init__(
        self,
        session: Session,
        source: EntryMode,
        address: IpAddress,
        names: tuple[str, ...] | None = None,
        connection: Connection | None = None,
    ) -> None:
        super().__init__(session, source, connection)
        self.address = address
        self.is_before = names is None
        #: Whether nothing has been asked yet.
        self.names: tuple[str, ...] = names or ()
        #: The answer; empty before, and where there is none.
        self._result: tuple[str, ...] | None = None

    def set_result(self, names: Iterable[str]) -> None:
        """Answer in the resolver's place, before or after it was asked.

        Raises:
            BadContext: The event is over.
            ValueError: No name; deny the lookup instead.
        """
        self.check_open()
        result = tuple(names)
        if not result:
            raise ValueError("an answer has at least one name; to refuse, answer Deny")
        self._result = result

    @property
    def result(self) -> tuple[str, ...] | None:
        """What a filter answered; None while none did."""
        return self._result
