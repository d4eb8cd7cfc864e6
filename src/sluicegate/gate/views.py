"""What the running service tells about itself: the answers of ``status`` and its kin.

``gate/service`` makes them, ``gate/control`` carries them, ``cli`` shows them. The invariant: a
view is a copy of one moment, of texts and numbers only; nothing in it leads back into the gate.
"""

from __future__ import annotations

import enum

import msgspec

from sluicegate.scan import ScannerView

__all__ = [
    "CertificateView",
    "ConnectionView",
    "FilterView",
    "FloodView",
    "LearnView",
    "LeavesView",
    "ListenerView",
    "Phase",
    "ReloadView",
    "ScannerView",
    "SessionView",
    "StatusView",
    "TransferView",
    "WorkerView",
]


class Phase(enum.StrEnum):
    """Where the service stands in its life."""

    STARTING = "starting"
    READY = "ready"
    """Listening, and letting in what policy allows."""
    REFUSING = "refusing"
    """Listening, and refusing what is new: records cannot be written."""
    DRAINING = "draining"
    """Not listening; connections may end by themselves."""
    STOPPED = "stopped"


class ListenerView(msgspec.Struct, kw_only=True):
    """One address that the gate listens on."""

    name: str
    address: str
    """As bound: with the port that the kernel chose, where 0 was asked for."""
    transport: str = "tcp"
    """``tcp`` or ``udp``."""
    accepted: int = 0
    """Connections since the listener was opened."""
    is_paused: bool = False
    """Whether accepting waits, because descriptors or connections ran out."""


class CertificateView(msgspec.Struct, kw_only=True):
    """One certificate of a listener, as it is in force."""

    listener: str
    names: list[str]
    """What it is for."""
    expires: float
    """When it, or what leads from it to an authority, ends, in seconds since the Unix epoch."""
    serial: str
    """Its number, in hexadecimal."""
    is_default: bool = False
    """Whether it is shown to clients that ask for no known name."""


class WorkerView(msgspec.Struct, kw_only=True):
    """One process of the gate, beside the supervisor."""

    name: str
    """``worker 0``, or ``audit writer``."""
    pid: int
    """0 while it is being started again."""
    state: str
    """``ready``, ``starting``, ``draining``, ``silent`` (it does not answer), or ``waiting`` until
    it is started again."""
    restarts: int = 0
    """How often it had to be started again."""
    started: float = 0.0
    """When, in seconds since the Unix epoch."""
    connections: int = 0
    """Open now."""
    accepted: int = 0
    """Connections let in since it started."""
    cpu_s: float = 0.0
    """CPU time since it started."""
    memory_bytes: int = 0
    """Resident memory."""
    policy: str = ""
    """SHA-256 of the policy in force there."""
    version: str = ""
    """Of the program that it runs."""


class FloodView(msgspec.Struct, kw_only=True):
    """The flood limits of the policy, and what was done by them."""

    enabled: bool = False
    clients: int = 0
    """Whose doings are kept now; one that came to several workers counts for each."""
    reached: dict[str, int] = {}
    """By limit, how often it was reached since the start: what was refused for it, for
    ``udp_sessions_max`` what was ended or refused, for ``denied_per_minute`` the refusals that were
    counted and not recorded."""


class LearnView(msgspec.Struct, kw_only=True):
    """Clients for whom what no rule speaks of passes, on the record."""

    name: str
    clients: list[str]
    until: float
    """When it ends by itself, in seconds since the Unix epoch."""
    connections: int = 0
    """That passed so; their decisions say ``learning``."""


class ReloadView(msgspec.Struct, kw_only=True):
    """What became of reloads since the start."""

    done: int = 0
    """Put in force, on every worker."""
    done_at: float = 0.0
    """When the last one was, in seconds since the Unix epoch; 0 before the first."""
    done_by: str = ""
    """Who asked for it: the user at the control socket, or ``SIGHUP``."""
    refused: int = 0
    """Refused: what was in force stayed in force."""
    refused_at: float = 0.0
    """When the last one was, in seconds since the Unix epoch; 0 before the first."""
    refused_by: str = ""
    """Who had asked for it."""
    refused_causes: list[str] = []
    """Why."""

    @property
    def is_last_refused(self) -> bool:
        """Whether the files are not what is in force: the last reload was refused."""
        return self.refused_at > self.done_at


class LeavesView(msgspec.Struct, kw_only=True):
    """The certificates that clients see where TLS is opened."""

    kept: int = 0
    """Remembered now."""
    found: int = 0
    """Handshakes for which one was remembered, since the start."""
    minted: int = 0
    """Made since the start."""
    failed: int = 0
    """Handshakes for which there was none, since the start."""


