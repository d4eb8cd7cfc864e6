"""A gate of several processes: who dies is replaced, what is in force is so everywhere."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from sluicegate.gate.control_messages import (
    ConnectionsRequest,
    FiltersRequest,
    ReloadRequest,
    UpgradeRequest,
)
from tests.kernel.test_gate_process import GateProcess, ask_and_wait, echoed
from tests.waiting import wait_until


class Gate(GateProcess):
    """A supervisor with two workers, an audit writer, a store's keeper and an alert process."""

    mode = ("--workers", "2")

    def workers(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.status()["workers"]
        return [row for row in rows if row["name"].startswith("worker")]

    def audit_writer(self) -> dict[str, Any]:
        (row,) = [row for row in self.status()["workers"] if row["name"] == "audit writer"]
        return row

    def pids(self) -> set[int]:
        return {row["pid"] for row in self.status()["workers"]}

    def connect_from(self, host: str) -> socket.socket:
        return socket.create_connection(self.address(), source_address=(host, 0), timeout=60)

    def clients_of_both(self) -> tuple[socket.socket, socket.socket]:
        """One client on each worker."""
        found: dict[str, socket.socket] = {}
        for number in range(2, 66):
            client = self.connect_from(f"127.0.0.{number}")
            assert echoed(client, b"x") == b"x"
            rows = self.reply(ConnectionsRequest())["rows"]
            (mine,) = [row for row in rows if row["client"].startswith(f"127.0.0.{number}:")]
            mark = mine["connection"].split("-")[2]
            if mark in found:
                client.close()
                self.wait_for_connections(len(found))
                continue
            found[mark] = client
            if len(found) == 2:
                return found[min(found)], found[max(found)]
        raise AssertionError("all clients came to one worker")

    def wait_for_connections(self, count: int) -> None:
        """Return when so many are left: the gate sees later that a client has gone."""
        wait_until(lambda: self.status()["connections"] == count, "a connection is left")


class LoneGate(Gate):
    """The same with one worker, and sooner ready: for what is the same with one and with two."""

    mode = ("--workers", "1")


def wait_until_gone(pids: set[int]) -> None:
    def are_gone() -> bool:
        return not any(pathlib.Path(f"/proc/{pid}/stat").exists() for pid in pids)

    wait_until(are_gone, f"still there: {pids}")


def is_over(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry.path))
    return found


def test_gate_of_several_processes_relays_records_and_ends(gate: Gate, backend_name: str) -> None:
    gate.start()
    first, second = gate.clients_of_both()
    status = gate.status()
    assert (status["phase"], status["backend"]) == ("ready", backend_name)
    assert [row["state"] for row in status["workers"]] == ["ready"] * 5
    assert {row["policy"] for row in gate.workers()} == {status["policy"]}
    assert len({os.getpid(), status["pid"], *gate.pids()}) == 7
    assert "one worker" in status["steering"]
    with first, second:
        assert echoed(first, b"hello") == echoed(second, b"hello") == b"hello"
    pids = gate.pids()
    assert gate.end() == 0
    wait_until_gone(pids)
    assert [event for event in gate.events() if event != "draining"] == [
        "started", "ready", "stopped",
    ]  # fmt: skip
    decided = [record["connection"] for record in gate.records("decision")]
    ended = [record["connection"] for record in gate.records("connection")]
    assert sorted(decided) == sorted(ended)
    assert len(set(ended)) == len(ended)
    assert "Traceback" not in "".join(gate.lines)


def test_killed_worker_is_replaced_and_the_other_notices_nothing(gate: Gate) -> None:
    gate.start()
    first, second = gate.clients_of_both()
    # What it had not sent would go with it, and be counted.
    wait_until(lambda: not gate.status()["records_queued_bytes"], "records are queued")
    before = gate.workers()
    os.kill(before[0]["pid"], signal.SIGKILL)
    gate.wait_for("worker 0 works again")
    with first, second, contextlib.ExitStack() as more:
        assert echoed(second, b"still here") == b"still here"
        assert is_over(first)
        for number in range(2, 20):
            client = more.enter_context(gate.connect_from(f"127.0.0.{number}"))
            assert echoed(client, b"x") == b"x"
        after = gate.workers()
    assert (after[0]["restarts"], after[1]["restarts"]) == (1, 0)
    assert after[0]["pid"] != before[0]["pid"]
    assert after[1]["pid"] == before[1]["pid"]
    gate.end()
    (record,) = gate.records("process")
    assert (record["process"], record["cause"]) == ("worker 0", "signal SIGKILL")
    assert record["pid"] == before[0]["pid"]
    assert record["connections"] == 1
    assert "records_lost" not in record


