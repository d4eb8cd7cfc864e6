"""What a gate holds: memory, descriptors and files of each of its processes, over the time.

The invariant: like is compared with like: the same process later, or another of the same age.
"""

import dataclasses
import statistics
from pathlib import Path

WARM_SHARE = 0.4
"""The part of a process's life after which pools and caches are full."""
GROWTH_BYTES_MAX = 12 << 20
"""What a process may grow afterwards: the kernel counts its pages in batches, and a heap tears."""
SAMPLES_MIN = 120
"""Looks at a process, one per second, before its growth is judged."""
DESCRIPTORS_SLACK = 16
"""Pipes for splicing are kept between two uses, two descriptors each."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    at_s: float
    rss_bytes: int
    descriptors: int


class Watch:
    """The samples of every process that the gate had."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, int], list[Sample]] = {}

    def take(self, processes: dict[str, int], now_s: float) -> None:
        """Looks at each process; one that ends meanwhile is left out."""
        for name, pid in processes.items():
            try:
                count = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                sample = Sample(now_s, _rss(pid), count)
            except OSError:
                continue
            self._samples.setdefault((name, pid), []).append(sample)

    def complaints(self) -> list[str]:
        """Which processes grew."""
        found: list[str] = []
        for (name, pid), samples in self._samples.items():
            if len(samples) < SAMPLES_MIN:
                continue  # killed young: its pools and caches were still filling
            warm, late = _warm_and_late(samples)
            if late - warm > GROWTH_BYTES_MAX:
                found.append(f"{name} ({pid}) grew from {_mib(warm)} to {_mib(late)}")
        return found

    def text(self) -> str:
        """The figures of those that lived longest."""
        lines: list[str] = []
        for (name, pid), samples in self._samples.items():
            if len(samples) < 10:
                continue
            warm, late = _warm_and_late(samples)
            most = max(sample.descriptors for sample in samples)
            lines.append(
                f"{name} ({pid}): {_mib(samples[0].rss_bytes)} at first, {_mib(warm)} warm, "
                f"{_mib(late)} at last; at most {most} descriptors; seen {len(samples)} times"
            )
        return "\n".join(lines)


def descriptors_left(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Which parts hold more descriptors at rest than they did at rest before."""
    return [
        f"{name} has {after[name]} descriptors at rest, and had {count} before"
        for name, count in before.items()
        if after.get(name, 0) > count + DESCRIPTORS_SLACK
    ]


def descriptor_counts(processes: dict[str, int]) -> dict[str, int]:
    """The number of descriptors of each part."""
    return {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in processes.items()}


def files_of(folder: Path) -> set[str]:
    """Every file below a folder, but the policies of before, whose number has a bound."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {path for path in found if not path.startswith("state/policies/")}


def _warm_and_late(samples: list[Sample]) -> tuple[float, float]:
    """The median of a process's memory when it was warm, and at the end of its life."""
    start = int(len(samples) * WARM_SHARE)
    if len(samples) < 10:
        return 0.0, 0.0
    tenth = max(1, len(samples) // 10)
    return (
        statistics.median(one.rss_bytes for one in samples[start : start + tenth]),
        statistics.median(one.rss_bytes for one in samples[-tenth:]),
    )


def _rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("it has ended")


def _mib(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"
