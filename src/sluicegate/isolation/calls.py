"""Calls: what a filter in a cell asks of the gate, and what comes back.

A ``Call`` carries one errand; it is answered by one ``Returned`` with the same number, unless the
number is 0: then nobody waits. ``cell_calls`` makes them in the cell, ``reach`` does them in the
gate. The invariant: what a errand is about (a connection, an action, an object) has a number or an
identifier that the gate gave out to this cell, and looks up.
"""

from __future__ import annotations

import ipaddress
import math
from typing import TypeAlias

import msgspec

from sluicegate.address import AddressFilter
from sluicegate.errors import ProtocolError
from sluicegate.filterapi import Outcome, TransferOutcome
from sluicegate.sandbox.message import Message

from .facts import AddressFacts, ConnectionFacts, OfferFacts
from .failures import FailureFacts

__all__ = [
    "Actions",
    "AllowFutureConnect",
    "AskAction",
    "AskPeers",
    "AttachFilter",
    "AwaitHeld",
    "BindForClient",
    "Call",
    "CancelAction",
    "CancelCall",
    "CancelHeld",
    "CancelObject",
    "CheckHost",
    "ConnectToClient",
    "DeliverHeld",
    "DeliverObject",
    "DialServer",
    "Drop",
    "Errand",
    "FeedObject",
    "FinishObject",
    "Forgotten",
    "HandOver",
    "Held",
    "HoldObject",
    "How",
    "LookUpAddress",
    "LookUpHost",
    "Make",
    "Names",
    "Object",
    "OpenObject",
    "OutcomeFacts",
    "PassBy",
    "Peers",
    "PeersFacts",
    "Piece",
    "PieceSent",
    "RedirectConnections",
    "Result",
    "RetroactiveAllowBind",
    "Returned",
    "SetClientAddress",
    "SetFactory",
    "SetPeers",
    "Truth",
    "timeout_of",
]  # fmt: skip


class _Errand(msgspec.Struct, tag=True, array_like=True):
    """What all errands have: a tag, and fields in their order."""


class PeersFacts(msgspec.Struct, array_like=True):
    """``AddressFilter``, flat."""

    included: list[str]
    excluded: list[str]
    filters: list[PeersFacts]
    filters_excluded: list[PeersFacts]

    @classmethod
    def of(cls, peers: AddressFilter) -> PeersFacts:
        """Take an address filter apart."""
        included, excluded, filters, filters_excluded = peers.parts()
        return cls(
            [str(one) for one in included],
            [str(one) for one in excluded],
            [cls.of(one) for one in filters],
            [cls.of(one) for one in filters_excluded],
        )

    def peers(self) -> AddressFilter:
        """Put it together again.

        Raises:
            ValueError: Something is no network.
        """
        made = AddressFilter(
            [ipaddress.ip_network(one) for one in self.included],
            [ipaddress.ip_network(one) for one in self.excluded],
        )
        for one in self.filters:
            made.include_filter(one.peers())
        for one in self.filters_excluded:
            made.exclude_filter(one.peers())
        return made


class How(msgspec.Struct, array_like=True):
    """How something is expected."""

    ports: tuple[int, int, int] | None = None
    """Of a range: start, stop, step."""
    told: int = 0
    """The cell's number for who is told of ``ConnectionEstablished``; 0 for nobody."""
    allow_multiple: bool = False
    timeout_s: float | None = None

    def port_range(self) -> range | None:
        """Put the range together again.

        Raises:
            ProtocolError: There are no such ports.
        """
        if self.ports is None:
            return None
        if self.ports[2] == 0:
            raise ProtocolError("named no range of ports")
        made = range(*self.ports)
        if not made or not (min(made[0], made[-1]) > 0 and max(made[0], made[-1]) <= _PORT_MAX):
            raise ProtocolError("named no range of ports")
        return made


_PORT_MAX = 0xFFFF


def timeout_of(seconds: float | None) -> float | None:
    """Return a time that a cell named, as far as it is one.

    Raises:
        ProtocolError: It is none.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise ProtocolError("named no length of time")
    return seconds


# -- errands: of a session ------------------------------------------------------------------------


class AllowFutureConnect(_Errand):
    """``Session.allow_future_connect``; answered by ``Actions``, as the next four."""

    target: AddressFacts
    how: How
    dial_later: bool


class ConnectToClient(_Errand):
    """``Session.connect_to_client``."""

    client: AddressFacts
    told: int


class BindForClient(_Errand):
    """``Session.bind_for_client``."""

    client: AddressFacts
    peers: PeersFacts
    how: How


class RedirectConnections(_Errand):
    """``Session.redirect_connections``."""

    targets: list[AddressFacts]
    how: How


class SetFactory(_Errand):
    """``Session.set_data_filter_factory``."""

    token: int
    """The cell's number for the factory."""
    action: int
    """What it is for; 0 where it is for a type of event."""
    kind: str
    """The event's."""
    address: AddressFacts | None
    position: int
    allow_multiple: bool
    timeout_s: float | None


class RetroactiveAllowBind(_Errand):
    """``Session.retroactive_allow_bind``; answered by ``Truth``."""

    address: AddressFacts
    peers: PeersFacts


class HoldObject(_Errand):
    """``Session.hold_transfer``; answered by ``Held``."""

    offer: OfferFacts
    deliver_later: bool


class CheckHost(_Errand):
    """``Session.host_access_check``; answered by ``Truth``."""

    host: str
    port: int


class LookUpHost(_Errand):
    """``Session.host_by_name``; answered by ``Names``."""

    host: str
    port: int


class LookUpAddress(_Errand):
    """``Session.host_by_address``; answered by ``Names``."""

    address: str


class AttachFilter(_Errand):
    """``Session.attach_filter``."""

    name: str


