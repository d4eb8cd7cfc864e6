"""The catalogue of records: every kind of line in the log, with what its fields mean.

The gate makes them, ``writer`` writes them, ``query`` reads them; the reference page is made from
this file. The invariant: a field's meaning never changes: what means something else gets another
name, and readers ignore fields that they do not know.

Times are seconds since the Unix epoch: to make a date of each would cost as much as the rest of the
record. Fields that hold their default are left out of the line.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "AlertRecord",
    "AnyRecord",
    "ConnectionRecord",
    "DecisionRecord",
    "FilterFailureRecord",
    "LearnRecord",
    "LimitRecord",
    "LookupRecord",
    "LoopBlockedRecord",
    "NoteRecord",
    "OperatorRecord",
    "Outcome",
    "PolicyRecord",
    "ProcessRecord",
    "Record",
    "RequestRecord",
    "RuleChangeRecord",
    "ServiceEvent",
    "ServiceRecord",
    "SessionRecord",
    "StepName",
    "StepRecord",
    "TransferRecord",
]

Outcome: TypeAlias = Literal["released", "refused", "failed"]

ServiceEvent: TypeAlias = Literal[
    "started",
    "ready",
    "reloaded",
    "reload-refused",
    "upgrading",
    "taken-over",
    "draining",
    "stopped",
]


# Records hold texts and numbers only, so the cycle collector need not know them.
class Record(msgspec.Struct, kw_only=True, tag_field="kind", omit_defaults=True, gc=False, eq=True):
    """What every line carries, beside ``kind``."""

    time: float
    """When it was written, in seconds since the Unix epoch."""


class DecisionRecord(Record, tag="decision", kw_only=True):
    """One decision on a new connection, before anything is dialled.

    Datagrams of a SOCKS association that pass to be learned from have one more for every further
    destination.
    """

    connection: str
    """The connection it is about."""
    session: str
    """The client's session; empty when the client was refused before it had one."""
    client: str
    """The client's address and port."""
    listener: str
    """Name of the listener it came to."""
    verdict: Literal["allowed", "denied"]
    """What was decided."""
    reason: str
    """Why: a reason code of the policy or of the gate, or a filter's own words."""
    policy: str
    """SHA-256 of the policy that decided."""
    rule: str = ""
    """Name of the rule that matched; absent when none did."""
    target: str = ""
    """What was asked for: the server's address and port, or the host that the client named."""
    filter: str = ""
    """The filter that decided, when one did."""
    transport: str = ""
    """``udp``; absent for TCP."""
    emulated_by: str = ""
    """The data filter that plays the server, when one does: nobody is dialled."""
    primary: str = ""
    """For a connection that another one announced: that other one."""
    peer: str = ""
    """The address and port of the peer that announced the client (PROXY protocol)."""
    entry: str = ""
    """How the client named its destination (``socks5``, ``http-connect`` …); absent where it did
    not."""
    user: str = ""
    """The user that the client proved to be."""
    protocol: str = ""
    """What was asked for, as rules name it, where ``transport`` does not say it: ``bind``."""
    addresses: tuple[str, ...] = ()
    """What was found for the name that the client asked for, the refused addresses among them, in
    the order of the answer; absent where it named an address, or where nothing was found or looked
    up."""


