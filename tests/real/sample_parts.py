"""The samples as an operator runs them: `sluicegate run` with a file of `examples/filters`."""

from __future__ import annotations

import contextlib
import http.server
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kernel.test_gate_process import GateProcess
from tests.ports import free_port
from tests.waiting import wait_until

SAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "filters"
PATIENCE_S = 60.0
INSTALL = "apt-get install --yes curl swaks opensmtpd memcached"


def tool(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)
    return path


# -- the gate --------------------------------------------------------------------------------------


class SampleGate(GateProcess):
    """A gate whose only rule uses one sample, in front of a server on loopback."""

    def __init__(
        self,
        folder: pathlib.Path,
        server_port: int,
        use: str,
        settings: str,
        beside: tuple[str, ...] = (),
    ) -> None:
        self.use = use
        self.settings = settings
        self.beside = beside
        #: Filters of the product in the same rule.
        super().__init__(folder, server_port)

    @property
    def filter_name(self) -> str:
        return self.use.partition(".")[0]

    def write_main(self, more: str = "") -> None:
        super().write_main(
            f'\n[[filter]]\nname = "{self.filter_name}"\nuse = "{SAMPLES}/{self.use}"\n'
            f"\n[filter.settings]\n{self.settings}\n"
            + "".join(f'[[filter]]\nname = "{name}"\n' for name in self.beside)
            + more
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            names = ", ".join(f'"{name}"' for name in (self.filter_name, *self.beside))
            policy.write(f"filters = [{names}]\n")

    @property
    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])

    def ended(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """End the gate; return the records of connections and the filter's notes."""
        assert self.end() == 0
        assert "Traceback" not in "".join(self.lines)
        return self.records("connection"), self.records("note")


OpenGate = Callable[..., SampleGate]


@contextlib.contextmanager
def sample_gates(folder: pathlib.Path) -> Iterator[OpenGate]:
    gates: list[SampleGate] = []

    def open_gate(
        use: str, server_port: int, settings: str = "", beside: tuple[str, ...] = ()
    ) -> SampleGate:
        gates.append(SampleGate(folder, server_port, use, settings, beside))
        gates[-1].start()
        return gates[-1]

    try:
        yield open_gate
    finally:
        for gate in gates:
            gate.close()


# -- servers and clients ---------------------------------------------------------------------------


class WebServer:
    """Serves a folder by HTTP, and counts what it was asked for."""

    def __init__(self, folder: pathlib.Path) -> None:
        asked = self.asked = []  # type: ignore[var-annotated]

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def do_PUT(self) -> None:
                length = int(self.headers["Content-Length"])
                (folder / self.path.strip("/")).write_bytes(self.rfile.read(length))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                asked.append(self.path)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def running_memcached() -> Iterator[int]:
    """Run memcached on loopback; the port that it listens on."""
    port = free_port()
    command = [tool("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody"]
    with subprocess.Popen([*command, "-I", "8m"], stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: is_listening(port), "memcached listens")
            yield port
        finally:
            server.kill()


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [tool("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]
    return subprocess.run([*command, *arguments], capture_output=True, timeout=90)


def is_listening(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
        return True
    return False


class MailServer:
    """A real mail server that keeps what it takes in a folder, one file per mail."""

    def __init__(self, port: int, mails: pathlib.Path) -> None:
        self.port = port
        self._mails = mails

    def mails(self, count: int) -> list[bytes]:
        """Return what arrived, when so many have."""
        wait_until(lambda: len(self._files()) >= count, f"{count} mails")
        return [path.read_bytes() for path in self._files()]

    def _files(self) -> list[pathlib.Path]:
        return sorted(path for path in self._mails.iterdir() if path.name[0] != ".")


@contextlib.contextmanager
def aiosmtpd_server(folder: pathlib.Path) -> Iterator[MailServer]:
    port, maildir = free_port(), folder / "maildir"
    handler = ["-c", "aiosmtpd.handlers.Mailbox", str(maildir)]
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}", *handler]
    with _running(command, port, folder / "server.log"):
        (maildir / "new").mkdir(parents=True, exist_ok=True)
        yield MailServer(port, maildir / "new")


@contextlib.contextmanager
def opensmtpd_server(folder: pathlib.Path) -> Iterator[MailServer]:
    if os.geteuid() != 0:
        pytest.fail("opensmtpd needs root: run the tests as root", pytrace=False)
    port, mails = free_port(), folder / "mails"
    mails.mkdir()
    mails.chmod(0o777)
    config = folder / "smtpd.conf"
    # A mail is whole when it has its name.
    keep = f"cd {mails} && cat > .$$ && mv .$$ $$"
    config.write_text(
        f"listen on 127.0.0.1 port {port}\n"
        f'action "keep" mda "{keep}" user nobody\n'
        'match from any for any action "keep"\n'
    )
    command = [tool("smtpd"), "-d", "-f", str(config)]
    # It has one control socket and one queue per machine: give it a /run and a queue of its own.
    # Where that is not allowed, in a container, nobody else's is there.
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0:
        queue = "/var/spool/smtpd"
        alone = f"mkdir -p {queue} && mount -t tmpfs t /run && mount -t tmpfs -o mode=711 t {queue}"
        command = ["unshare", "--mount", "sh", "-c", f'{alone} && exec "$@"', "sh", *command]
    with _running(command, port, folder / "server.log"):
        yield MailServer(port, mails)


@contextlib.contextmanager
def _running(command: list[str], port: int, log: pathlib.Path) -> Iterator[None]:
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or is_listening(port), command[-1])
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


MAIL_SERVERS = {"aiosmtpd": aiosmtpd_server, "opensmtpd": opensmtpd_server}
