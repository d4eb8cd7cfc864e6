"""SOCKS UDP ASSOCIATE with a client from elsewhere (PySocks): DNS through a real gate."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest
import socks

from tests.kernel.test_gate_process import GateProcess

from .dns_parts import SERVERS, dnsmasq_server
from .sample_parts import PATIENCE_S

pytestmark = pytest.mark.real

#: One process, and confined workers that each bind associations' ports themselves.
MODES = {"dnsmasq": ("--inline",), "unbound": ("--workers", "2")}


class DatagramGate(GateProcess):
    """A gate whose clients may send datagrams to one DNS server, by address and by name."""

    def write_main(self, more: str = "") -> None:
        super().write_main(
            f'entry = "proxy"\n[resolver]\nservers = ["127.0.0.1:{self.server_port}"]\n{more}'
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        (self.folder / "policy.toml").write_text(
            '[[rule]]\nname = "dns"\naction = "allow"\nlistener = "echo"\n'
            f'clients = ["{clients}"]\n'
            f'to = ["127.0.0.1", "web.names.test"]\nprotocols = ["udp:{self.server_port}"]\n'
        )

    @property
    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])

    def client(self) -> socks.socksocket:
        one = socks.socksocket(socks.socket.AF_INET, socks.socket.SOCK_DGRAM)
        one.set_proxy(socks.SOCKS5, "127.0.0.1", self.port, rdns=True)
        one.settimeout(PATIENCE_S)
        return one


@pytest.fixture(params=sorted(SERVERS))
def gate(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[DatagramGate]:
    (tmp_path / "gate").mkdir()
    with SERVERS[request.param](tmp_path) as port:
        gate = DatagramGate(tmp_path / "gate", port)
        gate.mode = MODES[request.param]
        with gate.running():
            yield gate


def ask(client: socks.socksocket, server: tuple[str, int], name: str) -> dns.message.Message:
    client.sendto(dns.message.make_query(name, "A").to_wire(), server)
    answer, _ = client.recvfrom(4096)
    return dns.message.from_wire(answer)


def test_a_client_from_elsewhere_asks_dns_through_the_gate(gate):
    with gate.client() as client:
        by_address = ask(client, ("127.0.0.1", gate.server_port), "v4.names.test")
        by_name = ask(client, ("web.names.test", gate.server_port), "nobody.names.test")

    assert [str(row) for row in by_address.answer[0]] == ["93.184.216.35"]
    assert by_name.rcode() is dns.rcode.NXDOMAIN


def test_what_no_rule_allows_is_not_sent_and_the_end_is_recorded(gate, tmp_path):
    (tmp_path / "other").mkdir()
    with dnsmasq_server(tmp_path / "other") as other, gate.client() as client:
        ask(client, ("127.0.0.1", gate.server_port), "v4.names.test")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(client, ("127.0.0.1", other), "v4.names.test")
        client.settimeout(PATIENCE_S)
        # It takes them in their order: with this one answered, it has seen the one before.
        ask(client, ("127.0.0.1", gate.server_port), "v4.names.test")

    under_rule, association = sorted(
        gate.recorded("connection", count=2), key=lambda record: not record.get("primary")
    )
    assert (under_rule["datagrams_to_server"], under_rule["datagrams_to_client"]) == (2, 2)
    assert under_rule["entry"] == "socks5"
    assert under_rule["primary"] == association["connection"]
    assert association["dropped"] == {"denied": 1}
    assert association["reason"] == "control connection closed"
