"""A gate whose records are kept by a PostgreSQL server, over TLS and with a password."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store import PostgresPlace, StoreReader, verify_store
from sluicegate.cli.main import cli
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError
from tests.kernel.test_gate_process import SLUICEGATE, EchoServer, echoed
from tests.kernel.test_processes import Gate
from tests.real.postgres_parts import PASSWORD, Cluster
from tests.waiting import wait_until

TABLE = """
[log]
store = "postgresql"
[log.postgresql]
server = "postgresql://{place.user}@127.0.0.1:{place.port}/audit"
password = {{ file = "audit.password" }}
ca = "{place.ca}"
schema_name = "{place.schema}"
"""


class StoredGate(Gate):
    """A gate with a place of its own on the server."""

    place: PostgresPlace

    def stored(self) -> list[bytes]:
        reader = StoreReader(self.place, SystemClock())
        try:
            return [record.line.encode() for record in reader.read(EVERYTHING)]
        finally:
            reader.close()

    def logged(self) -> list[bytes]:
        return (self.folder / "state" / "records.jsonl").read_bytes().splitlines()

    def keeper(self) -> dict[str, Any]:
        (row,) = [row for row in self.status()["workers"] if row["name"] == "store keeper"]
        return row

    def visit(self, count: int) -> None:
        for _ in range(count):
            with self.connect() as client:
                assert echoed(client, b"hello") == b"hello"

    def wait_until_stored(self) -> None:
        def is_stored() -> bool:
            try:
                return self.stored() == self.logged()
            except ConfigError:
                return False

        wait_until(is_stored, "records are not stored")

    def tell(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "-c", str(self.config)])


def memory_of(pid: int) -> bytes:
    """Return what a process can write to, all of it."""
    found: list[bytes] = []
    with pathlib.Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw") and "[v" not in line:
                begin, end = (int(one, 16) for one in span.split("-"))
                memory.seek(begin)
                with contextlib.suppress(OSError):
                    found.append(memory.read(end - begin))
    return b"".join(found)


@pytest.fixture
def gate(postgres: Cluster, tmp_path: pathlib.Path) -> Iterator[StoredGate]:
    server = EchoServer()
    made = StoredGate(tmp_path, server.port)
    made.place = postgres.by_network(tmp_path / "state" / "records")
    (tmp_path / "audit.password").write_text(PASSWORD + "\n")
    (tmp_path / "audit.password").chmod(0o600)
    made.write_main(TABLE.format(place=made.place))
    yield made
    made.close()
    server.close()


def test_every_command_reads_the_store_of_the_server(gate: StoredGate) -> None:
    gate.start()
    gate.visit(3)
    gate.wait_until_stored()
    newest = json.loads(gate.tell("log", "kind:connection", "-n", "1", "--json").output)
    connection = newest["connection"]
    found = gate.tell("log", f"connection:{connection}", "--json").output.splitlines()
    assert {json.loads(line)["kind"] for line in found} == {"decision", "connection"}
    assert json.loads(gate.tell("why", connection, "--json").output)["connection"] == connection
    assert len(gate.tell("log", "export", "kind:decision").output.splitlines()) == 3
    assert gate.tell("log", "verify").exit_code == 0
    report = json.loads(gate.tell("report", "--day", "today", "--json").output)
    assert report["asked"] == 3
    assert gate.tell("simulate", "--policy", str(gate.folder / "policy.toml")).exit_code == 0
    assert gate.end() == 0
    assert gate.stored() == gate.logged()
    assert "Traceback" not in "".join(gate.lines)


def test_rules_are_proposed_from_the_store_of_the_server(gate: StoredGate) -> None:
    with gate.config.open("a") as file:
        file.write('[[listener]]\nname = "proxy"\naddress = "127.0.0.1:0"\nentry = "proxy"\n')
    with (gate.folder / "policy.toml").open("a") as file:
        file.write('[[rule]]\nname = "other"\naction = "allow"\nclients = ["127.0.0.0/8"]\n')
        file.write('to = ["c.example.org"]\nprotocols = ["tcp:443"]\n')
    gate.start()
    _, proxy = gate.status()["listeners"]
    host, _, port = proxy["address"].rpartition(":")
    for name in ("a", "b"):
        with socket.create_connection((host, int(port)), timeout=60) as client:
            target = f"{name}.example.org:443"
            client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert client.recv(4096)
    assert gate.end() == 0
    assert gate.stored() == gate.logged()
    log = gate.folder / "state" / "records.jsonl"
    by_file = gate.tell("learn", "propose", "--denied", "--log", str(log))
    log.unlink()  # what is told now is told by the server
    by_store = gate.tell("learn", "propose", "--denied")
    assert "1 rules from 2 decisions" in by_store.stderr
    assert 'to = ["a.example.org", "b.example.org"]' in by_store.stdout
    assert by_store.stdout.splitlines()[1:] == by_file.stdout.splitlines()[1:]


def test_log_is_followed_while_the_server_keeps_it_and_while_it_is_gone(
    gate: StoredGate, postgres: Cluster
) -> None:
    gate.start()
    command = [*SLUICEGATE, "log", "-f", "-n", "1", "--json", "-c", str(gate.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        guard = threading.Timer(240, following.kill)
        guard.start()
        assert following.stdout is not None
        kinds: list[str] = [json.loads(following.stdout.readline())["kind"]]
        gate.visit(1)
        kinds += iter(lambda: json.loads(following.stdout.readline())["kind"], "connection")  # type: ignore[union-attr]
        postgres.kill()
        try:
            gate.visit(1)
            more = list(
                iter(lambda: json.loads(following.stdout.readline())["kind"], "connection")  # type: ignore[union-attr]
            )
        finally:
            postgres.start()
        following.send_signal(signal.SIGINT)
        rest = following.stdout.read()
        guard.cancel()
    assert kinds.count("decision") == more.count("decision") == 1
    # Nothing comes twice; a busy machine may have a word about itself.
    again = {json.loads(line)["kind"] for line in rest.splitlines()}
    assert (again & {"decision", "connection"}, following.returncode) == (set(), 130)
    assert gate.end() == 0


def test_keeper_and_server_are_killed_and_every_record_is_stored_once(
    gate: StoredGate, postgres: Cluster
) -> None:
    gate.start()
    for _ in range(2):
        pid = gate.keeper()["pid"]
        gate.visit(2)
        os.kill(pid, signal.SIGKILL)
        gate.visit(2)
        wait_until(lambda: gate.keeper()["pid"] not in {0, pid}, "the keeper is replaced")  # noqa: B023
        postgres.kill()
        gate.visit(2)
        wait_until(
            lambda: any(
                "records are not stored" in one and "is it running" in one
                for one in gate.status()["warnings"]
            ),
            "it is said that the server is gone, and what helps",
        )
        refused = gate.tell("log")
        assert refused.exit_code == 2
        assert "is it running, and does it listen there?" in refused.output
        postgres.start()
        gate.wait_until_stored()
    assert gate.end() == 0
    assert gate.stored() == gate.logged()
    public = bytes.fromhex((gate.place.path / "chain.pub").read_text())
    assert verify_store(gate.place, public).faults == []


def test_reload_takes_another_password_and_stores_what_waited(
    gate: StoredGate, postgres: Cluster
) -> None:
    postgres.execute(
        f"CREATE ROLE changer LOGIN PASSWORD $${PASSWORD}$$",
        "GRANT CREATE ON DATABASE audit TO changer",
    )
    gate.place = msgspec.structs.replace(gate.place, user="changer")
    gate.write_main(TABLE.format(place=gate.place))
    gate.start()
    gate.visit(1)
    gate.wait_until_stored()
    pid = gate.keeper()["pid"]
    postgres.execute(
        "ALTER ROLE changer PASSWORD 'another'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'changer'",
    )
    gate.visit(1)
    wait_until(
        lambda: any("records are not stored" in one for one in gate.status()["warnings"]),
        "it is said that the server does not take the password",
    )
    (gate.folder / "audit.password").write_text("another\n")
    assert gate.ask("reload").returncode == 0
    gate.place = msgspec.structs.replace(gate.place, password="another")
    gate.wait_until_stored()
    assert gate.keeper()["pid"] == pid
    assert gate.end() == 0
    assert gate.stored() == gate.logged()


def test_password_is_in_no_process_that_meets_clients(gate: StoredGate) -> None:
    gate.start()
    gate.visit(1)
    for row in gate.workers():
        assert PASSWORD.encode() not in memory_of(row["pid"])
    assert PASSWORD.encode() in memory_of(gate.keeper()["pid"])  # so looking there is enough
    assert PASSWORD not in gate.tell("status", "--json").output
    assert gate.end() == 0
    assert PASSWORD not in "".join(gate.lines)
