"""Every limit of the product, named with unit and bound, with its reason.

``Limits`` is what ``[limits]`` may set; the constants are fixed by a protocol or the kernel. The
invariant: nobody else invents a bound, and reaching one is a refusal with its name, no truncation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.web_limits import WebLimits

__all__ = [
    "ACCEPT_AHEAD_MAX",
    "BULK_SLOTS_CIRCULATING_MIN",
    "CLOSE_ROUNDS_MAX",
    "CLOSE_ROUND_S",
    "DIAL_ATTEMPTS_MAX",
    "DNS_ALIASES_MAX",
    "DNS_RECORDS_MAX",
    "DNS_STRAY_DATAGRAMS_MAX",
    "DNS_UDP_BYTES_MAX",
    "ENTRY_AHEAD_BYTES_MAX",
    "ENTRY_KNOWN_MAX",
    "ENTRY_LINGER_BYTES_MAX",
    "ENTRY_LINGER_S",
    "ENTRY_READ_BYTES_MAX",
    "FLOOD_RECORD_S",
    "HELD_COMFORT_S",
    "HOSTS_KNOWN_MAX",
    "HOST_LABEL_CHARACTERS_MAX",
    "HOST_NAME_CHARACTERS_MAX",
    "HOST_TEXT_MAX",
    "KEPT_DOWNLOADS_MAX",
    "KEPT_DOWNLOAD_S",
    "LAST_WORDS_BYTES_MAX",
    "LAST_WORDS_S",
    "PACKED_ADDRESSES_MAX",
    "PASSWORD_THROTTLE_CLIENTS_MAX",
    "PROGRESS_PAGE_S",
    "RECEIVE_AHEAD_MAX",
    "RECORDS_ENCODED_LATER_MAX",
    "RECORD_BATCH_BYTES_MAX",
    "RECORD_FLUSH_DELAY_S",
    "RECORD_RETRY_DELAY_S",
    "RECORD_WRITE_BYTES_MAX",
    "RECORD_WRITE_BYTES_MIN",
    "RING_COMPLETIONS",
    "RING_ENTRIES",
    "SMALL_SLOTS_CIRCULATING_MIN",
    "SPOOL_BUFFERS_KEPT_MAX",
    "SPOOL_HASH_BACKLOG_BYTES_MAX",
    "SPOOL_READ_BUFFERS_MAX",
    "SPOOL_RECEIVE_BUFFERS_MAX",
    "STREAM_WAIT_S_MAX",
    "TRANSFER_READ_BYTES_MAX",
    "TRICKLE_TAIL_BYTES",
    "WATCHDOG_BEAT_S",
    "Limits",
]

# Completion port.

RECEIVE_AHEAD_MAX: Final = 8
"""Received buffers per direction that wait for a start: one round trip of a chatty client."""

OPERATIONS_KEPT_MAX: Final = 1024
"""Operations kept for the next dial: as many as complete in one turn of a busy gate."""

DIRECTIONS_KEPT_MAX: Final = 1024
"""Directions kept for the next connection, for the same reason; each is less than 1 KiB."""

STREAM_WAIT_S_MAX: Final = 3600.0
"""What a stream filter may wait at a time: longer than any pause that a transfer survives."""

LAST_WORDS_BYTES_MAX: Final = 16 << 10
"""What a side may be told before its connection is refused: a page of HTML, in one send."""

LAST_WORDS_S: Final = 2.0
"""How long a side that was told something may take to read it and close (nginx lingers for 5 s, but
not on what was refused); then it is reset."""

ACCEPT_AHEAD_MAX: Final = 64
"""Accepted sockets per listener that may wait for a start; beyond it the multishot accept is
cancelled and the backlog holds the rest."""

EVENTS_PER_TURN_MAX: Final = 256
"""Ready descriptors that one turn of the epoll backend takes: bounds the batch, so that timers and
posted tasks are never later than one batch."""

RECEIVES_PER_EVENT_MAX: Final = 8
"""Small receives from one ready socket before the others have their turn (32 KiB)."""

DATAGRAMS_PER_BATCH_MAX: Final = 64
"""Datagrams that one receive takes, and the slots of a tray: more gained nothing."""

ACCEPTS_PER_EVENT_MAX: Final = 32
"""Connections accepted from one listener before the others have their turn."""

FILE_THREADS_MAX: Final = 4
"""Threads for file calls of the epoll backend; more than a few only lengthens the disk's queue, and
each may hold one caller's buffer."""

