"""A gate as its own process, clients by SOCKS and CONNECT, and then the questions about them."""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.test_gate_process import EchoServer, GateProcess, echoed
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

MAIN = """\
[[listener]]
name = "proxy"
address = "127.0.0.1:0"
entry = "proxy"

[resolver]
servers = ["127.0.0.1:9"]
"""
POLICY = """\
[[rule]]
name = "no-social"
action = "deny"
clients = ["127.0.0.0/8"]
to = ["*.social.example.org"]

[[rule]]
name = "echo"
action = "allow"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:{port}"]
"""


class ProxyProcess(GateProcess):
    """A gate for clients that name their destinations."""

    def write_main(self, more: str = "") -> None:
        self.config.write_text(MAIN + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        text = POLICY.format(port=self.server_port).replace("127.0.0.0/8", clients)
        (self.folder / "policy.toml").write_text(text)

    def told(self, command: str, *arguments: str) -> dict[str, Any]:
        done = self.ask(command, *arguments, "--json")
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Iterator[ProxyProcess]:
    server = EchoServer()
    made = ProxyProcess(tmp_path, server.port)
    made.start()
    yield made
    made.close()
    server.close()


def by_socks(gate: ProxyProcess, host: bytes, port: int) -> tuple[socket.socket, int]:
    """Ask by SOCKS 5; return the client and the gate's answer."""
    client = gate.connect()
    client.sendall(b"\x05\x01\x00")
    assert client.recv(2) == b"\x05\x00"
    client.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
    return client, client.recv(10)[1]


def by_connect(gate: ProxyProcess, authority: str) -> bytes:
    """Ask by HTTP CONNECT; return the status line's code."""
    with gate.connect() as client:
        client.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return client.recv(65536).split()[1]


def wait_for_records(gate: ProxyProcess, kind: str, count: int) -> None:
    what = f"fewer than {count} records of the kind {kind}"
    wait_until(lambda: len(gate.records(kind)) >= count, what)


def test_what_a_gate_did_is_explained_and_tried_by_another_policy(gate: ProxyProcess) -> None:
    client, answer = by_socks(gate, b"127.0.0.1", gate.server_port)
    with client:
        assert (answer, echoed(client, b"hello")) == (0, b"hello")
    refused, answer = by_socks(gate, b"A.Social.example.ORG", 443)
    refused.close()
    assert answer == 2
    assert by_connect(gate, "b.social.example.org:443") == b"403"
    assert by_connect(gate, "other.example.org:443") == b"403"
    wait_for_records(gate, "decision", 4)
    wait_for_records(gate, "connection", 1)

    last = gate.told("why", "--last-refusal")
    assert (last["decision"]["target"], last["decision"]["reason"]) == (
        "other.example.org:443", "no-rule",
    )  # fmt: skip
    assert [one["rule"] for one in last["explanation"]["before"]] == ["no-social", "echo"]
    allowed, social, *_ = gate.records("decision")
    told = gate.told("why", allowed["connection"])
    assert not told["policy_changed"]
    assert told["explanation"]["rule"]["name"] == "echo"
    assert told["records"][-1]["bytes_to_server"] == 5
    told = gate.told("why", social["connection"])
    assert told["explanation"]["host"] == "a.social.example.org"

    for record in gate.records("decision"):
        explained = gate.told("explain", "--from", "127.0.0.1", "--to", record["target"])
        assert explained["allowed"] == (record["verdict"] == "allowed")
        assert explained["reason"] == record["reason"]
        assert explained["policy"] == record["policy"]

    same = gate.told("simulate", "--policy", str(gate.folder / "policy.toml"))
    assert (same["decisions"], same["unchanged"]) == (4, 4)
    new = gate.folder / "new.toml"
    new.write_text(
        POLICY.format(port=gate.server_port)
        .replace('action = "deny"', 'action = "allow"')
        .replace(
            'to = ["*.social.example.org"]',
            'to = ["*.social.example.org"]\nprotocols = ["tcp:443"]',
        )
    )
    done = gate.ask("simulate", "--policy", str(new), "--fail-on-change")
    assert done.returncode == 1
    assert "refused then, allowed by this policy: 2" in done.stdout

    new.replace(gate.folder / "policy.toml")
    done = gate.ask("explain", "--from", "127.0.0.1", "--to", "a.social.example.org")
    assert (done.returncode, "the running gate has another policy" in done.stderr) == (0, True)
    assert gate.told("why", social["connection"])["policy_changed"]
    assert gate.end() == 0
