"""Look: everything that the dashboard shows of a gate, asked at one moment.

``dashboard`` looks every few seconds, ``top --json`` twice. The invariant: a look is whole or an
error: a gate that ends between two of its questions leaves no half of one.
"""

from __future__ import annotations

import pathlib
from typing import TypeVar

import msgspec

from sluicegate.audit.alerts import Raising
from sluicegate.cli.replies import unexpected
from sluicegate.clock import Clock
from sluicegate.gate.control_client import ask_gate
from sluicegate.gate.control_messages import (
    AlertsReply,
    AlertsRequest,
    AnyReply,
    ConnectionsReply,
    ConnectionsRequest,
    FiltersReply,
    FiltersRequest,
    MeasuresReply,
    MeasuresRequest,
    Request,
    SessionsReply,
    SessionsRequest,
    StatusReply,
    StatusRequest,
    TransfersReply,
    TransfersRequest,
)
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    SessionView,
    StatusView,
    TransferView,
)

__all__ = ["Look", "Rates", "ReplyT", "ask", "look_at", "rates_between"]

ReplyT = TypeVar("ReplyT", bound=AnyReply)


class Look(msgspec.Struct, kw_only=True):
    """A gate at one moment."""

    time: float
    """When it was looked at, in seconds since the Unix epoch."""
    monotonic: float
    """The same by the clock that rates are made with."""
    status: StatusView
    connections: list[ConnectionView] = []
    """Open connections: the first of ``connections_total``."""
    connections_total: int = 0
    sessions: list[SessionView] = []
    sessions_total: int = 0
    transfers: list[TransferView] = []
    """Held objects."""
    transfers_total: int = 0
    filters: list[FilterView] = []
    alerts: list[Raising] = []
    """Alerts that were raised: the last ones of ``alerts_total``."""
    alerts_total: int = 0
    alerts_failure: str = ""
    """Why nobody knows of alerts; empty: somebody does."""
    bytes_by_path: dict[str, float] = {}
    """Of ended connections, since the start: ``spliced``, ``inspected``, ``relayed``."""


class Rates(msgspec.Struct, kw_only=True):
    """What a gate did in each second between two looks."""

    allowed: float
    denied: float
    bytes_to_server: float
    bytes_to_client: float
    bytes_by_path: dict[str, float]
    """Of connections that ended meanwhile."""


async def look_at(path: pathlib.Path, clock: Clock) -> Look:
    """Ask the gate whose control socket is ``path``.

    Raises:
        GateUnreachable: No gate answered.
        SluicegateError: It did not say what it was asked.
    """
    status = await ask(path, StatusRequest(), StatusReply)
    connections = await ask(path, ConnectionsRequest(), ConnectionsReply)
    sessions = await ask(path, SessionsRequest(), SessionsReply)
    transfers = await ask(path, TransfersRequest(), TransfersReply)
    filters = await ask(path, FiltersRequest(), FiltersReply)
    alerts = await ask_gate(path, AlertsRequest())
    measures = await ask(path, MeasuresRequest(), MeasuresReply)
    return Look(
        time=clock.wall(),
        monotonic=clock.monotonic(),
        status=status.status,
        connections=connections.rows,
        connections_total=connections.total,
        sessions=sessions.rows,
        sessions_total=sessions.total,
        transfers=transfers.rows,
        transfers_total=transfers.total,
        filters=filters.rows,
        alerts=alerts.rows if isinstance(alerts, AlertsReply) else [],
        alerts_total=alerts.total if isinstance(alerts, AlertsReply) else 0,
        alerts_failure="" if isinstance(alerts, AlertsReply) else str(unexpected(alerts)),
        bytes_by_path={
            one.labels[0]: one.value
            for one in measures.series
            if one.name == "sluicegate_traffic_path_bytes" and one.labels
        },
    )


async def ask(path: pathlib.Path, request: Request, kind: type[ReplyT]) -> ReplyT:
    """Ask the gate one thing, or order it.

    Raises:
        GateUnreachable: No gate answered.
        SluicegateError: It refused, or did not say what it was asked.
    """
    reply = await ask_gate(path, request)
    if not isinstance(reply, kind):
        raise unexpected(reply)
    return reply


def rates_between(before: Look, after: Look) -> Rates | None:
    """Return what was done between two looks; None: the gate was started anew, or no time passed.

    The bytes of open connections count as they move, so a download shows before it ends.
    """
    elapsed_s = after.monotonic - before.monotonic
    if before.status.boot != after.status.boot or elapsed_s <= 0:
        return None

    def rate(first: float, second: float) -> float:
        # A worker that was replaced counts from nothing again, and the answers of one look are some
        # milliseconds apart.
        return max(second - first, 0.0) / elapsed_s

    return Rates(
        allowed=rate(before.status.connections_allowed, after.status.connections_allowed),
        denied=rate(before.status.connections_denied, after.status.connections_denied),
        bytes_to_server=rate(_to_server(before), _to_server(after)),
        bytes_to_client=rate(_to_client(before), _to_client(after)),
        bytes_by_path={
            path: rate(before.bytes_by_path.get(path, 0.0), count)
            for path, count in after.bytes_by_path.items()
        },
    )


def _to_server(look: Look) -> int:
    return look.status.bytes_to_server + sum(row.bytes_to_server for row in look.connections)


def _to_client(look: Look) -> int:
    return look.status.bytes_to_client + sum(row.bytes_to_client for row in look.connections)
