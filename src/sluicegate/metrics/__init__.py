"""Metrics: what can be measured of a gate, how it is added up and written for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .catalogue import CATALOGUE
    from .series import Counts, Histogram, Metric, MetricKind, Series, add_up
else:
    __getattr__ = front(
        __name__,
        catalogue=("CATALOGUE",),
        series=("Counts", "Histogram", "Metric", "MetricKind", "Series", "add_up"),
    )

__all__ = ["CATALOGUE", "Counts", "Histogram", "Metric", "MetricKind", "Series", "add_up"]