@pytest.mark.either_driver
def test_clients_that_come_while_there_is_no_worker_wait_for_the_next(gate: Gate) -> None:
    gate.mode = ("--workers", "1")
    gate.start()
    address, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
    pid = gate.workers()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until_gone({pid})
    with socket.create_connection((address, int(port)), timeout=60) as client:
        assert echoed(client, b"patience") == b"patience"
    gate.end()


@pytest.mark.either_driver
def test_killed_audit_writer_is_replaced_and_every_record_is_there_once(gate: Gate) -> None:
    gate.start()
    pid = gate.audit_writer()["pid"]
    address, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
    for number in range(120):
        with socket.create_connection((address, int(port)), timeout=60) as client:
            assert echoed(client, b"x") == b"x"
        if number == 40:
            os.kill(pid, signal.SIGKILL)
    gate.wait_for("the audit writer works again")
    status = gate.status()
    assert (status["phase"], status["records_lost"]) == ("ready", 0)
    assert gate.audit_writer()["restarts"] == 1
    gate.end()
    decided = [record["connection"] for record in gate.records("decision")]
    ended = [record["connection"] for record in gate.records("connection")]
    assert (len(decided), len(ended)) == (120, 120)
    assert len(set(decided)) == len(set(ended)) == 120
    assert [record["process"] for record in gate.records("process")] == ["audit writer"]


def test_reload_is_in_force_on_all_workers_or_on_none(gate: Gate) -> None:
    gate.start()
    before = gate.status()["policy"]
    (gate.folder / "policy.toml").write_text("[[publish]\n")
    assert gate.ask("reload").returncode == 2
    assert {row["policy"] for row in gate.workers()} == {before}
    gate.write_policy("10.0.0.0/8")
    gate.write_main('[[listener]]\nname = "more"\naddress = ["127.0.0.1:0", "[::1]:0"]\n')
    assert gate.ask("reload").returncode == 0
    status = gate.status()
    assert status["policy"] != before
    assert {row["policy"] for row in gate.workers()} == {status["policy"]}
    assert len(status["listeners"]) == 3
    assert sum(row["restarts"] for row in gate.workers()) == 0
    with gate.connect() as refused, pytest.raises(ConnectionError):
        ask_and_wait(refused)
    gate.write_main()
    assert gate.ask("reload").returncode == 0
    assert len(gate.status()["listeners"]) == 1
    gate.end()
    assert gate.events()[:5] == ["started", "ready", "reload-refused", "reloaded", "reloaded"]


@pytest.mark.either_driver
def test_wrong_rules_of_a_scanner_hold_up_no_policy_and_are_told(gate: Gate) -> None:
    rules = gate.folder / "rules"
    rules.mkdir()
    (rules / "a.yar").write_text("rule one { condition: false }")
    scanner = '[[scanner]]\nname = "yara"\nkind = "yara"\nprocesses = 1\nrules = "rules"\n'
    gate.write_main(scanner)
    gate.start()
    before = gate.status()["policy"]
    (rules / "a.yar").write_text("rule {")
    gate.write_policy("10.0.0.0/8")
    done = gate.ask("reload")
    assert (done.returncode, "these are wrong: rules: a.yar:1: " in done.stderr) == (0, True)
    policies = {row["policy"] for row in gate.workers()}
    assert len(policies) == 1
    assert before not in policies
    wait_until(lambda: any("those before stay in use" in one for one in gate.status()["warnings"]))
    gate.end()
    noted = [str(one) for one in gate.records("note")]
    assert any("those before stay in use" in one and "'yara'" in one for one in noted), noted


