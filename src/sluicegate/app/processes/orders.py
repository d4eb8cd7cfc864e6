"""What the supervisor and its processes say to each other, over one socket for each.

``channel`` carries it. The invariant: who speaks another ``PROTOCOL`` is not spoken with, so a
message has one meaning whatever versions of the program meet during an upgrade.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from sluicegate.app.spool_room import SpoolRoom
from sluicegate.app.texts import Texts
from sluicegate.audit.alerts import AlertRule
from sluicegate.audit.alerts.action import ActionSettings
from sluicegate.audit.records import AlertRecord, OperatorRecord
from sluicegate.audit.sinks.settings import SinkSettings
from sluicegate.audit.store import LogPosition, StorePlace
from sluicegate.console.link import ConsoleSettings, Explained
from sluicegate.gate.control_messages import AnyReply, AnyRequest

__all__ = [
    "PROTOCOL",
    "Abandon",
    "Acted",
    "AddFirst",
    "AddedFirst",
    "Alerting",
    "Answer",
    "AnyMessage",
    "Ask",
    "AskFor",
    "AttachAudit",
    "AttachSigner",
    "BeginAlerts",
    "BeginAudit",
    "BeginConsole",
    "BeginForward",
    "BeginMetrics",
    "BeginSigner",
    "BeginStore",
    "BeginWorker",
    "ChangeLog",
    "Commit",
    "Committed",
    "Drain",
    "Explain",
    "ExplainedLine",
    "Failed",
    "Forwarded",
    "HoldLog",
    "Leaving",
    "Message",
    "Prepare",
    "Prepared",
    "Prove",
    "Proved",
    "Ready",
    "RecordAlert",
    "Said",
    "SinkState",
    "StoreAt",
    "Stored",
    "StreamEnded",
    "TakeStream",
    "TakeWorker",
]

PROTOCOL: Final = 10
"""Raised with every change of a message here, of a batch of records, of the journal, or of the
memory that workers share."""


class Message(msgspec.Struct, tag_field="say", kw_only=True, forbid_unknown_fields=True):
    """Anything that passes."""


# To a worker.


class BeginWorker(Message, tag="begin-worker"):
    """Be a worker.

    Descriptors: tallies, census, audit writer, signer if it has one, one for each of ``addresses``.
    """

    slot: int
    row: int
    boot_mark: str
    """In the identifiers of all that this worker makes."""
    path: str
    """Of ``sluicegate.toml``."""
    texts: Texts
    addresses: list[str]
    has_signer: bool = False


class Prepare(Message, tag="prepare"):
    """Get ready for other files. Descriptors: one for each of ``addresses``, which are new."""

    number: int
    texts: Texts
    addresses: list[str]


class Commit(Message, tag="commit"):
    """Put in force what was prepared."""

    number: int


class Abandon(Message, tag="abandon"):
    """Forget what was prepared."""


class Ask(Message, tag="ask"):
    """Answer an operator's question."""

    number: int
    request: AnyRequest


class AttachAudit(Message, tag="attach-audit"):
    """Send records there from now on. Descriptor: a new audit writer."""


class AttachSigner(Message, tag="attach-signer"):
    """Ask this signer from now on. Descriptor: a socket to it; none: there is none any more."""


class Drain(Message, tag="drain"):
    """Let in nothing new, and end when the last connection has, or after the time."""

    timeout_s: float


# From a worker.


class Ready(Message, tag="ready"):
    """It has begun."""

    protocol: int
    version: str
    policy: str = ""
    """SHA-256 of the policy in force."""
    diagnosis: str = ""
    """Why its port has the backend that it has."""


class Leaving(Message, tag="leaving"):
    """Somebody has asked this worker to end: it lets nobody in any more."""


class Failed(Message, tag="failed"):
    """It cannot begin."""

    causes: list[str]
    is_configuration: bool = True
    """Whether the operator's files are to blame."""


class Prepared(Message, tag="prepared"):
    """What it thinks of other files."""

    number: int
    policy: str = ""
    causes: list[str] = []
    """Why it cannot; empty when it can."""


class Committed(Message, tag="committed"):
    """They are in force."""

    number: int
    policy: str


class Answer(Message, tag="answer"):
    """The answer to ``Ask``."""

    number: int
    reply: AnyReply


class Said(Message, tag="said"):
    """A line for whoever started the gate."""

    line: str


# To and from the audit writer.


class BeginAudit(Message, tag="begin-audit"):
    """Be the audit writer. Descriptors: journal, log."""

    path: str
    """Of the log, for messages."""


class TakeStream(Message, tag="take-stream"):
    """Write for one more process. Descriptor: its socket."""

    row: int


class ChangeLog(Message, tag="change-log"):
    """Go on in another file. Descriptor: the file."""


class HoldLog(Message, tag="hold-log"):
    """Write nothing, as if the file could not be written; without a cause, go on."""

    cause: str


class StreamEnded(Message, tag="stream-ended"):
    """A process is gone, and all that it sent is in the file."""

    row: int
    records: int


# To and from the store's keeper.


