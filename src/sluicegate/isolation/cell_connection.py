"""In a cell: a connection, the same object in every event about it and for every filter in it.

``cell_firewall`` makes them. The invariant: what concerns the chain is done by the place of the
filter that asks; everything else is said to the gate with the identifier of the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, Side
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    DataFilter,
    DatagramFilter,
    EntryMode,
    Position,
    StreamFilter,
    TransferOffer,
)
from sluicegate.limits import LAST_WORDS_BYTES_MAX

from . import calls
from .cell_calls import About
from .cell_session import CellSession, not_here
from .facts import ConnectionFacts, facts_of
from .failures import shortened
from .messages import CountSent, EndConnection, Note

if TYPE_CHECKING:
    from .cell_firewall import CellFirewall, GateSide
    from .cell_place import CellPlace
    from .cell_transfer import CellOpenTransfer

__all__ = ["DATA_FILTERS", "Attachment", "CellConnection", "check_kind"]

DATA_FILTERS: Final = (DataFilter, CallbackDataFilter, StreamFilter, DatagramFilter)


class Attachment(NamedTuple):
    """A data filter that was attached while an event was handled."""

    data_filter: AnyDataFilter
    position: Position | None
    context: Any
    peer: SocketAddress | None = None


def check_kind(value: object, kinds: tuple[type, ...], what: str) -> None:
    """Refuse what a filter gave that is not of the kinds it may be.

    Raises:
        TypeError: It is none of them.
    """
    if not isinstance(value, kinds):
        raise TypeError(f"{value!r} is {what}")


class CellConnection:
    """A connection that a question is about; satisfies ``filterapi.Connection``."""

    def __init__(
        self,
        gate: GateSide,
        firewall: CellFirewall,
        session: CellSession,
        facts: ConnectionFacts,
    ) -> None:
        self.id = facts.connection
        self.update(facts)
        self.session = session
        self.firewall = firewall
        self.places: list[CellPlace] = []
        #: Where filters of this cell are in its chain.
        self.attached: list[Attachment] | None = None
        #: What was attached so far; None while no event about it is handled.
        self._gate = gate

    def update(self, facts: ConnectionFacts) -> None:
        """Take what is known of it by now."""
        self.rule = facts.rule
        self.is_secondary = facts.is_secondary
        self.is_emulated = facts.is_emulated
        self.entry_mode = EntryMode(facts.entry_mode)
        self.client_address = SocketAddress(*facts.client)
        self.server_address = SocketAddress(*facts.server)
        self._client_side = facts.client_side
        self._server_side = facts.server_side

    @property
    def client_side_address(self) -> SocketAddress:
        """As ``filterapi.Connection.client_side_address``."""
        if self._client_side is None:
            raise BadContext("the client side is not connected yet")
        return SocketAddress(*self._client_side)

    @property
    def server_side_address(self) -> SocketAddress:
        """As ``filterapi.Connection.server_side_address``."""
        if self._server_side is None:
            raise BadContext("the server side is not connected yet")
        return SocketAddress(*self._server_side)

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``filterapi.Connection.note``; the record has the name that is installed."""
        del by
        self._gate.tell(Note(self.id, message, dict(facts or {})))

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """As ``filterapi.Connection.refuse``."""
        self._end(True, reason, 0, Side.INTERNAL, (to_client, to_server))

    def fail(
        self,
        reason: str,
        error: int = 0,
        side: Side = Side.INTERNAL,
        *,
        to_client: bytes = b"",
        to_server: bytes = b"",
    ) -> None:
        """As ``filterapi.Connection.fail``."""
        self._end(False, reason, error, side, (to_client, to_server))

    def _end(
        self, is_refused: bool, reason: str, error: int, side: Side, last_words: tuple[bytes, bytes]
    ) -> None:
        if max(map(len, last_words)) > LAST_WORDS_BYTES_MAX:
            raise ValueError(f"last words have at most {LAST_WORDS_BYTES_MAX} bytes")
        self._gate.tell(
            EndConnection(self.id, is_refused, shortened(reason), error, side.value, *last_words)
        )

    # -- data filters ----------------------------------------------------------------------------

    def attach_data_filter(
        self,
        data_filter: AnyDataFilter,
        position: Position | None = None,
        context: Any = None,
        *,
        peer: SocketAddress | None = None,
    ) -> None:
        """As ``filterapi.Connection.attach_data_filter``."""
        if self.attached is None:
            raise BadContext("data filters are attached while an event is being handled")
        check_kind(data_filter, DATA_FILTERS, "no data filter")
        self.attached.append(Attachment(data_filter, position, context, peer))

    def leave(self, data_filter: AnyDataFilter) -> None:
        """As ``filterapi.Connection.leave``."""
        if isinstance(data_filter, DataFilter):
            raise BadContext("a DataFilter leaves the chain by returning from run")
        self._place_of(data_filter).begin_leave()

    def hand_over(
        self, data_filter: AnyDataFilter, successor: AnyDataFilter, context: Any = None
    ) -> None:
        """As ``filterapi.Connection.hand_over``."""
        self._place_of(data_filter).hand_over(successor, context)

    def _place_of(self, data_filter: AnyDataFilter) -> CellPlace:
        for place in self.places:
            if place.has(data_filter):
                return place
        raise BadContext("the filter is not in this connection's chain")

    def dial_server(self, address: SocketAddress) -> None:
        """As ``filterapi.Connection.dial_server``."""
        errand = calls.DialServer(facts_of(address))
        self.firewall.calls.do(errand, About(self.session.id, self.id))

    def open_transfer(self, offer: TransferOffer) -> CellOpenTransfer:
        """As ``filterapi.Connection.open_transfer``."""
        for place in self.places:
            if place.can_open:
                return place.open_transfer(offer)
        raise BadContext("a transfer is opened by a data filter, while its connection is open")

    def count_sent(self, count: int) -> None:
        """As ``filterapi.Connection.count_sent``."""
        for place in self.places:
            if place.server is None and not place.is_over:
                self._gate.tell(CountSent(place.number, count))
                return
        raise BadContext("only a filter that emulates the server counts what it sends")

    def __getattr__(self, name: str) -> NoReturn:
        raise not_here("a connection", name)
