"""Every limit of the product, named with unit and bound, with its reason.

``Limits`` holds what an operator may set (``[limits]`` in ``sluicegate.toml``); the constants above
it are fixed by a protocol or by the kernel. The invariant: no other module invents a number that
bounds anything, and reaching a limit is a refusal with its name, never truncation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ACCEPT_AHEAD_MAX", "RECEIVE_AHEAD_MAX", "Limits"]

# Completion port.

RECEIVE_AHEAD_MAX: Final = 8
"""Received buffers per direction that may wait for a start; beyond it the multishot receive is
cancelled. Eight small buffers are one round trip of a chatty client."""

ACCEPT_AHEAD_MAX: Final = 64
"""Accepted sockets per listener that may wait for a start; beyond it the multishot accept is
cancelled and the backlog holds the rest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator may set; the defaults suit one worker with 1 GiB of memory."""

    connect_timeout_s: float = 20.0
    """A server that has not answered a SYN for this long is down; TCP's own limit is two minutes."""

    idle_timeout_s: float = 1800.0
    """A connection without a byte in either direction; RFC 5382 asks NATs for at least 2 h 4 min
    for established ones, interactive services for minutes: half an hour is the common firewall
    value."""

    connection_total_s: float = 86400.0
    """No connection outlives a day: policy changes must reach every one in bounded time."""

    half_closed_timeout_s: float = 300.0
    """After one side ended its stream the other has this long without a byte."""

    drain_timeout_s: float = 30.0
    """How long SIGTERM and a session's end wait for connections and slow filters."""

    filter_event_timeout_s: float = 10.0
    """A filter that has not answered an event for this long has failed (refused)."""

    inspect_timeout_s: float = 300.0
    """A content filter that has not given a verdict for this long has failed (refused)."""

    send_stall_s: float = 60.0
    """A send that the peer has not read for this long ends the connection: the client pins a
    buffer."""

    connections_max: int = 20000
    """Connections of one worker; each costs two descriptors and a few KiB."""

    connections_per_client_max: int = 20000
    """Connections of one client address; lower it where clients are single hosts."""

    session_idle_s: float = 300.0
    """A session without a connection is forgotten after this long."""

    expected_connection_timeout_s: float = 60.0
    """A permission for a secondary connection lapses unused after one minute (as in the SDK)."""

    expected_connections_per_session_max: int = 64
    """Outstanding permissions for secondary connections of one session."""

    interactive_buffers_max: int = 1024
    """Small (4 KiB) shared receive buffers of one worker: 4 MiB."""

    bulk_buffers_max: int = 64
    """Large (256 KiB) shared receive buffers of one worker: 16 MiB, the bound on bytes in flight of
    all bulky inspected connections together."""

    client_buffers_max: int = 32
    """Shared buffers that the blocked sends of one client may pin; beyond it they are copied to
    private memory under ``client_private_bytes_max``."""

    client_private_bytes_max: int = 8 << 20
    """Private memory for the blocked sends of one client."""

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

    blocking_threads_max: int = 32
    """Threads for blocking calls of filters; those inside ``heavy_blocking`` do not count until
    ``blocking_threads_grown_max``."""

    blocking_threads_grown_max: int = 128
    """The pool never grows beyond this, however many members are blocked."""

    record_queue_bytes_max: int = 16 << 20
    """Records waiting to be written; beyond it new traffic is refused, because an unrecorded
    decision is not allowed."""
