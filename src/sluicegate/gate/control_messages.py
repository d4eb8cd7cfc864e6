"""What passes over the control socket: one request, one reply, each a length and msgpack.

``control`` answers, ``control_client`` asks. The invariant: a message is never longer than its
bound, and the length is checked before a byte of the rest is read.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal, TypeAlias

import msgspec

from sluicegate.audit.alerts import Raising
from sluicegate.metrics import Series

from .policy_orders import AnyPolicyAnswer, AnyPolicyOrder
from .views import ConnectionView, FilterView, SessionView, StatusView, TransferView

__all__ = [
    "AcknowledgeRequest",
    "AcknowledgedReply",
    "ActedRequest",
    "AlertsReply",
    "AlertsRequest",
    "AnyReply",
    "AnyRequest",
    "ConnectionsReply",
    "ConnectionsRequest",
    "DoneReply",
    "FiltersReply",
    "FiltersRequest",
    "KillRequest",
    "KilledReply",
    "MeasuresReply",
    "MeasuresRequest",
    "MessageTooLong",
    "PolicyReply",
    "PolicyRequest",
    "Question",
    "RefusedReply",
    "ReloadRequest",
    "Reply",
    "Request",
    "SessionsReply",
    "SessionsRequest",
    "StatusReply",
    "StatusRequest",
    "StopRequest",
    "TransfersReply",
    "TransfersRequest",
    "UpgradeRequest",
    "decode_reply",
    "decode_request",
    "read_message",
    "write_message",
]


class Request(msgspec.Struct, tag_field="ask", forbid_unknown_fields=True):
    """What a command asks."""


class StatusRequest(Request, tag="status"):
    """How is the gate?"""


class SessionsRequest(Request, tag="sessions"):
    """Which clients are there?"""


class ConnectionsRequest(Request, tag="connections"):
    """Which connections are open?"""

    client: str = ""
    """Only those of this address; empty: all."""


class FiltersRequest(Request, tag="filters"):
    """What became of the installed filters?"""


class TransfersRequest(Request, tag="transfers"):
    """Which objects are held?"""


class AlertsRequest(Request, tag="alerts"):
    """Which alerts were raised?"""


class AcknowledgeRequest(Request, tag="acknowledge"):
    """Acknowledge alerts: somebody has seen them."""

    alerts: list[str]
    """Identifiers of raisings, or names of alerts: all of that name."""
    by: str = ""
    """Who; empty: whoever is at the other end of the socket."""


class MeasuresRequest(Request, tag="measures"):
    """What is to be measured?"""


class ReloadRequest(Request, tag="reload"):
    """Read the configuration again."""


class KillRequest(Request, tag="kill"):
    """End connections, and all connections of sessions."""

    identifiers: list[str]
    by: str = ""
    """Who asked for it; empty: whoever is at the other end of the socket."""


class UpgradeRequest(Request, tag="upgrade"):
    """Let another version of the program take over."""

    program: list[str]
    """The command that starts it, without arguments of its own."""
    drain_timeout_s: float | None = None
    """How long connections may go on with the old version; absent: as long as they live."""


class StopRequest(Request, tag="stop"):
    """Drain and end."""

    timeout_s: float | None = None
    """Wait at most so long for connections; absent: the limit ``drain_timeout_s``."""


class ActedRequest(Request, tag="acted", kw_only=True):
    """Record what was done elsewhere (in the console, to the users file)."""

    action: str
    """What, in the words of ``OperatorRecord.action``."""
    origin: Literal["command", "console", "api"] = "command"
    result: Literal["done", "refused", "failed"] = "done"
    by: str = ""
    """Who; empty: whoever is at the other end of the socket."""
    client: str = ""
    """Address and port of the browser or the program, if there is one."""
    subjects: list[str] = []
    causes: list[str] = []
    facts: dict[str, str | int] = {}


class PolicyRequest(Request, tag="policy", kw_only=True):
    """Ask about the policy, or change it."""

    order: AnyPolicyOrder


Question: TypeAlias = (
    StatusRequest
    | SessionsRequest
    | ConnectionsRequest
    | FiltersRequest
    | TransfersRequest
    | MeasuresRequest
    | AlertsRequest
)
"""What is asked, and changes nothing."""


AnyRequest: TypeAlias = (
    Question
    | ReloadRequest
    | KillRequest
    | UpgradeRequest
    | StopRequest
    | PolicyRequest
    | AcknowledgeRequest
)
"""What is asked of a gate, or ordered."""


class Reply(msgspec.Struct, tag_field="reply", kw_only=True):
    """What the gate answers."""


class StatusReply(Reply, tag="status"):
    """The service as a whole."""

    status: StatusView


class SessionsReply(Reply, tag="sessions"):
    """Sessions: the first of ``total``."""

    rows: list[SessionView]
    total: int


class ConnectionsReply(Reply, tag="connections"):
    """Open connections: the first of ``total``."""

    rows: list[ConnectionView]
    total: int


class FiltersReply(Reply, tag="filters"):
    """Installed filters."""

    rows: list[FilterView]


class TransfersReply(Reply, tag="transfers"):
    """Held objects, the oldest first: the first of ``total``."""

    rows: list[TransferView]
    total: int


class MeasuresReply(Reply, tag="measures"):
    """What was measured."""

    series: list[Series]


class AlertsReply(Reply, tag="alerts"):
    """Alerts that were raised, the last one first."""

    rows: list[Raising]
    total: int


class AcknowledgedReply(Reply, tag="acknowledged"):
    """What was acknowledged."""

    acknowledged: list[str]
    """Identifiers of the raisings that were open."""


class KilledReply(Reply, tag="killed"):
    """What was ended."""

    killed: list[str]
    """Those of the identifiers that were there."""


class DoneReply(Reply, tag="done"):
    """It was done; ``notes`` says what an operator should know about it."""

    notes: list[str] = []


class RefusedReply(Reply, tag="refused"):
    """It was not done, for these reasons."""

    causes: list[str]


class PolicyReply(Reply, tag="policy"):
    """About the policy."""

    answer: AnyPolicyAnswer


AnyReply: TypeAlias = (
    StatusReply
    | SessionsReply
    | ConnectionsReply
    | FiltersReply
    | TransfersReply
    | MeasuresReply
    | AlertsReply
    | AcknowledgedReply
    | KilledReply
    | DoneReply
    | PolicyReply
    | RefusedReply
)


class MessageTooLong(Exception):
    """The other side announced more than a message may have."""


async def read_message(reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    """Return the next message.

    Raises:
        MessageTooLong: Its announced length is above ``bytes_max``.
        asyncio.IncompleteReadError: The other side went away.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > bytes_max:
        raise MessageTooLong(f"{length} bytes announced, at most {bytes_max} are taken")
    return await reader.readexactly(length)


def write_message(writer: asyncio.StreamWriter, message: Request | Reply) -> None:
    """Queue a message."""
    encoded = _encoder.encode(message)
    writer.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)


def decode_request(message: bytes) -> AnyRequest | ActedRequest:
    """Return the request in a message.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _requests.decode(message)


def decode_reply(message: bytes) -> AnyReply:
    """Return the reply in a message.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _replies.decode(message)


_LENGTH_BYTES: Final = 4
_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[AnyRequest | ActedRequest] = msgspec.msgpack.Decoder(
    AnyRequest | ActedRequest
)
_replies: msgspec.msgpack.Decoder[AnyReply] = msgspec.msgpack.Decoder(AnyReply)
