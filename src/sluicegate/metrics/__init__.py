"""Metrics: what can be measured of a gate, how it is added up and written for Prometheus."""

from .catalogue import CATALOGUE
from .series import Counts, Histogram, Metric, MetricKind, Series, add_up

__all__ = ["CATALOGUE", "Counts", "Histogram", "Metric", "MetricKind", "Series", "add_up"]
