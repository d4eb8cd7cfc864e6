"""A real clamd with a local signature file, on a socket or an address of its own."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.scan import ClamdScanner, ClamdSettings
from tests.ports import free_port
from tests.waiting import wait_until

TEST_FILES = pathlib.Path("/usr/share/clamav-testfiles")
PATIENCE_S = 60.0


def eicar() -> bytes:
    """The test file of EICAR, put together here so that nobody's scanner finds it in this tree."""
    return rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def program_code() -> bytes:
    """The code of ClamAV's own test program, which all of its test files carry, packed somehow."""
    return (TEST_FILES / "clam.exe").read_bytes()[0x40:0x78]


class Clamd:
    """One daemon; ``start`` and ``kill`` it as often as you like."""

    def __init__(self, folder: pathlib.Path, **options: Any) -> None:
        if shutil.which("clamd") is None or not TEST_FILES.is_dir():
            pytest.skip("cure: apt-get install -y clamav-daemon clamav-testfiles")
        self.socket = folder / "clamd.sock"
        self.signatures = folder / "signatures"
        self.signatures.mkdir()
        (self.signatures / "local.ndb").write_text(
            f"Eicar-Test:0:0:{eicar().hex()}\nClam-Test:0:*:{program_code().hex()}\n"
        )
        self.address = SocketAddress("127.0.0.1", free_port())
        settings = {
            "LocalSocket": self.socket,
            "TCPAddr": self.address.host,
            "TCPSocket": self.address.port,
            "DatabaseDirectory": self.signatures,
            "Foreground": "yes",
            "AlertExceedsMax": "yes",
            "AlertEncrypted": "yes",
            "PidFile": folder / "clamd.pid",
        } | options
        self._configuration = folder / "clamd.conf"
        self._configuration.write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
        self._log = folder / "clamd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        with self._log.open("ab") as log:
            command = ["clamd", "--config-file", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, self._log.read_text()
            return self.ask(b"PING") == b"PONG"

        wait_until(answers, f"clamd does not answer: see {self._log}")

    def kill(self) -> None:
        """End it at once, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_S)
            self.socket.unlink(missing_ok=True)

    def ask(self, command: bytes) -> bytes:
        """Return its answer to a command; empty when it is not there."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connected:
            connected.settimeout(PATIENCE_S)
            connected.connect(str(self.socket))
            connected.sendall(b"z" + command + b"\0")
            return connected.recv(4096).rstrip(b"\0")
        return b""

    def scanner(self, *, is_streamed: bool = False, **changed: Any) -> ClamdScanner:
        """Make a scanner that asks it."""
        chosen: dict[str, Any] = {
            "place": self.address if is_streamed else str(self.socket),
            "connections_max": 4,
            "timeout_s": PATIENCE_S,
            "wait_s": 0.0,
            "object_bytes_max": 1 << 30,
            "trusts_limits": False,
        }
        return ClamdScanner("clamd", ClamdSettings(**(chosen | changed)), SystemClock())


@contextlib.contextmanager
def running_clamd(folder: pathlib.Path, **options: Any) -> Iterator[Clamd]:
    """Run a clamd; its folder is made."""
    folder.mkdir(parents=True)
    clamd = Clamd(folder, **options)
    clamd.start()
    try:
        yield clamd
    finally:
        clamd.kill()
