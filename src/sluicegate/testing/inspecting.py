"""One object through one content filter: the shortest test there is.

``inspect_object`` plays a whole transfer: held, judged, delivered or not. The invariant: what the
receiver had before the verdict is nothing, or the call fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.audit import TransferRecord
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Scanner,
    TransferOffer,
)

from .playbook import Playbook
from .sizes import BulkBytes

__all__ = ["InspectedObject", "inspect_object"]


@dataclass(frozen=True, slots=True)
class InspectedObject:
    """What became of one object."""

    verdict: ContentVerdict | None
    """What the filter answered; None when it was not asked, or raised."""
    outcome: str
    """``released``, ``refused`` or ``failed``."""
    reason: str
    """Why, as the log has it."""
    received: bytes
    """What the receiver got; empty where bulk was sent."""
    received_count: int
    """How many bytes that was."""
    record: TransferRecord | None
    """The log's record of it; None when it was not held."""
    error: BaseException | None
    """What the filter raised."""


def inspect_object(
    content_filter: ContentFilter | type[ContentFilter],
    body: bytes | BulkBytes,
    offer: TransferOffer | None = None,
    *,
    limits: Mapping[str, Any] | None = None,
    scanners: Mapping[str, Scanner] | None = None,
) -> InspectedObject:
    """Send an object through a content filter and return what became of it.

    Args:
        content_filter: The filter, or its class.
        body: The object.
        offer: Its name and direction (``offer_of``); the default is a download named ``object``.
        limits: Limits to change: ``{"spool_memory_bytes_max": 0}`` has it held in a file.
        scanners: Whom the filter asks, by name.

    Raises:
        PlaybookError: A byte reached the receiver before the verdict, or something was left.
    """
    with Playbook(content_filter, offer=offer, limits=limits, scanners=scanners) as play:
        is_download = offer is None or offer.direction is Direction.DOWNLOAD
        sender, receiver = play.server, play.client
        if not is_download:
            sender, receiver = receiver, sender
        sender.sends(body)
        if sender.can_act:
            sender.ends()
        received = receiver.reads()
        while piece := receiver.reads():
            received = b"" if isinstance(body, BulkBytes) else received + piece
        if receiver.can_act:
            receiver.ends()
        records = play.records_of(TransferRecord)
        error = play.filter_errors[-1] if play.filter_errors else None
        play.filter_errors.clear()
        return InspectedObject(
            verdict=play.verdict,
            outcome=records[0].verdict if records else play.outcome,
            reason=records[0].reason if records else play.reason,
            received=b"" if isinstance(body, BulkBytes) else received,
            received_count=receiver.received_count,
            record=records[0] if records else None,
            error=error,
        )
