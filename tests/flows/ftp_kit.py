"""FTP through a real gate: servers, a gate in a thread of its own, and a raw control conversation.

``GateThread`` runs ``app.build.Gate`` on the backend under test, from two files as operators write
them; leaving it checks that nothing is left behind. Used by tests/flows and tests/real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Container, Iterator
from typing import Any, Self

from sluicegate.app.build import Gate
from sluicegate.app.load import load
from sluicegate.documents import Findings
from sluicegate.port.loop import current_port, run

HERE = pathlib.Path(__file__).parent
PATIENCE_S = 60.0


# -- content ---------------------------------------------------------------------------------------


def pe(size: int = 90_000) -> bytes:
    header = bytearray(b"MZ" + bytes(126))
    header[0x3C] = len(header)
    return (bytes(header) + b"PE\0\0").ljust(size, b"\x90")


def elf(size: int = 90_000) -> bytes:
    return b"\x7fELF\x02\x01\x01".ljust(size, b"\0")


def clean(size: int = 700_000) -> bytes:
    """Bytes of every value that are no executable and no archive."""
    block = b"clean" + bytes(range(256)) * 7
    return (block * (size // len(block) + 1))[:size]


def text(lines: int = 3000) -> bytes:
    return b"".join(b"line %d of a text\n" % number for number in range(lines))


# -- servers ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def pyftpdlib_server(
    folder: pathlib.Path, host: str = "127.0.0.1", **options: Any
) -> Iterator[int]:
    """Serve a folder; the users are ``user`` and ``release-bot``, the password is ``secret``."""
    arguments = json.dumps({"folder": str(folder), "host": host, **options})
    process = subprocess.Popen(
        [sys.executable, str(HERE / "ftp_origin.py"), arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()


class ScriptedServer:
    """A server whose every reply the test writes; one control connection at a time."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.listener = socket.create_server((host, 0))
        self.listener.settimeout(PATIENCE_S)
        self.port: int = self.listener.getsockname()[1]

    def accept(self, greeting: str = "220 ready") -> Conversation:
        control, _ = self.listener.accept()
        conversation = Conversation(control)
        conversation.write(greeting)
        return conversation

    def close(self) -> None:
        self.listener.close()


# -- clients ---------------------------------------------------------------------------------------


class Conversation:
    """One end of a control connection, line by line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_S)
        self.socket = sock
        self._rest = b""

    @classmethod
    def connect(cls, port: int, host: str = "127.0.0.1") -> Conversation:
        return cls(socket.create_connection((host, port), PATIENCE_S))

    def write(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def line(self) -> str:
        """Return the next line; empty at the end of the stream, or behind a reset."""
        while b"\r\n" not in self._rest:
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = self.socket.recv(65536)
            if not data:
                return ""
            self._rest += data
        line, self._rest = self._rest.split(b"\r\n", 1)
        return line.decode()

    def reply(self) -> str:
        """Return the last line of the next reply."""
        line = self.line()
        while line[3:4] == "-":
            code = line[:3]
            while not line.startswith(f"{code} "):
                line = self.line()
        return line

    def ask(self, command: str) -> str:
        self.write(command)
        return self.reply()

    def login(self, user: str = "user") -> Conversation:
        assert self.reply().startswith("220")
        self.ask(f"USER {user}")
        reply = self.ask("PASS secret")
        assert reply.startswith("230"), reply
        self.ask("TYPE I")
        return self

    def passive(self) -> socket.socket:
        """Open a passive data connection."""
        reply = self.ask("EPSV")
        assert reply.startswith("229"), reply
        port = int(reply.split("|||")[1].split("|")[0])
        data = socket.create_connection((self.socket.getpeername()[0], port), PATIENCE_S)
        data.settimeout(PATIENCE_S)
        return data

    def active(self) -> socket.socket:
        """Announce a listener for an active data connection."""
        host = self.socket.getsockname()[0]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, 0), family=family)
        listener.settimeout(PATIENCE_S)
        port = listener.getsockname()[1]
        reply = self.ask(f"EPRT |{2 if ':' in host else 1}|{host}|{port}|")
        assert reply.startswith("200"), reply
        return listener

    def fetch(self, path: str) -> tuple[bytes, str]:
        """Fetch a file by passive mode: its bytes, and the final reply."""
        with self.passive() as data:
            self.write(f"RETR {path}")
            received = drain(data)
        reply = self.reply()
        return received, self.reply() if reply.startswith("1") else reply

    def store(self, path: str, content: bytes, verb: str = "STOR") -> str:
        """Store a file by passive mode; return the final reply."""
        with self.passive() as data:
            reply = self.ask(f"{verb} {path}".rstrip())
            if not reply.startswith("1"):
                return reply
            data.sendall(content)
        return self.reply()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def drain(data: socket.socket) -> bytes:
    """Return what comes until the end of the stream, or until it is reset."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := data.recv(1 << 16):
            received += piece
    return bytes(received)


# -- the gate --------------------------------------------------------------------------------------