class ConnectionRecord(Record, tag="connection", kw_only=True):
    """One connection that ended; exactly one for every connection that was allowed."""

    connection: str
    """Which one."""
    session: str
    """The client's session."""
    client: str
    """The client's address and port."""
    listener: str
    """Name of the listener it came to."""
    rule: str
    """Name of the rule that admitted it."""
    server: str
    """The server's address and port; of a SOCKS association, where the client sends datagrams.
    Empty where none was found, or no request of a connection went to one."""
    started: float
    """When it was accepted, in seconds since the Unix epoch."""
    duration_s: float
    """How long it lived."""
    outcome: Outcome
    """How it ended: as its two sides wanted, refused by a verdict, or failed."""
    reason: str
    """Why it ended: a reason code of the gate, or a filter's own words."""
    connect_ms: float = 0.0
    """How long the server took to answer."""
    bytes_to_server: int = 0
    """Bytes that the server was sent."""
    bytes_to_client: int = 0
    """Bytes that the client was sent."""
    bytes_spliced: int = 0
    """How many of both went through the kernel alone."""
    filters: tuple[str, ...] = ()
    """Filters that stood in its chain, from client to server."""
    side: str = ""
    """Which side failed, when one did."""
    error: str = ""
    """The name of the error there (``ECONNRESET``)."""
    filter: str = ""
    """The filter that refused it or failed, when one did."""
    primary: str = ""
    """For a connection that another one announced: that other one; for datagrams under one rule of
    a SOCKS association: the association."""
    peer: str = ""
    """The address and port of the peer that announced the client (PROXY protocol)."""
    host: str = ""
    """The name that the client asked for, canonical; absent where it named an address, or nothing.
    """
    entry: str = ""
    """How the client named its destination; absent where it did not."""
    sni: str = ""
    """The name in the client's ClientHello, as it wrote it, where it was judged."""
    tls: Literal["", "inspect", "validate", "own"] = ""
    """What the rule wanted done with its TLS; ``own``: a publishing listener spoke it with the
    client; absent where it passed as it was."""
    tls_verification: str = ""
    """What became of the server's certificate: ``verified``, or the code of what is wrong."""
    tls_issuer: str = ""
    """Who signed the server's certificate."""
    tls_server: str = ""
    """Version and cipher that were agreed on with the server."""
    tls_client: str = ""
    """Version and cipher that were agreed on with the client."""
    tls_leaf: str = ""
    """The serial number, in hexadecimal, of the certificate that the client was shown."""
    suggestion: str = ""
    """What an operator may want to write into the rule; the gate never does it by itself."""
    user: str = ""
    """The user that the client proved to be."""
    transport: str = ""
    """``udp``; absent for TCP."""
    datagrams_to_server: int = 0
    """UDP: datagrams that were passed on to the server side."""
    datagrams_to_client: int = 0
    """UDP: datagrams that were passed on to the client."""
    dropped: dict[str, int] = {}
    """UDP: datagrams that were not passed on, by reason: ``oversized``
    (``udp_datagram_bytes_max``), ``peer-denied`` (by a filter), ``peers-full``
    (``udp_peers_max``), ``unsolicited`` (of a peer that nothing was sent to), ``filter`` (by a
    filter), ``filter-behind`` and ``awaiting`` (``udp_awaiting_max``), ``no-room`` (in the kernel),
    ``unreachable`` (an ICMP answer). Of a SOCKS association: ``peer-unknown`` (a filter sent to a
    peer that no rule was asked about), and in the association's own record ``denied`` (by policy or
    a limit), ``unresolved`` (a name), ``stranger`` (not the client's address and port),
    ``fragment`` and ``malformed``."""
    peers: int = 0
    """UDP: peers that it had, one after the other or at once."""


class RequestRecord(Record, tag="request", kw_only=True):
    """One HTTP request, decided on and answered; written when the exchange is over.

    Requests that never had a connection, and those of a flood, are in other records.
    """

    connection: str
    """The client's connection that carried it."""
    request: str
    """Its own identifier, which refusals quote."""
    session: str
    """The client's session."""
    client: str
    """The client's address and port."""
    listener: str
    """Name of the listener it came to."""
    verdict: Literal["allowed", "denied"]
    """What was decided before anything of it went on."""
    reason: str
    """Why: a reason code of the policy or of the gate, or a filter's own words."""
    outcome: Outcome
    """How it ended: answered by the server or by the gate, refused by a verdict, or failed."""
    policy: str
    """SHA-256 of the policy that decided."""
    rule: str = ""
    """Name of the rule that matched; absent when none did."""
    method: str = ""
    """The request's method; absent when it could not be read."""
    url: str = ""
    """What was asked for, without the query, which may hold secrets."""
    status: int = 0
    """The status that the client was told; absent where it was told none."""
    server: str = ""
    """The server's address and port; absent where none was asked."""
    duration_ms: float = 0.0
    """From the whole head of the request to the last byte of the answer."""
    bytes_to_server: int = 0
    """Bytes of the request's body, without its framing."""
    bytes_to_client: int = 0
    """Bytes of the response's body, without its framing."""
    ended: str = ""
    """Why it did not end as it was decided: what failed, or what refused it later."""
    user: str = ""
    """The user that the client proved to be."""
    entry: str = ""
    """How the client named its destination; absent where it did not."""
    content_type: str = ""
    """The type that the response said it has."""
    addresses: tuple[str, ...] = ()
    """What was found for the name in the URL, where this request looked it up."""
    answered_by_gate: bool = False
    """Whether the answer is the gate's own: a refusal, or what a filter answered."""
    facts: dict[str, str | int] = {}
    """What filters added."""


