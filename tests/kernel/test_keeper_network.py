"""The store's keeper reaches its server's port, and no other: the kernel says so."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from sluicegate.sandbox import landlock

SCRIPT = """
import json, socket, sys
from sluicegate.app.confinement import confine_process
told = confine_process([], ports=json.loads(sys.argv[1]))
def tried(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"
def bound():
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError as error:
        return type(error).__name__
    return "listens"
print(json.dumps([*map(tried, json.loads(sys.argv[2])), bound(), told.in_force]))
"""


@pytest.mark.either_driver
@pytest.mark.parametrize("is_allowed", [True, False], ids=["a server", "no server"])
def test_keeper_connects_to_its_servers_port_alone(is_allowed: bool) -> None:
    if landlock.abi_version() < landlock.NETWORK_SINCE:
        pytest.skip("this kernel does not tell TCP ports apart")
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [one.getsockname()[1] for one in (ours, other)]
        allowed = ports[:1] if is_allowed else []
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(allowed), json.dumps(ports)],
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    first, second, listening, told = json.loads(done.stdout)
    assert first == ("connected" if is_allowed else "PermissionError")
    assert (second, listening) == ("PermissionError", "PermissionError")
    assert any("connects to no TCP port but" in one for one in told)
