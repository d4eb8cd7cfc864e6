"""The forwarder: records get to other systems, and a gate does not care whether they are there."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
from typing import Any

import pytest

from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate, LoneGate, wait_until_gone
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver


class Receiver:
    """Listens on a Unix socket, as a system's log does."""

    def __init__(self, path: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)

    def until(self, text: str) -> list[dict[str, Any]]:
        """Return the records that come, up to one with this text."""
        found: list[dict[str, Any]] = []
        while not found or text not in json.dumps(found[-1]):
            found.append(json.loads(self.socket.recv(65536).partition(b" - ")[2]))
        return found


@pytest.fixture
def kind() -> type[Gate]:
    return LoneGate


@pytest.fixture
def gate(gate: Gate, tmp_path: pathlib.Path) -> Gate:
    gate.write_main(f'[[log.sink]]\nname = "local"\nto = "unix:{tmp_path}/log"\n')
    return gate


def forwarder(gate: Gate) -> dict[str, Any]:
    (row,) = [row for row in gate.status()["workers"] if row["name"] == "forwarder"]
    return row


def visit(gate: Gate) -> None:
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"


def test_records_get_there_also_after_the_forwarder_was_killed(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    receiver = Receiver(tmp_path / "log")
    gate.start()
    visit(gate)
    kinds = [one["kind"] for one in receiver.until('"connection", "time"')]
    assert kinds[:2] == ["service", "service"]
    pid = forwarder(gate)["pid"]
    os.kill(pid, signal.SIGKILL)
    gate.wait_for("the forwarder (pid")
    visit(gate)
    assert receiver.until('"connection", "time"')
    pids = gate.pids()
    assert gate.end() == 0
    wait_until_gone(pids)
    assert receiver.until('"stopped"')
    receiver.socket.close()


def test_gate_whose_sink_is_not_there_serves_and_says_so(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    gate.start()
    visit(gate)
    gate.wait_for("the sink local takes no records")
    wait_until(lambda: any("takes no records" in one for one in gate.status()["warnings"]))
    receiver = Receiver(tmp_path / "log")
    records = receiver.until('"connection", "time"')
    assert [one["event"] for one in records if one["kind"] == "service"] == ["started", "ready"]
    assert gate.end() == 0
    receiver.socket.close()