RING_ENTRIES: Final = 256
"""Operations that io_uring takes in one enter: 16 KiB of entries stay in the first-level cache.
More starts in one turn cost an extra enter."""

RING_COMPLETIONS: Final = 4096
"""Completions that one enter may bring: sixteen times the entries, because multishot operations
complete many times. The kernel keeps what is more for the next one."""

SMALL_SLOTS_CIRCULATING_MIN: Final = 64
"""Small receive buffers in use while they suffice: 256 KiB, which a second-level cache holds."""

BULK_SLOTS_CIRCULATING_MIN: Final = 4
"""Large receive buffers in use while they suffice: 1 MiB."""

PACKED_ADDRESSES_MAX: Final = 1024
"""Addresses kept in the kernel's form for connects; must be more than ``RING_ENTRIES``, so that one
is dropped only when the kernel has copied it."""

CLOSE_ROUNDS_MAX: Final = 10_000
"""Attempts to end what is in flight when the io_uring backend closes; each waits up to
``CLOSE_ROUND_S`` for file operations, which cannot be withdrawn."""

CLOSE_ROUND_S: Final = 0.05
"""How long one attempt waits."""


WATCHDOG_BEAT_S: Final = 0.5
"""How often a loop that turns says so, and how often somebody looks: far below any limit on its
silence, and too seldom to be seen in the CPU time of an idle gate."""


# Spool.

SPOOL_BUFFERS_KEPT_MAX: Final = 6
"""Idle buffers of each size (64 KiB to 1 MiB) that a spool keeps for the next object: one transfer
has about so many in use, and memory that comes and goes costs a page fault for every 4 KiB."""

SPOOL_RECEIVE_BUFFERS_MAX: Final = 16
"""Large (1 MiB) buffers that bulky held streams of one worker receive into; the others take the
port's shared ones."""

SPOOL_HASH_BACKLOG_BYTES_MAX: Final = 3 << 19
"""Received bytes of one held object that wait for their hash (1.5 MiB: a batch of 1 MiB, and what
arrives meanwhile); beyond it the source is not read, so that no object pins many shared buffers."""

SPOOL_READ_BUFFERS_MAX: Final = 512
"""Buffers (32 MiB) with bytes of held objects on their way to receivers, beyond which files are
read in pieces of 16 KiB, without reading ahead: who does not read must not take all memory."""

HELD_COMFORT_S: Final = 10.0
"""Between two bytes for a client that waits for a held object: pip gives up after 15 seconds
without one, npm and apt after 30."""

TRICKLE_TAIL_BYTES: Final = 256 << 10
"""The last part of audio or video that stays here until the verdict: seconds of it, and less than
any program that hides behind it would need to be whole."""

PROGRESS_PAGE_S: Final = 1.0
"""Between two changes of a progress page."""

KEPT_DOWNLOAD_S: Final = 600.0
"""A download that was released behind a progress page waits so long to be fetched."""

KEPT_DOWNLOADS_MAX: Final = 1024
"""Downloads of one worker that wait to be fetched, each on the account of its client's spool; of
more the one that has waited longest is given up."""

TRANSFER_READ_BYTES_MAX: Final = 64 << 20
"""What a content filter may take into memory with one ``read``; more is read piece by piece."""


# Records.

RECORD_FLUSH_DELAY_S: Final = 0.05
"""How long a record waits for others to be written with it: a write per record would cost more than
the record, and nobody reads the log within 50 ms."""

RECORDS_ENCODED_LATER_MAX: Final = 8
"""So many records wait to be made text of in one go, which costs half of one by one; a dozen would
hold up the one that comes when there are enough, by more than 20 us. Not counted in
``record_queue_bytes_max``."""

RECORD_WRITE_BYTES_MIN: Final = 64 << 10
"""This much is written at once, without waiting for more."""

RECORD_WRITE_BYTES_MAX: Final = 1 << 20
"""One write of records takes no more, so that a full queue does not become one long write."""

