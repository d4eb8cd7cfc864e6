"""The units of ``packaging/``, judged by systemd's own tools; and sockets that systemd opens."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.kernel.test_gate_process import SLUICEGATE, EchoServer, GateProcess, echoed
from tests.ports import free_port
from tests.repo.source_tree import ROOT

from .entry_parts import PATIENCE_S, tool

pytestmark = pytest.mark.either_driver

UNITS = ROOT / "packaging" / "systemd"

EXPOSURE_MAX = 2.0
"""systemd's own scale: 0 is closed, 10 is open; below 2 is what it calls OK. What is left: the
network, and Unix sockets."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool(command[0]), *command[1:]],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def as_installed(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Copy a unit, with a program that is there in the place of ours."""
    text = (UNITS / name).read_text().replace("/usr/bin/sluicegate", "/bin/true")
    copy = folder / name
    copy.write_text(text)
    return copy


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of units, in which the service has its socket."""
    (tmp_path / "sluicegate.service.d").mkdir()
    return tmp_path


def test_service_exposes_no_more_than_it_must(folder):
    service = as_installed(folder, "sluicegate.service")
    threshold = str(round(EXPOSURE_MAX * 10))
    judged = run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", str(service)
    )
    assert judged.returncode == 0, judged.stdout[-300:]
    open_unit = folder / "open.service"
    open_unit.write_text("[Service]\nExecStart=/bin/true\n")
    # The tool does refuse.
    assert run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", str(open_unit)
    ).returncode


def test_units_are_what_systemd_understands(folder):
    units = [as_installed(folder, name) for name in ("sluicegate.service", "sluicegate.socket")]
    drop_in = (UNITS / "socket-activated.conf").read_text()
    (folder / "sluicegate.service.d" / "socket-activated.conf").write_text(drop_in)
    verified = run("systemd-analyze", "verify", "--man=no", *map(str, units))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_user_and_folders_are_made(tmp_path):
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sysusers.conf"))
    assert made.returncode == 0, made.stderr
    assert "sluicegate:" in (tmp_path / "etc" / "passwd").read_text()
    folders = run(
        "systemd-tmpfiles", "--create", f"--root={tmp_path}", str(UNITS / "tmpfiles.conf")
    )
    assert folders.returncode == 0, folders.stderr
    assert (tmp_path / "var/lib/sluicegate").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/sluicegate").stat().st_mode & 0o777 == 0o750


def test_packaged_configuration_is_accepted(tmp_path):
    for name in ("sluicegate.toml", "policy.toml"):
        (tmp_path / name).write_text((ROOT / "packaging" / name).read_text())
    checked = subprocess.run(
        [*SLUICEGATE, "check", "-c", str(tmp_path / "sluicegate.toml")],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


class Activated(GateProcess):
    """A gate whose sockets ``systemd-socket-activate`` opens; it runs at the first client."""

    def __init__(self, folder: pathlib.Path, server_port: int, mode: tuple[str, ...]) -> None:
        super().__init__(folder, server_port)
        self.mode = mode

    def activate(self, *addresses: str) -> None:
        command = [tool("systemd-socket-activate")]
        for name in ("PYTHONPATH", "PATH", "SLUICEGATE_BACKEND", "HOME", "PYTHONWARNINGS"):
            if name in os.environ:
                command += ["-E", name]
        for address in addresses:
            command += ["-l", address]
        self.process = subprocess.Popen(
            [*command, *SLUICEGATE, "run", "-c", str(self.config), *self.mode],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.wait_for("Listening on")


@contextlib.contextmanager
def activated(folder: pathlib.Path, *mode: str) -> Iterator[Activated]:
    server = EchoServer()
    gate = Activated(folder, server.port, mode)
    try:
        yield gate
    finally:
        gate.close()
        server.close()


def listen_on(gate: GateProcess, *addresses: str) -> None:
    shown = ", ".join(f'"{one}"' for one in addresses)
    gate.config.write_text(f'[[listener]]\nname = "echo"\naddress = [{shown}]\n')


@pytest.mark.parametrize("mode", [("--inline",), ("--workers", "2")])
def test_gate_takes_over_the_sockets_that_systemd_has_opened(tmp_path, mode):
    port = free_port()
    with activated(tmp_path, *mode) as gate:
        address = f"127.0.0.1:{port}"
        listen_on(gate, address)
        gate.activate(address)
        # Nobody accepts yet: the first client is what the gate is started for.
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as first:
            gate.wait_for("ready")
            assert echoed(first, b"first") == b"first"
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as second:
            assert echoed(second, b"second") == b"second"
        assert [one["address"] for one in gate.status()["listeners"]] == [address]
        assert gate.ask("reload").returncode == 0
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as third:
            assert echoed(third, b"third") == b"third"
        assert gate.end() == 0
        assert len(gate.records("connection")) == 3


def test_socket_that_no_listener_has_stops_the_start(tmp_path):
    port = free_port()
    with activated(tmp_path, "--inline") as gate:
        listen_on(gate, "127.0.0.1:0")
        gate.activate(f"127.0.0.1:{port}")
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE_S),
            pytest.raises(AssertionError, match=r"no .*listener.* has this address"),
        ):
            gate.wait_for("ready")


def test_datagram_socket_stops_the_start(tmp_path):
    port = free_port()
    with activated(tmp_path, "--inline") as gate:
        listen_on(gate, "127.0.0.1:0")
        command = [tool("systemd-socket-activate"), "-d", "-E", "PYTHONPATH", "-E", "PATH"]
        gate.process = subprocess.Popen(
            [
                *command, "-l", f"127.0.0.1:{port}",
                *SLUICEGATE, "run", "--inline", "-c", str(gate.config),
            ],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        gate.wait_for("Listening on")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", port))
        with pytest.raises(AssertionError, match="is not a TCP socket"):
            gate.wait_for("ready")
