"""``sluicegate policy`` against a gate that runs, of several processes and of one."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.test_gate_process import SLUICEGATE, EchoServer, GateProcess

pytestmark = pytest.mark.either_driver

SECOND = """
[[publish]]
name = "second"
listener = "echo"
server = "127.0.0.1:1"
clients = ["192.0.2.0/24"]
"""


class PolicyGate(GateProcess):
    """A gate whose policy is changed by commands."""

    @property
    def policy(self) -> pathlib.Path:
        return self.folder / "policy.toml"

    def write_new(self, more: str) -> str:
        new = self.folder / "new.toml"
        new.write_text(self.policy.read_text() + more)
        return str(new)

    def run(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        arguments = [*SLUICEGATE, "policy", command, "-c", str(self.config), *more]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    def told(self, command: str, *more: str) -> dict[str, Any]:
        done = self.run(command, *more, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture(params=[("--inline",), ("--workers", "2")], ids=["inline", "two workers"])
def gate(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[PolicyGate]:
    server = EchoServer()
    made = PolicyGate(tmp_path, server.port)
    made.mode = request.param
    made.start()
    yield made
    made.close()
    server.close()


def test_policy_is_applied_listed_compared_and_rolled_back(gate: PolicyGate) -> None:
    before = gate.policy.read_text()
    os.chmod(gate.policy, 0o640)
    done = gate.run("apply", gate.write_new(SECOND), "--note", "TICKET-1")
    assert done.returncode == 0, done.stderr
    assert gate.policy.read_text() == before + SECOND
    assert stat.S_IMODE(gate.policy.stat().st_mode) == 0o640

    rows = gate.told("history")["rows"]
    assert [(row["number"], row["origin"], row["note"]) for row in rows] == [
        (2, "change", "TICKET-1"), (1, "start", ""),
    ]  # fmt: skip
    assert gate.status()["policy"] == rows[0]["policy"]
    assert '+name = "second"' in gate.run("diff", "1").stdout
    assert gate.run("show", "1").stdout == before
    assert [row["name"] for row in gate.told("rules")["rows"]] == ["echo", "second"]

    assert gate.run("rollback", "1").returncode == 0
    assert gate.policy.read_text() == before
    assert gate.status()["policy"] == rows[1]["policy"]
    marked = [line[:3] for line in gate.run("history").stdout.splitlines() if " * " in line]
    assert marked == ["3 *"], "the first has the same files, and is not the one in force"
    assert gate.end() == 0
    acts = [(one["action"], one["result"]) for one in gate.records("operator")]
    assert acts[-2:] == [("policy-change", "done"), ("policy-roll-back", "done")]


def test_wrong_policy_is_refused_with_its_causes_and_recorded(gate: PolicyGate) -> None:
    before = gate.policy.read_text()
    done = gate.run("apply", gate.write_new("[[publish]]\nname = 7\n"))
    assert done.returncode == 2
    assert "policy.toml:" in done.stderr
    assert gate.policy.read_text() == before
    assert [row["number"] for row in gate.told("history")["rows"]] == [1]
    assert gate.end() == 0
    act = gate.records("operator")[-1]
    assert (act["action"], act["result"]) == ("policy-change", "refused")


def test_dry_run_shows_the_difference_and_changes_nothing(gate: PolicyGate) -> None:
    before = gate.policy.read_text()
    done = gate.run("apply", gate.write_new(SECOND), "--dry-run")
    assert done.returncode == 0
    assert '+name = "second"' in done.stdout
    assert gate.policy.read_text() == before


def test_history_goes_on_over_a_restart(gate: PolicyGate) -> None:
    assert gate.run("apply", gate.write_new(SECOND)).returncode == 0
    gate.end()
    gate.close()
    gate.start()
    rows = gate.told("history")["rows"]
    assert [(row["number"], row["origin"]) for row in rows] == [(2, "change"), (1, "start")]