class RuleChangeRecord(Record, tag="rule-change", kw_only=True):
    """A connection goes on by another rule: a change of policy or of time has come meanwhile."""

    connection: str
    """Which one."""
    before: str
    """Name of the rule that it went by before."""
    rule: str
    """Name of the rule that it goes by now; the record of its end has this one."""
    policy: str
    """SHA-256 of the policy in force."""


class TransferRecord(Record, tag="transfer", kw_only=True):
    """One object that was held, and what was decided about it."""

    connection: str
    """The connection that carried it."""
    session: str
    """The client's session."""
    client: str
    """The client's address and port."""
    rule: str
    """Name of the rule that admitted the connection."""
    name: str
    """What the protocol called the object; text of the client or the server."""
    direction: Literal["download", "upload"]
    """Which way it moved."""
    protocol: str
    """What carried it (``ftp``)."""
    verdict: Outcome
    """Whether the receiver was let have it."""
    reason: str
    """Why."""
    bytes: int
    """Bytes that were held."""
    sha256: str = ""
    """Digest of them, hexadecimal; absent when the object never arrived whole."""
    filter: str = ""
    """The filter that decided, when one did."""
    user: str = ""
    """The user name that the protocol gave: a claim, not an identity."""
    content_type: str = ""
    """The type that the protocol gave."""
    held_ms: float = 0.0
    """From its first byte to its verdict."""
    bytes_written: int = 0
    """Bytes that went to a file; the others stayed in memory."""
    bytes_delivered: int = 0
    """Bytes that the receiver was sent."""
    facts: dict[str, str] = {}
    """What else the protocol knew (the FTP command)."""


class FilterFailureRecord(Record, tag="filter-failure", kw_only=True):
    """A filter raised, was late, or answered nonsense."""

    filter: str
    """Which one."""
    cause: str
    """What happened."""
    action: Literal["refused", "bypassed"]
    """What became of the traffic that needed it."""
    connection: str = ""
    """The connection it was about, if it was about one."""
    session: str = ""
    """The session it was about, if it was about one."""


class NoteRecord(Record, tag="note", kw_only=True):
    """What a filter wanted the log to keep."""

    filter: str
    """Which one."""
    message: str
    """Its words."""
    facts: dict[str, str | int] = {}
    """Its facts."""


class LimitRecord(Record, tag="limit", kw_only=True):
    """A limit was reached, and something was refused for it."""

    limit: str
    """Its name."""
    bound: float
    """Its value."""
    count: int = 1
    """How often, since the last record of this limit."""
    client: str = ""
    """The client that reached it, if it was one."""
    connection: str = ""
    """The connection that reached it, if it was one."""


class LoopBlockedRecord(Record, tag="loop-blocked", kw_only=True):
    """The loop did not turn for longer than ``loop_block_s``: every client of the worker waited."""

    filter: str
    """Whose code kept it; empty when it was no filter's, or could not be seen."""
    where: str
    """File, line and function, as seen while it was blocked, or that nothing could be seen."""
    blocked_s: float
    """How long, in seconds."""
    connection: str = ""
    """The connection that the filter was called for, if that could be seen."""


