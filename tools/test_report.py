"""Reads the JUnit reports of ``tools/test``, prints one table, and refuses what must not be.

Called by ``tools/test`` after the suite. With ``SLUICEGATE_REQUIRE=1`` (CI) it fails unless each
run on a backend opened it, ran tests in ``tests/real`` and ``tests/kernel``, and skipped none of
them: a test that never ran is never counted as one that passed.
"""

from __future__ import annotations

import collections
import os
import pathlib
import sys
from xml.etree import ElementTree as ET

MUST_RUN = ("real", "kernel")
OUTCOMES = ("passed", "failed", "skipped")


WITHOUT_PORT = "without a port"


def suite_of(path: pathlib.Path) -> ET.Element:
    """Read one JUnit file."""
    suite = ET.parse(path).getroot().find("testsuite")
    if suite is None:
        raise SystemExit(f"test: FAILED: {path} holds no test suite; was pytest interrupted?")
    return suite


def properties_of(suite: ET.Element) -> dict[str, str]:
    """Return what a run says of itself."""
    return {p.get("name", ""): p.get("value", "") for p in suite.iter("property")}


class Report:
    """The runs on one backend: what they opened, outcomes by folder."""

    def __init__(self, backend: str) -> None:
        """Have none yet."""
        self.backend = backend
        self.is_on_port = backend != WITHOUT_PORT
        self.opened = 0
        self.seconds = 0.0
        self.outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.skips: list[str] = []

    def add(self, suite: ET.Element) -> None:
        """Count one run in."""
        self.opened += int(properties_of(suite).get(f"backend_opened_{self.backend}", "0"))
        self.seconds += float(suite.get("time", "0"))
        for case in suite.iter("testcase"):
            name = case.get("classname", "")
            folder = name.split(".")[1] if name.startswith("tests.") else "other"
            outcome = "passed"
            if case.find("failure") is not None or case.find("error") is not None:
                outcome = "failed"
            elif (skipped := case.find("skipped")) is not None:
                outcome = "skipped"
                self.skips.append(f"{name}::{case.get('name')}: {skipped.get('message')}")
            self.outcomes[folder, outcome] += 1

    def total(self, outcome: str) -> int:
        """Count one outcome over all folders."""
        return sum(count for (_, what), count in self.outcomes.items() if what == outcome)

    def show(self) -> None:
        """Print one line, then what was skipped."""
        counts = ", ".join(f"{self.total(outcome)} {outcome}" for outcome in OUTCOMES)
        folders = sorted({folder for folder, _ in self.outcomes})
        each = ", ".join(
            f"{folder} {sum(self.outcomes[folder, outcome] for outcome in OUTCOMES)}"
            for folder in folders
        )
        print(f"test: {self.backend}: {counts} in {self.seconds:.0f} s ({each})")
        if self.is_on_port:
            print(f"test: {self.backend}: the backend was really opened {self.opened} times")
        for skip in self.skips:
            print(f"test: {self.backend}: skipped: {skip}")

    def shortcomings(self) -> list[str]:
        """List what makes this run worth less than it seems."""
        if not self.is_on_port:
            return [] if self.total("passed") else ["nothing passed without a port"]
        found = []
        if not self.opened:
            found.append(f"{self.backend} was asked for and never opened")
        for folder in MUST_RUN:
            if not self.outcomes[folder, "passed"]:
                found.append(f"nothing passed in tests/{folder} on {self.backend}")
            if self.outcomes[folder, "skipped"]:
                found.append(f"tests/{folder} has skipped tests on {self.backend}")
        return found


def main(arguments: list[str]) -> int:
    """Print the table; tell whether all that must hold does."""
    by_backend: dict[str, Report] = {}
    for path in arguments:
        suite = suite_of(pathlib.Path(path))
        backend = properties_of(suite).get("backend_asked", WITHOUT_PORT)
        by_backend.setdefault(backend, Report(backend)).add(suite)
    reports = list(by_backend.values())
    print()
    for report in reports:
        report.show()
    required = os.environ.get("SLUICEGATE_REQUIRE") == "1"
    shortcomings = [line for report in reports for line in report.shortcomings()]
    for line in shortcomings:
        print(f"test: {'FAILED' if required else 'note'}: {line}")
    return 1 if required and shortcomings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
