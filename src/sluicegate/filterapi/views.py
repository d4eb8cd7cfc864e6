"""What filters see of the gate: protocols that its objects satisfy.

Filters are written and typed against these names; the gate implements them, and so does the test
kit. The invariant: nothing here lets a filter reach another client's session or the gate's insides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sluicegate.address import AddressFilter, IpAddress, SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.errors import Side
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, TaskCompletion

from .events import EntryMode
from .position import Position
from .surroundings import NetworkWatch, ResourceRecovery
from .user import User

if TYPE_CHECKING:
    from .content_filter import HeldTransfer, TransferOffer
    from .data_filter import AnyDataFilter, CallbackDataFilter, DataFilter
    from .events import Event
    from .network_socket import NetworkSocket
    from .open_transfer import OpenTransfer
    from .private_session import PrivateSession
    from .scanner import Scanner
    from .session_filter import SessionFilter

__all__ = ["Action", "Bind", "Connection", "DataFilterFactory", "Firewall", "Session"]

ResultT = TypeVar("ResultT")


class Action(Protocol):
    """A permission asked for in advance; ends after one use, its time-out, or with the session."""

    @property
    def address(self) -> SocketAddress:
        """Where the expected peer must connect: an address of the gate."""
        ...

    @property
    def is_pending(self) -> bool:
        """Whether it can still be used."""
        ...

    def cancel(self) -> None:
        """Withdraw it; harmless afterwards."""
        ...


class Bind(Action, Protocol):
    """An address of the gate that is bound for a client, until it is used up or its client ends."""

    @property
    def peers(self) -> AddressFilter:
        """A copy of who may connect."""
        ...

    def set_peers(self, peers: AddressFilter) -> None:
        """Limit who may connect from now on; not what an emulating filter brings."""
        ...

    def set_client_address(self, client: SocketAddress) -> None:
        """Say where the client is to be connected to.

        Raises:
            ValueError: It is not the session's own address (a bounce).
        """
        ...

    def set_socket_name(self, address: SocketAddress) -> None:
        """Name the address that the client is told; a filter that emulates the bind must.

        Raises:
            BadContext: ``TcpBindRequested`` has been answered: the address is known by now.
        """
        ...

    def emulate_connection(
        self,
        data_filter: DataFilter | CallbackDataFilter,
        remote: SocketAddress,
        local: SocketAddress | None = None,
        context: Any = None,
    ) -> Connection:
        """Bring a connection to a bind that this filter emulates: the client gets it as accepted.

        ``ConnectionAccepted`` is told first; ``data_filter`` is run with the client's socket alone.

        Args:
            data_filter: Plays the peer; made for this connection.
            remote: Who connects, as the client sees it.
            local: Its own end, as the client sees it; None: the bind's address.
            context: Handed to ``set_sockets`` of a callback filter.

        Raises:
            BadContext: The bind is over, or is not emulated.
            TransportError: ``ECONNREFUSED``: a limit refuses the connection.
        """
        ...


class Connection(Protocol):
    """One client-side socket, one server-side socket, and the chain between."""

    @property
    def id(self) -> str:
        """The identifier in records."""
        ...

    @property
    def session(self) -> Session:
        """The client's session."""
        ...

    @property
    def entry_mode(self) -> EntryMode:
        """How the client came."""
        ...

    @property
    def client_address(self) -> SocketAddress:
        """The client's address."""
        ...

    @property
    def server_address(self) -> SocketAddress:
        """The judged server address."""
        ...

    @property
    def client_side_address(self) -> SocketAddress:
        """The gate's own address towards the client."""
        ...

    @property
    def server_side_address(self) -> SocketAddress:
        """The gate's own address towards the server; valid once connected."""
        ...

    @property
    def rule(self) -> str:
        """Name of the rule that admitted it."""
        ...

    @property
    def is_secondary(self) -> bool:
        """Whether another connection announced it."""
        ...

    @property
    def firewall(self) -> Firewall:
        """The running service."""
        ...

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """Write a record about this connection, in a filter's name.

        Args:
            by: The filter, most often ``self``: the record has the name that it is installed under.
            message: For people; facts belong into ``facts``, so that records can be searched.
            facts: More of the record; ``connection`` is added.
        """
        ...

    def attach_data_filter(
        self,
        data_filter: AnyDataFilter,
        position: Position | None = None,
        context: Any = None,
        *,
        peer: SocketAddress | None = None,
    ) -> None:
        """As ``Event.attach_data_filter``.

        Raises:
            BadContext: No event about this connection is being handled.
        """
        ...

    def leave(self, data_filter: AnyDataFilter) -> None:
        """Take a callback filter out of the chain; the connection goes on without it."""
        ...

    def hand_over(
        self, data_filter: AnyDataFilter, successor: AnyDataFilter, context: Any = None
    ) -> None:
        """Put ``successor`` in a data filter's place in the chain, with the same sockets.

        The one that hands over must have nothing pending on them, and is detached when it is done
        (a coroutine: when it returns).

        Raises:
            BadContext: ``data_filter`` is not in the chain, or the connection has ended.
        """
        ...

    def open_transfer(self, offer: TransferOffer) -> OpenTransfer:
        """Take an object out of the dialogue: the rule's content filters judge it as a whole.

        For data filters with sockets (``DataFilter``, ``CallbackDataFilter``), while the connection
        is open.

        Args:
            offer: What is known of the object; ``direction`` says who sends it.

        Raises:
            BadContext: No data filter is there that could, or the connection has ended.
            LimitExceeded: Too many are open (``open_transfers_per_connection_max``).
        """
        ...

    def dial_server(self, address: SocketAddress) -> None:
        """Begin to dial the server of a connection that came up without it (``dial_later``).

        A failure ends the connection. Until it is there, sends towards the server wait.

        Args:
            address: On the host that was judged; it may have announced another port meanwhile.

        Raises:
            BadContext: The server was dialled before, or the connection has ended.
            ValueError: Another host than the one that was judged.
        """
        ...

    @property
    def is_emulated(self) -> bool:
        """Whether a filter is its server, so that nothing was dialled."""
        ...

    def count_sent(self, count: int) -> None:
        """Add bytes that an emulating filter sent for the client, somewhere else.

        Once called, the record's ``bytes_to_server`` is what was counted; else it is what the
        filter received.

        Raises:
            BadContext: The connection is not emulated, or not open.
        """
        ...

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """Abort both sides; the record says refused with ``reason``.

        A side that is told something gets it whole, behind everything that was released, and a
        clean end of its stream instead of a reset; or, where bytes wait to be sent to it, nothing.
        The other filters of the connection are not asked about it.

        Args:
            reason: For the record.
            to_client: What the client is told, ``LAST_WORDS_BYTES_MAX`` at most.
            to_server: What the server is told.

        Raises:
            ValueError: A message is too long.
        """
        ...

    def fail(
        self,
        reason: str,
        error: int = 0,
        side: Side = Side.INTERNAL,
        *,
        to_client: bytes = b"",
        to_server: bytes = b"",
    ) -> None:
        """Abort both sides; the record says failed with ``reason``, an errno and whose it is.

        A side may be told something first, as ``refuse`` says.
        """
        ...


