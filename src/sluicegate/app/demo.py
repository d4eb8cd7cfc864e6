"""The demonstration: a real FTP server, a real gate, a real client, and what became of each file.

``cli demo`` calls ``run_demo``. Everything runs on loopback, on ports that the kernel chooses, in a
temporary folder on disk, without privileges. The invariant: an outcome counts as right only if the
client's bytes, the gate's record and what was expected agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import hashlib
import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from sluicegate.address import SocketAddress
from sluicegate.audit.query import LogFile, LogLine
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError
from sluicegate.port.diagnosis import diagnose
from sluicegate.port.loop import current_port, run

from .build import Gate
from .load import load
from .machine import make_directory

__all__ = ["DemoOutcome", "DemoReport", "Fetched", "run_demo"]


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the origin, and what the gate must say to it."""

    name: str
    path: str
    content: Callable[[], bytes]
    verdict: Literal["released", "refused"]


class DemoOutcome(msgspec.Struct, kw_only=True):
    """What became of one file."""

    name: str
    bytes: int
    """Bytes that the gate held."""
    verdict: str
    """``released`` or ``refused``."""
    reason: str
    sha256_ok: bool | None
    """Whether the client got the origin's file, byte for byte; null when refused."""
    bytes_to_client: int
    """Bytes that reached the client."""
    held_ms: float
    """From the first byte to the verdict."""


class DemoReport(msgspec.Struct, kw_only=True):
    """What ``--json`` prints."""

    backend: str
    """``io_uring`` or ``epoll``."""
    outcomes: list[DemoOutcome]


@dataclass(slots=True)
class Fetched:
    """One file as its client saw it, with its record and whether all is right; for people."""

    outcome: DemoOutcome
    is_right: bool
    elapsed_s: float
    reply: str
    """The server's final reply, or the gate's in its place."""
    bytes_written: int
    """Bytes that the spool wrote to its file."""


@dataclass(slots=True)
class Demo:
    """Everything that came of a demonstration."""

    report: DemoReport
    fetched: list[Fetched] = field(default_factory=list["Fetched"])
    records: list[LogLine] = field(default_factory=list["LogLine"])

    @property
    def is_right(self) -> bool:
        """Whether every file was fetched, and every outcome was right."""
        return len(self.fetched) == len(_FILES) and all(one.is_right for one in self.fetched)


def run_demo(say: Callable[[str], None], on_fetched: Callable[[Fetched], None]) -> Demo:
    """Fetch every file of an FTP server through a gate, and say what became of each.

    Args:
        say: Shows a line of progress.
        on_fetched: Told of each file.

    Raises:
        ConfigError: pyftpdlib is missing, or there is no room for the files.
        BackendUnavailable: The environment asks for io_uring, and it is refused.
    """
    if importlib.util.find_spec("pyftpdlib") is None:
        raise ConfigError(
            "sluicegate demo",
            "pyftpdlib is missing: the demonstration needs an FTP server to stand behind the gate",
            "pip install 'sluicegate[demo]'",
        )
    try:
        with tempfile.TemporaryDirectory(prefix="sluicegate-demo-", dir=_disk()) as folder:
            return run(_Demonstration(pathlib.Path(folder), say, on_fetched).live())
    except OSError as error:
        raise ConfigError(
            "sluicegate demo",
            f"the temporary folder cannot be used: {error.strerror}",
            "set TMPDIR to a folder with 200 MiB free, on a disk",
        ) from error


def _disk() -> str | None:
    """Return a folder for temporary files that is no memory file system, where there is one."""
    wanted = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - a private folder is made there
    return wanted if os.access(wanted, os.W_OK) else None


