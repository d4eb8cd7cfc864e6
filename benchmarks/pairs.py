"""Interleaved pairs: A B, B A, A B ... of two measurements, and what follows from them.

Every ratio of the bench comes through here.  The invariant: both sides are measured equally often,
in alternating order, so that drift of the machine falls on both.
"""

import dataclasses
from collections.abc import Callable

from benchmarks.ratios import Ratio, median_ratio

Measure = Callable[[], float]


@dataclasses.dataclass
class Pairs:
    """The samples of two interleaved measurements."""

    ours: list[float] = dataclasses.field(default_factory=list[float])
    theirs: list[float] = dataclasses.field(default_factory=list[float])

    def extend(self, count: int, ours: Measure, theirs: Measure) -> None:
        """Takes more pairs; who goes first alternates over the whole life of the object."""
        for _ in range(count):
            if len(self.ours) % 2 == 0:
                self.ours.append(ours())
                self.theirs.append(theirs())
            else:
                self.theirs.append(theirs())
                self.ours.append(ours())

    def ratio(self) -> Ratio:
        """The median ratio with its interval."""
        return median_ratio(self.ours, self.theirs)


def rounds(pairs: int, per_round: int = 5) -> list[int]:
    """Splits the pairs into rounds; the relays are started afresh for each.

    One start of a process fixes its memory layout, and with it a few percent of its speed: several
    starts turn that into noise that the interval shows.
    """
    whole, rest = divmod(pairs, per_round)
    return [per_round] * whole + ([rest] if rest else [])
