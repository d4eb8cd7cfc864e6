"""Records and stores for the tests of the store."""

from __future__ import annotations

import json
import pathlib

from sluicegate.audit.store import LogPosition, LogStore, SqlitePlace
from sluicegate.audit.store.log_store import Retention
from sluicegate.testing.clock import ManualClock

DAY_S = 86_400
KEPT = Retention(days=90, bytes_max=1 << 40)


def line_of(number: int, time: float, **fields: object) -> bytes:
    record = {
        "kind": "request",
        "time": time,
        "request": f"r-{number}",
        "connection": f"c-{number // 2}",
        "session": f"s-{number // 8}",
        "user": f"User-{number % 7}",
        "client": f"10.0.0.{number % 4}:1",
        "verdict": "allowed",
        "outcome": "released",
        "rule": "web",
        "url": f"http://h{number % 3}.example.com/file-{number}",
        "bytes_to_client": 100,
        "duration_ms": 3.0,
        **fields,
    }
    return json.dumps(record, separators=(",", ":")).encode()


def sqlite(folder: pathlib.Path) -> SqlitePlace:
    return SqlitePlace(folder=str(folder))


def open_store(folder: pathlib.Path, clock: ManualClock, kept: Retention = KEPT) -> LogStore:
    return LogStore(sqlite(folder), clock, kept)


def fill(store: LogStore, clock: ManualClock, count: int, batch: int = 10) -> list[bytes]:
    """Store records, one a second, in batches; return them."""
    lines: list[bytes] = []
    while len(lines) < count:
        part: list[bytes] = []
        for _ in range(min(batch, count - len(lines))):
            part.append(line_of(store.last + len(part) + 1, clock.wall()))
            clock.advance(1)
        lines += part
        store.append(
            part, LogPosition(7, store.position.offset + sum(len(one) + 1 for one in part))
        )
    return lines
