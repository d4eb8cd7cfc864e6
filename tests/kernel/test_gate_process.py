"""A gate as its own process: ready, reloading, draining, ending, and the records it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from sluicegate.gate.control_client import ask_gate
from sluicegate.gate.control_messages import Request, StatusRequest
from tests.waiting import wait_until

SLUICEGATE = (sys.executable, "-m", "sluicegate")


class EchoServer:
    """Sends back what it gets, one thread per client."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        with client, contextlib.suppress(ConnectionError):  # some gates end by a reset
            while data := client.recv(65536):
                client.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class GateProcess:
    """``sluicegate run --inline`` in a folder of its own."""

    mode: tuple[str, ...] = ("--inline",)
    #: How its processes are made.

    def __init__(self, folder: pathlib.Path, server_port: int) -> None:
        self.folder = folder
        self.config = folder / "sluicegate.toml"
        self.server_port = server_port
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.write_main()
        self.write_policy()

    def write_main(self, more: str = "") -> None:
        listener = '[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n'
        self.config.write_text(listener + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        (self.folder / "policy.toml").write_text(
            '[[publish]]\nname = "echo"\nlistener = "echo"\n'
            f'server = "127.0.0.1:{self.server_port}"\nclients = ["{clients}"]\n'
        )

    def start(self, *before: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*before, *SLUICEGATE, "run", "-c", str(self.config), *self.mode],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.wait_for("ready")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and end it whatever comes."""
        try:
            self.start()
            yield
        finally:
            self.close()

    def wait_for(self, beginning: str) -> str:
        """Read what the gate says until a line begins so."""
        assert self.process is not None
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith(beginning):
                return line
        raise AssertionError(f"the gate ended without {beginning!r}:\n{''.join(self.lines)}")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.send(number)
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        return self.process.wait()

    def ask(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        arguments = [*SLUICEGATE, command, "-c", str(self.config), *more]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    def reply(self, request: Request) -> dict[str, Any]:
        """Ask without a process for it, which takes half a second."""
        path = self.folder / "state" / "control.sock"
        with ThreadPoolExecutor(1) as aside:  # a test may have a loop that runs
            asked = ask_gate(path, request, timeout_s=60.0)
            answer = aside.submit(asyncio.run, asked).result()
        fields: dict[str, Any] = msgspec.to_builtins(answer)
        return fields

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.reply(StatusRequest())["status"]
        return status

    def address(self) -> tuple[str, int]:
        """Where it listens first."""
        host, _, port = self.status()["listeners"][0]["address"].rpartition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address())

    def records(self, kind: str, name: str = "records.jsonl") -> list[dict[str, Any]]:
        # Behind the last line end there may be half a line: it is being written.
        lines = (self.folder / "state" / name).read_text().split("\n")[:-1]
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]

    def recorded(
        self, kind: str, is_wanted: Callable[[dict[str, Any]], bool] = bool, count: int = 1
    ) -> list[dict[str, Any]]:
        """Wait until so many records are as wanted, and return all that are.

        The gate writes them by itself, behind the answers that its clients have: while it runs,
        ``records`` alone shows what happens to be written.
        """
        found: list[dict[str, Any]] = []

        def are_there() -> bool:
            found[:] = filter(is_wanted, self.records(kind))
            return len(found) >= count

        wait_until(
            are_there, lambda: f"{count} are not as wanted of {kind} in {self.records(kind)}"
        )
        return found

    def events(self, name: str = "records.jsonl") -> list[str]:
        return [record["event"] for record in self.records("service", name)]

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def kind() -> type[GateProcess]:
    return GateProcess


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    back = b""
    while len(back) < len(data) and (more := client.recv(65536)):
        back += more
    return back


def ask_and_wait(client: socket.socket) -> None:
    client.sendall(b"hello")
    client.recv(1)
    client.recv(1)


def test_gate_relays_and_leaves_a_record_of_decision_and_end(
    gate: GateProcess, backend_name: str
) -> None:
    gate.start()
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
        status = json.loads(gate.ask("status", "--json").stdout)
    assert (status["phase"], status["connections"]) == ("ready", 1)
    assert status["backend"] == backend_name
    assert gate.end() == 0
    (decision,) = gate.records("decision")
    (connection,) = gate.records("connection")
    assert (decision["verdict"], decision["rule"]) == ("allowed", "echo")
    assert decision["policy"] == status["policy"]
    assert connection["connection"] == decision["connection"]
    assert (connection["bytes_to_server"], connection["bytes_to_client"]) == (5, 5)
    # It drains first when the end of the client's connection has not been seen yet.
    assert [event for event in gate.events() if event != "draining"] == [
        "started",
        "ready",
        "stopped",
    ]
    assert "Traceback" not in "".join(gate.lines)


def test_client_that_no_rule_names_gets_nothing(gate: GateProcess) -> None:
    gate.write_policy("10.0.0.0/8")
    gate.start()
    with gate.connect() as client, pytest.raises(ConnectionError):
        ask_and_wait(client)
    gate.end()
    (decision,) = gate.records("decision")
    assert (decision["verdict"], decision["reason"]) == ("denied", "client-not-listed")
    assert gate.records("connection") == []


@pytest.mark.either_driver
def test_broken_policy_leaves_the_old_in_force_and_a_good_one_is_put_in_force(
    gate: GateProcess,
) -> None:
    gate.start()
    before = gate.status()["policy"]
    with gate.connect() as client:
        (gate.folder / "policy.toml").write_text("[[publish]\n")
        gate.send(signal.SIGHUP)
        assert "policy.toml:1: not TOML" in gate.wait_for("error:")
        gate.wait_for("reload refused")
        assert gate.status()["policy"] == before
        gate.write_policy("10.0.0.0/8")
        assert gate.ask("reload").returncode == 0
        assert gate.status()["policy"] != before
        with contextlib.suppress(ConnectionError):
            assert echoed(client, b"still here") == b"", "the new policy refuses it"
    with gate.connect() as refused, pytest.raises(ConnectionError):
        ask_and_wait(refused)
    gate.end()
    assert gate.events()[:4] == ["started", "ready", "reload-refused", "reloaded"]
    assert "not TOML" in gate.records("service")[2]["causes"][0]


def test_reload_opens_and_closes_listeners(gate: GateProcess) -> None:
    gate.start()
    first = gate.connect()
    listener = '[[listener]]\nname = "echo"\naddress = ["127.0.0.1:0", "[::1]:0"]\n'
    gate.config.write_text(listener)
    assert gate.ask("reload").returncode == 0
    addresses = [one["address"] for one in gate.status()["listeners"]]
    assert [address.rpartition(":")[0] for address in addresses] == ["127.0.0.1", "[::1]"]
    assert echoed(first, b"x") == b"x"
    first.close()


@pytest.mark.either_driver
def test_address_that_is_taken_refuses_the_reload(gate: GateProcess) -> None:
    gate.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = f'[[listener]]\nname = "b"\naddress = "127.0.0.1:{taken.getsockname()[1]}"\n'
        gate.write_main(more)
        result = gate.ask("reload")
    assert result.returncode == 2
    assert "EADDRINUSE" in result.stderr
    assert len(gate.status()["listeners"]) == 1


def test_drain_waits_for_the_last_connection(gate: GateProcess) -> None:
    gate.start()
    client = gate.connect()
    assert echoed(client, b"1") == b"1"
    gate.send(signal.SIGTERM)
    gate.wait_for("draining 1 connections")
    assert gate.ask("status").returncode == 1
    assert echoed(client, b"2") == b"2"
    client.close()
    gate.wait_for("stopped")
    assert gate.process is not None
    assert gate.process.wait() == 0
    (connection,) = gate.records("connection")
    assert connection["outcome"] == "released"
    assert not (gate.folder / "state" / "control.sock").exists()


@pytest.mark.either_driver
def test_second_signal_ends_a_drain(gate: GateProcess) -> None:
    gate.start()
    with gate.connect() as client:
        assert echoed(client, b"1") == b"1"
        gate.send(signal.SIGTERM)
        gate.wait_for("draining")
        assert gate.end(signal.SIGTERM) == 0
    (connection,) = gate.records("connection")
    assert connection["outcome"] == "refused"


@pytest.mark.either_driver
def test_stop_command_drains_as_sigterm_does(gate: GateProcess) -> None:
    gate.start()
    assert gate.ask("stop").returncode == 0
    gate.wait_for("stopped")


@pytest.mark.either_driver
def test_one_gate_per_state_dir(gate: GateProcess) -> None:
    gate.start()
    second = gate.ask("run")
    assert second.returncode == 2
    assert "another gate runs with this state_dir" in second.stderr
    assert gate.ask("status", "-q").returncode == 0


@pytest.mark.either_driver
def test_gate_that_was_killed_can_be_started_again(gate: GateProcess) -> None:
    gate.start()
    gate.close()
    gone = gate.ask("status")
    assert gone.returncode == 1
    assert "the gate that made this socket is gone" in gone.stderr
    gate.start()
    assert gate.ask("status", "-q").returncode == 0


@pytest.mark.either_driver
def test_rotated_log_goes_on_in_a_new_file(gate: GateProcess) -> None:
    gate.start()
    state = gate.folder / "state"
    (state / "records.jsonl").rename(state / "records.jsonl.1")
    gate.send(signal.SIGHUP)
    gate.wait_for("reloaded")
    gate.end()
    before, after = gate.events("records.jsonl.1"), gate.events()
    assert before + after == ["started", "ready", "reloaded", "stopped"]
    assert after


@pytest.mark.either_driver
def test_service_manager_is_told_of_readiness(gate: GateProcess, tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        gate.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        gate.end()
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.either_driver
def test_address_that_is_taken_ends_the_start_with_its_cure(gate: GateProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f'address = "127.0.0.1:{taken.getsockname()[1]}"\n'
        gate.config.write_text('[[listener]]\nname = "echo"\n' + address)
        result = gate.ask("run")
    assert result.returncode == 2
    assert "EADDRINUSE" in result.stderr
    assert "is the port taken (ss -ltnp)" in result.stderr
    assert "Traceback" not in result.stderr


def test_burst_beyond_the_descriptors_is_served_one_after_the_other(gate: GateProcess) -> None:
    gate.start("prlimit", "--nofile=120:120")
    host, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            for _ in range(80)
        ]
        for number, client in enumerate(clients):
            assert echoed(client, b"%d" % number) == b"%d" % number
            client.close()
    gate.end()
    assert not [line for line in gate.lines if "Traceback" in line]


def test_gate_without_descriptors_answers_commands_and_goes_on_when_there_are_some(
    gate: GateProcess,
) -> None:
    gate.start("prlimit", "--nofile=120:120")
    host, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
    with contextlib.ExitStack() as clients:
        for _ in range(80):
            clients.enter_context(socket.create_connection((host, int(port))))
        # What has room is there; the others wait, in the gate or in the backlog.
        wait_until(lambda: gate.status()["connections"] > 10, "few are let in")
        assert gate.ask("connections").returncode == 0
    wait_until(lambda: not gate.status()["connections"], "connections are left")
    with gate.connect() as client:
        assert echoed(client, b"again") == b"again"
    gate.end()
    assert not [line for line in gate.lines if "Traceback" in line]