class ServiceRecord(Record, tag="service", kw_only=True):
    """A step in the life of the gate."""

    event: ServiceEvent
    """Which step."""
    version: str = ""
    """The version of Sluicegate."""
    boot: str = ""
    """The mark that identifiers of this run carry."""
    backend: str = ""
    """The driver of the completion port."""
    diagnosis: str = ""
    """Why it is that driver, and what is lost by it."""
    policy: str = ""
    """SHA-256 of the policy in force."""
    causes: tuple[str, ...] = ()
    """Why a reload was refused."""
    by: str = ""
    """Who asked for a reload: the user at the control socket, or ``SIGHUP``."""


class PolicyRecord(Record, tag="policy", kw_only=True):
    """Another policy is in force, on every worker."""

    before: str
    """SHA-256 of the one before."""
    policy: str
    """SHA-256 of the one in force."""
    by: str
    """Who asked for it: the user at the control socket, or ``SIGHUP``."""
    added: tuple[str, ...] = ()
    """Names of rules and publications that it has and the one before had not."""
    removed: tuple[str, ...] = ()
    """Names of those that the one before had and it has not."""
    changed: tuple[str, ...] = ()
    """Names of those in which something stands that can change a decision or what filters do."""
    moved: tuple[str, ...] = ()
    """Names of those that stand elsewhere in the order; the first that matches decides."""


class LearnRecord(Record, tag="learn", kw_only=True):
    """Learning begins, goes on, or is over: what no rule speaks of passes meanwhile."""

    entry: str
    """Name of the ``[[learn]]`` entry; decisions by it have the rule ``learn:`` and that name."""
    event: Literal["began", "goes-on", "ended"]
    """``began``: with a policy, or with the gate; ``goes-on``: through a reload, perhaps with other
    clients or another end; ``ended``: its time is over, or a policy without it has come. A gate
    that stops ends none: the next one that finds it in its policy begins it."""
    clients: tuple[str, ...]
    """For whom."""
    until: float
    """When it ends by itself, in seconds since the Unix epoch."""
    policy: str
    """SHA-256 of the policy in force."""
    listeners: tuple[str, ...] = ()
    """At which; absent: at every proxy listener."""
    connections: int = 0
    """Connections that it has let in since it began; those that a process had counted that was
    killed are missing."""


class ProcessRecord(Record, tag="process", kw_only=True):
    """A process of the gate ended unexpectedly, or with connections; another takes its place."""

    process: str
    """Which one: ``worker 0``, ``audit writer``."""
    pid: int
    """Its number in the system."""
    cause: str
    """How it ended: a signal or a status; or what it was replaced for."""
    connections: int = 0
    """Connections that ended with it; their records are missing."""
    records_lost: int = 0
    """Records that it had made and that are not in the log."""
    restarts: int = 0
    """How often that place had to be filled again, since the start."""


class SessionRecord(Record, tag="session", kw_only=True):
    """A client's session begins or ends; ``sessions`` in ``[log]`` says whether it is written."""

    event: Literal["began", "ended"]
    """Which of both; those of a process that was killed end without a record."""
    session: str
    """Which one."""
    client: str
    """The client's address."""
    user: str = ""
    """The user that the client proved to be."""
    duration_s: float = 0.0
    """At its end: how long it was there, its last idle time with it."""
    filters: tuple[str, ...] = ()
    """At its end: filters that were attached to it."""


class LookupRecord(Record, tag="lookup", kw_only=True):
    """One question that DNS servers were asked; what was remembered is not asked.

    ``lookups`` in ``[log]`` says whether it is written. Several clients may have waited for it: the
    decision on each of their connections has the addresses that were found.
    """

    host: str
    """The name that was asked about, canonical; of an address, its name under ``arpa``."""
    question: str
    """The type of records that were asked for (``A``, ``AAAA``, ``PTR``)."""
    result: Literal["found", "none", "failed"]
    """Whether the name has such records; or nobody gave an answer that can be used."""
    reason: str = ""
    """Why nothing was found: a reason code of the resolver."""
    cause: str = ""
    """What a server did wrong, when one did."""
    addresses: tuple[str, ...] = ()
    """What was found, before anything was judged."""
    aliases: tuple[str, ...] = ()
    """Other names that the name stands for, in their order."""
    names: tuple[str, ...] = ()
    """Of an address: the names that were found, which prove nothing."""
    duration_ms: float = 0.0
    """How long it took, further attempts with it."""
    ttl_s: float = 0.0
    """How long what was found is remembered."""


