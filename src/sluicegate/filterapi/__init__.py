"""The filter API: what filter authors import. This file only re-exports."""

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import (
    BadContext,
    LimitExceeded,
    ProtocolError,
    Side,
    SluicegateError,
    TransportError,
)
from sluicegate.port import (
    ExternalIoCompletion,
    Handle,
    Overlapped,
    SocketCompletion,
    TaskCompletion,
    Timer,
    heavy_blocking,
)
from sluicegate.protocols.server_sent_events import ServerSentEvent
from sluicegate.scan_outcome import ScanOutcome
from sluicegate.verdict import (
    Allow,
    ContentVerdict,
    Deny,
    Pass,
    Refuse,
    Release,
    Replace,
)

from .connection_filter import ConnectionFilter
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
from .data_socket import DataSocket
from .datagram_filter import DROP, DatagramEnd, DatagramFilter, DatagramVerdict, Drop
from .emulate import Emulate, EventVerdict
from .events import (
    AddressLookup,
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectionTerminating,
    ConnectRequested,
    EntryMode,
    Event,
    ListenRequested,
    NameLookup,
    TcpBindRequested,
    UdpBindRequested,
    UdpDestination,
)
from .filter import Filter
from .isolation import Isolation
from .lending import lend_descriptor
from .network_socket import NetworkSocket
from .open_transfer import OpenTransfer
from .position import Position
from .private_session import PrivateSession
from .registration import Events
from .relaying import Way, copy, relay
from .scanner import Contents, ContentScanner, FoundPart, Scanner, ScanResult, Unpacked
from .session_filter import SessionFilter
from .shown import Shown
from .stream_filter import (
    FORWARD,
    HOLD,
    LEAVE,
    Cut,
    Forward,
    Rewrite,
    StreamFilter,
    StreamVerdict,
    Wait,
)
from .surroundings import (
    NetworkChange,
    NetworkInterface,
    NetworkWatch,
    PolicyChanged,
    Recoverer,
    ResourceRecovery,
    Shortage,
    Subscription,
)
from .udp_peer import UdpPeer
from .user import User
from .views import Action, Bind, Connection, DataFilterFactory, Firewall, Session
from .web_filter import WebExchange, WebFilter, WebOutcome
from .web_headers import Headers
from .web_messages import WebRequest, WebResponse
from .web_streams import (
    CloseWith,
    MessageKind,
    MessageVerdict,
    ReplaceEvent,
    SentEventVerdict,
    WebMessage,
)
from .web_verdicts import (
    GO_ON,
    SKIP_BODY,
    Answer,
    BodyVerdict,
    ChunkVerdict,
    GoOn,
    HeadVerdict,
    Need,
    Needs,
    Redirect,
    RefuseWith,
    RouteTo,
    RouteVerdict,
)

__all__ = [
    "DROP",
    "FORWARD",
    "GO_ON",
    "HOLD",
    "LEAVE",
    "SKIP_BODY",
    "Action",
    "AddressFilter",
    "AddressLookup",
    "Allow",
    "Answer",
    "AnyDataFilter",
    "BadContext",
    "Bind",
    "BodyVerdict",
    "Buffer",
    "CallbackDataFilter",
    "ChunkVerdict",
    "CloseWith",
    "ConnectRequested",
    "Connection",
    "ConnectionAccepted",
    "ConnectionEstablished",
    "ConnectionFilter",
    "ConnectionTerminating",
    "ContentFilter",
    "ContentScanner",
    "ContentVerdict",
    "Contents",
    "Cut",
    "DataFilter",
    "DataFilterFactory",
    "DataSocket",
    "DatagramEnd",
    "DatagramFilter",
    "DatagramVerdict",
    "Deny",
    "Direction",
    "Drop",
    "Emulate",
    "EntryMode",
    "Event",
    "EventVerdict",
    "Events",
    "ExternalIoCompletion",
    "Filter",
    "Firewall",
    "Forward",
    "FoundPart",
    "GoOn",
    "Handle",
    "HeadVerdict",
    "Headers",
    "HeldTransfer",
    "Isolation",
    "LimitExceeded",
    "ListenRequested",
    "MessageKind",
    "MessageVerdict",
    "NameLookup",
    "Need",
    "Needs",
    "NetworkChange",
    "NetworkInterface",
    "NetworkSocket",
    "NetworkWatch",
    "OpenTransfer",
    "Outcome",
    "Overlapped",
    "Pass",
    "PolicyChanged",
    "Position",
    "PrivateSession",
    "ProtocolError",
    "Recoverer",
    "Redirect",
    "Refuse",
    "RefuseWith",
    "Release",
    "Replace",
    "ReplaceEvent",
    "ResourceRecovery",
    "Rewrite",
    "RouteTo",
    "RouteVerdict",
    "ScanOutcome",
    "ScanResult",
    "Scanner",
    "SentEventVerdict",
    "ServerSentEvent",
    "Session",
    "SessionFilter",
    "Shortage",
    "Shown",
    "Side",
    "SluicegateError",
    "SocketAddress",
    "SocketCompletion",
    "StreamFilter",
    "StreamVerdict",
    "Subscription",
    "TaskCompletion",
    "TcpBindRequested",
    "Timer",
    "Transfer",
    "TransferFile",
    "TransferOffer",
    "TransferOutcome",
    "TransportError",
    "UdpBindRequested",
    "UdpDestination",
    "UdpPeer",
    "Unpacked",
    "User",
    "Wait",
    "Wants",
    "Way",
    "WebExchange",
    "WebFilter",
    "WebMessage",
    "WebOutcome",
    "WebRequest",
    "WebResponse",
    "Window",
    "copy",
    "heavy_blocking",
    "lend_descriptor",
    "relay",
]
