"""The PROXY protocol with haproxy on both sides of a gate."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Iterator

import pytest

from sluicegate.address import SocketAddress
from sluicegate.protocols.proxy_protocol import ProxyHeader, encode_proxy_v1
from tests.kernel.test_gate_process import GateProcess

from .entry_parts import BODY, PATIENCE_S, entry_server, haproxy

pytestmark = pytest.mark.either_driver

REQUEST = r"GET\ /\ HTTP/1.1\r\n\r\n"
CLIENTS = ("203.0.113.9", "2001:db8::9")


@contextlib.contextmanager
def running_gate(
    folder: pathlib.Path, server_port: int, *, clients: str, sends: str, peers: str = "127.0.0.1/32"
) -> Iterator[GateProcess]:
    folder.mkdir()
    gate = GateProcess(folder, server_port)
    gate.write_main(f'proxy_protocol = {{ from = ["{peers}"] }}\n')
    (folder / "policy.toml").write_text(
        '[[publish]]\nname = "web"\nlistener = "echo"\n'
        f'server = "127.0.0.1:{server_port}"\nclients = [{clients}]\n'
        f'send_proxy_protocol = "{sends}"\n'
    )
    with gate.running():
        yield gate


def port_of(gate: GateProcess) -> int:
    port: int = int(gate.status()["listeners"][0]["address"].rpartition(":")[2])
    return port


def stranger_of(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


@pytest.mark.parametrize("source", CLIENTS)
@pytest.mark.parametrize(
    ("into", "out"), [("send-proxy", "v2"), ("send-proxy-v2 proxy-v2-options crc32c", "v1")]
)
def test_client_announced_by_haproxy_is_judged_recorded_and_told_to_haproxy(
    tmp_path, source, into, out
):
    client, front_at = SocketAddress(source, 4321), SocketAddress("192.0.2.1", 80)
    (tmp_path / "front").mkdir()
    (tmp_path / "back").mkdir()
    with (
        entry_server() as server,
        haproxy(tmp_path / "back", server.port, "send-proxy-v2", "accept-proxy") as back,
        running_gate(
            tmp_path / "gate", back, clients='"203.0.113.0/24", "2001:db8::/32"', sends=out
        ) as gate,
        haproxy(tmp_path / "front", port_of(gate), into, "accept-proxy") as front,
    ):
        with socket.create_connection(("127.0.0.1", front), PATIENCE_S) as peer:
            peer.sendall(encode_proxy_v1(client, front_at) + b"GET / HTTP/1.1\r\n\r\n")
            answer = b""
            while not answer.endswith(BODY):
                answer += peer.recv(4096)
        assert gate.end() == 0
        [end] = gate.records("connection")

    [conversation] = server.conversations
    [passed_on] = conversation.events
    assert isinstance(passed_on, ProxyHeader)
    assert (passed_on.source, passed_on.target) == (client, front_at)
    assert conversation.tunnelled == b"GET / HTTP/1.1\r\n\r\n"
    assert end["client"] == str(client)
    assert end["peer"].startswith("127.0.0.1:")


def test_haproxys_health_checks_are_let_in_as_haproxys_own(tmp_path):
    (tmp_path / "front").mkdir()
    options = "check inter 100 send-proxy-v2 check-send-proxy"
    # One that only connects is gone before the gate has dialled.
    asks = f"  option tcp-check\n  tcp-check send {REQUEST}\n  tcp-check expect string OK\n"
    with (
        entry_server() as server,
        running_gate(tmp_path / "gate", server.port, clients='"127.0.0.1/32"', sends="v2") as gate,
        haproxy(tmp_path / "front", port_of(gate), options, checks=asks),
    ):
        server.wait_for(lambda conversations: len(conversations) >= 1)
        assert gate.end() == 0
        checked = gate.records("connection")

    assert checked
    assert all(one["client"].startswith("127.0.0.1:") and "peer" not in one for one in checked)


def test_strangers_header_is_not_read(tmp_path):
    with (
        entry_server() as server,
        running_gate(
            tmp_path / "gate", server.port, clients='"0.0.0.0/0"', sends="v2", peers="192.0.2.9/32"
        ) as gate,
    ):
        header = encode_proxy_v1(SocketAddress("203.0.113.9", 1), SocketAddress("192.0.2.1", 80))
        # It may be reset at any moment: before its connect has returned, too.
        with contextlib.suppress(ConnectionError), stranger_of(port_of(gate)) as stranger:
            stranger.sendall(header)
            assert stranger.recv(1) == b""
        assert gate.end() == 0
        [decision] = gate.records("decision")

    assert server.conversations == []
    assert (decision["verdict"], decision["reason"]) == ("denied", "proxy peer not named")
