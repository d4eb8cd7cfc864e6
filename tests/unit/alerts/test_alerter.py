"""The alert process from within: a fault of its own ends it, no reload leaves an action stuck."""

from __future__ import annotations

import asyncio
import pathlib
import socket
from typing import NoReturn

import pytest

from sluicegate.app.processes import alerter
from sluicegate.app.processes.alerter import _Alerter
from sluicegate.app.processes.channel import FrameReader
from sluicegate.app.processes.orders import BeginAlerts, Message, Said
from sluicegate.app.spool_room import SpoolRoom
from sluicegate.audit.alerts import AlertRule
from sluicegate.audit.alerts.action import ActionSettings, CommandSettings

PAGE = ActionSettings(name="page", what=CommandSettings(run=("/bin/true",)))
RULE = AlertRule(name="a", query="kind:transfer", actions=("page",))


class Supervisor:
    """Takes what is said; its answer to how the gate is cannot be understood."""

    def __init__(self, *_channel: object) -> None:
        self.over = asyncio.Event()
        self.said: list[Message] = []

    def say(self, message: Message) -> None:
        self.said.append(message)

    def deliver(self) -> None: ...

    async def ask(self, _request: object) -> NoReturn:
        raise ValueError("a status that nobody understands")


def begin_of(folder: pathlib.Path, *actions: ActionSettings) -> BeginAlerts:
    return BeginAlerts(
        log=str(folder / "records.jsonl"),
        folder=str(folder),
        since=0.0,
        rules=[RULE],
        actions=list(actions),
        room=SpoolRoom(folder=str(folder), bytes_max=1, free_bytes_min=0),
    )


def test_fault_in_looking_at_the_gate_ends_the_process(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerter, "Asking", Supervisor)
    monkeypatch.setattr(alerter, "ALERT_STATUS_S", 0.0)
    connected, other = socket.socketpair()

    async def live() -> None:
        async with asyncio.timeout(60):
            await _Alerter(begin_of(tmp_path)).live(connected, FrameReader())

    with connected, other, pytest.raises(ValueError, match="that nobody understands"):
        asyncio.run(live())


def test_action_that_a_reload_takes_away_before_it_begins_is_done_and_not_stuck(
    tmp_path: pathlib.Path,
) -> None:
    async def play() -> None:
        one = _Alerter(begin_of(tmp_path, PAGE))
        one._gate = Supervisor()  # type: ignore[assignment]
        one._desk.take({"kind": "transfer", "time": 1.0})
        one._deliver()
        (doing,) = one._doing.values()
        one._change(begin_of(tmp_path))
        await doing
        assert not one._doing

    asyncio.run(play())


def test_file_that_cannot_be_read_after_a_reload_is_said(tmp_path: pathlib.Path) -> None:
    async def play() -> list[Message]:
        one = _Alerter(begin_of(tmp_path))
        supervisor = Supervisor()
        one._gate = supervisor  # type: ignore[assignment]
        (tmp_path / "alerts.json").mkdir()
        one._change(begin_of(tmp_path))
        return supervisor.said

    (said,) = asyncio.run(play())
    assert isinstance(said, Said)
    assert "alerts.json" in said.line
    assert said.line.endswith("alerts begin anew")