@pytest.mark.either_driver
def test_worker_that_cannot_take_part_in_a_reload_keeps_it_from_being_anywhere(gate: Gate) -> None:
    gate.start()
    before = gate.status()["policy"]
    stopped = gate.workers()[1]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        gate.write_policy("10.0.0.0/8")
        refused = gate.ask("reload")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert refused.returncode == 2
    assert "worker 1" in refused.stderr
    assert "does not answer" in refused.stderr
    assert {row["policy"] for row in gate.workers()} == {before}
    gate.end()


SLOW = """
import pathlib, threading

comm = pathlib.Path("/proc/self/comm").read_text()
while comm.startswith("sluice-worker") and pathlib.Path(__file__).with_name("hold").exists():
    threading.Event().wait(0.02)

from sluicegate.filterapi import StreamFilter

class Slow(StreamFilter):
    name = "slow"
"""


def start_and_hold_one(gate: Gate) -> int:
    """Start a gate, kill a worker, and keep the next one from being ready; return its number."""
    (gate.folder / "slow.py").write_text(SLOW)
    gate.write_main(f'[[filter]]\nname = "slow"\nuse = "{gate.folder}/slow.py:Slow"\n')
    gate.start()
    (gate.folder / "hold").touch()
    before, supervisor = gate.pids(), gate.status()["pid"]
    os.kill(gate.workers()[0]["pid"], signal.SIGKILL)
    children = pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children")
    started = wait_until(
        lambda: {int(pid) for pid in children.read_text().split()} - before,
        "no other worker is started",
    )
    return min(started)


def wait_ready(gate: Gate) -> None:
    wait_until(lambda: all(row["state"] == "ready" for row in gate.workers()), "not ready")


@pytest.mark.either_driver
def test_status_says_that_the_only_worker_is_being_started_and_where_clients_wait(
    gate: Gate, backend_name: str
) -> None:
    gate.mode = ("--workers", "1")
    start_and_hold_one(gate)
    status = gate.status()
    (worker,) = gate.workers()
    assert (status["phase"], worker["state"]) == ("starting", "starting")
    assert status["backend"] == backend_name
    with gate.connect() as client:
        (gate.folder / "hold").unlink()
        assert echoed(client, b"patience") == b"patience"
    wait_ready(gate)
    assert [one["accepted"] for one in gate.status()["listeners"]] == [1]
    gate.end()


@pytest.mark.either_driver
def test_reload_waits_for_a_worker_that_is_starting(gate: Gate) -> None:
    starting = start_and_hold_one(gate)
    gate.write_policy("10.0.0.0/8")
    replies: list[dict[str, Any]] = []
    reload = threading.Thread(target=lambda: replies.append(gate.reply(ReloadRequest())))
    reload.start()
    for _ in range(20):  # the other worker answers in order: it would have prepared meanwhile
        gate.reply(FiltersRequest())
        assert pathlib.Path(f"/proc/{starting}/fd").exists()
    (gate.folder / "hold").unlink()
    reload.join()
    wait_ready(gate)
    assert gate.workers()[0]["pid"] == starting
    assert {row["policy"] for row in gate.workers()} == {gate.status()["policy"]}
    gate.end()
    assert len(gate.records("process")) == 1
    assert (len(replies), gate.events()[:3]) == (1, ["started", "ready", "reloaded"])


@pytest.mark.either_driver
def test_worker_that_starts_too_slowly_for_a_reload_is_replaced_and_not_missed(gate: Gate) -> None:
    starting = start_and_hold_one(gate)
    gate.write_policy("10.0.0.0/8")
    assert gate.ask("reload").returncode == 0
    (gate.folder / "hold").unlink()
    wait_ready(gate)
    assert gate.workers()[0]["pid"] != starting
    assert gate.workers()[0]["restarts"] == 1
    assert {row["policy"] for row in gate.workers()} == {gate.status()["policy"]}
    gate.end()
    assert [record["restarts"] for record in gate.records("process")] == [1]