# -- errands: of an action ------------------------------------------------------------------------


class AskAction(_Errand):
    """``Action.is_pending``; answered by ``Truth``."""

    action: int


class CancelAction(_Errand):
    """``Action.cancel``."""

    action: int


class AskPeers(_Errand):
    """``Bind.peers``; answered by ``Peers``."""

    action: int


class SetPeers(_Errand):
    """``Bind.set_peers``."""

    action: int
    peers: PeersFacts


class SetClientAddress(_Errand):
    """``Bind.set_client_address``."""

    action: int
    client: AddressFacts


# -- errands: of a held object --------------------------------------------------------------------


class AwaitHeld(_Errand):
    """``HeldTransfer.judged``, or ``finished``; answered by ``OutcomeFacts``."""

    held: int
    is_finished: bool


class DeliverHeld(_Errand):
    """``HeldTransfer.deliver``."""

    held: int


class CancelHeld(_Errand):
    """``HeldTransfer.cancel``."""

    held: int
    reason: str


class Drop(_Errand):
    """The filter has let go of held objects: it will not ask about them any more."""

    held: list[int]


# -- errands: of a filter in its place ------------------------------------------------------------


class DialServer(_Errand):
    """``Connection.dial_server``."""

    address: AddressFacts


class HandOver(_Errand):
    """``Connection.hand_over``, to what holds an object."""

    held: int


class OpenObject(_Errand):
    """``Connection.open_transfer``; answered by ``Object``."""

    offer: OfferFacts


class FeedObject(_Errand):
    """``OpenTransfer.feed``, or a part of what it is given; the last is answered by ``Truth``."""

    number: int
    data: bytes
    is_last: bool


class FinishObject(_Errand):
    """``OpenTransfer.finish``; answered by ``OutcomeFacts``."""

    number: int


class DeliverObject(_Errand):
    """``OpenTransfer.deliver``; answered by ``OutcomeFacts``."""

    number: int
    is_server: bool
    is_encoded: bool
    """Each piece goes to the cell, which sends what it makes of it."""


class PassBy(_Errand):
    """``OpenTransfer.pass_by``."""

    number: int


class CancelObject(_Errand):
    """``OpenTransfer.cancel``."""

    number: int
    reason: str


class PieceSent(_Errand):
    """What the cell made of a piece was sent, or could not be."""

    number: int
    error: int
    failure: str
    """What the encoder raised."""


# -- errands: of nothing --------------------------------------------------------------------------


class CancelCall(_Errand):
    """Nobody waits for the answer to a call any more."""

    call: int


Errand: TypeAlias = (
    AllowFutureConnect | ConnectToClient | BindForClient | RedirectConnections | SetFactory
    | RetroactiveAllowBind | HoldObject | CheckHost | LookUpHost | LookUpAddress | AttachFilter
    | AskAction | CancelAction | AskPeers | SetPeers | SetClientAddress
    | AwaitHeld | DeliverHeld | CancelHeld | Drop
    | DialServer | HandOver | OpenObject | FeedObject | FinishObject | DeliverObject | PassBy
    | CancelObject | PieceSent
    | CancelCall
)  # fmt: skip


# -- results -------------------------------------------------------------------------------------


class Actions(_Errand):
    """Numbers and addresses of what may be used in future."""

    rows: list[tuple[int, AddressFacts]]


class Truth(_Errand):
    """Yes or no."""

    is_so: bool


class Held(_Errand):
    """The number of a held object."""

    number: int


class Object(_Errand):
    """An object that was opened."""

    number: int
    is_wanted: bool


class Peers(_Errand):
    """Who may use a bind."""

    peers: PeersFacts


class Names(_Errand):
    """Addresses, or names."""

    texts: list[str]


class OutcomeFacts(_Errand):
    """``TransferOutcome``, flat."""

    outcome: str
    reason: str
    bytes_held: int
    sha256: str
    held_ms: float
    bytes_delivered: int
    size: int
    """What is to be delivered."""

    @classmethod
    def of(cls, outcome: TransferOutcome, size: int = 0) -> OutcomeFacts:
        """Take an outcome apart."""
        return cls(
            outcome.outcome.value,
            outcome.reason,
            outcome.bytes_held,
            outcome.sha256,
            outcome.held_ms,
            outcome.bytes_delivered,
            size,
        )

    def transfer_outcome(self) -> TransferOutcome:
        """Put it together again."""
        return TransferOutcome(
            Outcome(self.outcome),
            self.reason,
            self.bytes_held,
            self.sha256,
            held_ms=self.held_ms,
            bytes_delivered=self.bytes_delivered,
        )


Result: TypeAlias = Actions | Truth | Held | Object | Peers | Names | OutcomeFacts


# -- messages ------------------------------------------------------------------------------------


class Call(Message):
    """From a cell: one errand."""

    call: int
    """0 when nobody waits for an answer."""
    place: int
    """Of the filter that asks, where it is about its place in a connection."""
    connection: str
    """The connection it is about; may be empty."""
    session: str
    errand: Errand


class Returned(Message):
    """To a cell: what became of a call."""

    call: int
    result: Result | None = None
    failure: FailureFacts | None = None


class Make(Message):
    """To a cell: a connection came for a factory of it; ``Open`` or ``NeverOpened`` follows."""

    token: int
    handle: int
    """The gate's, below 0."""
    connection: ConnectionFacts


class Forgotten(Message):
    """To a cell: these factories, and who was to be told, are not needed any more."""

    tokens: list[int]


class Piece(Message):
    """To a cell: a piece, or a part of one, of an object that it encodes; ``PieceSent`` follows."""

    number: int
    """The place's."""
    transfer: int
    is_server: bool
    data: bytes
    is_last: bool
