"""Records that wait to be written: taken one by one, made text of in batches, within a bound.

``writer`` appends what it takes from here to a file, ``sender`` hands it to the audit writer's
process. The invariant: no record is lost without being counted, and what is taken are whole lines.
"""

from __future__ import annotations

from typing import Final

from sluicegate.limits import RECORD_WRITE_BYTES_MAX

from .lines import encode_record, encode_records
from .record_counts import RecordCounts
from .records import Record

__all__ = ["RecordQueue"]


class RecordQueue:
    """A bounded queue of records; base of who passes them on."""

    __slots__ = (
        "_bytes_max",
        "_fresh",
        "_lost_untold",
        "_passed_on",
        "_queue",
        "counts",
        "goes_on",
        "lost",
    )

    def __init__(self, bytes_max: int, *, goes_on: bool) -> None:
        """Begin.

        Args:
            bytes_max: Of what waits.
            goes_on: Whether traffic goes on when nothing more can be kept, and what is lost is
                counted; else it is to be refused.
        """
        self.goes_on = goes_on
        self.counts = RecordCounts()
        #: What was recorded, in numbers; those that were lost among it.
        self.lost = 0
        #: Records that found the queue full, since the start.
        self._bytes_max = bytes_max
        self._fresh: list[Record] = []
        #: Not yet text.
        self._queue = bytearray()
        self._passed_on: int = 0
        #: Bytes that left the queue and still count.
        self._lost_untold = 0

    @property
    def consequence(self) -> str:
        """What becomes of new traffic while nothing can be written, in words."""
        return _GOES_ON if self.goes_on else _IS_REFUSED

    def _encode(self) -> None:
        """Make text of the records that wait for it."""
        fresh, self._fresh = self._fresh, []
        self.counts.add(fresh)
        lines = encode_records(fresh)
        if len(self._queue) + self._passed_on + len(lines) <= self._bytes_max:
            self._queue += lines
        else:
            self._encode_what_fits(fresh)

    def _encode_what_fits(self, records: list[Record]) -> None:
        for record in records:
            line = encode_record(record)
            if len(self._queue) + self._passed_on + len(line) <= self._bytes_max:
                self._queue += line
            else:
                self.lost += 1
                self._lost_untold += 1

    def _take(self) -> bytes:
        """Take whole lines out of the queue, as many as one write may have."""
        queue = self._queue
        end = len(queue)
        if end > RECORD_WRITE_BYTES_MAX:
            end = queue.rfind(b"\n", 0, RECORD_WRITE_BYTES_MAX) + 1 or queue.find(b"\n") + 1
        taken = bytes(queue[:end])
        del queue[:end]
        return taken


_GOES_ON: Final = "traffic goes on, and records that find no room are lost and counted,"
_IS_REFUSED: Final = "new traffic is refused"
