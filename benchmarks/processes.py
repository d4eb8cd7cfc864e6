"""The processes of a benchmark: pinned to a core, waited for, and always ended.

Relays, servers and long-running loads are started and ended here.  The invariant: whatever ends the
run (success, failure, Ctrl-C), no process of it survives, nor its descendants.
"""

import contextlib
import dataclasses
import itertools
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

RELAY_CORE = 0
LOAD_CORE = 1
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
DESCRIPTORS_MIN = 65_536


class BenchmarkError(Exception):
    """A measurement could not be made; the message says why."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A started process of the bench, and where its output goes."""

    name: str
    process: subprocess.Popen[str]
    output: Path

    @property
    def pid(self) -> int:
        """The process's number; the command replaces `taskset`, so it is the program's own."""
        return self.process.pid

    def check_alive(self) -> None:
        """Fails with the end of the output when the process has ended.

        Raises:
            BenchmarkError: it has.
        """
        if self.process.poll() is not None:
            tail = self.output.read_text(errors="replace")[-2000:]
            raise BenchmarkError(
                f"{self.name} ended with status {self.process.returncode}:\n{tail}"
            )


class Bench:
    """A temporary directory and the processes started in it, until the `with` block ends."""

    def __init__(self, disk: Path = Path("/var/tmp")) -> None:
        self._stack = contextlib.ExitStack()
        self._disk = disk
        self.directory = Path()

    def __enter__(self) -> Self:
        cores = os.sched_getaffinity(0)
        if not {RELAY_CORE, LOAD_CORE} <= cores:
            raise BenchmarkError("two cores are needed: one for the relay, one for all else")
        check_is_disk(self._disk)
        raise_descriptor_limit()
        os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps servers
        os.sched_setaffinity(0, {LOAD_CORE})
        self._stack.callback(os.sched_setaffinity, 0, cores)
        self.directory = Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def make_directory(self, name: str, parent: Path | None = None) -> Path:
        """A new directory for one participant, removed at the end wherever it is."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent or self.directory))
        self._stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def disk_directory(self, name: str) -> Path:
        """A new directory on a real disk, for spools."""
        return self.make_directory(f"sluicegate-bench-{name}", self._disk)

    @contextlib.contextmanager
    def running(
        self, name: str, command: Sequence[str], *, core: int | str, port: int | None = None
    ) -> Generator[Running]:
        """Runs a command on its core or cores, from when its port accepts until the block ends."""
        output = Path(tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=self.directory)[1])
        with output.open("w") as sink:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        started = Running(name, process, output)
        try:
            if port is not None:
                wait_until_accepting(started, port)
            yield started
        finally:
            end_group(process)


def raise_descriptor_limit() -> None:
    """Lets this process and its children have enough descriptors for the idle connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(DESCRIPTORS_MIN, hard)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """How many descriptors a process of the bench may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_is_disk(path: Path) -> None:
    """Makes sure that spools will lie on a disk: in memory they would measure nothing.

    Raises:
        BenchmarkError: the directory is on tmpfs.
    """
    if not path.is_dir():
        raise BenchmarkError(f"{path} is not a directory; name one with --spool-dir")
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    if kind in {"tmpfs", "ramfs"}:
        raise BenchmarkError(f"{path} is in memory ({kind}); name a disk with --spool-dir")


def wait_until_accepting(started: Running, port: int) -> None:
    """Returns once something accepts on the port.

    Raises:
        BenchmarkError: the process ended, or nothing accepted in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        started.check_alive()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    tail = started.output.read_text(errors="replace")[-2000:]
    raise BenchmarkError(f"{started.name} did not accept on port {port}:\n{tail}")


def end_group(process: subprocess.Popen[str]) -> None:
    """Ends a process and everything in its group, patiently first."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


PORTS = itertools.islice(itertools.cycle(range(18_000, 19_000)), os.getpid() * 53 % 1000, None)
"""Below the range that outgoing connections draw from; never the same twice in a row, and not the
same as another bench's that runs beside this one: what is free now may be taken in a moment."""


def free_port() -> int:
    """A port nobody listens on now.

    Raises:
        BenchmarkError: all are taken.
    """
    for port in itertools.islice(PORTS, 1000):
        with socket.socket() as streams, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                streams.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchmarkError("no free port between 18000 and 19000")
