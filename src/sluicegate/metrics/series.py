"""Series: numbers with labels, as processes count them and tell each other.

``audit`` and ``gate`` count into ``Counts``, ``app`` adds up what all processes say. The invariant:
the number of series has a bound whatever clients do: behind ``METRIC_SERIES_MAX`` of one metric,
what is new is counted together, under ``other``.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from sluicegate.process_limits import METRIC_SERIES_MAX

__all__ = ["OTHER", "Counts", "Histogram", "Metric", "MetricKind", "Series", "add_up"]

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram"]

OTHER: Final = "other"
"""The labels of what came behind the bound."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured."""

    name: str
    """As Prometheus has it; of a counter without ``_total``."""
    kind: MetricKind
    meaning: str
    """One sentence for people."""
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram: the upper bounds of its buckets, without the infinite one."""
    is_same_everywhere: bool = False
    """Of a gauge: processes are not added up, the largest counts."""

    @property
    def unit(self) -> str:
        """The unit in its name, as OpenMetrics wants it said once more; empty: it has none."""
        return next((unit for unit in _UNITS if self.name.endswith("_" + unit)), "")


_UNITS: Final = ("seconds", "bytes")


class Series(msgspec.Struct, array_like=True, gc=False):
    """One value of one metric, at one moment."""

    name: str
    labels: tuple[str, ...]
    """Values, in the order of the metric's labels."""
    value: float
    """Of a histogram: the sum of what was observed."""
    buckets: list[int] = []
    """Of a histogram: how many observations each bucket has, each counted once; the last one has no
    upper bound."""


class Histogram:
    """How values spread over buckets."""

    __slots__ = ("_bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value


class Counts:
    """Counters and histograms of one process."""

    __slots__ = ("_catalogue", "_histograms", "_values")

    def __init__(self, catalogue: Mapping[str, Metric]) -> None:
        self._catalogue = catalogue
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}

    def add(self, name: str, *labels: str, value: float = 1) -> None:
        """Add to a counter."""
        try:
            self._values[name][labels] += value
        except KeyError:
            known = self._values.setdefault(name, {})
            if len(known) >= METRIC_SERIES_MAX:
                labels = (OTHER,) * len(labels)
            known[labels] = known.get(labels, 0) + value

    def observe(self, name: str, *labels: str, value: float) -> None:
        """Count one value of a histogram."""
        try:
            histogram = self._histograms[name][labels]
        except KeyError:
            known = self._histograms.setdefault(name, {})
            if len(known) >= METRIC_SERIES_MAX:
                labels = (OTHER,) * len(labels)
            histogram = known.setdefault(labels, Histogram(self._catalogue[name].bounds))
        histogram.observe(value)

    def join(self, name: str, *labels: str, histogram: Histogram) -> None:
        """Add what another histogram of the same bounds has counted."""
        known = self._histograms.setdefault(name, {})
        ours = known.setdefault(labels, Histogram(self._catalogue[name].bounds))
        pairs = zip(ours.buckets, histogram.buckets, strict=True)
        ours.buckets = [one + other for one, other in pairs]
        ours.total += histogram.total

    def series(self) -> list[Series]:
        """Return what was counted."""
        found = [
            Series(name, labels, value)
            for name, known in self._values.items()
            for labels, value in known.items()
        ]
        found += [
            Series(name, labels, one.total, list(one.buckets))
            for name, known in self._histograms.items()
            for labels, one in known.items()
        ]
        return found


def add_up(catalogue: Mapping[str, Metric], answers: Iterable[Iterable[Series]]) -> list[Series]:
    """Return one series for each name and labels, over all processes.

    What the catalogue does not have is left out: a worker of another version knows other metrics.
    """
    found: dict[tuple[str, tuple[str, ...]], Series] = {}
    for answer in answers:
        for one in answer:
            metric = catalogue.get(one.name)
            if metric is None or len(one.labels) != len(metric.labels):
                continue
            known = found.get((one.name, one.labels))
            if known is None:
                buckets = list(one.buckets)
                found[one.name, one.labels] = Series(one.name, one.labels, one.value, buckets)
            elif metric.is_same_everywhere:
                known.value = max(known.value, one.value)
            else:
                known.value += one.value
                if len(known.buckets) == len(one.buckets):
                    pairs = zip(known.buckets, one.buckets, strict=True)
                    known.buckets = [ours + theirs for ours, theirs in pairs]
    return list(found.values())
