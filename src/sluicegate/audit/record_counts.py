"""RecordCounts: metrics made of records, when batches of them become text.

``queue`` feeds it, ``app`` asks it. Every decision and every end writes one record, so what is
counted here costs the path of a connection nothing. The invariant: only what operators and this
program name becomes a label; what a client or a filter says never does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

from sluicegate.metrics import CATALOGUE, Counts, Histogram, Series, add_up

from .records import (
    AlertRecord,
    AnyRecord,
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LimitRecord,
    LookupRecord,
    LoopBlockedRecord,
    OperatorRecord,
    ProcessRecord,
    Record,
    RequestRecord,
    TransferRecord,
)

__all__ = ["RecordCounts"]


class RecordCounts:
    """What the records of one process say in numbers."""

    __slots__ = ("_answered", "_counts", "_decided", "_ended", "_kinds")

    def __init__(self) -> None:
        self._counts = Counts(CATALOGUE)
        self._kinds: dict[type[Record], int] = {}
        self._decided: dict[tuple[str, str, str], int] = {}
        #: By listener, transport and verdict.
        self._answered: dict[tuple[str, str, int], _Answered] = {}
        #: By listener, verdict, and the first digit of the status: few, and counted fast.
        self._ended: dict[tuple[str, str, bool], _Ended] = {}
        #: By listener, outcome, and whether a filter saw its bytes: few, too.

    def add(self, records: Sequence[Record]) -> None:
        """Count records, each once."""
        counts, kinds, decided = self._counts, self._kinds, self._decided
        ended, answered = self._ended, self._answered
        for record in records:
            kind = type(record)
            if isinstance(record, ConnectionRecord):
                key = record.listener, record.outcome, bool(record.filters)
                if key not in ended:
                    ended[key] = _Ended()
                ended[key].add(record)
            elif isinstance(record, RequestRecord):
                place = record.listener, record.verdict, record.status // 100
                if place not in answered:
                    answered[place] = _Answered()
                answered[place].add(record)
            elif isinstance(record, DecisionRecord):
                way = record.listener, record.transport or "tcp", record.verdict
                decided[way] = decided.get(way, 0) + 1
            kinds[kind] = kinds.get(kind, 0) + 1
            count = _COUNTED.get(kind)
            if count is not None:
                count(counts, record)

    def series(self) -> list[Series]:
        """Return what was counted."""
        counts = Counts(CATALOGUE)
        for kind, count in self._kinds.items():
            counts.add("sluicegate_records", _TAGS[kind], value=count)
        for labels, count in self._decided.items():
            counts.add("sluicegate_decisions", *labels, value=count)
        for (listener, outcome, is_inspected), one in self._ended.items():
            one.tell(counts, listener, outcome, "inspected" if is_inspected else "relayed")
        for (listener, verdict, digit), answered in self._answered.items():
            answered.tell(counts, listener, verdict, f"{digit}xx" if digit else "none")
        return add_up(CATALOGUE, [self._counts.series(), counts.series()])


class _Ended:
    """Connections that ended alike."""

    __slots__ = ("connected", "count", "durations", "spliced", "to_client", "to_server")

    def __init__(self) -> None:
        self.count = self.to_server = self.to_client = self.spliced = 0
        self.durations = Histogram(CATALOGUE["sluicegate_connection_duration_seconds"].bounds)
        self.connected = Histogram(CATALOGUE["sluicegate_dial_seconds"].bounds)

    def add(self, record: ConnectionRecord) -> None:
        self.count += 1
        self.to_server += record.bytes_to_server
        self.to_client += record.bytes_to_client
        self.spliced += record.bytes_spliced
        self.durations.observe(record.duration_s)
        if record.connect_ms:
            self.connected.observe(record.connect_ms / 1000)

    def tell(self, counts: Counts, listener: str, outcome: str, seen: str) -> None:
        counts.add("sluicegate_connections_ended", listener, outcome, value=self.count)
        counts.join("sluicegate_connection_duration_seconds", listener, histogram=self.durations)
        counts.add("sluicegate_traffic_bytes", "to_server", value=self.to_server)
        counts.add("sluicegate_traffic_bytes", "to_client", value=self.to_client)
        counts.add("sluicegate_traffic_path_bytes", "spliced", value=self.spliced)
        rest = self.to_server + self.to_client - self.spliced
        counts.add("sluicegate_traffic_path_bytes", seen, value=rest)
        counts.add("sluicegate_dials", "connected", value=sum(self.connected.buckets))
        counts.join("sluicegate_dial_seconds", histogram=self.connected)


class _Answered:
    """Requests that were answered alike."""

    __slots__ = ("count", "durations", "to_client", "to_server")

    def __init__(self) -> None:
        self.count = self.to_server = self.to_client = 0
        self.durations = Histogram(CATALOGUE["sluicegate_http_request_duration_seconds"].bounds)

    def add(self, record: RequestRecord) -> None:
        self.count += 1
        self.to_server += record.bytes_to_server
        self.to_client += record.bytes_to_client
        self.durations.observe(record.duration_ms / 1000)

    def tell(self, counts: Counts, listener: str, verdict: str, code: str) -> None:
        counts.add("sluicegate_http_requests", listener, verdict, code, value=self.count)
        counts.join("sluicegate_http_request_duration_seconds", histogram=self.durations)
        counts.add("sluicegate_http_body_bytes", "to_server", value=self.to_server)
        counts.add("sluicegate_http_body_bytes", "to_client", value=self.to_client)


def _count_decision(counts: Counts, record: DecisionRecord) -> None:
    counts.add("sluicegate_rule_decisions", record.rule, record.verdict)


def _count_connection(counts: Counts, record: ConnectionRecord) -> None:
    """Count what few connections have."""
    if record.outcome == "failed" and record.side == "server" and not record.connect_ms:
        counts.add("sluicegate_dials", "failed")
    if record.tls:
        counts.add("sluicegate_tls_opened", record.tls, record.tls_verification)
    if record.transport == "udp":
        counts.add("sluicegate_datagrams", "to_server", value=record.datagrams_to_server)
        counts.add("sluicegate_datagrams", "to_client", value=record.datagrams_to_client)
        for reason, dropped in record.dropped.items():
            counts.add("sluicegate_datagrams_dropped", reason, value=dropped)


def _count_request(counts: Counts, record: RequestRecord) -> None:
    counts.add("sluicegate_rule_decisions", record.rule, record.verdict)


def _count_transfer(counts: Counts, record: TransferRecord) -> None:
    protocol, direction = record.protocol, record.direction
    counts.add("sluicegate_transfers", protocol, direction, record.verdict)
    counts.add("sluicegate_transfer_bytes", protocol, direction, value=record.bytes)
    counts.add("sluicegate_transfer_written_bytes", protocol, value=record.bytes_written)
    counts.observe("sluicegate_transfer_held_seconds", value=record.held_ms / 1000)


def _count_failure(counts: Counts, record: FilterFailureRecord) -> None:
    counts.add("sluicegate_filter_failures_recorded", record.filter, record.action)


def _count_limit(counts: Counts, record: LimitRecord) -> None:
    counts.add("sluicegate_limits_reached", record.limit, value=record.count)


def _count_blocked(counts: Counts, record: LoopBlockedRecord) -> None:
    counts.add("sluicegate_loop_blocked")
    counts.add("sluicegate_loop_blocked_seconds", value=record.blocked_s)


def _count_lookup(counts: Counts, record: LookupRecord) -> None:
    counts.add("sluicegate_lookups", record.result)
    counts.observe("sluicegate_lookup_seconds", value=record.duration_ms / 1000)


def _count_process(counts: Counts, record: ProcessRecord) -> None:
    counts.add("sluicegate_processes_ended", record.process)


def _count_operator(counts: Counts, record: OperatorRecord) -> None:
    counts.add("sluicegate_operator_actions", record.action, record.result)


def _count_alert(counts: Counts, record: AlertRecord) -> None:
    counts.add("sluicegate_alerts", record.alert, record.event)


_TAGS: Final[dict[type[Record], str]] = {
    kind: str(kind.__struct_config__.tag) for kind in get_args(AnyRecord)
}

_COUNTED: Final[dict[type[Record], Callable[[Counts, Any], None]]] = {
    DecisionRecord: _count_decision,
    ConnectionRecord: _count_connection,
    RequestRecord: _count_request,
    TransferRecord: _count_transfer,
    FilterFailureRecord: _count_failure,
    LimitRecord: _count_limit,
    LoopBlockedRecord: _count_blocked,
    LookupRecord: _count_lookup,
    ProcessRecord: _count_process,
    OperatorRecord: _count_operator,
    AlertRecord: _count_alert,
}