class OperatorRecord(Record, tag="operator", kw_only=True):
    """Somebody operated the gate, or tried to: by a command, in the console or by its API."""

    action: str
    """What was done: ``reload``, ``kill``, ``drain``, ``upgrade``, ``user-add``,
    ``user-change``, ``user-remove``; in the console also ``login``, ``policy-change`` and what else
    it offers."""
    by: str
    """Who: the user at the control socket, as the kernel says; in the console its own user."""
    origin: Literal["command", "console", "api"]
    """Where it was done."""
    result: Literal["done", "refused", "failed"]
    """What became of it."""
    client: str = ""
    """The address and port of the browser or the program; absent at the control socket."""
    subjects: tuple[str, ...] = ()
    """What it was done to: identifiers, users, names of rules or alerts."""
    causes: tuple[str, ...] = ()
    """Why it was refused, or failed."""
    facts: dict[str, str | int] = {}
    """What else is to be known of it (how long a drain may take); never a secret."""


class AlertRecord(Record, tag="alert", kw_only=True):
    """An alert was raised, acknowledged, or is over; or what it was to do failed."""

    alert: str
    """Its name, as operators have it in the configuration."""
    event: Literal["raised", "raised-again", "acknowledged", "over", "action-failed"]
    """Which step; ``over``: what it was raised for is not so any more."""
    severity: Literal["information", "warning", "error"]
    """How bad it is."""
    raising: str = ""
    """The identifier of this raising, which acknowledging it names."""
    category: str = ""
    """A word that alerts are chosen by."""
    message: str = ""
    """What happened, in a sentence."""
    about: str = ""
    """The value that was counted: a client, a host; absent where all were counted together."""
    count: int = 1
    """How many events it was raised for, until now."""
    times: int = 1
    """How often it was raised since it was acknowledged last."""
    query: str = ""
    """The query that finds the records that it was raised for."""
    by: str = ""
    """Who acknowledged it."""
    client: str = ""
    """The client that it is about, if it is about one."""
    facts: dict[str, str | int] = {}
    """What is known of it: of the last record that counted, what an alert tells; of a failed
    ``action`` its ``cause``."""


StepName: TypeAlias = Literal["dial", "tls-server", "leaf", "tls-client", "filter", "scan"]


class StepRecord(Record, tag="step", kw_only=True):
    """What a traced connection spent time on; ``[traces]`` says which share of them is traced."""

    connection: str
    """Which one."""
    step: StepName
    """What: the ``dial`` of its server, the handshake with the server (``tls-server``), the wait
    for the ``leaf`` that the client is shown, the handshake with the client (``tls-client``), a
    ``filter`` that was asked about an event, a message or an object, or the ``scan`` of one."""
    started: float
    """When it began, in seconds since the Unix epoch."""
    duration_ms: float
    """How long it took."""
    filter: str = ""
    """Which filter."""
    scanner: str = ""
    """Which scanner."""
    request: str = ""
    """The request that it was for, where it was for one."""
    reason: str = ""
    """Why it failed, if it did."""


AnyRecord: TypeAlias = (
    DecisionRecord
    | ConnectionRecord
    | RequestRecord
    | RuleChangeRecord
    | TransferRecord
    | FilterFailureRecord
    | NoteRecord
    | LimitRecord
    | LoopBlockedRecord
    | ServiceRecord
    | PolicyRecord
    | LearnRecord
    | ProcessRecord
    | SessionRecord
    | LookupRecord
    | OperatorRecord
    | AlertRecord
    | StepRecord
)
