"""What the gate and a cell say to each other: one struct per message, msgpack, one per packet.

``wire`` carries them. The invariant: the gate believes nothing that a cell says: every field has a
type that the decoder checks, and every number that names something is looked up before it is used.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sluicegate.errors import Side
from sluicegate.filterapi import Connection, Shown
from sluicegate.sandbox.message import MESSAGE_BYTES_MAX, PART_BYTES_MAX, Message, encode

from .calls import Call, Forgotten, Make, Piece, Returned
from .facts import AddressFacts, ConnectionFacts, OfferFacts, WantsFacts

__all__ = [
    "CHUNK_BYTES_MAX", "MESSAGE_BYTES_MAX", "PART_BYTES_MAX", "Ask", "AttachedFilter", "Cancel",
    "CloseSocket", "CountSent", "DenyPeer", "Detached", "Drained", "Dropped",
    "EndConnection", "EventAnswer", "Fault", "FromCell", "Inspect", "Left",
    "LimitReached", "Manifest", "Message", "NeverOpened", "Note", "Open", "Part", "Ping",
    "Pong", "Probe", "Raised", "Ready", "Received", "Registration", "Replaced", "Sent",
    "SessionEnded", "Shutdown", "Start", "StartReceive", "StartSend", "Stop", "Tell", "ToCell",
    "TransportFailed", "Unusable", "Verdict", "Withdraw", "decode_from_cell", "decode_to_cell",
    "encode", "end_connection",
]  # fmt: skip

CHUNK_BYTES_MAX: Final = 256 << 10
"""Bytes that are sent at a time: as many as a large receive buffer brings."""


class Registration(msgspec.Struct, array_like=True):
    """What a filter that handles events registered for, by the names of the types."""

    types: list[str]
    secondary: bool
    sources: list[str] | None


class AttachedFilter(msgspec.Struct, array_like=True):
    """A data filter that a filter in the cell put into a connection's chain."""

    handle: int
    name: str
    position: int
    peer: AddressFacts | None = None
    """Whose datagrams it is there for, on a UDP connection."""


class Manifest(msgspec.Struct, array_like=True):
    """What a cell says of the filter that it has loaded."""

    tier: str
    """``filter``, ``content``, ``data``, ``callback``, ``stream`` or ``datagram``."""
    name: str
    """The class's."""
    source: str
    """Where it was found, for people."""
    fingerprint: str
    """SHA-256 of the source that it was made from; a change means another filter."""
    position: int
    wants: WantsFacts | None
    takes_rule_settings: bool
    needs_rule_settings: bool
    """What rules leave out does not come from the filter's own settings."""
    shows: tuple[Shown, ...] = ()
    """What it promises to show."""


class Fault(msgspec.Struct, array_like=True):
    """One thing that is wrong with a filter's settings."""

    where: str
    cause: str
    cure: str


class Ask(msgspec.Struct, array_like=True):
    """A table of an operator's file, to be checked against the model that the filter declares."""

    model: str
    """``Settings`` or ``RuleSettings``."""
    document: str
    at: list[str | int]
    table: Any
    lines: list[tuple[list[str | int], int]]


# -- to a cell -----------------------------------------------------------------------------------


class Start(Message):
    """Load the filter and make it; first, and once."""

    use: str
    folder: str
    settings: Any
    limits: dict[str, Any]


class Probe(Message):
    """Load the filter's class, check what was asked, say what it is, and end."""

    use: str
    folder: str
    asked: list[Ask]


class Ping(Message):
    """Show that the loop turns."""

    number: int


class Inspect(Message):
    """Judge an object; its descriptor, open for reading, comes along."""

    number: int
    connection: ConnectionFacts
    offer: OfferFacts
    size: int
    sha256: str
    head: bytes


class Cancel(Message):
    """Nobody waits for an answer any more."""

    number: int


class Open(Message):
    """Put a filter into a connection; the number is the place's from now on."""

    number: int
    handle: int
    """Which filter: 0 for one of the installed class, else one that the cell has announced."""
    connection: ConnectionFacts
    has_server: bool
    has_datagrams: bool
    rule_settings: dict[str, Any]


class Tell(Message):
    """An event; ``EventAnswer`` or ``Raised`` follows."""

    number: int
    kind: str
    connection: ConnectionFacts
    is_secondary: bool
    rule_settings: dict[str, Any]
    address: AddressFacts | None
    """The target, who connected, a peer, or what is bound."""
    local: AddressFacts | None
    """Where they connected."""
    told: int = 0
    """The cell's number for who is told of ``ConnectionEstablished``."""


class SessionEnded(Message):
    """A session has ended for the filter."""

    session: str


class NeverOpened(Message):
    """A filter that was announced, or made for the gate, will not be put into its connection."""

    handle: int


class Received(Message):
    """A receive has ended, or a part of what it brought."""

    number: int
    is_server: bool
    error: int
    data: bytes
    is_last: bool
    peer: AddressFacts | None = None
    """Of a datagram."""


