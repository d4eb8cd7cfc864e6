"""What data filters do to their connection, and what anybody may ask of its sockets.

``GateConnection`` is one. The invariant: filters come while an event is handled, and go or hand
their place over while the chain is open; nothing here ends the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, LimitExceeded
from sluicegate.filterapi import AnyDataFilter, Position, TransferOffer

from .asked import AskedConnection
from .attached import Attached
from .open_transfer import GateOpenTransfer
from .own_stage import OwnStage

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket

    from .chain import FilterChain, Outlet
    from .connection import GateConnection
    from .pump import Direction

__all__ = ["Dependent", "FilteredConnection"]


class Dependent(Protocol):
    """What ends with a connection, and keeps it from being called idle."""

    def cancel(self) -> None:
        """End it, because the connection does."""
        ...

    def last_active(self) -> float:
        """Return when something last happened there, on the port's clock."""
        ...


class FilteredConnection(AskedConnection):
    """The middle of a connection; its attributes are the connection's own."""

    __slots__ = ("_attached", "_client_side_address", "dependents")

    if TYPE_CHECKING:
        is_asking: bool
        is_closing: bool
        is_emulated: bool
        from_client: Direction | None
        from_server: Direction | None
        _chain: FilterChain | None
        _client_raw: RawSocket | None
        _client_side_address: SocketAddress | None
        _server_raw: RawSocket | None

        def on_limit(self, error: LimitExceeded) -> None:
            """Take a limit that ends it."""

    dependents: set[Dependent] | None
    """What ends with it: secondary connections that it announced, transfers in its dialogue."""

    # -- filters -------------------------------------------------------------------------------

    def attach_data_filter(
        self,
        data_filter: AnyDataFilter,
        position: Position | None = None,
        context: Any = None,
        *,
        peer: SocketAddress | None = None,
    ) -> None:
        """As ``filterapi.Connection.attach_data_filter``."""
        if not self.is_asking or self.is_closing or peer is not None:
            raise BadContext("data filters are attached to streams while an event is handled")
        self.attach(data_filter, position, context, "")

    def attach(
        self, data_filter: AnyDataFilter, position: Position | None, context: Any, name: str
    ) -> None:
        """Put a data filter into the chain to come; its end is the connection's."""
        if self._attached is None:
            self._attached = []
        self._attached.append(Attached.at(self, data_filter, position, context, name))

    def give_attached(self, before: FilteredConnection) -> None:
        """Take over what was attached to a connection in whose place this one goes on."""
        self._attached, before._attached = before._attached, None

    def leave(self, data_filter: AnyDataFilter) -> None:
        """As ``filterapi.Connection.leave``."""
        if self._chain is not None:
            self._chain.leave(data_filter)
        elif not self.is_closing:
            raise BadContext("only data filters of an open chain can leave it")

    def hand_over(
        self, data_filter: AnyDataFilter, successor: AnyDataFilter, context: Any = None
    ) -> None:
        """As ``filterapi.Connection.hand_over``."""
        if self._chain is None or self._attached is None or self.is_closing:
            raise BadContext("only data filters of an open chain can hand their place over")
        place = self._chain.place_of(data_filter)
        following = Attached.at(self, successor, place.position, context)
        self._attached.insert(self._attached.index(place) + 1, following)
        self._chain.hand_over(place, following)

    def on_detach_error(self, name: str, error: BaseException) -> None:
        """Record a filter that failed while it was being detached."""
        self._service.on_connection_filter_error(self, name, error)

    def _has_place(self) -> bool:
        """Count it as its rule's, where that is bounded; False when that ended it."""
        limit = self._service.revocation.places.take(self.plan.rule, self.id)
        if limit is not None:
            self.on_limit(limit)
        return limit is None

    @property
    def has_attached(self) -> bool:
        """Whether a filter has attached a data filter; what the gate attaches sees nothing."""
        return any(not isinstance(one.filter, OwnStage) for one in self._attached or ())

    @property
    def is_unseen(self) -> bool:
        """Whether its rule wants it inspected, and every filter of its chain has left."""
        return (
            self.plan.must_inspect
            and self._chain is not None
            and not (self.is_emulated or self._chain.is_watched)
        )

    def count_sent(self, count: int) -> None:
        """As ``filterapi.Connection.count_sent``."""
        if self._chain is None or not self.is_emulated:
            raise BadContext("only the filter that emulates an open connection counts for it")
        self._chain.bytes_counted += count

    def open_transfer(self, offer: TransferOffer) -> GateOpenTransfer:
        """As ``filterapi.Connection.open_transfer``."""
        if self._chain is None or self.is_closing:
            raise BadContext("a transfer is opened by a data filter, while its connection is open")
        bound = self._service.limits.open_transfers_per_connection_max
        count = sum(isinstance(one, GateOpenTransfer) for one in self.dependents or ())
        if count >= bound:
            raise LimitExceeded("open_transfers_per_connection_max", bound)
        return self._service.transfers.open(cast("GateConnection", self), offer)

    # -- what ends with it ---------------------------------------------------------------------

    def add_dependent(self, dependent: Dependent) -> None:
        """Tie something to this connection's life."""
        if self.dependents is None:
            self.dependents = set()
        self.dependents.add(dependent)

    def drop_dependent(self, dependent: Dependent) -> None:
        """Forget what is over."""
        if self.dependents is not None:
            self.dependents.discard(dependent)

    def _cancel_dependents(self) -> None:
        for dependent in list(self.dependents or ()):
            dependent.cancel()

    # -- asking --------------------------------------------------------------------------------

    @property
    def client_side_address(self) -> SocketAddress:
        """The gate's own address towards the client; ``BadContext`` while it is not connected."""
        if self._client_side_address is None:
            if self._client_raw is None:
                raise BadContext("the client side is not connected yet")
            self._client_side_address = SocketAddress.from_kernel(self._client_raw.getsockname())
        return self._client_side_address

    @property
    def server_side_address(self) -> SocketAddress:
        """The gate's own address towards the server; ``BadContext`` while it is not connected."""
        if self._server_raw is None:
            raise BadContext("the server side is not connected yet")
        return SocketAddress.from_kernel(self._server_raw.getsockname())

    @property
    def _outlets(self) -> Sequence[Direction] | Sequence[Outlet]:
        """What sends to either side, for the deadlines."""
        if self._chain is not None:
            return self._chain.outlets
        return self._directions or ()

    @property
    def _directions(self) -> tuple[Direction, Direction] | None:
        first, second = self.from_client, self.from_server
        return None if first is None or second is None else (first, second)

    def byte_counts(self) -> tuple[int, int, int]:
        """Return what the server was sent, what the client was sent, and how much was spliced."""
        first, second = self.from_client, self.from_server
        if first is not None and second is not None:
            return first.bytes, second.bytes, first.bytes_spliced + second.bytes_spliced
        if self._chain is not None:
            return (*self._chain.byte_counts(), 0)
        return 0, 0, 0
