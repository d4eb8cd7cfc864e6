"""What every worker is asked, and the one answer that is made of theirs.

``supervisor`` asks. The invariant: an answer is of all workers that answered in time; who did
not, or serves nobody yet, is said by the status.
"""

from __future__ import annotations

from sluicegate.gate.control_messages import (
    ConnectionsReply,
    ConnectionsRequest,
    FiltersReply,
    FiltersRequest,
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

from .crew import Crew, Worker
from .gathering import gather_filters, gather_transfers

__all__ = ["ask_connections", "ask_filters", "ask_sessions", "ask_status", "ask_transfers"]


async def ask_status(crew: Crew) -> dict[Worker, StatusView]:
    """Return how each worker is that serves."""
    views: dict[Worker, StatusView] = {}
    asked: list[Worker] = []
    # Again for those that have come meanwhile: else they would seem not to answer.
    while fresh := [one for one in crew.answering if one not in asked]:
        asked += fresh
        replies = await crew.ask(fresh, StatusRequest())
        for worker, reply in zip(fresh, replies, strict=True):
            if isinstance(reply, StatusReply):
                views[worker] = reply.status
    return views


async def ask_sessions(crew: Crew) -> list[SessionView]:
    """Return every session."""
    replies = await crew.ask(crew.answering, SessionsRequest())
    return [row for reply in replies if isinstance(reply, SessionsReply) for row in reply.rows]


async def ask_connections(crew: Crew) -> list[ConnectionView]:
    """Return every connection that has not ended."""
    replies = await crew.ask(crew.answering, ConnectionsRequest())
    return [row for reply in replies if isinstance(reply, ConnectionsReply) for row in reply.rows]


async def ask_filters(crew: Crew) -> list[FilterView]:
    """Return every installed filter."""
    replies = await crew.ask(crew.working, FiltersRequest())
    return gather_filters([reply.rows for reply in replies if isinstance(reply, FiltersReply)])


async def ask_transfers(crew: Crew) -> list[TransferView]:
    """Return every object that is held, the oldest first."""
    replies = await crew.ask(crew.answering, TransfersRequest())
    return gather_transfers([it.rows for it in replies if isinstance(it, TransfersReply)])
