"""The store's keeper: what is recorded is stored once, and nobody waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from collections import Counter
from typing import Any

import pytest

from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store import StoreReader, verify_store
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError
from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate, LoneGate, wait_until_gone
from tests.unit.store.store_kit import line_of, sqlite
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver


@pytest.fixture
def kind() -> type[Gate]:
    return LoneGate


def stored(gate: Gate) -> list[bytes]:
    reader = StoreReader(sqlite(gate.folder / "state" / "records"), SystemClock())
    with contextlib.closing(reader):
        return [record.line.encode() for record in reader.read(EVERYTHING)]


def recorded(gate: Gate) -> list[bytes]:
    return (gate.folder / "state" / "records.jsonl").read_bytes().splitlines()


def keeper(gate: Gate) -> dict[str, Any]:
    (row,) = [row for row in gate.status()["workers"] if row["name"] == "store keeper"]
    return row


def visit(gate: Gate, count: int) -> None:
    for _ in range(count):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"


def wait_until_stored(gate: Gate) -> None:
    def is_stored() -> bool:
        with contextlib.suppress(ConfigError):
            return stored(gate) == recorded(gate)
        return False

    wait_until(is_stored, "records are not stored")


def test_all_that_is_recorded_is_stored_to_the_last_record(gate: Gate) -> None:
    gate.start()
    visit(gate, 3)
    wait_until_stored(gate)
    assert keeper(gate)["state"] == "ready"
    pids = gate.pids()
    assert gate.end() == 0
    wait_until_gone(pids)
    assert stored(gate) == recorded(gate)
    assert b'"event":"stopped"' in stored(gate)[-1]
    folder = gate.folder / "state" / "records"
    found = verify_store(sqlite(folder), bytes.fromhex((folder / "chain.pub").read_text()))
    assert (found.faults, found.signed_last) == ([], len(recorded(gate)))
    assert "Traceback" not in "".join(gate.lines)


def test_killed_keeper_is_replaced_and_every_record_is_stored_once(gate: Gate) -> None:
    gate.start()
    for _ in range(3):
        pid = keeper(gate)["pid"]
        visit(gate, 2)
        os.kill(pid, signal.SIGKILL)
        visit(gate, 2)
        gate.wait_for("the store keeper")
        wait_until(lambda: keeper(gate)["pid"] not in {0, pid}, "it is not started again")  # noqa: B023
    assert keeper(gate)["restarts"] == 3
    wait_until_stored(gate)
    assert gate.end() == 0
    assert stored(gate) == recorded(gate)


def test_folder_that_cannot_be_made_is_said_and_waited_for(gate: Gate) -> None:
    folder = gate.folder / "state" / "records"
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    gate.start()
    gate.wait_for(f"{folder}: cannot be made: File exists (store_dir in [log]")
    visit(gate, 1)
    said = f"records are not stored, and wait in the log: {folder}: cannot be made"
    wait_until(lambda: any(said in one for one in gate.status()["warnings"]), "it is not said")
    folder.unlink()
    wait_until_stored(gate)
    assert keeper(gate)["restarts"] == 0
    assert gate.end() == 0
    assert stored(gate) == recorded(gate)
    assert "Traceback" not in "".join(gate.lines)


def test_store_that_cannot_be_written_holds_up_nobody_and_is_said(gate: Gate) -> None:
    folder = gate.folder / "state" / "records"
    folder.mkdir(parents=True)
    (folder / "chain.key").write_text("no key")
    (folder / "chain.key").chmod(0o600)
    gate.start()
    gate.wait_for(f"{folder}: {folder}/chain.key: holds no private key")
    visit(gate, 1)
    wait_until(lambda: any("records are not stored" in one for one in gate.status()["warnings"]))
    assert "holds no private key" in gate.status()["store_failure"]
    (folder / "chain.key").unlink()
    wait_until_stored(gate)
    wait_until(lambda: not gate.status()["store_failure"])
    assert gate.end() == 0


def test_log_that_is_rotated_is_followed(gate: Gate) -> None:
    gate.start()
    visit(gate, 2)
    log = gate.folder / "state" / "records.jsonl"
    moved = log.with_name("records.jsonl-20261128")
    log.rename(moved)
    gate.send(signal.SIGHUP)
    gate.wait_for("reloaded")
    visit(gate, 2)
    assert gate.end() == 0
    assert stored(gate) == [*moved.read_bytes().splitlines(), *recorded(gate)]


def test_log_is_rotated_by_the_gate_and_nothing_is_lost_whoever_is_killed(gate: Gate) -> None:
    """Writer and keeper are killed at random moments, while files of the log come and go."""
    gate.write_main('[log]\nrotate_bytes = "1 MiB"\n')
    state = gate.folder / "state"
    state.mkdir()
    before = [line_of(number, 100.0 + number) for number in range(4000)]
    (state / "records.jsonl").write_bytes(b"\n".join(before) + b"\n")
    gate.start()
    chance = random.Random(7)
    waiting = threading.Event()
    for _ in range(6):
        visit(gate, chance.randrange(1, 4))
        victim = chance.choice(["audit writer", "store keeper"])
        (row,) = [one for one in gate.status()["workers"] if one["name"] == victim]
        if row["pid"]:
            with contextlib.suppress(ProcessLookupError):  # the last kill's end was not known yet
                os.kill(row["pid"], signal.SIGKILL)
        waiting.wait(chance.random() / 4)
    visit(gate, 1)
    wait_until(lambda: [one.name for one in state.glob("records.jsonl*")] == ["records.jsonl"])
    assert gate.end() == 0
    lines = stored(gate)
    assert lines[: len(before)] == before
    kinds = Counter(json.loads(line)["kind"] for line in lines[len(before) :])
    decided = [json.loads(line)["connection"] for line in lines if b'"kind":"decision"' in line]
    ended = [json.loads(line) for line in lines[len(before) :] if b'"kind":"connection"' in line]
    assert sorted(decided) == sorted(one["connection"] for one in ended)
    assert len(set(decided)) == len(decided) == kinds["connection"]
    assert lines[-len(recorded(gate)) :] == recorded(gate)
    folder = state / "records"
    assert not verify_store(
        sqlite(folder), bytes.fromhex((folder / "chain.pub").read_text())
    ).faults


def test_gate_without_a_store_has_no_keeper(gate: Gate) -> None:
    gate.write_main('[log]\nstore = "none"\n')
    gate.start()
    assert "store keeper" not in [row["name"] for row in gate.status()["workers"]]
    assert gate.end() == 0
    assert not (gate.folder / "state" / "records").exists()
