"""`python -m benchmarks.policy`: what a decision costs, by kind and number of rules.

`make bench-policy` comes here. Each kind of rule is measured with 10, 1,000 and 10,000 rules, in
turns, every decision by itself; the targets are 20 µs for 99 of 100 decisions on 10,000 rules, and
twice what they take on 10. The exit status is 1 when one is missed.
"""

from __future__ import annotations

import gc
import json
import pathlib
import random
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass

import click

from benchmarks.policy.policies import KINDS, Kind, text_of
from sluicegate.documents import Findings
from sluicegate.policy import (
    DestinationRequest,
    Policy,
    PolicySnapshot,
    decide_destination,
    explain_destination,
    parse_policy,
)
from sluicegate.policy.rule_index import RuleIndex

COUNTS = (10, 1_000, 10_000)
REQUESTS = 5_000
ROUNDS = 7
EXPLAINED = 20
P99_MAX_US = 20.0
RATIO_MAX = 2.0
NOW = 1_790_000_000.0


@dataclass(slots=True)
class Row:
    """What was measured for one kind and one number of rules."""

    kind: str
    rules: int
    p50_us: float
    p99_us: float
    explain_ms: float
    parse_s: float
    compile_s: float
    mib: float


def read(kind: Kind, count: int) -> tuple[Policy, float]:
    """Return a policy, and how long its text took to read."""
    text, findings = text_of(kind, count), Findings()
    began = time.perf_counter()
    parsed = parse_policy(text, "policy.toml", findings)
    took = time.perf_counter() - began
    if parsed is None:
        raise SystemExit(f"the policy of {kind.name!r} is wrong: {findings.errors[0]}")
    return parsed.policy, took


def compiled(policy: Policy) -> tuple[PolicySnapshot, float, float]:
    """Return a snapshot, how long it took, and the MiB that it holds beside the policy."""
    began = time.perf_counter()
    PolicySnapshot(policy)
    took = time.perf_counter() - began
    tracemalloc.start()
    snapshot = PolicySnapshot(policy)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return snapshot, took, held / (1 << 20)


class Case:
    """One kind with one number of rules."""

    def __init__(self, kind: Kind, count: int) -> None:
        self.kind, self.count = kind, count
        policy, self.parse_s = read(kind, count)
        self.snapshot, self.compile_s, self.mib = compiled(policy)
        seeded = random.Random(count)
        self.requests = [kind.request(seeded.randrange(count), count) for _ in range(REQUESTS)]
        self.p50: list[float] = []
        self.p99: list[float] = []

    @property
    def index(self) -> RuleIndex:
        """The rules of the listener."""
        index = self.snapshot.rules_of("proxy")
        assert index is not None, "the policy has rules"
        return index

    def check(self) -> None:
        """Make sure that what is measured is what the kind says."""
        for request in self.requests[:200]:
            decision = decide_destination(self.index, request, NOW)
            if decision.is_allowed != self.kind.is_allowed:
                raise SystemExit(f"{self.kind.name}: {request.host} is {decision.reason}")

    def measure(self) -> None:
        """Time every decision by itself."""
        took = sorted(timed(self.index, self.requests))
        self.p50.append(took[len(took) // 2] / 1000)
        self.p99.append(took[len(took) * 99 // 100] / 1000)

    def row(self) -> Row:
        """Return the quietest round: other work on the machine only adds."""
        began = time.perf_counter()
        for request in self.requests[:EXPLAINED]:
            explain_destination(self.index, request, NOW)
        explained = (time.perf_counter() - began) / EXPLAINED * 1000
        return Row(
            self.kind.name,
            self.count,
            min(self.p50),
            min(self.p99),
            explained,
            self.parse_s,
            self.compile_s,
            self.mib,
        )


def timed(index: RuleIndex, requests: list[DestinationRequest]) -> list[int]:
    """Return the nanoseconds of each decision."""
    clock = time.perf_counter_ns
    took: list[int] = []
    for request in requests:
        began = clock()
        decide_destination(index, request, NOW)
        took.append(clock() - began)
    return took


def measure_all() -> list[Row]:
    """Measure every kind and number, in turns."""
    rows: list[Row] = []
    for kind in KINDS:
        cases = [Case(kind, count) for count in COUNTS]
        gc.collect()
        gc.freeze()  # as a worker's policy is by the time it has work
        for case in cases:
            case.check()
            timed(case.index, case.requests[:1000])
        for _ in range(ROUNDS):
            for case in cases:
                case.measure()
        rows += [case.row() for case in cases]
        gc.unfreeze()
    return rows


def missed(rows: list[Row]) -> list[str]:
    """Return the targets that are missed, in words."""
    found: list[str] = []
    for kind in KINDS:
        few, *_, many = [row for row in rows if row.kind == kind.name]
        if many.p99_us > P99_MAX_US:
            found.append(f"{kind.name}: p99 is {many.p99_us:.1f} µs, above {P99_MAX_US:g}")
        ratio = many.p99_us / few.p99_us
        if ratio > RATIO_MAX:
            found.append(f"{kind.name}: p99 is {ratio:.1f} times that of {few.rules} rules")
    return found


@click.command()
@click.option("--json", "path", type=click.Path(path_type=pathlib.Path), help="Write figures too.")
def main(path: pathlib.Path | None) -> None:
    """Measure what a decision costs."""
    rows = measure_all()
    print("rules about       rules   p50 µs   p99 µs   explain ms   read s   compile s    MiB")
    for row in rows:
        print(
            f"{row.kind:<14} {row.rules:>8,} {row.p50_us:>8.1f} {row.p99_us:>8.1f} "
            f"{row.explain_ms:>12.2f} {row.parse_s:>8.2f} {row.compile_s:>11.3f} {row.mib:>6.1f}"
        )
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
    wrong = missed(rows)
    for one in wrong:
        print(f"MISSED {one}")
    if not wrong:
        print("every target is met")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
