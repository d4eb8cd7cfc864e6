"""Metrics of a running gate: asked over HTTP, over all processes, whatever becomes of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sluicegate.metrics import CATALOGUE
from tests.kernel.test_gate_process import EchoServer, echoed
from tests.kernel.test_processes import Gate, LoneGate, wait_until_gone
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

OPEN = "application/openmetrics-text; version=1.0.0"


class MeasuredGate(Gate):
    """With an exporter."""

    @property
    def port(self) -> int:
        (line,) = [line for line in self.lines if line.startswith("metrics on")]
        found = re.search(r":(\d+)/metrics", line)
        assert found is not None
        return int(found[1])

    def fetch(
        self, path: str = "/metrics", method: str = "GET"
    ) -> tuple[http.client.HTTPResponse, str]:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        asked.request(method, path, headers={"Accept": OPEN})
        answer = asked.getresponse()
        text = answer.read().decode()
        asked.close()
        return answer, text

    def samples(self) -> dict[str, float]:
        answer, text = self.fetch()
        assert answer.status == 200
        return {
            "|".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_for_sample(
        self, is_so: Callable[[dict[str, float]], bool], what: str
    ) -> dict[str, float]:
        found: dict[str, float] = {}

        def look() -> dict[str, float] | None:
            nonlocal found
            found = self.samples()
            return found if is_so(found) else None

        return wait_until(look, lambda: f"{what}: {found}")


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Iterator[MeasuredGate]:
    yield from measured(tmp_path)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredGate]:
    """A gate that runs, for all tests that only ask its exporter."""
    for gate in measured(tmp_path_factory.mktemp("asked")):
        gate.mode = LoneGate.mode
        gate.start()
        yield gate


def measured(folder: pathlib.Path) -> Iterator[MeasuredGate]:
    server = EchoServer()
    made = MeasuredGate(folder, server.port)
    made.write_main('[metrics]\nlisten = "127.0.0.1:0"\n')
    yield made
    made.close()
    server.close()


def visit(gate: Gate, count: int) -> None:
    for _ in range(count):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"


def test_numbers_of_all_workers_are_one_page_that_openmetrics_reads(gate: MeasuredGate) -> None:
    gate.start()
    visit(gate, 5)
    found = gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 5, "ended"
    )
    assert found["sluicegate_decisions_total|echo|tcp|allowed"] == 5
    assert found["sluicegate_rule_decisions_total|echo|allowed"] == 5
    assert found["sluicegate_traffic_bytes_total|to_server"] == 25
    assert found["sluicegate_traffic_bytes_total|to_client"] == 25
    assert found["sluicegate_connections_allowed_total"] == 5
    assert found["sluicegate_connection_duration_seconds_count|echo"] == 5
    assert found["sluicegate_dials_total|connected"] == 5
    assert found["sluicegate_phase|ready"] == 1
    assert found["sluicegate_records_lost_total"] == 0
    for process in ("supervisor", "worker 0", "worker 1", "audit writer", "metrics exporter"):
        assert found[f"sluicegate_process_up|{process}"] == 1
        assert found[f"sluicegate_process_resident_memory_bytes|{process}"] > 1 << 20
    for process in ("supervisor", "worker 0", "worker 1"):
        assert 3 < found[f"sluicegate_process_open_fds|{process}"] < 200
    assert found["sluicegate_port_turns_total"] > 0
    known = {family.name for family in text_string_to_metric_families(gate.fetch()[1])}
    assert known <= set(CATALOGUE)
    pids = gate.pids()
    assert gate.end() == 0
    wait_until_gone(pids)
    assert "Traceback" not in "".join(gate.lines)


def test_gate_of_one_process_is_measured_like_others(gate: MeasuredGate) -> None:
    gate.mode = ("--inline",)
    gate.start()
    visit(gate, 3)
    found = gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 3, "ended"
    )
    assert found["sluicegate_connections_allowed_total"] == 3
    assert found["sluicegate_traffic_bytes_total|to_server"] == 15
    assert gate.end() == 0
    assert "Traceback" not in "".join(gate.lines)


def test_what_a_killed_worker_had_counted_stays(gate: MeasuredGate) -> None:
    gate.start()
    visit(gate, 4)
    gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 4, "ended"
    )
    for row in gate.workers():
        os.kill(row["pid"], signal.SIGKILL)
    found = gate.wait_for_sample(
        lambda one: (
            one.get("sluicegate_process_restarts_total|worker 0") == 1
            and one.get("sluicegate_process_restarts_total|worker 1") == 1
            and one.get("sluicegate_process_up|worker 0") == 1
            and one.get("sluicegate_process_up|worker 1") == 1
        ),
        "replaced",
    )
    assert found["sluicegate_connections_ended_total|echo|released"] == 4
    assert found["sluicegate_connections_allowed_total"] == 4
    assert found["sluicegate_processes_ended_total|worker 0"] == 1


def test_numbers_are_told_while_a_worker_hangs(gate: MeasuredGate) -> None:
    gate.start()
    visit(gate, 2)
    counted = "sluicegate_connections_allowed_total"
    gate.wait_for_sample(lambda one: one.get(counted) == 2, "counted")
    hanging = gate.workers()[0]["pid"]
    os.kill(hanging, signal.SIGSTOP)
    try:
        # The answer takes as long as workers are waited for; a slow machine may need another one.
        wait_until(lambda: gate.fetch()[0].status == 200, "nobody answers")
        found = gate.wait_for_sample(
            lambda one: one["sluicegate_process_up|worker 0"] == 0, "it is not seen to hang"
        )
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert found["sluicegate_process_up|worker 1"] == 1
    assert found[counted] == 2


def test_exporter_that_is_killed_is_replaced_on_the_same_address(gate: MeasuredGate) -> None:
    gate.mode = LoneGate.mode
    gate.start()
    (row,) = [row for row in gate.status()["workers"] if row["name"] == "metrics exporter"]
    os.kill(row["pid"], signal.SIGKILL)
    gate.wait_for("the metrics exporter")
    found = gate.wait_for_sample(
        lambda one: one.get("sluicegate_process_restarts_total|metrics exporter") == 1, "replaced"
    )
    assert found["sluicegate_phase|ready"] == 1
    visit(gate, 1)


def test_only_two_pages_can_be_read(asked: MeasuredGate) -> None:
    questions = [
        ("/healthz", "GET"),
        ("/metrics?x=1", "GET"),
        ("/", "GET"),
        ("/metrics/", "GET"),
        ("/metrics", "POST"),
        ("/metrics", "DELETE"),
    ]
    answers = [asked.fetch(path, method)[0] for path, method in questions]
    assert [answer.status for answer in answers] == [200, 200, 404, 404, 405, 405]
    assert {answer.getheader("Connection") for answer in answers} == {"close"}


PROXY = """
[[listener]]
name = "proxy"
address = "127.0.0.1:0"
entry = "proxy"
"""
RULE = """
[[rule]]
name = "all"
action = "allow"
listener = "proxy"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:1-65535"]
"""


def test_q1_no_client_is_led_to_the_numbers(gate: MeasuredGate) -> None:
    gate.mode = LoneGate.mode
    port = free_port()
    gate.write_main(f'[metrics]\nlisten = "127.0.0.1:{port}"\n{PROXY}')
    gate.write_policy()
    with (gate.folder / "policy.toml").open("a") as policy:
        policy.write(RULE)
    gate.start()
    assert gate.fetch("/healthz")[1] == "ready\n"
    proxy = next(one["address"] for one in gate.status()["listeners"] if one["name"] == "proxy")
    for asked in (f"CONNECT 127.0.0.1:{port}", f"GET http://127.0.0.1:{port}/metrics"):
        sent = f"{asked} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        answer = exchanged(int(proxy.rpartition(":")[2]), sent)
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"sluicegate_" not in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9310", b"200"),
        ("LOCALHOST", b"200"),
        ("[::1]:9310", b"200"),
        ("evil.example", b"421"),
        ("127.0.0.1.evil.example", b"421"),
        ("localhost.evil.example:9310", b"421"),
    ],
)
def test_q2_no_name_that_somebody_made_lead_here_reads_numbers(
    asked: MeasuredGate, host: str, status: bytes
) -> None:
    sent = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    answer = exchanged(asked.port, sent)
    assert answer.split(b" ", 2)[1] == status
    assert (b"sluicegate_" in answer) == (status == b"200")


def test_what_is_no_request_is_refused_and_the_next_is_answered(asked: MeasuredGate) -> None:
    for name, sent, begins in (
        ("no host", b"GET /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
        ("nonsense", b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        ("head without an end", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000, b""),
        ("nothing", b"", b""),
    ):
        answer = exchanged(asked.port, sent)
        assert (name, answer[: len(begins) or None]) == (name, begins)
        assert asked.fetch("/healthz")[1] == "ready\n"


def exchanged(port: int, sent: bytes) -> bytes:
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as client,
        contextlib.suppress(ConnectionError),  # what it refuses it need not read
    ):
        client.sendall(sent)
        with contextlib.suppress(OSError):  # it has been reset before: ENOTCONN
            client.shutdown(socket.SHUT_WR)
        while received := client.recv(4096):
            answer += received
    return answer


def test_address_that_is_taken_ends_the_start_with_its_cause(gate: MeasuredGate) -> None:
    gate.mode = LoneGate.mode
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gate.write_main(f'[metrics]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        with pytest.raises(AssertionError, match=r"cannot be listened on: Address already in use"):
            gate.start()
