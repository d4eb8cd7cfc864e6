"""A whole gate between networks: whom servers see by network rules, in every way of coming.

Three namespaces in a row: clients, the gate, servers. The gate is started by root, works as another
user in two workers, and has the routes of docs/howto/keep-client-addresses.md. The programs at both
ends are plain sockets (``network_gate_peers``).
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.kernel.test_gate_process import GateProcess
from tests.kernel.test_privileges import reachable
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.either_driver,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="makes network namespaces: run as root, with iproute2 (apt-get install iproute2)",
    ),
]

_PEERS = pathlib.Path(__file__).with_name("network_gate_peers.py")
_PREFIX = f"sn{os.getpid()}"
CLIENTS, GATE, SERVERS = (f"{_PREFIX}{end}" for end in "cgs")
CLIENT, CLIENT6 = "10.20.0.2", "fd20::2"
ROUTED, NAMED_NAT, PLAIN_NAT, UNNAMED = (f"10.30.0.{host}" for host in (2, 3, 4, 6))
ROUTED6, NAMED_NAT6, UNNAMED6 = (f"fd30::{host}" for host in (2, 3, 6))
OF_GATE, OF_GATE6, OF_NAT, OF_NAT6 = "10.30.0.1", "fd30::1", "10.30.0.5", "fd30::5"

SEEN: dict[str, str] = {
    ROUTED: CLIENT,
    NAMED_NAT: OF_NAT,
    PLAIN_NAT: OF_GATE,
    UNNAMED: "",
    ROUTED6: CLIENT6,
    NAMED_NAT6: OF_NAT6,
    UNNAMED6: "",
}
"""Whom each server sees; nobody where no network rule names the pair."""

WAYS = ["published", "published-udp", "socks4", "socks5", "connect", "associate"]

NETWORK_RULES = f"""
[[network_rule]]
name = "sees-clients"
from = ["10.20.0.0/16", "fd20::/64"]
to = ["{ROUTED}/32", "{ROUTED6}/128"]
relation = "route"

[[network_rule]]
name = "sees-one-address"
from = ["10.20.0.0/16"]
to = ["{NAMED_NAT}/32"]
relation = "nat"
address = "{OF_NAT}"

[[network_rule]]
name = "sees-one-address-of-ipv6"
from = ["fd20::/64"]
to = ["{NAMED_NAT6}/128"]
relation = "nat"
address = "{OF_NAT6}"

