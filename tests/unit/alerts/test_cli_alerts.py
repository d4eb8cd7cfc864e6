"""``sluicegate alerts``: what is shown, what is acknowledged, and its exit codes."""

from __future__ import annotations

import json
import pathlib

import msgspec
import pytest
from click.testing import CliRunner, Result

from sluicegate.audit.alerts import Raising
from sluicegate.cli import alerts as command
from sluicegate.cli.main import cli
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AnyReply,
    RefusedReply,
    Request,
)

OPEN = Raising(
    raising="a-1-1",
    alert="client-flood",
    state="open",
    severity="warning",
    message="a client reached a flood limit",
    about="10.0.0.1",
    first=1764365000.0,
    raised=1764365000.0,
    last=1764365001.0,
    count=7,
    query="(kind:limit) client:10.0.0.1",
    facts={"limit": "connects_per_minute\x1b[31m"},
    failures={"told": "no modem"},
)
SEEN = msgspec.structs.replace(
    OPEN, raising="a-1-2", state="acknowledged", by="ann", ended=1764365009.0
)


class Gate:
    """Answers from a list."""

    def __init__(self) -> None:
        self.rows = [OPEN, SEEN]
        self.refusal: RefusedReply | None = None
        self.acknowledged: list[str] = []

    def ask(self, _config: pathlib.Path | None, request: Request) -> AnyReply:
        if self.refusal is not None:
            return self.refusal
        if isinstance(request, AcknowledgeRequest):
            self.acknowledged += request.alerts
            names = set(request.alerts)
            found = [one for one in self.rows if names & {one.raising, one.alert}]
            return AcknowledgedReply(
                acknowledged=[one.raising for one in found if one.state == "open"]
            )
        return AlertsReply(rows=self.rows, total=len(self.rows))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(command, "ask", made.ask)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["alerts", *arguments])


def test_open_alerts_are_listed_and_all_on_request(gate: Gate) -> None:
    assert "a-1-1" in run("list").output
    assert "a-1-2" not in run("list").output
    assert "acknowledged by ann" in run("list", "--all").output
    assert [one["raising"] for one in json.loads(run("list", "--json").output)] == ["a-1-1"]
    gate.rows = [SEEN]
    assert run("list").output == "no alert is open\n"


def test_one_alert_is_shown_with_how_to_see_its_records(gate: Gate) -> None:
    shown = run("show", "a-1-1")
    assert shown.exit_code == 0
    assert "client-flood: a client reached a flood limit" in shown.output
    assert "sluicegate log '(kind:limit) client:10.0.0.1'" in shown.output
    assert "told failed" in shown.output
    assert "\x1b[31m" not in shown.output
    assert json.loads(run("show", "a-1-1", "--json").output)["count"] == 7
    gone = run("show", "a-9-9")
    assert gone.exit_code == 1
    assert "no alert a-9-9 is known" in gone.output


@pytest.mark.parametrize(
    ("arguments", "output", "code"),
    [
        (["a-1-1"], "acknowledged a-1-1 (client-flood)", 0),
        (["client-flood"], "acknowledged a-1-1 (client-flood)", 0),
        (["--all"], "acknowledged a-1-1 (client-flood)", 0),
        (["a-1-2"], "a-1-2 is not open", 1),
        (["a-1-1", "nothing"], "nothing is not open", 1),
        ([], "name alerts, or say --all", 2),
        (["a-1-1", "--all"], "name alerts, or say --all", 2),
    ],
)
def test_alerts_are_acknowledged_by_identifier_or_name(
    gate: Gate, arguments: list[str], output: str, code: int
) -> None:
    result = run("ack", *arguments)
    assert output in result.output
    assert result.exit_code == code
    assert json.loads(run("ack", "--all", "--json").output) == ["a-1-1"]
    assert "a-1-2" not in gate.acknowledged or arguments == ["a-1-2"]


def test_gate_that_refuses_says_why(gate: Gate) -> None:
    gate.refusal = RefusedReply(causes=["the process that raises alerts is not there"])
    for arguments in (["list"], ["ack", "a-1-1"], ["show", "a-1-1"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "not there" in result.output
