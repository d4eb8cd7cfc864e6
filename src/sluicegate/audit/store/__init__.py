"""The store of records: partitions by day, a hash chain, totals. This file only re-exports.

The log's lines are what is written first; the store is made from them, in their order, and is what
questions are put to. The invariant: every line is in it exactly once, whatever is killed when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .chain import ChainKey, Checkpoint
    from .filler import Filler
    from .follower import Chunk, Follower, end_of_log
    from .log_store import LogStore, Retention
    from .place import PostgresPlace, SqlitePlace, StorePlace, require_psycopg
    from .position import LogPosition
    from .reader import Found, StoreReader, has_store
    from .reading import StoredRecord
    from .verification import Verification, verify_store
else:
    __getattr__ = front(
        __name__,
        chain=("ChainKey", "Checkpoint"),
        filler=("Filler",),
        follower=("Chunk", "Follower", "end_of_log"),
        log_store=("LogStore", "Retention"),
        position=("LogPosition",),
        place=("PostgresPlace", "SqlitePlace", "StorePlace", "require_psycopg"),
        reader=("Found", "StoreReader", "has_store"),
        reading=("StoredRecord",),
        verification=("Verification", "verify_store"),
    )

__all__ = [
    "ChainKey",
    "Checkpoint",
    "Chunk",
    "Filler",
    "Follower",
    "Found",
    "LogPosition",
    "LogStore",
    "PostgresPlace",
    "Retention",
    "SqlitePlace",
    "StorePlace",
    "StoreReader",
    "StoredRecord",
    "Verification",
    "end_of_log",
    "has_store",
    "require_psycopg",
    "verify_store",
]