RECORD_RETRY_DELAY_S: Final = 1.0
"""After a failed write of records the next attempt comes this much later; meanwhile new traffic is
refused."""


RECORD_BATCH_BYTES_MAX: Final = 32 << 20
"""One batch of records between two processes: above any ``record_queue_bytes_max`` in use, so that
a longer one is no batch."""


FLOOD_RECORD_S: Final = 10.0
"""What one client did beyond one of its flood limits within so long is one record."""


# Names.

HOST_TEXT_MAX: Final = 512
"""Characters of a host as a client may write it: a name of ``HOST_NAME_CHARACTERS_MAX`` in any
spelling, and a bound on the work of mapping it."""

HOSTS_KNOWN_MAX: Final = 4096
"""Texts of hosts of which a process remembers what they say: the sites of an office in a day."""

HOST_NAME_CHARACTERS_MAX: Final = 253
"""A name in ASCII without its final dot: 255 bytes on the wire (RFC 1035 section 2.3.4)."""

HOST_LABEL_CHARACTERS_MAX: Final = 63
"""One label of a name in ASCII (RFC 1035 section 2.3.4)."""

DNS_UDP_BYTES_MAX: Final = 1232
"""What a server may answer in one datagram: it fits the least MTU of IPv6, so that nobody can slip
a forged fragment in; longer answers come over TCP."""

DNS_RECORDS_MAX: Final = 128
"""Records of one answer, all sections together; large services have about twenty."""

DNS_ALIASES_MAX: Final = 12
"""Links of one chain of CNAME records; BIND follows 16, real ones have up to six."""

DNS_STRAY_DATAGRAMS_MAX: Final = 8
"""Datagrams with a wrong identifier that one query overlooks; more are somebody guessing, and the
question is asked over TCP."""

ENTRY_READ_BYTES_MAX: Final = 4096
"""What an entry's parser is given at once; the rest of what a client sent ahead waits unread."""

ENTRY_AHEAD_BYTES_MAX: Final = 32 << 10
"""A client that sends more than this before it is answered is not read from until it is; what the
kernel had handed over already is kept on top of it."""

ENTRY_KNOWN_MAX: Final = 4096
"""Requests of clients whose outcome is kept for the next one alike, about 1 KiB each."""

ENTRY_LINGER_S: Final = 2.0
"""A refused client has this long to read why and to close; closing first, with bytes of it unread,
would reset the connection and take the answer away."""

ENTRY_LINGER_BYTES_MAX: Final = 1 << 20
"""What a refused client may go on sending until it is reset."""

PASSWORD_THROTTLE_CLIENTS_MAX: Final = 10_000
"""Client addresses whose wrong passwords are counted; the one that failed longest ago is forgotten
first."""

DIAL_ATTEMPTS_MAX: Final = 16
"""Addresses of one destination that are tried: with the delay between attempts, four seconds."""


