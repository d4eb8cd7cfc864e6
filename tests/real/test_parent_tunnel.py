"""Requests for ``https`` URLs through a parent proxy: another gate, in the open and inside TLS."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from tests.chains import root
from tests.flows.tls_kit import NAME
from tests.pki import authority

from .dns_parts import dnsmasq_server
from .entry_parts import curl
from .test_entry_gate import ProxyGate
from .test_server_tls import HOST, PAGE, TlsServers


class Parent(ProxyGate):
    """A gate that makes tunnels to the servers."""

    tls = ""
    ports: tuple[int, ...] = ()

    def write_main(self, more: str = "") -> None:
        authority("proxy").server(NAME).write(self.folder, "gate")
        super().write_main(more)
        text = self.config.read_text()
        self.config.write_text(text.replace("[resolver]", f"{self.tls}[resolver]", 1))

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        (self.folder / "policy.toml").write_text(
            f'[[rule]]\nname = "tunnels"\naction = "allow"\nlistener = "echo"\n'
            f'clients = ["{clients}"]\nto = ["{HOST}", "127.0.0.1"]\n'
            f"protocols = {[f'tcp:{one}' for one in self.ports]}\n"
        )


class Child(Parent):
    """A gate that goes through it."""

    parent = ""

    def write_main(self, more: str = "") -> None:
        trusted = root().pem + authority("proxy").pem
        (self.folder / "ca.pem").write_text(trusted)
        super().write_main(f'[tls]\nauthorities = ["ca.pem"]\n[[web.parent_proxy]]\n{self.parent}')

    def fetch(self, port: int) -> tuple[int, bytes, str]:
        """Return the status, the body, and the reason in the record."""
        done = curl(
            "--noproxy", "", "--proxy", f"http://127.0.0.1:{self.port}",
            "--request-target", f"https://{HOST}:{port}/page", "--header", f"Host: {HOST}:{port}",
            "--write-out", "\n%{http_code}", f"http://{HOST}:{port}/page",
        )  # fmt: skip
        body, _, status = done.stdout.rpartition(b"\n")
        found = self.recorded("request", lambda one: f":{port}/" in one["url"])[-1]
        return int(status), body, found.get("ended") or found["reason"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    made = TlsServers(tmp_path_factory.mktemp("servers"))
    made.add("good", root().issue("server", [HOST]))
    made.add("other", root().issue("server", ["other.names.test"]))
    made.add("unlisted", root().issue("server", [HOST]))
    with made.running():
        yield made


@contextlib.contextmanager
def family(
    folder: pathlib.Path, servers: TlsServers, *, is_tls: bool
) -> Iterator[tuple[Parent, Child]]:
    with dnsmasq_server(folder) as dns_port:
        tls = 'tls = { certificate = "gate.pem", key = "gate.key" }\n' if is_tls else ""
        granted = tuple(port for name, port in servers.ports.items() if name != "unlisted")
        kind = type("Parent", (Parent,), {"tls": tls, "ports": granted})
        parent = kind(folder / "parent", 1, dns_port, "off")
        child: Child | None = None
        try:
            parent.start()
            where = f'address = "127.0.0.1:{parent.port}"\n'
            where += f'tls = "{NAME}"\n' if is_tls else ""
            ports = tuple(servers.ports.values())
            own = type("Child", (Child,), {"parent": where, "ports": ports})
            child = own(folder / "child", 1, dns_port, "off")
            child.start()
            yield parent, child
        finally:
            parent.close()
            if child is not None:
                child.close()


@pytest.mark.parametrize("is_tls", [False, True], ids=["open", "inside tls"])
def test_curl_gets_the_page_of_a_server_that_was_verified_behind_the_parent(
    tmp_path: pathlib.Path, servers: TlsServers, is_tls: bool
) -> None:
    with family(tmp_path, servers, is_tls=is_tls) as (parent, child):
        status, body, reason = child.fetch(servers.ports["good"])
        assert (status, body, reason) == (200, PAGE, "allowed-by-rule")
        asked = [one["target"] for one in parent.recorded("decision")]
        assert asked == [f"{HOST}:{servers.ports['good']}"]
        status, _, reason = child.fetch(servers.ports["other"])
        assert status == 502
        assert reason.startswith("server-certificate-wrong-host")
        status, _, reason = child.fetch(servers.ports["unlisted"])
        assert (status, reason) == (502, "parent-refused: 403")
