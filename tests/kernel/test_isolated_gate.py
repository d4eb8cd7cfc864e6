"""A whole gate whose filters run in processes of their own, as an operator installs them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.cell_kit import FILTERS
from tests.kernel.test_gate_process import EchoServer, GateProcess, echoed
from tests.waiting import wait_until


class ObjectServer:
    """Sends one object to each client and ends."""

    def __init__(self) -> None:
        self.body = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.sendall(self.body)
                client.shutdown(socket.SHUT_WR)
                client.recv(1)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def install(gate: GateProcess, filters: str, names: list[str]) -> None:
    gate.write_main(filters)
    gate.write_policy()
    policy = gate.folder / "policy.toml"
    policy.write_text(policy.read_text() + f"filters = {json.dumps(names)}\n")


def fetch(gate: GateProcess, server: ObjectServer, body: bytes) -> bytes:
    server.body = body
    received = b""
    with gate.connect() as client, contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            received += more
    return received


def filter_row(gate: GateProcess, name: str) -> dict[str, Any]:
    rows = json.loads(gate.ask("filters", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == name]
    return row  # type: ignore[no-any-return]


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    assert ended, f"{pid} does not end"


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    made = ObjectServer()
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: pathlib.Path, server: ObjectServer) -> Iterator[GateProcess]:
    made = GateProcess(tmp_path, server.port)
    yield made
    made.close()


OBJECTS = f'[[filter]]\nname = "objects"\nuse = "{FILTERS}:EachStream"\n'
JUDGE = f'[[filter]]\nname = "judge"\nuse = "{FILTERS}:Judge"\nisolation = "process"\n'


def test_objects_are_judged_in_the_cell_and_a_killed_cell_is_replaced(
    gate: GateProcess, server: ObjectServer
) -> None:
    install(gate, OBJECTS + JUDGE, ["objects", "judge"])
    gate.start()
    assert fetch(gate, server, b"plain" * 100_000) == b"plain" * 100_000
    assert fetch(gate, server, b"refuse and note") == b""
    before = filter_row(gate, "judge")
    assert (before["isolation"], before["tier"], before["state"]) == (
        "process",
        "content",
        "working",
    )
    assert before["memory_bytes"] > 0
    os.kill(before["pid"], signal.SIGKILL)
    wait_for_end(before["pid"])
    assert fetch(gate, server, b"plain again") == b"plain again"
    after = filter_row(gate, "judge")
    assert after["pid"] not in {0, before["pid"]}
    assert after["restarts"] == 1
    assert str(after["pid"]) in gate.ask("filters").stdout
    assert gate.end() == 0
    assert [one["verdict"] for one in gate.records("transfer")] == [
        "released",
        "refused",
        "released",
    ]
    (note,) = gate.records("note")
    assert (note["filter"], note["message"], note["facts"]["size"]) == ("judge", "seen", 15)
    assert note["facts"]["connection"] == gate.records("transfer")[1]["connection"]
    (failure,) = gate.records("filter-failure")
    assert failure["filter"] == "judge"
    assert f"was killed by SIGKILL (pid {before['pid']})" in failure["cause"]
    assert not pathlib.Path(f"/proc/{after['pid']}").exists()


@pytest.mark.either_driver
def test_secrets_are_looked_for_and_masked_in_a_cell(
    gate: GateProcess, server: ObjectServer
) -> None:
    settings = '[filter.settings]\ndirections = ["download"]\naction = "redact"\n'
    data_loss = f'[[filter]]\nname = "data_loss"\nisolation = "process"\n{settings}'
    install(gate, OBJECTS + data_loss, ["objects", "data_loss"])
    gate.start()
    assert fetch(gate, server, b"plain" * 100_000) == b"plain" * 100_000
    card = b"4111" + b"1111" * 3
    assert fetch(gate, server, b"card " + card + b"\n") == b"card 9999999999999999\n"
    assert filter_row(gate, "data_loss")["isolation"] == "process"
    assert gate.end() == 0
    assert [one["reason"] for one in gate.records("transfer")] == [
        "released by every content filter",
        "replaced",
    ]


def test_cell_killed_in_the_middle_of_an_object_refuses_or_passes_as_the_operator_wrote(
    gate: GateProcess, server: ObjectServer
) -> None:
    misbehaving = f'[[filter]]\nname = "m"\nuse = "{FILTERS}:Misbehaving"\nisolation = "process"\n'
    install(gate, OBJECTS + misbehaving, ["objects", "m"])
    gate.start()
    assert fetch(gate, server, b"die") == b""
    install(gate, OBJECTS + misbehaving + 'on_failure = "bypass"\n', ["objects", "m"])
    assert gate.ask("reload").returncode == 0
    assert fetch(gate, server, b"die") == b"die"
    assert gate.end() == 0
    transfers = gate.records("transfer")
    assert [one["verdict"] for one in transfers] == ["refused", "released"]
    assert "was killed by SIGKILL" in transfers[0]["reason"]
    failures = [one for one in gate.records("filter-failure") if one.get("connection")]
    assert [one["action"] for one in failures] == ["refused", "bypassed"]


@pytest.mark.either_driver
def test_reload_replaces_the_process_when_the_filter_changed_and_only_then(
    gate: GateProcess, server: ObjectServer
) -> None:
    source = FILTERS.read_text()
    own = gate.folder / "own.py"
    own.write_text(source)
    judge = '[[filter]]\nname = "judge"\nuse = "own.py:Judge"\nisolation = "process"\n'
    install(gate, OBJECTS + judge, ["objects", "judge"])
    gate.start()
    assert fetch(gate, server, b"refuse") == b""
    first = filter_row(gate, "judge")["pid"]
    assert gate.ask("reload").returncode == 0
    assert filter_row(gate, "judge")["pid"] == first
    own.write_text(source.replace('b"refuse"', 'b"decline"'))
    assert gate.ask("reload").returncode == 0
    assert fetch(gate, server, b"refuse") == b"refuse"
    assert fetch(gate, server, b"decline") == b""
    assert filter_row(gate, "judge")["pid"] != first
    wait_for_end(first)
    own.write_text("import nothing_like_this\n")
    refused = gate.ask("reload")
    assert refused.returncode != 0
    assert "nothing_like_this" in refused.stderr
    assert fetch(gate, server, b"decline") == b""
    assert gate.end() == 0


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ('use = "FILE:Nobody"\nisolation = "process"', "has no 'Nobody'"),
        (
            'use = "FILE:Judge"\nisolation = "process"\nsettings = {a = 1}',
            "Judge takes no settings",
        ),
        ('use = "FILE:Demanding"\nisolation = "none"', "demands a process of its own"),
        (
            'use = "exe_block"\nisolation = "process"\nsettings = {scripts = 3}',
            "must be true or false",
        ),
        ('use = "FILE:Judge"\nisolation = "thread"', "isolation"),
    ],
)
@pytest.mark.either_driver
def test_isolated_filters_that_are_wrong_are_refused_with_their_place(
    gate: GateProcess, table: str, error: str
) -> None:
    text = f'[[filter]]\nname = "f"\n{table}\n'.replace("FILE", str(FILTERS))
    gate.write_main(text)
    checked = gate.ask("check")
    assert checked.returncode != 0
    assert error in checked.stderr + checked.stdout
    assert "sluicegate.toml:" in checked.stderr + checked.stdout


@pytest.mark.either_driver
def test_class_that_demands_a_process_gets_one(gate: GateProcess, server: ObjectServer) -> None:
    demanding = f'[[filter]]\nname = "d"\nuse = "{FILTERS}:Demanding"\n'
    install(gate, OBJECTS + demanding, ["objects", "d"])
    gate.start()
    assert fetch(gate, server, b"plain") == b"plain"
    assert filter_row(gate, "d")["pid"] > 0
    assert gate.end() == 0


def test_stream_filter_in_a_killed_cell_ends_its_connections_and_no_others(
    tmp_path: pathlib.Path,
) -> None:
    """R8, while another publication goes on, and with the next connection served again."""
    echo = EchoServer()
    gate = GateProcess(tmp_path, echo.port)
    upper = f'[[filter]]\nname = "u"\nuse = "{FILTERS}:Upper"\nisolation = "process"\n'
    install(gate, upper + '[[listener]]\nname = "plain"\naddress = "127.0.0.1:0"\n', ["u"])
    policy = gate.folder / "policy.toml"
    policy.write_text(
        policy.read_text() + '[[publish]]\nname = "plain"\nlistener = "plain"\n'
        f'server = "127.0.0.1:{echo.port}"\nclients = ["127.0.0.0/8"]\n'
    )
    try:
        gate.start()
        plain = next(one for one in gate.status()["listeners"] if one["name"] == "plain")
        port = int(plain["address"].rpartition(":")[2])
        big = b"x" * 300_000
        with gate.connect() as client, socket.create_connection(("127.0.0.1", port)) as other:
            assert echoed(client, b"hello") == b"HELLO"
            assert echoed(client, big) == big.upper()
            assert echoed(other, b"hello") == b"hello"
            client.sendall(b"die")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
            assert echoed(other, b"still here") == b"still here"
        with gate.connect() as client:
            assert echoed(client, b"again") == b"AGAIN"
        assert filter_row(gate, "u")["tier"] == "stream"
        assert gate.end() == 0
    finally:
        gate.close()
        echo.close()
    ended = [one for one in gate.records("connection") if one["rule"] == "echo"]
    assert [one["outcome"] for one in ended] == ["failed", "released"]
    failures = gate.records("filter-failure")
    assert {one["filter"] for one in failures} == {"u"}
    assert any(one.get("connection") == ended[0]["connection"] for one in failures)


def test_filter_that_handles_events_works_from_its_cell(tmp_path: pathlib.Path) -> None:
    echo = EchoServer()
    gate = GateProcess(tmp_path, echo.port)
    keeper = f'[[filter]]\nname = "d"\nuse = "{FILTERS}:Doorkeeper"\nisolation = "process"\n'
    install(gate, keeper, ["d"])
    policy = gate.folder / "policy.toml"
    try:
        gate.start()
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"HELLO"
        row = filter_row(gate, "d")
        assert (row["tier"], row["state"], row["sessions"]) == ("filter", "working", 1)
        os.kill(row["pid"], signal.SIGKILL)
        wait_for_end(row["pid"])
        with gate.connect() as client:
            assert echoed(client, b"again") == b"AGAIN"
        good = policy.read_text()
        policy.write_text(good + 'settings.d.denies = ["127.0.0.1"]\n')
        refused = gate.ask("reload")
        assert "settings.d.denies" in refused.stderr
        policy.write_text(good + 'settings.d.denies = "127.0.0.1"\n')
        assert gate.ask("reload").returncode == 0
        with gate.connect() as client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert gate.end() == 0
    finally:
        gate.close()
        echo.close()
    assert gate.records("decision")[-1]["reason"] == "not this one"
    notes = [one["message"] for one in gate.records("note")]
    assert notes == ["let in", "let in", "stopped"]


class UdpGate(GateProcess):
    """A gate that publishes a server for datagrams, through a filter in a process of its own."""

    def write_main(self, more: str = "") -> None:
        self.config.write_text(
            '[[listener]]\nname = "echo"\ntransport = "udp"\naddress = "127.0.0.1:0"\n'
            f'[[filter]]\nname = "marks"\nuse = "{FILTERS}:Datagrams"\nisolation = "process"\n'
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write('filters = ["marks"]\n')


def test_datagrams_are_judged_in_a_cell_and_its_death_ends_their_connection_alone(
    tmp_path: pathlib.Path,
) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with server, client, other:
        server.bind(("127.0.0.1", 0))
        for one in (server, client, other):
            one.settimeout(60)
        gate = UdpGate(tmp_path, server.getsockname()[1])
        try:
            gate.start()
            host, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
            for one in (client, other):
                one.connect((host, int(port)))
            for data in (b"drop", b"hello", b""):
                client.send(data)
            came, gates_own = server.recvfrom(1000)
            assert (came, server.recv(1000)) == (b"hello!", b"!")
            server.sendto(b"answer", gates_own)
            assert client.recv(1000) == b"answer"
            client.send(b"die")
            wait_until(lambda: filter_row(gate, "marks")["restarts"], "it is not started again")
            other.send(b"again")
            assert server.recv(1000) == b"again!"
            assert gate.end() == 0
        finally:
            gate.close()
    (ended,) = [one for one in gate.records("connection") if one["outcome"] != "released"][:1]
    assert ended["reason"] == "filter failure: marks"
    assert ended["dropped"] == {"filter": 1}
    assert any("SIGSEGV" in one["cause"] for one in gate.records("filter-failure"))
