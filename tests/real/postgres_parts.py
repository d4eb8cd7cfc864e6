"""A real PostgreSQL server from Debian in a temporary folder, as a user without rights.

It listens on a Unix socket that asks for nothing, and on loopback with a password, with and without
TLS. Each test has a schema of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from sluicegate.audit.store import PostgresPlace
from tests.pki import authority
from tests.ports import free_port

from .dns_parts import INSTALL
from .sample_parts import wait_until

DATABASE = "audit"
USER = "keeper"
PASSWORD = "pass 'word\\"

_schemas = itertools.count(1)


def program(name: str) -> str:
    """Return the path of a server's program, of the newest version that is installed."""
    found = sorted(
        pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda path: int(path.parts[4]) if path.parts[4].isdigit() else 0,
    )
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        pytest.fail(f"postgresql is missing: {INSTALL}", pytrace=False)
    return path


def _account() -> dict[str, object]:
    """Return who runs the server: it refuses to work as root."""
    if os.getuid() != 0:
        return {}
    found = pwd.getpwnam("nobody")
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


@dataclasses.dataclass
class Cluster:
    """One server, which can be stopped, killed and started again."""

    folder: pathlib.Path
    port: int
    running: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make its files."""
        self.folder.chmod(0o755)
        chain, key = (
            authority("database").server("localhost", "127.0.0.1").write(self.folder, "server")
        )
        (self.folder / "ca.pem").write_text(authority("database").pem)
        data = self.folder / "data"
        data.mkdir()
        for path in (self.folder, data, chain, key):
            if os.getuid() == 0:
                shutil.chown(path, "nobody", pwd.getpwnam("nobody").pw_gid)
        pathlib.Path(key).chmod(0o600)
        self._run(
            program("initdb"),
            *("-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256"),
        )
        settings = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{self.folder}'",
            "ssl": "on",
            "ssl_cert_file": f"'{chain}'",
            "ssl_key_file": f"'{key}'",
            "fsync": "off",  # what a killed server has written is the kernel's
            "max_connections": 30,
            "shared_buffers": "64MB",
        }
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **_account(),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.running = subprocess.Popen(
                [program("postgres"), "-D", str(self.folder / "data")],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **_account(),  # type: ignore[call-overload]
            )
        wait_until(self._answers, f"see {self.folder}/server.log")

    def _answers(self) -> bool:
        import psycopg

        assert self.running is not None
        assert self.running.poll() is None, (self.folder / "server.log").read_text()
        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1", database="postgres")
            return True
        return False

    def kill(self) -> None:
        """Kill it, and all that works for it, as a power failure does."""
        assert self.running is not None
        pid = self.running.pid
        self.running.send_signal(signal.SIGSTOP)  # nobody is started meanwhile
        wait_until(lambda: _state(str(pid)) == "T", "it does not stop")
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        self.running.send_signal(signal.SIGKILL)
        self.running.wait(60)
        wait_until(lambda: not any(map(_is_alive, children)), "its processes are gone")
        self.running = None

    def stop(self) -> None:
        """End it, whoever is connected."""
        if self.running is not None:
            self.running.send_signal(signal.SIGINT)
            self.running.wait(60)
            self.running = None

    def execute(self, *statements: str, database: str = DATABASE) -> list[tuple[object, ...]]:
        """Do something as its superuser; return the rows of the last statement."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            rows: list[tuple[object, ...]] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
            return rows

    def place(self, folder: pathlib.Path, **changes: object) -> PostgresPlace:
        """Return a place in a schema that nobody has used, by the Unix socket."""
        settings: dict[str, object] = {
            "folder": str(folder),
            "host": str(self.folder),
            "port": self.port,
            "user": USER,
            "database": DATABASE,
            "schema": f"gate_{next(_schemas)}",
            "tls": "off",
            **changes,
        }
        return PostgresPlace(**settings)  # type: ignore[arg-type]

    def by_network(self, folder: pathlib.Path, **changes: object) -> PostgresPlace:
        """Return a place by loopback, with password and TLS."""
        settings: dict[str, object] = {
            "host": "127.0.0.1",
            "password": PASSWORD,
            "tls": "verify-full",
            "ca": str(self.folder / "ca.pem"),
            **changes,
        }
        return self.place(folder, **settings)


def _is_alive(pid: str) -> bool:
    return _state(pid) not in {"", "Z"}


def _state(pid: str) -> str:
    """Return the letter that the kernel has for what a process does; empty when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextlib.contextmanager
def cluster(folder: pathlib.Path) -> Iterator[Cluster]:
    """Run a server with a database and a user of ours."""
    made = Cluster(folder, free_port())
    made.make()
    made.start()
    try:
        made.execute(
            f"CREATE ROLE {USER} LOGIN PASSWORD $${PASSWORD}$$",
            f"CREATE DATABASE {DATABASE} OWNER {USER}",
            database="postgres",
        )
        yield made
    finally:
        made.stop()
