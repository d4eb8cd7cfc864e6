"""Captures that tcpdump itself made on loopback, replayed against a filter by the command."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from sluicegate.testing.reassembly import captured_connections
from tests.ports import free_port
from tests.unit.kit_filters import OnlySsh
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

PATIENCE_S = 60


def talk(port: int) -> None:
    """One connection on loopback: a greeting, an answer, and bulk that takes many segments."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listener.accept()
        with client, server:
            client.sendall(b"SSH-2.0-client\r\n")
            assert server.recv(100) == b"SSH-2.0-client\r\n"
            server.sendall(b"SSH-2.0-server\r\n")
            assert client.recv(100) == b"SSH-2.0-server\r\n"
            client.sendall(bytes(range(256)) * 400)
            client.shutdown(socket.SHUT_WR)
            while server.recv(65536):
                pass


def capture(path: pathlib.Path, interface: str, port: int) -> None:
    program = shutil.which("tcpdump", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        pytest.fail("tcpdump and root are needed: apt-get install --yes tcpdump", pytrace=False)
    command = [program, "-i", interface, "-s", "0", "-U", "-w", str(path), f"tcp port {port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        talk(port)
        # What ends the capture must have been captured: tcpdump asks the kernel in rounds.
        wait_until(lambda: path.exists() and is_whole(path), "the capture is not whole")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def is_whole(path: pathlib.Path) -> bool:
    try:
        found = captured_connections(path.read_bytes())
    except ValueError:
        return False
    return bool(found) and "server ends" in found[0].conversation.lines()


@pytest.mark.parametrize("interface", ["lo", "any"])
def test_capture_by_tcpdump_is_replayed(tmp_path: pathlib.Path, interface: str) -> None:
    path, port = tmp_path / "talk.pcap", free_port()
    capture(path, interface, port)
    (found,) = captured_connections(path.read_bytes())
    steps = found.conversation.steps
    assert found.server == f"127.0.0.1:{port}"
    from_client = b"".join(step.data for step in steps if step.who == "client")
    assert from_client == b"SSH-2.0-client\r\n" + bytes(range(256)) * 400
    use = f"{pathlib.Path(sys.modules[OnlySsh.__module__].__file__ or '')}:OnlySsh"
    arguments = [sys.executable, "-m", "sluicegate", "test-filter", use, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'server receives "SSH-2.0-client' in done.stdout
