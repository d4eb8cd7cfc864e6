"""Learning in a running gate: what its operator sees, and what stays in the log when it is over."""

from __future__ import annotations

import datetime as dt
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.test_gate_process import GateProcess
from tests.kernel.test_processes import LoneGate
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

PORT = 9  # nobody is dialled


@pytest.fixture(params=[GateProcess, LoneGate], ids=["inline", "processes"])
def gate(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[GateProcess]:
    kind: type[GateProcess] = request.param
    made = kind(tmp_path, PORT)
    made.config.write_text(
        '[[listener]]\nname = "proxy"\naddress = "127.0.0.1:0"\nentry = "proxy"\n'
    )
    yield made
    made.close()


def learn(gate: GateProcess, until: float, clients: str = "10.9.0.0/16", name: str = "new") -> None:
    end = dt.datetime.fromtimestamp(until, dt.UTC).isoformat().replace("+00:00", "Z")
    (gate.folder / "policy.toml").write_text(
        f'[[learn]]\nname = "{name}"\nclients = ["{clients}"]\nuntil = {end}\n'
    )


def told(gate: GateProcess) -> list[tuple[str, str, list[str]]]:
    return [(it["entry"], it["event"], it["clients"]) for it in gate.records("learn")]


def wait_until_told(gate: GateProcess, count: int) -> None:
    wait_until(lambda: len(gate.records("learn")) >= count, lambda: str(told(gate)))


def test_learning_is_in_status_and_in_the_log_from_its_beginning_to_its_end(
    gate: GateProcess,
) -> None:
    far = time.time() + 86400
    learn(gate, far)
    gate.start()
    warned = any("learn" in line for line in gate.lines)
    shown, status = gate.ask("status").stdout, gate.status()
    learn(gate, far, "10.0.0.0/8")
    before = time.monotonic()
    assert gate.ask("reload").returncode == 0
    # The next must be in force before it is over, however slow the machine is.
    soon_s = 2 + 5 * (time.monotonic() - before)
    learn(gate, time.time() + soon_s, "10.0.0.0/8", "other")
    assert gate.ask("reload").returncode == 0
    wait_until_told(gate, 5)
    later, over = gate.ask("status").stdout, gate.status()
    gate.end()

    assert warned
    assert shown.splitlines()[1].startswith("LEARNING     new (10.9.0.0/16), for 2")
    assert "what no rule speaks of passes; 0 connections so far" in shown
    views: list[dict[str, Any]] = status["learning"]
    assert [(it["name"], it["clients"], it["until"]) for it in views] == [
        ("new", ["10.9.0.0/16"], pytest.approx(far, abs=1e-3))
    ]
    assert ("LEARNING" in later, over["learning"]) == (False, [])
    assert told(gate) == [
        ("new", "began", ["10.9.0.0/16"]),
        ("new", "goes-on", ["10.0.0.0/8"]),
        ("new", "ended", ["10.0.0.0/8"]),
        ("other", "began", ["10.0.0.0/8"]),
        ("other", "ended", ["10.0.0.0/8"]),
    ]
    assert gate.records("learn")[-1]["policy"] == over["policy"]


def test_gate_that_starts_while_something_is_learned_says_so_again(gate: GateProcess) -> None:
    learn(gate, time.time() + 86400)
    for _ in range(2):
        gate.start()
        gate.end()
        gate.close()
    assert told(gate) == [("new", "began", ["10.9.0.0/16"])] * 2