[[network_rule]]
name = "sees-the-gate"
from = ["10.20.0.0/16"]
to = ["{PLAIN_NAT}/32"]
relation = "nat"
"""


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def ip(namespace: str, *words: str) -> None:
    run("ip", "-n", namespace, *words)


def wire(one: str, other: str, link: str) -> None:
    """Connect two namespaces; the ends are called by the link and where they lead."""
    ip(one, "link", "add", f"{link}a", "type", "veth", "peer", "name", f"{link}b")
    ip(one, "link", "set", f"{link}b", "netns", other)


def address(namespace: str, link: str, *hosts: str) -> None:
    ip(namespace, "link", "set", "lo", "up")
    ip(namespace, "link", "set", link, "up")
    for host in hosts:
        sort = (f"{host}/64", "dev", link, "nodad") if ":" in host else (f"{host}/24", "dev", link)
        ip(namespace, "address", "add", *sort)


@pytest.fixture(scope="module")
def networks() -> Iterator[None]:
    made: list[str] = []
    try:
        for name in (CLIENTS, GATE, SERVERS):
            command = ("ip", "netns", "add", name)
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here ({done.stderr.strip()}): CAP_SYS_ADMIN")
            made.append(name)
        wire(CLIENTS, GATE, "in")
        wire(GATE, SERVERS, "out")
        address(CLIENTS, "ina", CLIENT, CLIENT6)
        address(GATE, "inb", "10.20.0.1", "fd20::1")
        address(GATE, "outa", OF_GATE, OF_GATE6, OF_NAT, OF_NAT6)
        address(
            SERVERS, "outb", ROUTED, NAMED_NAT, PLAIN_NAT, UNNAMED, ROUTED6, NAMED_NAT6, UNNAMED6
        )
        ip(SERVERS, "route", "add", "default", "via", OF_GATE)
        ip(SERVERS, "-6", "route", "add", "default", "via", OF_GATE6)
        for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            ip(GATE, family, "rule", "add", "iif", "outa", "lookup", "100")
            ip(GATE, family, "route", "add", "local", everything, "dev", "lo", "table", "100")
        yield
    finally:
        for name in made:
            run("ip", "netns", "delete", name)


@pytest.fixture(scope="module")
def servers(networks: None) -> Iterator[None]:
    command = ("ip", "netns", "exec", SERVERS, sys.executable, str(_PEERS), "serve", *SEEN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class RoutingGate(GateProcess):
    """A gate that publishes every server, and lets clients name them."""

    mode = ("--workers", "2")

    def write_main(self, more: str = "") -> None:
        del more
        self.ports: dict[tuple[str, str], int] = {}
        lines = ["[service]", 'user = "daemon"']
        for kind, transport in (("published", "tcp"), ("published-udp", "udp")):
            for server in SEEN:
                port = self.ports[kind, server] = 7000 + len(self.ports)
                lines += _listener(f"p{port}", server, port, f'transport = "{transport}"')
        for server in (ROUTED, ROUTED6):
            lines += _listener(f"proxy-{len(server)}", server, 1080, 'entry = "proxy"')
        self.config.write_text("\n".join(lines) + "\n")

    def write_policy(self, clients: str = NETWORK_RULES) -> None:
        lines = [clients]
        for (_, server), port in self.ports.items():
            where = f"[{server}]:9000" if ":" in server else f"{server}:9000"
            lines += [
                "[[publish]]", f'name = "p{port}"', f'listener = "p{port}"',
                f'server = "{where}"', 'clients = ["10.20.0.0/16", "fd20::/64"]',
            ]  # fmt: skip
        lines += [
            "[[rule]]", 'name = "servers"', 'action = "allow"',
            'clients = ["10.20.0.0/16", "fd20::/64"]', 'to = ["10.30.0.0/24", "fd30::/64"]',
            'protocols = ["tcp:9000", "udp:9000"]',
        ]  # fmt: skip
        (self.folder / "policy.toml").write_text("\n".join(lines) + "\n")

    def ask_from_client(self, way: str, server: str, *, is_seen: bool = True) -> str:
        host = "fd20::1" if ":" in server else "10.20.0.1"
        port = str(self.ports.get((way, server), 1080))
        command = ("ip", "netns", "exec", CLIENTS, sys.executable, str(_PEERS), "ask")
        # Where an answer must come it is waited for; where none may, not for long.
        silence = "60" if is_seen else "2"
        return str(json.loads(run(*command, way, host, port, server, silence)))


def _listener(name: str, server: str, port: int, more: str) -> list[str]:
    host = "[fd20::1]" if ":" in server else "10.20.0.1"
    return ["[[listener]]", f'name = "{name}"', f'address = "{host}:{port}"', more]


@pytest.fixture(scope="module")
def gate(servers: None) -> Iterator[RoutingGate]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        made = RoutingGate(folder, 0)
        try:
            made.start("ip", "netns", "exec", GATE, *reachable())
            yield made
        finally:
            made.close()


CASES = [
    (way, server)
    for way in WAYS
    for server in SEEN
    if not (way == "socks4" and ":" in server)  # which has no IPv6
]


@pytest.mark.parametrize(("way", "server"), CASES)
def test_a_server_sees_whom_the_network_rules_say_in_every_way_in_which_a_client_comes(
    gate: RoutingGate, way: str, server: str
) -> None:
    assert gate.ask_from_client(way, server, is_seen=bool(SEEN[server])) == SEEN[server]


@pytest.mark.parametrize("way", WAYS)
def test_what_no_network_rule_names_is_on_record_with_that_reason(
    gate: RoutingGate, way: str
) -> None:
    def refusals() -> int:
        records = [*gate.records("decision"), *gate.records("connection")]
        return sum("no-network-rule" in one["reason"] for one in records)

    before = refusals()
    assert gate.ask_from_client(way, UNNAMED, is_seen=False) == ""
    wait_until(lambda: refusals() > before, "nothing of it is on record")


def test_a_reload_changes_whom_servers_see(gate: RoutingGate) -> None:
    """Last of all: it leaves another policy in force."""
    everything = NETWORK_RULES.replace(f'"{ROUTED}/32", ', "") + (
        f'\n[[network_rule]]\nname = "hides"\nfrom = ["10.20.0.0/16"]\nto = ["{ROUTED}/32"]\n'
        f'relation = "nat"\naddress = "{OF_NAT}"\n'
    )
    gate.write_policy(everything)
    done = gate.ask("reload")
    assert done.returncode == 0, done.stderr
    for way in WAYS:
        assert gate.ask_from_client(way, ROUTED) == OF_NAT, way
    assert gate.ask_from_client("socks5", ROUTED6) == CLIENT6
