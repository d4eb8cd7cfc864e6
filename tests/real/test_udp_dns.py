"""Published UDP in front of real DNS servers, asked by ``dig``: one process, and two workers."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import Self

import pytest

from tests.real.dns_parts import SERVERS
from tests.waiting import wait_until

pytestmark = pytest.mark.real


def dig(port: int, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("dig")
    if program is None:
        pytest.fail("dig is missing: apt-get install --yes bind9-dnsutils", pytrace=False)
    return subprocess.run(
        [program, "@127.0.0.1", "-p", str(port), "+tries=1", "+timeout=60", *options, name],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


class Gate:
    """``sluicegate run`` with one UDP listener in front of one server."""

    def __init__(self, folder: pathlib.Path, server_port: int, *options: str, limits: str = ""):
        self.folder = folder
        (folder / "sluicegate.toml").write_text(
            '[[listener]]\nname = "dns"\ntransport = "udp"\naddress = "127.0.0.1:0"\n'
            f"[limits]\n{limits}\n"
        )
        (folder / "policy.toml").write_text(
            f'[[publish]]\nname = "dns"\nlistener = "dns"\nserver = "127.0.0.1:{server_port}"\n'
            'clients = ["127.0.0.0/8"]\n'
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sluicegate", "run", "-c", "sluicegate.toml", *options],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said = ""
        while "ready" not in said.splitlines()[-1:][0] if said else True:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", said)
        assert found, said
        self.port = int(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)

    def ask(self, command: str) -> list[dict[str, object]] | dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "sluicegate", command, "-c", "sluicegate.toml", "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)

    def records(self, kind: str) -> list[dict[str, object]]:
        # Behind the last line end there may be half a line: it is being written.
        lines = (self.folder / "state" / "records.jsonl").read_text().split("\n")[:-1]
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_dig_gets_its_answers_through_the_gate(kind, tmp_path):
    with SERVERS[kind](tmp_path) as server_port, Gate(tmp_path, server_port, "--inline") as gate:
        answers = dig(gate.port, "www.names.test", "+short")
        missing = dig(gate.port, "nobody.names.test")
        rows = gate.ask("connections")

    assert answers.stdout.split() == ["93.184.216.34"]
    assert "NXDOMAIN" in missing.stdout
    assert [row["transport"] for row in rows] == ["udp", "udp"]
    ends = gate.records("connection")
    assert [(e["transport"], e["datagrams_to_server"], e["datagrams_to_client"]) for e in ends] == [
        ("udp", 1, 1)
    ] * 2
    assert len(gate.records("decision")) == 2


def test_an_answer_that_is_too_large_is_dropped_and_recorded(tmp_path):
    with (
        SERVERS["dnsmasq"](tmp_path) as server_port,
        Gate(tmp_path, server_port, "--inline", limits="udp_datagram_bytes_max = 300") as gate,
    ):
        late = dig(gate.port, "many.names.test", "+bufsize=1232", "+timeout=1", "+ignore")
        wait_until(lambda: gate.records("limit"), "it is not recorded that the answer was dropped")
        small = dig(gate.port, "www.names.test", "+short")

    assert late.returncode == 9, "dig says that nobody answered"
    assert small.stdout.split() == ["93.184.216.34"]
    assert [record["limit"] for record in gate.records("limit")] == ["udp_datagram_bytes_max"]
    dropped = [end.get("dropped") for end in gate.records("connection")]
    assert {"oversized": 1} in dropped


def test_two_workers_share_the_clients_of_one_address(tmp_path):
    with (
        SERVERS["dnsmasq"](tmp_path) as server_port,
        Gate(tmp_path, server_port, "--workers", "2") as gate,
    ):
        asked, workers = 0, set[str]()
        # Which worker gets a client, the kernel says by its address and port.
        while len(workers) < 2 and asked < 60:
            for _ in range(10):
                asked += 1
                source = f"127.0.0.{1 + asked}"
                done = dig(gate.port, "www.names.test", "+short", "-b", source)
                assert done.stdout.split() == ["93.184.216.34"]
            rows = gate.ask("connections")
            workers = {str(row["connection"]).split("-")[-2] for row in rows}

    assert len(rows) == asked
    assert len(workers) == 2, "both workers"
    assert len(gate.records("connection")) == asked


def test_a_server_that_is_not_there_is_recorded(tmp_path):
    with socket.socket(type=socket.SOCK_DGRAM) as kept:
        # Its port is nobody else's, and takes nothing but from itself.
        kept.bind(("127.0.0.1", 0))
        kept.connect(kept.getsockname())
        with Gate(tmp_path, kept.getsockname()[1], "--inline") as gate:
            dig(gate.port, "www.names.test", "+timeout=1")
            # The gate is told at its own time, whoever has given up before.
            wait_until(
                lambda: any(row.get("dropped") for row in gate.ask("connections")),
                "it is not seen that nobody is there",
            )

    (end,) = gate.records("connection")
    assert (end["error"], end["dropped"]) == ("ECONNREFUSED", {"unreachable": 1})