class BeginStore(Message, tag="begin-store"):
    """Be the keeper of the store of records."""

    log: str
    """Path of the log that it follows."""
    place: StorePlace
    keep_days: int
    keep_bytes: int


class Stored(Message, tag="stored"):
    """How far the store is."""

    last: int
    """The number of its last record."""
    bytes_behind: int
    """Bytes of the log that are not in it."""
    failure: str = ""
    """Why nothing is stored."""
    inode: int = 0
    """The number of the log's file in which it ends; 0: in none yet."""


class StoreAt(Message, tag="store-at"):
    """To the keeper and the console: reach the store so from now on, with another password."""

    place: StorePlace


# To and from the console.


class BeginConsole(Message, tag="begin-console"):
    """Be the console. Descriptor: the socket that it listens on."""

    settings: ConsoleSettings
    has_sandbox: bool = True


class AskFor(Message, tag="ask-for"):
    """Somebody in the console, or a process itself, wants something; ``Answer`` answers."""

    number: int
    request: AnyRequest
    by: str
    """Who."""
    ticket: str = ""
    """Of ``Proved``, for what needs the password; of the console alone."""


class Prove(Message, tag="prove"):
    """Somebody has given a password in the console; ``Proved`` answers."""

    number: int
    name: str
    password: str


class Proved(Message, tag="proved"):
    """The answer to ``Prove``."""

    number: int
    ticket: str = ""
    """What stands for the password for some minutes; empty: it is not an administrator's."""


class AddFirst(Message, tag="add-first"):
    """Make the first user of the console, who came by the link of the first start."""

    number: int
    name: str
    password: str


class AddedFirst(Message, tag="added-first"):
    """The answer to ``AddFirst``."""

    number: int
    fault: str = ""
    """Why not; empty: there is a user now."""


class Explain(Message, tag="explain"):
    """Say what the policy in force says of a line of the log; ``Explained`` answers."""

    number: int
    line: str


class ExplainedLine(Message, tag="explained"):
    """The answer to ``Explain``."""

    number: int
    explained: Explained


class Acted(Message, tag="acted"):
    """A person in the console has done something that is to be recorded."""

    record: OperatorRecord


# To and from the forwarder.


class BeginForward(Message, tag="begin-forward"):
    """Be the forwarder."""

    log: str
    """Path of the log that it follows."""
    folder: str
    """Path of where it keeps how far each sink is."""
    begin: LogPosition
    """Where in the log a sink begins that is new."""
    sinks: list[SinkSettings]


class SinkState(msgspec.Struct, kw_only=True):
    """How far one sink is."""

    name: str
    sent: int
    lost: int
    bytes_behind: int
    failure: str


class Forwarded(Message, tag="forwarded"):
    """How far all are."""

    sinks: list[SinkState]


# To and from the alerter.


class BeginAlerts(Message, tag="begin-alerts"):
    """Be the alerter; said again, work by this from now on."""

    log: str
    """Path of the log that it follows."""
    folder: str
    """Path of where it keeps what was raised."""
    since: float
    """When the gate was started, in seconds since the Unix epoch."""
    rules: list[AlertRule]
    actions: list[ActionSettings]
    room: SpoolRoom
    writable: list[str] = []
    """Where programs may write that it starts."""
    has_sandbox: bool = True


class RecordAlert(Message, tag="record-alert"):
    """Write what has become of an alert."""

    record: AlertRecord


class Alerting(Message, tag="alerting"):
    """How it is with alerts."""

    open: int
    """How many wait to be acknowledged."""
    trouble: str = ""
    """Why they cannot be kept, or the log not be read."""


# To the exporter of metrics.


class BeginMetrics(Message, tag="begin-metrics"):
    """Be the exporter. Descriptor: the socket that it listens on."""

    has_sandbox: bool = True


# To the signer.


class BeginSigner(Message, tag="begin-signer"):
    """Be the signer. Descriptors: the trusted authority's key unless a token has it, the other's.

    Certificates are PEM, what is sent with leaves behind each.
    """

    chain: str
    untrusted: str
    token: str = ""
    """A PKCS#11 URI; empty: there is no token."""
    module: str = ""
    pin: str = ""
    folder: str = ""
    """Of the keys, which it has open and needs no more."""


class TakeWorker(Message, tag="take-worker"):
    """Answer one more worker. Descriptor: its socket."""


AnyMessage: TypeAlias = (
    BeginWorker
    | Prepare
    | Commit
    | Abandon
    | Ask
    | AttachAudit
    | AttachSigner
    | Drain
    | Ready
    | Leaving
    | Failed
    | Prepared
    | Committed
    | Answer
    | Said
    | BeginAudit
    | TakeStream
    | ChangeLog
    | HoldLog
    | StreamEnded
    | BeginStore
    | Stored
    | StoreAt
    | BeginForward
    | Forwarded
    | BeginSigner
    | TakeWorker
    | BeginConsole
    | BeginMetrics
    | BeginAlerts
    | RecordAlert
    | Alerting
    | AskFor
    | Acted
    | Prove
    | Proved
    | AddFirst
    | AddedFirst
    | Explain
    | ExplainedLine
)