class GateThread:
    """A gate in front of one FTP server; a context manager."""

    def __init__(
        self,
        folder: pathlib.Path,
        server_port: int,
        backend: str,
        *,
        host: str = "127.0.0.1",
        access: dict[str, Any] | None = None,
        block: dict[str, Any] | None = None,
        rule: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        more_filters: dict[str, str] | None = None,
        more_settings: dict[str, dict[str, Any]] | None = None,
        more_tables: str = "",
        isolated: Container[str] = (),
    ) -> None:
        self.folder = folder
        self.host = host
        self.port = 0
        self.errors: list[BaseException] = []
        self._backend = backend
        self._is_closed = False
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._gate: Gate | None = None
        self._failure: BaseException | None = None
        self._life: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        address = f"[{host}]" if ":" in host else host
        names = ["ftp_access", *(more_filters or {}), "exe_block"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sluicegate.toml").write_text(
            f'[[listener]]\nname = "ftp"\naddress = "{address}:0"\n'
            + _table("limits", limits)
            + _filter("ftp_access", access, isolated=isolated)
            + "".join(
                _filter(name, (more_settings or {}).get(name), use)
                for name, use in (more_filters or {}).items()
            )
            + _filter("exe_block", block, isolated=isolated)
            + more_tables
        )
        (folder / "policy.toml").write_text(
            f'[[publish]]\nname = "ftp"\nlistener = "ftp"\nserver = "{address}:{server_port}"\n'
            f'clients = ["{host}"]\nfilters = {json.dumps(names)}\n'
            + _table("publish.settings.ftp_access", rule)
        )

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S), "the gate did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(is_failing=exception[0] is not None)

    def close(self, *, is_failing: bool = False) -> None:
        """Stop the gate, and check that nothing is left; once."""
        assert self._loop is not None
        assert self._stop is not None
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(2 * PATIENCE_S)  # it looks for what is left before
        assert not self._thread.is_alive(), "the gate did not stop"
        if self._failure is not None and not is_failing:
            raise self._failure

    def _run(self) -> None:
        try:
            run(self._live(), backend=self._backend)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _live(self) -> None:
        findings = Findings()
        loaded = load(self.folder / "sluicegate.toml", findings)
        assert loaded is not None, [str(error) for error in findings.errors]
        for folder in (loaded.configuration.state_dir, loaded.configuration.spool_dir):
            folder.mkdir(mode=0o700, exist_ok=True)
        port = current_port()
        port.on_error = self.errors.append
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._life = asyncio.current_task()
        gate = self._gate = Gate(
            loaded, port, diagnosis="", say=lambda _: None, on_stop_requested=lambda _: None
        )
        try:
            await gate.start()
            self.port = int(gate.service.listeners()[0].address.rpartition(":")[2])
            self._ready.set()
            await self._stop.wait()
            await self._check_nothing_is_left(gate)
        finally:
            await gate.stop()

    def wait_idle(self) -> None:
        """Wait until all connections have ended, and check that nothing is left of them."""
        assert self._loop is not None
        assert self._gate is not None
        work = self._check_nothing_is_left(self._gate)
        asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * PATIENCE_S)

    async def _check_nothing_is_left(self, gate: Gate) -> None:
        """Once the clients have gone, so has everything that was there for them."""
        own = {asyncio.current_task(), self._life}

        def left() -> list[asyncio.Task[Any]]:
            # A filter's coroutine may end a step after its connection.
            return [task for task in asyncio.all_tasks() - own if not _is_of_gate(task)]

        async with asyncio.timeout(PATIENCE_S):
            while gate.service.connection_count or gate.spool.statistics().bodies or left():
                await asyncio.sleep(0.01)
        assert not self.errors, self.errors
        assert gate.spool.statistics().bytes_held == 0
        leased = [slot for slot in current_port().backend.pool.slots if slot.leases]
        assert not leased
        assert all(view.expected == 0 for view in gate.service.sessions())

    # -- asking --------------------------------------------------------------------------------

    def client(self) -> Conversation:
        return Conversation.connect(self.port, self.host)

    def process_of(self, name: str) -> int:
        """Return the process in which a filter runs."""
        assert self._gate is not None
        (pid,) = [one.pid for one in self._gate.service.filters() if one.name == name]
        return pid

    def wait_until_held(self) -> None:
        """Wait until an object is held."""
        assert self._gate is not None
        waiting = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            if self._gate.spool.statistics().bodies:
                return
            waiting.wait(0.02)
        raise AssertionError("nothing is held")

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "state" / "records.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]

    def wait_for(self, kind: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a record is written (they are, within 50 ms of their cause)."""
        waiting = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            for record in self.records(kind):
                if wanted(record):
                    return record
            waiting.wait(0.02)
        raise AssertionError(f"no such {kind} record: {self.records(kind)}")

    def transfer(self, name: str) -> dict[str, Any]:
        """Return the record of the transfer of a file, when it is written."""
        return self.wait_for("transfer", lambda record: record["name"] == name)


def _is_of_gate(task: asyncio.Task[Any]) -> bool:
    """The recorder's and the control socket's own tasks live until the gate stops."""
    coroutine = task.get_coro()
    return "RecordWriter" in repr(coroutine) or "Control" in repr(coroutine)


def _table(name: str, values: dict[str, Any] | None) -> str:
    if not values:
        return ""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return f"\n[{name}]\n{lines}"


def _filter(
    name: str, settings: dict[str, Any] | None, use: str = "", isolated: Container[str] = ()
) -> str:
    used = f"use = {json.dumps(use)}\n" if use else ""
    used += 'isolation = "process"\n' if name in isolated else ""
    return f'\n[[filter]]\nname = "{name}"\n{used}' + _table("filter.settings", settings)