class StatusView(msgspec.Struct, kw_only=True):
    """The service as a whole."""

    phase: Phase
    version: str
    pid: int
    boot: str
    """The mark in this run's identifiers."""
    backend: str
    """The driver of the completion port."""
    diagnosis: str
    """Why it is that driver, and what is lost by it."""
    started: float
    """When, in seconds since the Unix epoch."""
    policy: str
    """SHA-256 of the policy in force."""
    listeners: list[ListenerView] = []
    certificates: list[CertificateView] = []
    """Of listeners whose clients speak TLS."""
    connections: int = 0
    """Open now."""
    sessions: int = 0
    """Known now."""
    connections_allowed: int = 0
    """Since the start."""
    connections_denied: int = 0
    """Since the start."""
    bytes_to_server: int = 0
    """Of ended connections, since the start."""
    bytes_to_client: int = 0
    """Of ended connections, since the start."""
    spool_bytes: int = 0
    """Held on disk and in memory now."""
    spool_transfers: int = 0
    """Objects held now."""
    verdicts_kept: int = 0
    """Verdicts of content filters that need not be asked for again."""
    verdict_hits: int = 0
    """Objects that a content filter did not have to judge, since the start."""
    verdict_misses: int = 0
    """Objects that it had to, though its verdict could have been kept, since the start."""
    records_queued_bytes: int = 0
    """Waiting to be written."""
    records_lost: int = 0
    """Since the start."""
    records_failure: str = ""
    """Why records cannot be written now."""
    store_failure: str = ""
    """Why records are not put into the store, and wait in the log."""
    descriptors_max: int = 0
    """The limit of this process."""
    memory_bytes: int = 0
    """Resident memory of this process."""
    reloads: ReloadView = msgspec.field(default_factory=ReloadView)
    learning: list[LearnView] = []
    """What the policy lets pass only to be learned from, now."""
    learned: int = 0
    """Connections that passed so, since the start, also by what is over by now."""
    learned_by: dict[str, int] = {}
    """The same, by the rule that their decisions name (``learn:`` and the name of the entry)."""
    revoked: int = 0
    """Connections that a change of policy has ended, since the start."""
    revoking: int = 0
    """Open connections that are to be judged again, or go on for their grace."""
    drain_ends: float = 0.0
    """When what is left of a drain is cut, in seconds since the Unix epoch; 0 before it."""
    cpu_s: float = 0.0
    """CPU time of this process, since it started."""
    workers: list[WorkerView] = []
    """The other processes; none where all is in one."""
    protections: list[str] = []
    """What workers have given up, so that nothing that runs in them can use it."""
    protections_lacking: list[str] = []
    """What they would have given up, and why they could not."""
    steering: str = ""
    """How clients are spread over workers; empty where there is one process."""
    flood: FloodView = msgspec.field(default_factory=FloodView)
    scanners: list[ScannerView] = []
    """Those that have processes."""
    leaves: LeavesView = msgspec.field(default_factory=LeavesView)
    authority: str = ""
    """The certificate that signs them and what is sent with it, as PEM; empty: none signs."""
    alerts_open: int = 0
    """Alerts that wait to be acknowledged."""
    warnings: list[str] = []
    """What an operator should look at."""


class SessionView(msgspec.Struct, kw_only=True):
    """One client."""

    session: str
    client: str
    started: float
    """When, in seconds since the Unix epoch."""
    idle_s: float
    """Since its last connection came or went; 0 while it has one."""
    connections: int
    """Open now."""
    expected: int = 0
    """Secondary connections that may still come."""
    user: str = ""
    """Who the client proved to be."""
    filters: list[str] = []
    """Filters that are attached to it."""


class ConnectionView(msgspec.Struct, kw_only=True):
    """One open connection."""

    connection: str
    session: str
    client: str
    server: str
    listener: str
    rule: str
    state: str
    started: float
    """When, in seconds since the Unix epoch."""
    idle_s: float = 0.0
    """Since the last byte in either direction."""
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    is_spliced: bool = False
    """Whether the kernel moves its bytes alone, in a direction at least."""
    filters: list[str] = []
    """The filters in its chain, from client to server."""
    primary: str = ""
    """The connection that announced it."""
    asked: str = ""
    """What the client of a proxy listener asked for."""
    transport: str = "tcp"
    """``tcp`` or ``udp``."""
    datagrams_to_server: int = 0
    datagrams_to_client: int = 0
    dropped: int = 0
    """Datagrams that were not passed on."""


class TransferView(msgspec.Struct, kw_only=True):
    """One object that is held."""

    connection: str
    session: str
    client: str
    rule: str
    name: str
    """What the protocol calls it; text of the client or the server."""
    direction: str
    """``download`` or ``upload``."""
    protocol: str
    stage: str
    """``filling``, ``storing``, ``judging``, ``released`` or ``delivering``."""
    started: float
    """When its first byte came, in seconds since the Unix epoch."""
    user: str = ""
    content_type: str = ""
    filters: list[str] = []
    """Content filters that want to see it."""
    verdict: str = ""
    """Why it was released, once it is."""
    bytes_held: int = 0
    bytes_delivered: int = 0
    """What its receiver has of it by now."""
    bytes_announced: int = 0
    """How long it is to be, as its sender says; 0: it does not say."""


class FilterView(msgspec.Struct, kw_only=True):
    """One installed filter, in the operator's order."""

    name: str
    source: str
    """Where it comes from."""
    tier: str
    """What kind it is: filter, content, data, callback or stream."""
    position: str = ""
    """Where its data filters stand in a chain, for kinds that say so themselves."""
    on_failure: str = "deny"
    state: str = "working"
    """``working`` or ``failed``."""
    cause: str = ""
    """Why it failed."""
    rules: list[str] = []
    """Publications that use it."""
    sessions: int = 0
    """Sessions that it is attached to."""
    calls: int = 0
    """Events, connections and transfers that it was asked about."""
    failures: int = 0
    """How often it raised, was late or answered nonsense."""
    answer_s: float = 0.0
    """How long it took to answer about events, messages and objects, in all."""
    answer_buckets: list[int] = []
    """How many answers took how long: the buckets of ``sluicegate_filter_seconds``."""
    settings: dict[str, str] = {}
    """What the operator has set, for people; without what may be a secret."""
    isolation: str = ""
    """``process`` for one that runs in a process of its own."""
    pid: int = 0
    """That process; 0 while there is none."""
    restarts: int = 0
    """How often that process was replaced."""
    memory_bytes: int = 0
    """Resident memory of that process."""