class Sent(Message):
    """A send has ended."""

    number: int
    is_server: bool
    error: int


class Detached(Message):
    """The connection has ended for the filter."""

    number: int


class Stop(Message):
    """Stop the filter and end."""


# -- from a cell ---------------------------------------------------------------------------------


class Unusable(Message):
    """The filter cannot be had; the cell ends."""

    cause: str
    cure: str


class Ready(Message):
    """The filter works (or, to a probe, could)."""

    manifest: Manifest
    faults: list[Fault]
    registration: Registration | None = None
    """Of a filter that handles events."""


class Pong(Message):
    """The loop turns."""

    number: int


class EndConnection(Message):
    """``Connection.refuse`` or ``fail``."""

    connection: str
    is_refused: bool
    reason: str
    error: int
    side: str
    to_client: bytes
    to_server: bytes


class Note(Message):
    """``Firewall.note``, or with a connection ``Connection.note``."""

    connection: str
    text: str
    facts: dict[str, str | int]


class EventAnswer(Message):
    """What a filter says to an event, with the data filters that it attached while it did."""

    number: int
    verdict: str
    """``pass``, ``allow``, ``deny`` or ``emulate``."""
    reason: str
    attached: list[AttachedFilter]
    emulation: AttachedFilter | None


class Verdict(Message):
    """The object is released or refused."""

    number: int
    is_released: bool
    reason: str


class Part(Message):
    """The next bytes of what replaces an object."""

    number: int
    data: bytes


class Replaced(Message):
    """The object is replaced by the parts that came before."""

    number: int


class Raised(Message):
    """The filter failed: it raised, or answered nonsense."""

    number: int
    cause: str


class StartReceive(Message):
    """Receive once on one of a place's sockets; ``size`` bounds it, 0 leaves it to the gate."""

    number: int
    is_server: bool
    size: int


class Withdraw(Message):
    """End the receive that is pending; ``Received`` follows in any case."""

    number: int
    is_server: bool


class StartSend(Message):
    """Send these bytes, or with the last part all that came before."""

    number: int
    is_server: bool
    data: bytes
    is_last: bool
    peer: AddressFacts | None = None
    """Of a datagram: whom it goes to."""


class Dropped(Message):
    """A datagram goes no further."""

    number: int


class DenyPeer(Message):
    """``UdpPeer.deny``, while its event is handled."""

    number: int
    reason: str


class Shutdown(Message):
    """End the stream towards a side."""

    number: int
    is_server: bool


class CloseSocket(Message):
    """Close one of a place's sockets."""

    number: int
    is_server: bool
    is_abortive: bool


class CountSent(Message):
    """``Connection.count_sent``."""

    number: int
    count: int


class Left(Message):
    """The filter leaves the chain; nothing of it is under way."""

    number: int


class TransportFailed(Message):
    """The filter gives the connection up because a side failed."""

    number: int
    side: str
    error: int


class LimitReached(Message):
    """The filter passed one of the gate's limits."""

    number: int
    limit: str
    bound: float


class Drained(Message):
    """The filter has finished its work after its connection; the place is no more."""

    number: int


ToCell = (
    Start
    | Probe
    | Ping
    | Inspect
    | Cancel
    | Open
    | Received
    | Sent
    | Detached
    | Tell
    | SessionEnded
    | NeverOpened
    | Returned
    | Make
    | Forgotten
    | Piece
    | Stop
)
FromCell = (
    Unusable
    | Ready
    | Pong
    | Note
    | Call
    | EndConnection
    | EventAnswer
    | Verdict
    | Part
    | Replaced
    | Raised
    | StartReceive
    | Withdraw
    | StartSend
    | Dropped
    | DenyPeer
    | Shutdown
    | CloseSocket
    | CountSent
    | Left
    | TransportFailed
    | LimitReached
    | Drained
)


_TO_CELL: Final[msgspec.msgpack.Decoder[ToCell]] = msgspec.msgpack.Decoder(ToCell)
_FROM_CELL: Final[msgspec.msgpack.Decoder[FromCell]] = msgspec.msgpack.Decoder(FromCell)


def decode_to_cell(data: bytes) -> ToCell:
    """Read what the gate said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _TO_CELL.decode(data)


def decode_from_cell(data: bytes) -> FromCell:
    """Read what a cell said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _FROM_CELL.decode(data)


def end_connection(connection: Connection, message: EndConnection) -> None:
    """Do what a filter in a cell asked of its connection."""
    to_client, to_server = message.to_client, message.to_server
    if message.is_refused:
        connection.refuse(message.reason, to_client=to_client, to_server=to_server)
        return
    known = {side.value: side for side in Side}
    connection.fail(
        message.reason,
        message.error,
        known.get(message.side, Side.INTERNAL),
        to_client=to_client,
        to_server=to_server,
    )
