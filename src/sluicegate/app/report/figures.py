"""Figures: what a report says, taken from the totals of the store of records.

``cli.report`` asks for it; ``page`` shows it. The invariant: nothing is estimated: every number is
a sum of totals that were counted while records were stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sluicegate.audit.store import StoreReader
from sluicegate.audit.store.reader import Latency, MinuteTotal, SubjectTotal

__all__ = ["Named", "Period", "Report", "RuleFigures", "Step", "Waited", "make_report"]

ROWS_MAX: Final = 15
"""Rows of each table."""

_HOUR_S: Final = 3600
_ASKED: Final = frozenset({"decision", "request"})
_REFUSED: Final = ("denied", "refused")
_SHARES: Final = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Period:
    """Some whole days."""

    first: dt.date
    days: int
    zone: dt.tzinfo

    @classmethod
    def week_of(cls, day: dt.date, zone: dt.tzinfo) -> Period:
        """Return the week, from Monday on, that a day is in."""
        return cls(day - dt.timedelta(days=day.weekday()), 7, zone)

    @property
    def since(self) -> float:
        """When it begins, in seconds since the Unix epoch."""
        return dt.datetime.combine(self.first, dt.time(), self.zone).timestamp()

    @property
    def until(self) -> float:
        """When it is over."""
        after = self.first + dt.timedelta(days=self.days)
        return dt.datetime.combine(after, dt.time(), self.zone).timestamp()

    @property
    def step_s(self) -> int:
        """How long each step of its plots is."""
        return _HOUR_S // 2 if self.days == 1 else 3 * _HOUR_S


class Step(msgspec.Struct):
    """A part of the period."""

    time: int
    allowed: int = 0
    refused: int = 0
    bytes_to_client: int = 0
    bytes_to_server: int = 0


class Named(msgspec.Struct, frozen=True):
    """One row of a table."""

    name: str
    """Empty: all those that came when an hour had too many names."""
    count: int
    bytes: int = 0


class RuleFigures(msgspec.Struct):
    """What one rule decided."""

    rule: str
    """Empty: none matched."""
    allowed: int = 0
    refused: int = 0


class Waited(msgspec.Struct, frozen=True):
    """Requests that took less than so long, and at least half of it."""

    below_ms: float
    records: int


class Report(msgspec.Struct, kw_only=True):
    """All of it; ``--json`` prints it as it is."""

    since: float
    until: float
    step_s: int
    asked: int = 0
    """Connections and HTTP requests that were decided on."""
    refused: int = 0
    """Those of them that were refused, then or later."""
    bytes_to_client: int = 0
    """By connections."""
    bytes_to_server: int = 0
    objects: int = 0
    """Objects that were held."""
    objects_refused: int = 0
    limits: int = 0
    """Records of limits that were reached."""
    failures: int = 0
    """Records of filters that failed."""
    alerts: int = 0
    steps: list[Step]
    clients: list[Named]
    sites: list[Named]
    refused_clients: list[Named]
    refused_sites: list[Named]
    reasons: list[Named]
    findings: list[Named]
    """Why objects were refused: what scanners found in them."""
    rules: list[RuleFigures]
    latencies: list[Waited]
    """Of HTTP requests."""
    percentiles_ms: dict[str, float]
    """Half, nine tenths, 99 of a hundred requests took at most so long, to a factor of two."""


def make_report(reader: StoreReader, period: Period) -> Report:
    """Sum up a period.

    Raises:
        ConfigError: The store cannot be read.
    """
    since, until = period.since, period.until
    minutes = reader.minutes(since, until, 60)

    def top(subject: str, kinds: tuple[str, ...], results: tuple[str, ...] = ()) -> list[Named]:
        found = reader.top(subject, since, until - 1, ROWS_MAX, kinds=kinds, results=results)
        return [_named(row) for row in found]

    latencies = _without_gaps(reader.latencies(since, until - 1))
    objects = [row for row in minutes if row.kind == "transfer"]
    asked = [row for row in minutes if row.kind in _ASKED]
    moved = [row for row in minutes if row.kind == "connection"]
    return Report(
        since=since,
        until=until,
        step_s=period.step_s,
        asked=_count(asked),
        refused=_count(row for row in asked if row.result in _REFUSED),
        bytes_to_client=sum(row.bytes_to_client for row in moved),
        bytes_to_server=sum(row.bytes_to_server for row in moved),
        objects=_count(objects),
        objects_refused=_count(row for row in objects if row.result in _REFUSED),
        limits=_count(row for row in minutes if row.kind == "limit"),
        failures=_count(row for row in minutes if row.kind == "filter-failure"),
        alerts=_count(row for row in minutes if row.kind == "alert"),
        steps=_steps(period, minutes),
        clients=top("client", ("connection",)),
        sites=top("host", ("request", "connection")),
        refused_clients=top("client", ("decision", "request", "transfer"), _REFUSED),
        refused_sites=top("host", ("decision", "request"), _REFUSED),
        reasons=top("reason", ("decision", "request"), _REFUSED),
        findings=top("reason", ("transfer",), _REFUSED),
        rules=_rules(asked),
        latencies=latencies,
        percentiles_ms=_percentiles(latencies),
    )


def _named(row: SubjectTotal) -> Named:
    return Named(row.value, row.records, row.bytes_moved)


def _count(rows: Iterable[MinuteTotal]) -> int:
    return sum(row.records for row in rows)


def _steps(period: Period, minutes: Sequence[MinuteTotal]) -> list[Step]:
    begin, step_s = int(period.since), period.step_s
    steps = [Step(time) for time in range(begin, int(period.until), step_s)]
    for row in minutes:
        step = steps[(row.time - begin) // step_s]
        if row.kind in _ASKED and row.result in _REFUSED:
            step.refused += row.records
        elif row.kind in _ASKED:
            step.allowed += row.records
        elif row.kind == "connection":
            step.bytes_to_client += row.bytes_to_client
            step.bytes_to_server += row.bytes_to_server
    return steps


def _rules(asked: Sequence[MinuteTotal]) -> list[RuleFigures]:
    """Return the rules that refused most, and then those that decided most."""
    rules: dict[str, RuleFigures] = {}
    for row in asked:
        rule = rules.setdefault(row.rule, RuleFigures(row.rule))
        if row.result in _REFUSED:
            rule.refused += row.records
        else:
            rule.allowed += row.records
    ordered = sorted(rules.values(), key=lambda one: (-one.refused, -one.allowed, one.rule))
    return ordered[:ROWS_MAX]


def _without_gaps(latencies: Sequence[Latency]) -> list[Waited]:
    """Return latencies with those between them that no request had."""
    counts = {one.below_ms: one.records for one in latencies}
    bounds: list[float] = []
    for one in latencies[:1]:
        bounds.append(one.below_ms)
        while bounds[-1] < latencies[-1].below_ms:
            bounds.append(2 * bounds[-1])
    return [Waited(bound, counts.get(bound, 0)) for bound in bounds]


def _percentiles(latencies: Sequence[Waited]) -> dict[str, float]:
    total = sum(one.records for one in latencies)
    found: dict[str, float] = {}
    for share in _SHARES:
        seen = 0
        for one in latencies:
            seen += one.records
            if seen >= share * total:
                found[f"p{share * 100:g}"] = one.below_ms
                break
    return found
