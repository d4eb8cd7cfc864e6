"""Exposition: series as the text that Prometheus and its kin read.

The process that is asked over HTTP calls it. The invariant: what is written is in the catalogue,
with the type, the unit and the labels that stand there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, cast

from prometheus_client import exposition as classic
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from typing_extensions import override

from .series import Metric, Series

__all__ = ["write_metrics"]


class _Collected(Collector):
    """Families as the library's writers take them."""

    def __init__(self, families: list[_Family]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterator[_Family]:
        """Return them."""
        return iter(self._families)


_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Writer(Protocol):
    def __call__(self, registry: Collector) -> bytes: ...


# The library has no types for them.
_write_openmetrics = cast(
    "_Writer",
    openmetrics.generate_latest,  # pyright: ignore[reportUnknownMemberType]
)
_write_classic = cast(
    "_Writer",
    classic.generate_latest,  # pyright: ignore[reportUnknownMemberType]
)


def write_metrics(
    catalogue: Mapping[str, Metric], series: Iterable[Series], accept: str
) -> tuple[bytes, str]:
    """Return the text and its content type.

    Args:
        catalogue: What the series mean.
        series: What was measured, each name and labels once.
        accept: The ``Accept`` of whoever asks: OpenMetrics where it names it, else the older text.
    """
    families = _Collected(_families(catalogue, series))
    if "application/openmetrics-text" in accept:
        return _write_openmetrics(families), openmetrics.CONTENT_TYPE_LATEST
    return _write_classic(families), classic.CONTENT_TYPE_PLAIN_0_0_4


def _families(catalogue: Mapping[str, Metric], series: Iterable[Series]) -> list[_Family]:
    found: dict[str, list[Series]] = {}
    for one in series:
        found.setdefault(one.name, []).append(one)
    return [_family(metric, found[name]) for name, metric in catalogue.items() if name in found]


def _family(metric: Metric, series: list[Series]) -> _Family:
    name, meaning, labels, unit = metric.name, metric.meaning, metric.labels, metric.unit
    series.sort(key=lambda one: one.labels)
    if metric.kind == "counter":
        counter = CounterMetricFamily(name, meaning, labels=labels, unit=unit)
        for one in series:
            counter.add_metric(list(one.labels), one.value)
        return counter
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(name, meaning, labels=labels, unit=unit)
        for one in series:
            gauge.add_metric(list(one.labels), one.value)
        return gauge
    histogram = HistogramMetricFamily(name, meaning, labels=labels, unit=unit)
    for one in series:
        histogram.add_metric(list(one.labels), _cumulated(metric, one), one.value)
    return histogram


def _cumulated(metric: Metric, one: Series) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, found in zip([*map(str, metric.bounds), "+Inf"], one.buckets, strict=True):
        count += found
        buckets.append((bound, count))
    return buckets
