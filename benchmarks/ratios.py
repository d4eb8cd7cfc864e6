"""The statistics of interleaved pairs: the median ratio and its bootstrap interval.

Pure functions of the samples; the random source is seeded, so that the same samples give the same
interval.
"""

import dataclasses
import random
import statistics
from collections.abc import Sequence

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A median with its 95 % interval: of ratios, or of plain figures."""

    median: float
    low: float
    high: float


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median of `ours[i] / theirs[i]` with its bootstrap 95 % interval."""
    return median_value([a / b for a, b in zip(ours, theirs, strict=True)])


def median_value(values: Sequence[float]) -> Ratio:
    """The median of the values with its bootstrap 95 % interval."""
    source = random.Random(20)
    count = len(values)
    medians = sorted(statistics.median(source.choices(values, k=count)) for _ in range(RESAMPLES))
    low, high = medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975) - 1]
    return Ratio(statistics.median(values), low, high)
