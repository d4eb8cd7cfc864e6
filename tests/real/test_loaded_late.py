"""Processes that work load nothing from disk: there may be another version of the program by then.

Each process of a gate has a watch (``sitecustomize``), which notes in memory what is loaded, or
read of the program's own files, after the test has said that all of them work.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import get_args

import pytest

import sluicegate
from sluicegate.app.processes.child import Role
from sluicegate.console.navigation import NAVIGATION
from tests.kernel.alert_kit import Webhook
from tests.kernel.cell_kit import in_loop
from tests.kernel.test_gate_process import EchoServer, echoed
from tests.kernel.test_signer import Office, make_store, opened
from tests.ports import free_port
from tests.real.console.console_kit import ConsoleGate
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

WATCH = """
import mmap, os, sys

FOLDER, PROGRAM = {folder!r}, {program!r}

def shared(name, size):
    file = os.open(os.path.join(FOLDER, name), os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, size)
    memory = mmap.mmap(file, size)
    os.close(file)
    return memory

begun, said = shared("begun", 1), shared(f"said-{{os.getpid()}}", 65536)

def note(what):
    if begun[0]:
        said.write(f"{{' '.join(sys.argv[1:2])}}: {{what}}\\n".encode())

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        note(f"loads {{name}}")

def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(PROGRAM):
        note(f"reads {{arguments[0]}}")

sys.meta_path.insert(0, Watch)
sys.addaudithook(watch)
"""


class Watched:
    """What processes that were started with ``environment`` load late."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        program = str(pathlib.Path(sluicegate.__file__).parent)
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(WATCH.format(folder=str(folder), program=program))
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"PYTHONPATH": os.pathsep.join(path)}

    def begin(self) -> None:
        """Say that all processes work."""
        with (self.folder / "begun").open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 1)
        memory[0] = 1

    def late(self) -> list[str]:
        """Return what processes of a gate, not commands, have loaded since."""
        texts = [path.read_bytes().rstrip(b"\0") for path in self.folder.glob("said-*")]
        lines = b"".join(texts).decode().splitlines()
        return sorted(line for line in lines if line.partition(":")[0] in get_args(Role))


@pytest.fixture
def watched(tmp_path: pathlib.Path) -> Watched:
    return Watched(tmp_path / "watch")


MORE = """
[metrics]
listen = "127.0.0.1:{metrics}"
[[log.sink]]
name = "near"
to = "tcp://localhost:{sink}"
[alerts]
predefined = false
[[alert]]
name = "visit"
query = "kind:connection"
actions = ["hook"]
[[alerts.action]]
name = "hook"
webhook = {{ url = "https://localhost:{hook}/", ca = "ca.pem" }}
"""


@pytest.fixture
def webhook(tmp_path: pathlib.Path) -> Iterator[Webhook]:
    made = Webhook(tmp_path)
    yield made
    made.close()


def test_gate_at_work_loads_nothing_any_more(
    watched: Watched, webhook: Webhook, tmp_path: pathlib.Path
) -> None:
    server, metrics = EchoServer(), free_port()
    receiver = socket.create_server(("127.0.0.1", 0))
    receiver.settimeout(120)
    gate = ConsoleGate(tmp_path, server.port)
    sink = receiver.getsockname()[1]
    gate.write_main(MORE.format(metrics=metrics, sink=sink, hook=webhook.port))
    gate.add_users()
    try:
        gate.start(**watched.environment)
        wait_until(
            lambda: {row["state"] for row in gate.status()["workers"]} == {"ready"},
            "not all processes are there",
        )
        watched.begin()
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"
        assert webhook.calls.get(timeout=120)
        with receiver.accept()[0] as sent:
            assert sent.recv(65536)
        with socket.create_connection(("127.0.0.1", metrics), timeout=60) as asking:
            asking.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asking.recv(65536).startswith(b"HTTP/1.1 200 ")
        gate.wait_until_stored("kind:connection", 1)
        operator = gate.logged_in("administrator")
        for path in [link.path for group in NAVIGATION for link in group.links]:
            assert operator.get(path).status_code == 200, path
        for path in ("/log/record?seq=1", "/policy/edit", "/no-such-page", "/api/v1/about"):
            operator.get(path)
        with operator.stream("GET", "/live/overview") as live:
            assert any(line.startswith("data:") for line in live.iter_lines())
        assert gate.end() == 0
    finally:
        gate.close()
        server.close()
        receiver.close()
    assert watched.late() == []


def test_signer_at_work_loads_nothing_any_more(
    watched: Watched, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, backend_name: str
) -> None:
    for name, value in watched.environment.items():
        monkeypatch.setenv(name, value)

    async def sign() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            watched.begin()
            assert (await office.ask()).leaf.issuer == "first"

    in_loop(sign, backend_name)
    assert watched.late() == []
