"""The spool: where held objects wait for their verdict, memory first, then an unlinked file.

The gate's transfers are its only users. This file only re-exports.
"""

from .body import BodyOwner, SpooledBody
from .delivery import SENDING, Delivery, Sink
from .directory import SpoolDirectory
from .reading import SpooledFile
from .store import SpoolStatistics, SpoolStore

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