@dataclass(frozen=True, slots=True)
class Limits(WebLimits):
    """What an operator may set; the defaults suit one worker with 1 GiB of memory."""

    connect_timeout_s: float = 20.0
    """A server that has not answered a SYN for so long is down; TCP itself takes two minutes."""

    idle_timeout_s: float = 1800.0
    """A connection without a byte either way; RFC 5382 asks NATs for 2 h 4 min, firewalls commonly
    take half an hour."""

    connection_total_s: float = 86400.0
    """No connection outlives a day: policy changes must reach every one in bounded time."""

    revoke_grace_s: float = 0.0
    """What another policy refuses goes on so long: not at all, unless transfers are to finish."""
    half_closed_timeout_s: float = 300.0
    """After one side ended its stream the other has this long without a byte."""

    drain_timeout_s: float = 30.0
    """How long SIGTERM and a session's end wait for connections and slow filters."""

    filter_event_timeout_s: float = 10.0
    """A filter that has not answered an event for this long has failed (refused)."""

    inspect_timeout_s: float = 300.0
    """A content filter that has not given a verdict for this long has failed (refused)."""

    coding_memory_bytes_max: int = 1 << 30
    """What all decoders of content codings of one worker may take, counted by their windows."""

    fast_trickle_bytes_max: int = 256 << 20
    """Last parts of audio and video that pass while they are held, in one worker's memory."""

    verdicts_kept_max: int = 32768
    """Verdicts of content filters that one worker keeps, about 400 bytes each, so that the same
    bytes are not judged again; 0 keeps none."""

    verdicts_kept_s: float = 3600.0
    """A verdict is kept no longer than this, whatever version its filter names: signatures of third
    parties change without one."""

    loop_block_s: float = 1.0
    """A worker's loop that has not turned for this long is blocked: a warning and a record name the
    filter. Filters have milliseconds; what takes longer belongs on the pool (``run_blocking``)."""

    loop_block_kill_s: float = 60.0
    """A loop that has not turned for this long will not turn again: the process is ended, and
    whoever started it replaces it; 0 lets it stay. Whoever stops the process in a debugger for as
    long should know."""

    memory_bytes_max: int = 4 << 30
    """What one process may allocate (RLIMIT_DATA: private writable memory, stacks of threads
    included); beyond it the filter that asks for more fails with ``MemoryError``, alone. Three
    times what the other limits of one worker add up to; 0 leaves the limit as it is."""

    resource_low_percent: int = 90
    """A resource of which so much is used runs short: filters are asked to give back."""

    send_stall_s: float = 60.0
    """A send that the peer has not read for this long ends the connection: it pins a buffer."""

    proxy_header_timeout_s: float = 5.0
    """A peer that announces its clients (PROXY protocol) has this long for the header: haproxy's
    text asks for at least 3 seconds, which cover one lost packet."""

    connections_max: int = 20000
    """Connections of one worker; each costs two descriptors and a few KiB."""

    flood_clients_max: int = 65536
    """Clients whose doings one worker keeps for the flood limits of the policy, half a KiB each:
    twice as many as can have something open by the other limits. Who comes when all of them have,
    or did much of late, is refused."""

    udp_datagram_bytes_max: int = 8192
    """Larger datagrams are dropped, counted and recorded; TMG's default; DNS needs 4 KiB."""

    udp_connections_max: int = 10000
    """UDP connections (client addresses) of one worker; each has a descriptor."""

    udp_idle_timeout_s: float = 120.0
    """A UDP connection silent for so long ends; RFC 4787 (REQ-5) asks for at least two minutes."""

    udp_peers_max: int = 256
    """Peers that one UDP connection may have at once; a datagram to one more is dropped."""

    udp_peer_idle_s: float = 120.0
    """A peer that is silent for so long is forgotten, and judged anew."""

    udp_socket_buffer_bytes: int = 1 << 20
    """What the kernel holds for a UDP listener (a quarter for a server): a thousand datagrams."""

    udp_awaiting_max: int = 64
    """Datagrams of one UDP connection that wait until its filters have answered an event."""

    session_idle_s: float = 300.0
    """A session without a connection is forgotten after this long."""

    expected_connection_timeout_s: float = 60.0
    """A permission for a secondary connection lapses unused after one minute (as in the SDK)."""

    expected_connections_per_session_max: int = 64
    """Outstanding permissions for secondary connections of one session."""

    open_transfers_per_connection_max: int = 16
    """Objects that are held at a time in one dialogue: protocols have one, or a message's parts."""

    interactive_buffers_max: int = 1024
    """Small (4 KiB) shared receive buffers of one worker: 4 MiB."""

    bulk_buffers_max: int = 64
    """Large (256 KiB) shared receive buffers of one worker: 16 MiB, the bound on bytes in flight of
    all bulky inspected connections together; as many again for what they say inside TLS, made when
    they are first needed."""

    client_buffers_max: int = 32
    """Shared buffers that the blocked sends of one client may pin; beyond it they are copied to
    private memory under ``client_private_bytes_max``."""

    client_private_bytes_max: int = 8 << 20
    """Private memory for the blocked sends of one client."""

    private_bytes_max: int = 256 << 20
    """Private memory for the blocked sends of all clients; a connection that blocks beyond it is
    ended, because a client that does not read may not cost others theirs."""

    stream_hold_bytes_max: int = 1 << 20
    """What a stream filter may hold back per direction; who needs more wants the whole object."""

    splice_pipes_max: int = 64
    """Pipes of 1 MiB for spliced directions; an unprivileged user may have 64 MiB of pipe pages
    (``fs.pipe-user-pages-soft``), beyond it directions are copied."""

    spool_memory_bytes_max: int = 256 << 10
    """A held object up to this size stays in memory; larger ones go to a file."""

    spool_object_bytes_max: int = 4 << 30
    """The largest object that is held; a larger one is refused with this limit's name."""

    spool_client_bytes_max: int = 16 << 30
    """What all held objects of one client may take."""

    spool_bytes_max: int = 64 << 30
    """What all held objects of the gate may take on disk."""

    spool_writes_in_flight_max: int = 2
    """Writes in flight per held object: more gains nothing and lengthens the stall of a flush."""

    spool_memory_all_bytes_max: int = 64 << 20
    """What all held objects of one worker keep in memory; beyond it they go to files at once."""

    spool_free_bytes_min: int = 256 << 20
    """The spool leaves this much of its file system free; below it objects are refused."""

    spool_free_inodes_min: int = 1024
    """The spool leaves this many inodes of its file system free; below it objects are refused."""

    blocking_threads_max: int = 32
    """Threads for blocking calls of filters; those inside ``heavy_blocking`` do not count until
    ``blocking_threads_grown_max``."""

    blocking_threads_grown_max: int = 128
    """The pool never grows beyond this, however many members are blocked."""

    isolated_start_timeout_s: float = 20.0
    """A filter's own process that is not ready for so long has failed: starting Python and loading
    libraries takes one or two seconds at most."""

    isolated_hang_s: float = 5.0
    """A filter's own process whose loop has not turned for so long is killed and replaced."""

    isolated_memory_bytes_max: int = 1 << 30
    """Address space of one filter's own process; Python and the gate's modules take 150 MiB of it,
    each thread 2 MiB."""

    dns_attempt_timeout_s: float = 2.0
    """A DNS server that has not answered one query for this long is silent; recursive ones answer
    in well below a second, or never."""

    dns_lookup_timeout_s: float = 10.0
    """All servers together have this long for one question; then the destination is refused."""

    dns_rounds_max: int = 2
    """How often a silent DNS server is asked: datagrams get lost."""

    dns_questions_max: int = 1024
    """Questions of one worker to DNS servers, each with a socket; beyond it lookups are refused."""

    dns_cache_entries_max: int = 10000
    """Answers that one worker keeps, about 1 KiB each."""

    dns_ttl_min_s: float = 5.0
    """An answer is kept at least this long, whatever it says: a TTL of 0 must not let a client
    multiply queries."""

    dns_ttl_max_s: float = 3600.0
    """An answer is kept no longer than this, whatever it says."""

    dns_negative_ttl_max_s: float = 300.0
    """That a name has no address is kept no longer than this (RFC 2308 advises hours; people wait
    for names that they have just made)."""

    dns_failure_ttl_s: float = 5.0
    """That a lookup failed is kept this long: RFC 9520 asks for at least a second."""

    handshake_timeout_s: float = 15.0
    """A client of a proxy listener has this long, passwords included, to say where it wants to go;
    people who type are not on this line, and a password waits up to five seconds for its turn."""

    hello_timeout_s: float = 10.0
    """A client whose rule wants its ClientHello judged has this long for it, and one whose tunnel
    is for HTTP in the clear for its first words: clients send them at once, and a few round trips
    bring the longest."""

    opening_timeout_s: float = 20.0
    """From a ClientHello to both handshakes of a connection whose TLS is opened: a dozen round
    trips to a server at the other end of the world, and a slow signature, are less."""

    handshakes_max: int = 4096
    """Clients of one worker that have not said where they want to go; each costs a descriptor."""

    lookups_per_client_max: int = 256
    """Destinations of one session that are being looked up, a quarter of ``dns_questions_max``: one
    client may not take the resolver from the others."""

    password_failures_max: int = 10
    """Wrong passwords of one client address within ``password_failures_window_s``; further ones are
    refused unseen. Guessing goes at six a minute then, at argon2's cost to nobody."""

    password_failures_window_s: float = 100.0
    """How long a wrong password counts."""

    dial_attempt_delay_s: float = 0.25
    """The next address is tried this much after the last one (RFC 8305 section 5)."""

    record_queue_bytes_max: int = 16 << 20
    """Records waiting to be written; beyond it new traffic is refused, because an unrecorded
    decision is not allowed."""