@pytest.mark.either_driver
def test_processes_have_only_the_descriptors_that_they_need(gate: Gate) -> None:
    with open(gate.config) as leaked:
        os.set_inheritable(leaked.fileno(), True)
        gate.process = subprocess.Popen(
            [sys.executable, "-m", "sluicegate", "run", "-c", str(gate.config), *gate.mode],
            stderr=subprocess.PIPE,
            text=True,
            close_fds=False,
        )
        gate.wait_for("ready")
    stdout, state = os.readlink("/proc/self/fd/1"), gate.folder / "state"
    known = re.compile(r"/dev/null|/dev/pts/|/proc/\d+/statm|/memfd:sluicegate|/dev/zero")

    def held(row: dict[str, Any]) -> list[str]:
        """What a process has open beside what every one may have."""
        found = [path for path in descriptors(row["pid"]) if path != stdout]
        kept = str(state / "records") if row["name"] == "store keeper" else "\0"
        return [
            path
            for path in found
            if "pidfd" in path
            or (path.startswith("/") and not known.match(path) and not path.startswith(kept))
        ]

    for row in gate.status()["workers"]:
        needed = [str(state / "records.jsonl")] if row["name"] == "audit writer" else []
        # Who still imports has a folder or a file of a library open for a moment.
        wait_until(
            lambda: held(row) == needed,  # noqa: B023 - it is asked at once
            lambda: f"{row['name']}: {held(row)}",  # noqa: B023 - so is this
        )
    assert gate.end() == 0


def test_nothing_is_left_when_the_supervisor_is_killed(gate: Gate) -> None:
    gate.start()
    pids = gate.pids()
    client = gate.connect()
    assert echoed(client, b"x") == b"x"
    assert gate.process is not None
    gate.process.kill()
    wait_until_gone(pids)
    client.close()
    (connection,) = gate.records("connection")
    assert connection["outcome"] == "refused"
    gate.close()
    gate.start()
    assert gate.ask("status", "-q").returncode == 0


def test_worker_that_is_asked_to_end_drains_while_another_serves(gate: Gate) -> None:
    gate.mode = ("--workers", "1")
    gate.start()
    with gate.connect() as old:
        assert echoed(old, b"1") == b"1"
        os.kill(gate.workers()[0]["pid"], signal.SIGTERM)
        gate.wait_for("worker 0 (pid")
        with gate.connect() as new:
            assert echoed(new, b"2") == b"2"
            assert echoed(old, b"3") == b"3"
            states = ["ready", "draining"]
            wait_until(lambda: [row["state"] for row in gate.workers()] == states)
    gate.end()
    assert gate.records("process") == []
    assert {record["outcome"] for record in gate.records("connection")} == {"released"}


@pytest.mark.either_driver
def test_worker_that_is_asked_again_and_again_to_end_ends_without_a_complaint(gate: Gate) -> None:
    gate.mode = ("--workers", "1")
    gate.start()
    with gate.connect() as old:
        assert echoed(old, b"1") == b"1"
        pid = gate.workers()[0]["pid"]
        os.kill(pid, signal.SIGTERM)
        gate.wait_for("worker 0 (pid")
    between = threading.Event()
    with contextlib.suppress(ProcessLookupError):
        # Its drain ends somewhere in between.
        for _ in range(20_000):
            os.kill(pid, signal.SIGTERM)
            between.wait(0.001)
    wait_until_gone({pid})
    assert gate.end() == 0
    assert "Exception" not in "".join(gate.lines)
    assert gate.records("process") == []


@pytest.mark.either_driver
def test_worker_that_cannot_begin_ends_the_start_with_its_cause(gate: Gate) -> None:
    gate.write_main('[service]\nbackend = "epoll"\n[spool]\ndir = "/dev/null/x"\n')
    result = gate.ask("run", "--workers", "2")
    assert result.returncode == 2
    assert "/dev/null/x" in result.stderr
    assert "Traceback" not in result.stderr