DataFilterFactory = Callable[[Connection], "AnyDataFilter"]


class Session(Protocol):
    """One client."""

    @property
    def id(self) -> str:
        """The identifier in records."""
        ...

    @property
    def client_address(self) -> SocketAddress:
        """The client's address; its port has no meaning."""
        ...

    @property
    def user(self) -> User | None:
        """Who the client has shown to be; None when nobody asked."""
        ...

    def allow_future_connect(
        self,
        connection: Connection,
        target: SocketAddress,
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        dial_later: bool = False,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> Action:
        """Permit a secondary connection of this client to ``target``.

        The gate listens on ``action.address``, on the address where ``connection`` reached it; only
        this session's client may connect there.

        Args:
            connection: The primary connection; its end cancels the action.
            target: The server's address and port; policy judges it with the primary's rule.
            ports: Where to listen; None lets the kernel choose.
            session_filter: Who is told ``ConnectionEstablished``; None: nobody.
            context: Handed back in ``ConnectionEstablished``.
            dial_later: The server is not dialled when the client comes, but when a data filter
                asks for it (``Connection.dial_server``); needs one that does.
            allow_multiple: More than one use: it ends with ``connection``, or unused.
            timeout_s: How long it waits for the next use; None: ``expected_connection_timeout_s``.

        Raises:
            LimitExceeded: Too many outstanding actions, or no free port in ``ports``.
            TransportError: Listening failed, or ``EACCES``: the policy does not let the connection
                bring that about (its rule, or the protocols that the rule names).
        """
        ...

    def connect_to_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        session_filter: SessionFilter | None = None,
        context: Any = None,
    ) -> Action:
        """Dial the client for one secondary connection, whose server is dialled later.

        It begins on the port's next turn, so that a data filter factory can be set before.

        Args:
            connection: The primary connection; its end cancels the action.
            client: Where to connect to at the client; must be the session's own address.
            session_filter: Who is told ``ConnectionEstablished``; None: nobody.
            context: Handed back in ``ConnectionEstablished``.

        Raises:
            LimitExceeded: Too many outstanding actions.
            TransportError: ``EACCES``: the protocols of its rule bring about no such connection.
            ValueError: ``client`` is not the session's own address (a bounce).
        """
        ...

    def bind_for_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        peers: AddressFilter,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> Bind:
        """Listen for a secondary connection from a server and relay it to ``client``.

        The gate listens on ``action.address``, on the address from which it reached the server.
        Filters are told: ``TcpBindRequested`` before, ``ListenRequested`` when it listens.

        Args:
            connection: The primary connection; its end cancels the action.
            client: Where to connect to at the client; must be the session's own address. Port 0:
                ``Bind.set_client_address`` says it later, and nobody gets in before.
            peers: Who may connect (the server's address).
            ports: Where to listen; None lets the kernel choose.
            session_filter: Who is told ``ConnectionEstablished``; None: nobody.
            context: Handed back in ``ConnectionEstablished``.
            allow_multiple: More than one use: it ends with ``connection``, or unused.
            timeout_s: How long it waits for the next use; None: ``expected_connection_timeout_s``.

        Raises:
            LimitExceeded: Too many outstanding actions, or no free port in ``ports``.
            TransportError: Listening failed, or ``EACCES``: a filter denied the bind, or the
                protocols of the rule bring about no such connection.
            ValueError: ``client`` is not the session's own address (a bounce).
        """
        ...

    def redirect_connections(
        self,
        connection: Connection,
        targets: Sequence[SocketAddress],
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> list[Action]:
        """Give the client addresses of the gate that lead to ``targets``, on consecutive ports.

        Tell the client the first action's address; target n is n ports above it. Each action can be
        cancelled by itself, and is used and ends as with ``allow_future_connect``.

        Raises:
            LimitExceeded: Too many outstanding actions, or no run of free ports.
            TransportError: Listening failed, or ``EACCES`` as with ``allow_future_connect``.
            ValueError: No target is given.
        """
        ...

    def retroactive_allow_bind(self, address: SocketAddress, peers: AddressFilter) -> bool:
        """Let peers in at an address that this client has bound already; False: they were.

        Args:
            address: The bind's, as the client was told; an unspecified host means any.
            peers: Who may connect, too.

        Raises:
            LookupError: The client has no such bind; use ``bind_for_client``.
        """
        ...

    def host_access_check(self, host: str, port: int) -> bool:
        """Tell whether the rules let this client reach a host; nothing is looked up or recorded.

        The rules are those of the proxy listeners by which the client came, as they are now: a
        client of published ports alone reaches nothing by itself.
        """
        ...

    async def host_by_name(
        self, connection: Connection, host: str, port: int
    ) -> tuple[IpAddress, ...]:
        """Return the addresses of a host that the client may reach, by the gate's resolver.

        Filters are told by ``NameLookup``, as of what the client asks; do not look a name up while
        you are told of it.

        Args:
            connection: Of this session; its rule's filters are told.
            host: A name or an address.
            port: Where to it would be connected: rules are about hosts and ports.

        Raises:
            TransportError: ``EACCES``: the rules of the proxy listeners by which the client came
                refuse it; ``EHOSTUNREACH``: it has no address, or a filter denied the lookup.
            LimitExceeded: The client has too many lookups.
            BadContext: The connection is over.
        """
        ...

    async def host_by_address(self, connection: Connection, address: IpAddress) -> tuple[str, ...]:
        """Return the names that an address has in DNS; none when it has none, or a filter denies.

        Whoever has the address writes them: they are canonical, and prove nothing. Filters are told
        by ``AddressLookup``.

        Raises:
            TransportError: ``EACCES``: it is no public address; ``EHOSTUNREACH``: the lookup
                failed.
            LimitExceeded: The client has too many lookups.
            BadContext: The connection is over.
        """
        ...

    def create_network_socket(self) -> NetworkSocket:
        """Make a socket that connects and accepts as this client, by the same rules."""
        ...

    def attach_filter(self, name: str) -> None:
        """Let an installed filter be told of this session's events, though no rule names it.

        Harmless where it is told of them already.

        Raises:
            LookupError: No filter of that name takes events.
            FilterFailed: It could not start.
        """
        ...

    def set_data_filter_factory(
        self,
        foreseen: Action | type[Event],
        factory: DataFilterFactory,
        *,
        address: SocketAddress | None = None,
        position: Position = Position.MIDDLE,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> Action:
        """Attach a data filter from ``factory`` to a connection that is foreseen.

        Args:
            foreseen: What was expected (``allow_future_connect`` and its kin), or the type of an
                event that the filter did not register for.
            factory: Makes the filter when the connection comes.
            address: With a type of event: which address it must be about (the target, or the bound
                one); an unspecified host and port 0 mean any, and so does None.
            position: Where in the chain.
            context: Handed to ``set_sockets`` of a callback filter.
            allow_multiple: With a type of event: for every such event, not only for the first.
            timeout_s: With a type of event: how long it waits; None: as long as the session lives.

        Raises:
            BadContext: The expectation is over.
            LimitExceeded: Too many factories.
            ValueError: Events of that type bring no connection of their own.
        """
        ...

    def hold_transfer(
        self, connection: Connection, offer: TransferOffer, *, deliver_later: bool = False
    ) -> HeldTransfer:
        """Prepare to hold one object: its ``factory`` makes the filter that does it.

        Args:
            connection: The primary connection; its rule says who judges.
            offer: What is known of the object.
            deliver_later: An object that was released waits for ``HeldTransfer.deliver``: its
                receiver must be told before it may get a byte.
        """
        ...


class Firewall(Protocol):
    """The running service, as filters see it."""

    @property
    def network(self) -> NetworkWatch:
        """The machine's interfaces and addresses, as they change."""
        ...

    @property
    def recovery(self) -> ResourceRecovery:
        """Where filters register that can give back when a resource runs short."""
        ...

    @property
    def port(self) -> CompletionPort:
        """The completion port: hook files, make overlappeds, set timers."""
        ...

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        ...

    def scanner(self, name: str) -> Scanner:
        """Return a scanner that ``[[scanner]]`` configures.

        Raises:
            LookupError: There is none of that name.
        """
        ...

    def create_private_session(
        self, client: SocketAddress, *, listener: str, user: User | None = None
    ) -> PrivateSession:
        """Speak for a client that the gate does not know: an application's, say.

        Args:
            client: Whom for; its port has no meaning.
            listener: Whose rules judge what it asks for: a proxy's.
            user: Who, as rules see it; None: only the address counts.
        """
        ...

    def create_buffer(self, size: int) -> Buffer:
        """Allocate an empty buffer."""
        ...

    def post_task(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """Run a task once, soon, on the port."""
        ...

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a blocking call on the pool."""
        ...

    def note(self, filter_name: str, message: str, facts: Mapping[str, str | int]) -> None:
        """Write a record in the filter's name."""
        ...