class _Demonstration:
    """One run."""

    def __init__(
        self,
        folder: pathlib.Path,
        say: Callable[[str], None],
        on_fetched: Callable[[Fetched], None],
    ) -> None:
        self._folder = folder
        self._say = say
        self._on_fetched = on_fetched
        self._clock = SystemClock()
        self._digests: dict[str, str] = {}

    async def live(self) -> Demo:
        """Start the server and the gate, fetch, and end both."""
        demo = Demo(DemoReport(backend=current_port().backend.name, outcomes=[]))
        self._say("making the files of the FTP server")
        origin_folder = self._folder / "origin"
        await asyncio.to_thread(self._make_files, origin_folder)
        async with _origin(origin_folder) as origin, self._gate(origin) as (gate, address):
            log = LogFile(gate.loaded.configuration.log_path)
            for file in _FILES:
                self._say(f"fetching {file.path}")
                fetched = await self._fetch(file, address, log, demo)
                demo.fetched.append(fetched)
                demo.report.outcomes.append(fetched.outcome)
                self._on_fetched(fetched)
        demo.records.extend(log.new_lines())
        log.close()
        return demo

    def _make_files(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        for file in _FILES:
            content = file.content()
            (folder / file.path).write_bytes(content)
            self._digests[file.path] = hashlib.sha256(content).hexdigest()

    @contextlib.asynccontextmanager
    async def _gate(self, origin: SocketAddress) -> AsyncGenerator[tuple[Gate, SocketAddress]]:
        """Run a gate in front of the server, from files as an operator writes them."""
        (self._folder / "sluicegate.toml").write_text(_CONFIGURATION, encoding="utf-8")
        (self._folder / "policy.toml").write_text(_POLICY.format(server=origin), encoding="utf-8")
        findings = Findings()
        loaded = load(self._folder / "sluicegate.toml", findings)
        if loaded is None:
            raise ConfigRefused(tuple(findings.errors))
        make_directory(loaded.configuration.state_dir, "TMPDIR")
        make_directory(loaded.configuration.spool_dir, "TMPDIR")
        diagnosis = str(diagnose())
        gate = Gate(
            loaded,
            current_port(),
            diagnosis=diagnosis,
            say=self._say,
            on_stop_requested=lambda _: None,
        )
        try:
            await gate.start()
            address = SocketAddress.parse(gate.service.listeners()[0].address)
            self._say(f"FTP server on {origin}, gate on {address}; backend {diagnosis}")
            for warning in gate.warnings:
                self._say(f"warning: {warning}")
            yield gate, address
            await gate.drain(_PATIENCE_S)
        finally:
            await gate.stop()

    async def _fetch(self, file: _File, gate: SocketAddress, log: LogFile, demo: Demo) -> Fetched:
        began = self._clock.monotonic()
        count, digest, reply = await asyncio.to_thread(_download, gate, file.path)
        elapsed_s = self._clock.monotonic() - began
        fields = (await self._record_of(file, log, demo)).fields
        verdict = str(fields["verdict"])
        is_whole = digest == self._digests[file.path]
        outcome = DemoOutcome(
            name=file.name,
            bytes=int(fields["bytes"]),
            verdict=verdict,
            reason=str(fields["reason"]),
            sha256_ok=is_whole if verdict == "released" else None,
            bytes_to_client=count,
            held_ms=float(fields.get("held_ms", 0.0)),
        )
        is_right = verdict == file.verdict and (is_whole if verdict == "released" else count == 0)
        written = int(fields.get("bytes_written", 0))
        return Fetched(outcome, is_right, elapsed_s, reply, written)

    async def _record_of(self, file: _File, log: LogFile, demo: Demo) -> LogLine:
        """Wait until the gate has written the record of a transfer."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                new = list(log.new_lines())
                demo.records.extend(new)
                for line in new:
                    if line.text("kind") == "transfer" and line.text("name") == file.path:
                        return line
                await asyncio.sleep(_LOOK_S)


@contextlib.asynccontextmanager
async def _origin(folder: pathlib.Path) -> AsyncGenerator[SocketAddress]:
    """Run the FTP server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sluicegate.app.demo_origin", str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            line = await process.stdout.readline()
        if not line.strip().isdigit():
            raise ConfigError(
                "sluicegate demo", "the FTP server did not start", "see its message above"
            )
        yield SocketAddress("127.0.0.1", int(line))
    finally:
        process.stdin.close()
        await process.wait()


def _download(gate: SocketAddress, path: str) -> tuple[int, str, str]:
    """Fetch a file as any client would (on a thread): its length, digest and final reply."""
    digest = hashlib.sha256()
    count = 0

    def take(piece: bytes) -> None:
        nonlocal count
        digest.update(piece)
        count += len(piece)

    with ftplib.FTP(timeout=_PATIENCE_S) as ftp:  # noqa: S321 - FTP is what is demonstrated
        ftp.connect(gate.host, gate.port)
        ftp.login()
        try:
            reply = ftp.retrbinary(f"RETR {path}", take, blocksize=1 << 18)
        except ConnectionResetError:
            # The data connection, as announced; the control connection says why.
            reply = _final_reply(ftp)
        except ftplib.error_perm as refusal:
            reply = str(refusal)
    return count, digest.hexdigest(), reply


def _final_reply(ftp: ftplib.FTP) -> str:
    try:
        return ftp.getresp()
    except ftplib.Error as refusal:
        return str(refusal)


def _clean_content() -> bytes:
    return b"Sluicegate demonstration\n" + os.urandom(_CLEAN_BYTES - 25)


def _pe_content() -> bytes:
    """Return the headers of a Windows executable, with nothing in it that could run."""
    header = bytearray(b"MZ" + bytes(126))
    header[0x3C] = len(header)
    return bytes(header) + b"PE\0\0" + bytes(_EXECUTABLE_BYTES)


def _elf_content() -> bytes:
    """Return the identification of a Linux executable, with nothing in it that could run."""
    return b"\x7fELF\x02\x01\x01" + bytes(_EXECUTABLE_BYTES)


_CLEAN_BYTES: Final = 64 << 20
_EXECUTABLE_BYTES: Final = 300_000
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.02

_FILES: Final = (
    _File("ftp clean", "clean.bin", _clean_content, "released"),
    _File("ftp pe", "setup.exe", _pe_content, "refused"),
    _File("ftp elf", "installer.run", _elf_content, "refused"),
    _File("ftp empty", "empty.txt", bytes, "released"),
)

_CONFIGURATION: Final = """\
[[listener]]
name = "ftp"
address = "127.0.0.1:0"

[[filter]]
name = "ftp_access"

[[filter]]
name = "exe_block"
"""

_POLICY: Final = """\
[[publish]]
name = "demo"
listener = "ftp"
server = "{server}"
clients = ["127.0.0.0/8"]
filters = ["ftp_access", "exe_block"]
"""
