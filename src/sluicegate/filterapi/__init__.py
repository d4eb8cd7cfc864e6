"""The filter API: what filter authors import. This file only re-exports."""

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import Side
from sluicegate.port import (
    ExternalIoCompletion,
    Handle,
    Overlapped,
    SocketCompletion,
    TaskCompletion,
    Timer,
    heavy_blocking,
)
from sluicegate.verdict import (
    Allow,
    ContentVerdict,
    Deny,
    EventVerdict,
    Pass,
    Refuse,
    Release,
    Replace,
)

from .content_filter import (
    ContentFilter,
    Direction,
    HeldTransfer,
    Outcome,
    Transfer,
    TransferFile,
    TransferOffer,
    TransferOutcome,
    Wants,
)
from .data_filter import AnyDataFilter, CallbackDataFilter, DataFilter
from .events import (
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectionTerminating,
    ConnectRequested,
    Event,
    Events,
)
from .filter import Filter
from .position import Position
from .session_filter import SessionFilter
from .stream_filter import (
    FORWARD,
    HOLD,
    LEAVE,
    Cut,
    Forward,
    Rewrite,
    StreamFilter,
    StreamVerdict,
)
from .views import Action, Connection, DataFilterFactory, DataSocket, Firewall, Session

__all__ = [
    "FORWARD",
    "HOLD",
    "LEAVE",
    "Action",
    "AddressFilter",
    "Allow",
    "AnyDataFilter",
    "Buffer",
    "CallbackDataFilter",
    "ConnectRequested",
    "Connection",
    "ConnectionAccepted",
    "ConnectionEstablished",
    "ConnectionTerminating",
    "ContentFilter",
    "ContentVerdict",
    "Cut",
    "DataFilter",
    "DataFilterFactory",
    "DataSocket",
    "Deny",
    "Direction",
    "Event",
    "EventVerdict",
    "Events",
    "ExternalIoCompletion",
    "Filter",
    "Firewall",
    "Forward",
    "Handle",
    "HeldTransfer",
    "Outcome",
    "Overlapped",
    "Pass",
    "Position",
    "Refuse",
    "Release",
    "Replace",
    "Rewrite",
    "Session",
    "SessionFilter",
    "Side",
    "SocketAddress",
    "SocketCompletion",
    "StreamFilter",
    "StreamVerdict",
    "TaskCompletion",
    "Timer",
    "Transfer",
    "TransferFile",
    "TransferOffer",
    "TransferOutcome",
    "Wants",
    "Window",
    "heavy_blocking",
]
