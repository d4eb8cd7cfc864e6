"""What the records say: every connection that began has one end, but those of killed workers.

The invariant: nothing is excused but what the gate itself counted, in the record of a process that
ended unexpectedly.
"""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Ledger:
    """The counts of one log."""

    allowed: Counter[str] = dataclasses.field(default_factory=Counter[str])
    asked: set[str] = dataclasses.field(default_factory=set[str])
    """Those on which requests were decided on, each by itself."""
    ended: Counter[str] = dataclasses.field(default_factory=Counter[str])
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter[str])
    lost_connections: int = 0
    lost_records: int = 0
    deaths: list[int] = dataclasses.field(default_factory=list[int])
    replaced: set[int] = dataclasses.field(default_factory=set[int])
    failures: list[str] = dataclasses.field(default_factory=list[str])

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Counts a whole log."""
        ledger = cls()
        with path.open() as lines:
            for line in lines:
                ledger._take(json.loads(line))
        return ledger

    def _take(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "decision" and record["verdict"] == "allowed":
            self.allowed[record["connection"]] += 1
        elif kind == "request":
            self.asked.add(record["connection"])
        elif kind == "connection":
            self.ended[record["connection"]] += 1
            self.outcomes[record["outcome"]] += 1
        elif kind == "process":
            self._take_death(record)
            self.lost_connections += record.get("connections", 0)
            self.lost_records += record.get("records_lost", 0)
        elif kind == "filter-failure":
            self.failures.append(f"filter {record['filter']}: {record['cause']}")

    def _take_death(self, record: dict[str, Any]) -> None:
        self.deaths.append(record["pid"])
        if record["cause"].startswith("replaced"):
            self.replaced.add(record["pid"])

    def complaints(self, killed: list[int]) -> list[str]:
        """What must not be."""
        missing = set(self.allowed) - set(self.ended)
        found = [
            f"{name} has {count} end records" for name, count in self.ended.items() if count > 1
        ]
        strange = set(self.ended) - set(self.allowed) - self.asked
        if len(strange) > self.lost_records:
            found.append(f"{len(strange)} connections ended that no record let in")
        # Of a connection that ended in the very moment, the end is among the lost records; of one
        # that began then, the beginning.
        if abs(len(missing) - self.lost_connections) > self.lost_records:
            found.append(
                f"{len(missing)} connections have no end record; killed workers had "
                f"{self.lost_connections}, and took {self.lost_records} records with them"
            )
        if unnoticed := set(killed) - set(self.deaths):
            found.append(f"no record tells of the end of {sorted(unnoticed)}")
        # One that starts too slowly for a reload is replaced: recorded if it had clients by then.
        if others := set(self.deaths) - set(killed) - self.replaced:
            found.append(f"processes that nobody killed ended: {sorted(others)}")
        return found + self.failures[:10]

    def text(self) -> str:
        """The figures."""
        missing = len(set(self.allowed) - set(self.ended))
        outcomes = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        return (
            f"{len(self.allowed)} connections let in, {len(self.ended)} ended ({outcomes}); "
            f"{missing} without an end record, {self.lost_connections} were open in killed "
            f"workers, {self.lost_records} records were lost with them"
        )
