"""A recorder that keeps records in memory, for tests and the simulation.

It goes where the gate expects a ``RecordWriter``. The invariant: every record is encoded as the
writer would, so a record that could not be written fails the test that made it.
"""

from __future__ import annotations

from typing import TypeVar

from sluicegate.audit import Record
from sluicegate.audit.lines import encode_record

__all__ = ["MemoryRecorder"]

RecordT = TypeVar("RecordT", bound=Record)


class MemoryRecorder:
    """Keeps everything; ``is_accepting`` is the test's to set."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_accepting = True

    def write(self, record: Record) -> None:
        """Keep a record."""
        encode_record(record)
        self.records.append(record)

    def of(self, kind: type[RecordT]) -> list[RecordT]:
        """Return the records of one kind, in order."""
        return [record for record in self.records if isinstance(record, kind)]
