"""The statistics of interleaved pairs: the median ratio and its bootstrap interval.

Pure functions of the samples; the random source is seeded, so that the same samples give the same interval.
"""

import dataclasses
import random
import statistics
from collections.abc import Sequence

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median of the ratios of pairs, with the 95 % interval of that median."""

    median: float
    low: float
    high: float


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median of `ours[i] / theirs[i]` with its bootstrap 95 % interval."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    source = random.Random(20)
    medians = sorted(
        statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
    )
    return Ratio(
        statistics.median(ratios),
        medians[int(RESAMPLES * 0.025)],
        medians[int(RESAMPLES * 0.975) - 1],
    )