class Visitors:
    """Clients that come and go without a pause, until they are stopped."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.served = 0
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(one,)) for one in range(6)]
        for thread in self._threads:
            thread.start()

    def _visit(self, number: int) -> None:
        visit = 0
        while not self._is_over.is_set():
            visit += 1
            source = (f"127.0.{number}.{visit % 250 + 1}", 0)
            try:
                with socket.create_connection(self.address, 60, source_address=source) as client:
                    assert echoed(client, b"visit") == b"visit"
                    client.shutdown(socket.SHUT_WR)
                    assert client.recv(1) == b""
            except BaseException as error:
                self.failures.append(error)
            self.served += 1

    def wait_for(self, count: int) -> None:
        wanted = self.served + count
        wait_until(lambda: self.served >= wanted, "nobody is served")

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def test_upgrade_under_load_refuses_and_resets_nobody(gate: Gate) -> None:
    gate.start()
    before = gate.status()
    address, _, port = before["listeners"][0]["address"].rpartition(":")
    old = gate.connect()
    assert echoed(old, b"old") == b"old"
    visitors = Visitors((address, int(port)))
    try:
        visitors.wait_for(100)
        done = gate.ask("upgrade")
        visitors.wait_for(100)
    finally:
        visitors.stop()
    assert done.returncode == 0, done.stderr
    assert visitors.failures == []
    after = gate.status()
    assert (after["pid"], after["phase"]) == (before["pid"], "ready")
    assert after["boot"] != before["boot"]
    assert {row["pid"] for row in after["workers"] if row["state"] == "ready"}.isdisjoint(
        row["pid"] for row in before["workers"]
    )
    with old:
        assert echoed(old, b"still here") == b"still here"
    assert gate.end() == 0
    decided = [record["connection"] for record in gate.records("decision")]
    ended = [record["connection"] for record in gate.records("connection")]
    assert len(decided) == visitors.served + 1
    assert sorted(decided) == sorted(ended)
    assert len(set(ended)) == len(ended)
    assert {record["outcome"] for record in gate.records("connection")} == {"released"}
    assert gate.records("process") == []
    events = [event for event in gate.events() if event != "draining"]
    assert events == ["started", "ready", "upgrading", "taken-over", "ready", "stopped"]


@pytest.mark.either_driver
def test_program_that_cannot_take_over_changes_nothing(gate: Gate) -> None:
    gate.start()
    before = gate.pids()
    refused = gate.reply(UpgradeRequest(program=["/bin/echo"]))
    assert refused["causes"] == ["sluicegate upgrade: it is no version that can take over"]
    (gate.folder / "policy.toml").write_text("[[publish]\n")
    wrong = gate.ask("upgrade")
    assert wrong.returncode == 2
    assert "policy.toml:1: not TOML" in wrong.stderr
    assert gate.pids() == before
    with gate.connect() as client:
        assert echoed(client, b"x") == b"x"
    gate.end()


def test_killed_connection_is_reset_and_its_record_says_by_whom(gate: Gate) -> None:
    gate.start()
    first, second = gate.clients_of_both()
    rows = gate.reply(ConnectionsRequest())["rows"]
    host = first.getsockname()[0]
    (mine,) = gate.reply(ConnectionsRequest(client=host))["rows"]
    (others,) = [row for row in rows if row["connection"] != mine["connection"]]
    done = gate.ask("kill", mine["connection"], others["session"], "c-0-w1-1")
    assert done.returncode == 1
    assert "c-0-w1-1 is not there" in done.stderr
    for client in (first, second):
        with client, pytest.raises(ConnectionError):
            ask_and_wait(client)
    gate.end()
    name = pwd.getpwuid(os.getuid()).pw_name
    killed = [one for one in gate.records("connection") if one["outcome"] == "refused"]
    assert {one["connection"] for one in killed} == {mine["connection"], others["connection"]}
    assert {one["reason"] for one in killed} == {f"killed by {name}"}


@pytest.mark.either_driver
def test_drain_shows_how_far_it_is_and_cuts_what_is_left(gate: Gate) -> None:
    gate.start()
    with gate.connect() as client:
        assert echoed(client, b"x") == b"x"
        done = gate.ask("drain", "--timeout", "1")
        assert done.returncode == 1
        assert "draining: 1 connections" in done.stderr
        assert is_over(client)
    gate.wait_for("stopped")
    (record,) = gate.records("connection")
    assert record["outcome"] == "refused"
