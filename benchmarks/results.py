"""What a benchmark run ends in: one row per target, printed as a table and written as JSON."""

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ratios import Ratio


@dataclasses.dataclass(frozen=True)
class Target:
    """One figure that the product promises: `name` at most `at_most`."""

    name: str
    what: str
    at_most: float
    unit: str = "x"


@dataclasses.dataclass(frozen=True)
class Result:
    """A measured target: the figure with its interval, and what it was made of."""

    target: Target
    measured: Ratio
    ours: float
    peer: float | None
    absolute_unit: str
    samples: int
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the interval reaches the target."""
        return self.measured.low <= self.target.at_most


def print_table(results: Sequence[Result]) -> None:
    """The table of all results, one line each."""
    header = ("target", "at most", "measured", "95 % interval", "sluicegate", "peer", "", "met")
    rows = [header, *(row(result) for result in results)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(header))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    for result in results:
        if result.note:
            print(f"{result.target.name}: {result.note}")
    met = sum(result.is_met for result in results)
    print(f"\n{met} of {len(results)} targets met")


def print_result(result: Result) -> None:
    """One line as soon as a case is done: a whole run takes a quarter of an hour."""
    measured, target = result.measured, result.target
    print(
        f"{target.name}: {target.what}: {measured.median:.3g} "
        f"[{measured.low:.3g}, {measured.high:.3g}], at most {target.at_most:g} {target.unit}",
        flush=True,
    )


def row(result: Result) -> tuple[str, ...]:
    """The cells of one line."""
    target, measured = result.target, result.measured
    return (
        target.name,
        f"{target.at_most:g} {target.unit}",
        f"{measured.median:.3g}",
        f"{measured.low:.3g} .. {measured.high:.3g}",
        f"{result.ours:.4g}",
        "-" if result.peer is None else f"{result.peer:.4g}",
        result.absolute_unit,
        "yes" if result.is_met else "NO",
    )


def write_json(results: Sequence[Result], path: Path) -> None:
    """Writes all results, and the machine they were measured on."""
    machine = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_at_end": os.getloadavg()[0],
    }
    rows = [dataclasses.asdict(result) | {"met": result.is_met} for result in results]
    path.write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")
