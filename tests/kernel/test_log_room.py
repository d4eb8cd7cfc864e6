"""A log on a file system without room: traffic is refused, or goes on and is counted."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate
from tests.waiting import wait_until

ROOM = 1 << 20


def can_mount() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run(
        ["unshare", "--mount", "true"], check=False, capture_output=True
    ).returncode  # fmt: skip


pytestmark = [
    pytest.mark.either_driver,
    pytest.mark.skipif(not can_mount(), reason="needs root, and util-linux"),
]


class SmallGate(Gate):
    """A gate whose log is on a file system of one MiB, in a name space of its own."""

    mode = ("--workers", "1")

    def start_small(self, log: str) -> None:
        folder = self.folder / "small"
        folder.mkdir()
        self.write_main(
            f'[log]\npath = "{folder}/records.jsonl"\n{log}[limits]\n'
            'record_queue_bytes_max = "64 KiB"\n'
        )
        script = f'mount -t tmpfs -o size={ROOM} none {folder} && exec "$@"'
        self.start("unshare", "--mount", "sh", "-c", script, "sh")

    @property
    def small(self) -> pathlib.Path:
        assert self.process is not None
        return pathlib.Path(f"/proc/{self.process.pid}/root{self.folder}/small")

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.small / "others").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        (self.small / "others").unlink()

    def written(self) -> bytes:
        return (self.small / "records.jsonl").read_bytes()

    def is_served(self) -> bool:
        address = self.address()
        try:
            with socket.create_connection(address, timeout=60) as client:
                return echoed(client, b"hello") == b"hello"
        except ConnectionError:
            return False


@pytest.fixture
def kind() -> type[SmallGate]:
    return SmallGate


def test_log_without_room_refuses_traffic_until_there_is_some(gate: SmallGate) -> None:
    gate.start_small('store = "none"\n')
    assert gate.is_served()
    gate.fill()
    while gate.is_served():
        pass  # the last block of the file had room still
    status = gate.status()
    assert (status["phase"], status["records_failure"]) == ("refusing", "ENOSPC")
    gate.make_room()
    wait_until(lambda: gate.status()["phase"] == "ready")
    assert gate.is_served()
    gate.wait_for_connections(0)
    wait_until(lambda: not gate.status()["records_queued_bytes"])
    assert gate.status()["records_lost"] == 0
    decided = [line for line in gate.written().splitlines() if b'"kind":"decision"' in line]
    ended = [line for line in gate.written().splitlines() if b'"kind":"connection"' in line]
    allowed = [line for line in decided if b'"verdict":"allowed"' in line]
    assert len(ended) == len(allowed) >= 2
    gate.end()


def test_log_without_room_is_an_alert_that_is_recorded_when_there_is_some(
    gate: SmallGate,
) -> None:
    gate.start_small('store = "none"\n')
    gate.fill()
    while gate.is_served():
        pass  # the last block of the file had room still
    assert "ENOSPC" in gate.wait_for("alert log-unwritable")
    wait_until(lambda: gate.status()["alerts_open"] == 1)
    assert b'"alert":"log-unwritable"' not in gate.written()
    gate.make_room()
    wait_until(lambda: b'"alert":"log-unwritable"' in gate.written())
    gate.end()


def test_log_without_room_lets_traffic_go_on_where_the_operator_wants_it(gate: SmallGate) -> None:
    gate.start_small('store = "none"\nwhen_full = "count"\n')
    gate.fill()
    served = 0
    while not gate.status()["records_lost"]:
        assert gate.is_served()
        served += 1
        assert served < 2000
    status = gate.status()
    assert status["phase"] == "ready"
    assert any("and traffic goes on" in line for line in status["warnings"])
    gate.make_room()
    wait_until(lambda: not gate.status()["records_failure"])
    wait_until(lambda: b'"limit":"record_queue_bytes_max"' in gate.written())
    assert gate.is_served()
    gate.end()


def test_log_that_waits_too_long_to_be_stored_counts_as_full(gate: SmallGate) -> None:
    """The store's folder cannot be used, so nothing of the log is stored."""
    state = gate.folder / "state" / "records"
    state.mkdir(parents=True)
    (state / "chain.key").write_text("no key")
    (state / "chain.key").chmod(0o600)
    gate.start_small('unstored_bytes = "1 MiB"\n')
    assert gate.is_served()
    with (gate.small / "records.jsonl-20261127").open("wb") as file:
        os.truncate(file.fileno(), ROOM + 1)
    wait_until(lambda: not gate.is_served())
    assert gate.status()["records_failure"].startswith("unstored_bytes")
    (gate.small / "records.jsonl-20261127").unlink()
    wait_until(gate.is_served)
    gate.end()
