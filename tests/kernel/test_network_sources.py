"""What servers see on real sockets: nat's address and clients' own, in network namespaces.

Three namespaces in a row: clients, the gate, servers. The gate's one has the routes that replies to
clients' addresses need (docs/howto/keep-client-addresses.md).
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluicegate.port.diagnosis import BackendUnavailable, diagnose

pytestmark = [
    pytest.mark.either_driver,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="makes network namespaces: run as root, with iproute2 (apt-get install iproute2)",
    ),
]

_DIALS = pathlib.Path(__file__).with_name("network_source_dials.py")
_PREFIX = f"sg{os.getpid()}"
GATE, SERVER = f"{_PREFIX}g", f"{_PREFIX}s"


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def ip(namespace: str, *words: str) -> None:
    run("ip", "-n", namespace, *words)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[None]:
    made: list[str] = []
    try:
        for name in (GATE, SERVER):
            made_one = subprocess.run(
                ("ip", "netns", "add", name), check=False, capture_output=True, text=True
            )
            if made_one.returncode:
                pytest.skip(
                    f"no network namespaces here ({made_one.stderr.strip()}): CAP_SYS_ADMIN"
                )
            made.append(name)
        ip(GATE, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
        ip(GATE, "link", "set", "veth1", "netns", SERVER)
        for namespace, link, host in ((GATE, "veth0", "1"), (SERVER, "veth1", "2")):
            ip(namespace, "address", "add", f"10.30.0.{host}/24", "dev", link)
            ip(namespace, "address", "add", f"fd30::{host}/64", "dev", link, "nodad")
            ip(namespace, "link", "set", "lo", "up")
            ip(namespace, "link", "set", link, "up")
        ip(GATE, "address", "add", "10.30.0.5/24", "dev", "veth0")
        ip(SERVER, "route", "add", "default", "via", "10.30.0.1")
        ip(SERVER, "-6", "route", "add", "default", "via", "fd30::1")
        # What comes back for clients is for the gate's sockets, not to be forwarded.
        for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            ip(GATE, family, "rule", "add", "iif", "veth0", "lookup", "100")
            ip(GATE, family, "route", "add", "local", everything, "dev", "lo", "table", "100")
        yield
    finally:
        for name in made:
            run("ip", "netns", "delete", name)


class Observer:
    """A server in its namespace: prints whom it sees, one JSON line each."""

    def __init__(self, host: str, kind: str) -> None:
        self.process = subprocess.Popen(
            ("ip", "netns", "exec", SERVER, sys.executable, str(_DIALS), "serve", host, kind),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def seen(self) -> str:
        return str(json.loads(self._line()))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def dial(backend: str, kind: str, server: str, source: str, how: str) -> str:
    """Dial from the gate's namespace by the port; return "ok" or the errno's name."""
    command = (sys.executable, str(_DIALS), "dial", backend, kind, server, source, how)
    return run("ip", "netns", "exec", GATE, *command).strip()


@pytest.fixture(params=["epoll", "io_uring"])
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "io_uring":
        try:
            diagnose(name)
        except BackendUnavailable as error:
            pytest.skip(f"no io_uring: {error}")
    return name


CASES = [
    ("10.30.0.2", "10.30.0.5", "nat"),
    ("10.30.0.2", "10.20.7.7", "route"),
    ("fd30::2", "fd20::7", "route"),
]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(("server", "source", "how"), CASES)
def test_a_server_sees_the_source_that_the_port_was_told(
    namespaces: None, backend: str, kind: str, server: str, source: str, how: str
) -> None:
    observer = Observer(server, kind)
    try:
        where = f"[{server}]:{observer.port}" if ":" in server else f"{server}:{observer.port}"
        assert dial(backend, kind, where, source, how) == "ok"
        assert observer.seen() == source
    finally:
        observer.close()


def test_an_address_that_the_machine_does_not_have_is_no_source_of_nat(
    namespaces: None, backend: str
) -> None:
    assert dial(backend, "tcp", "10.30.0.2:9", "10.20.7.7", "nat") == "EADDRNOTAVAIL"


def test_without_the_right_no_server_sees_a_client(namespaces: None, backend: str) -> None:
    assert dial(backend, "tcp", "10.30.0.2:9", "10.20.7.7", "route-without-right") == "EPERM"
