"""Steps: what traced connections spend their time on, as records.

Whoever takes time for a connection tells how much: the dial, handshakes, filters. The invariant:
what is not traced costs a comparison, or one hash where a share of connections is; and a worker
writes a bounded number of steps each second, whatever clients make it do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.audit import Recorder, StepName, StepRecord
from sluicegate.audit.sampling import is_sampled, span_id, trace_id
from sluicegate.clock import Clock
from sluicegate.log_limits import TRACE_STEPS_PER_S_MAX

if TYPE_CHECKING:
    from sluicegate.filterapi import TransferOffer

__all__ = ["StepRecords", "request_of"]


def request_of(offer: TransferOffer) -> str:
    """Return the request that an object belongs to; empty: its protocol has none."""
    return offer.facts.get("exchange", "")


class StepRecords:
    """Makes the records of one worker's steps."""

    __slots__ = ("_clock", "_count", "_recorder", "_second", "left_out", "ratio", "tells_servers")

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self.ratio = 0.0
        #: The share of connections that are traced.
        self.tells_servers = False
        #: Whether servers are told of traces.
        self.left_out = 0
        #: Steps beyond the bound.
        self._recorder = recorder
        self._clock = clock
        self._second = self._count = 0

    def write(
        self,
        connection: str,
        step: StepName,
        seconds: float,
        *,
        filter_name: str = "",
        scanner: str = "",
        request: str = "",
        reason: str = "",
    ) -> None:
        """Record a step that is just over, if its connection is traced.

        Args:
            connection: Its identifier.
            step: What took the time.
            seconds: How long it took.
            filter_name: Whose it was, if it was a filter's.
            scanner: The scanner that it was, if it was one's.
            request: The request that it was for, if it was for one.
            reason: Why it failed, if it did.
        """
        if not self.ratio or not is_sampled(connection, self.ratio):
            return
        clock = self._clock
        second = int(clock.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        if self._count >= TRACE_STEPS_PER_S_MAX:
            self.left_out += 1
            return
        self._count += 1
        now = clock.wall()
        record = StepRecord(
            time=now,
            connection=connection,
            step=step,
            started=int((now - seconds) * 1e6) / 1e6,
            duration_ms=int(seconds * 1e6) / 1e3,
        )
        if filter_name:
            record.filter = filter_name
        if scanner:
            record.scanner = scanner
        if request:
            record.request = request
        if reason:
            record.reason = reason
        self._recorder.write(record)

    def now(self) -> float:
        """Return the time that steps are measured by, in seconds."""
        return self._clock.monotonic()

    def traceparent(self, connection: str, request: str) -> bytes:
        """Return what its server is told of the trace of a request; empty: nothing.

        W3C Trace Context, section 3.2: version 00, and the flag that says that it is sampled.
        """
        if not self.tells_servers or not is_sampled(connection, self.ratio):
            return b""
        return f"00-{trace_id(connection)}-{span_id('request', request)}-01".encode("ascii")

    def dialled(self, connection: str, seconds: float) -> float:
        """Record that a server was dialled, and return how long it took."""
        self.write(connection, "dial", seconds)
        return seconds
