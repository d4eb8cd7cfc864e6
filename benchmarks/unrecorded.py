"""Sluicegate with a log that keeps nothing: what the benchmark of the log compares with.

Run as `python -m benchmarks.unrecorded run --inline ...`.  Records are made, for the gate makes
them before it knows its log, and dropped where the real one would take them.
"""

from sluicegate.audit import Record
from sluicegate.audit.writer import RecordWriter
from sluicegate.cli.main import main


def drop(_writer: RecordWriter, _record: Record) -> None:
    """Keeps nothing."""


if __name__ == "__main__":
    setattr(RecordWriter, "write", drop)  # noqa: B010 - no type allows it, and it is measured
    main()
