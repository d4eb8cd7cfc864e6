"""The spool: where held objects wait for their verdict, memory first, then an unlinked file.

The gate's transfers are its only users. This file only re-exports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .body import BodyOwner, SpooledBody
    from .delivery import SENDING, Delivery, Sink
    from .directory import SpoolDirectory
    from .reading import SpooledFile
    from .store import SpoolStatistics, SpoolStore
else:
    __getattr__ = front(
        __name__,
        body=("BodyOwner", "SpooledBody"),
        delivery=("SENDING", "Delivery", "Sink"),
        directory=("SpoolDirectory",),
        reading=("SpooledFile",),
        store=("SpoolStatistics", "SpoolStore"),
    )

__all__ = [
    "SENDING",
    "BodyOwner",
    "Delivery",
    "Sink",
    "SpoolDirectory",
    "SpoolStatistics",
    "SpoolStore",
    "SpooledBody",
    "SpooledFile",
]
