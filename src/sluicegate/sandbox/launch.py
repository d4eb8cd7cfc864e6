"""Launching a sandboxed process: a fresh interpreter with one descriptor, and the end of it.

A cell launches one per incarnation, a scanner each of its processes. The invariant: what is
launched inherits the wire and nothing else, neither descriptors nor environment, and is waited for.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from sluicegate import collector

from .wire import SocketWire, Wire, WireBroken, WireSocket, wire_sockets

__all__ = [
    "Launched",
    "LaunchedProcess",
    "Launcher",
    "Surroundings",
    "code_folders",
    "describe_end",
    "launcher",
    "spawn",
]

MessageT = TypeVar("MessageT")
SaidT_co = TypeVar("SaidT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process finds of the machine, and what is kept from it."""

    entry: str
    """The module whose ``main`` it runs."""
    readable: tuple[str, ...]
    """Files that it may read besides code: a filter's own."""
    secret: tuple[str, ...]
    """Files and folders that it must not be able to read."""
    memory_bytes_max: int
    """Its address space."""


class Launched(Protocol):
    """One launched process."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def wire(self) -> Wire:
        """How to speak to it."""
        ...

    def kill(self) -> None:
        """End it now; harmless when it has ended."""
        ...

    def memory_bytes(self) -> int:
        """Return its resident memory; 0 when it has ended."""
        ...


class Launcher(Protocol[SaidT_co]):
    """Launches processes."""

    def __call__(
        self,
        on_message: Callable[[SaidT_co, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        on_ended: Callable[[str], None],
    ) -> Launched:
        """Launch one.

        Args:
            on_message: Told of what it says.
            on_broken: Told that it will say nothing more.
            on_ended: Told, once, how the process ended.

        Raises:
            OSError: No process can be had.
        """
        ...


def spawn(surroundings: Surroundings, theirs: WireSocket) -> subprocess.Popen[bytes]:
    """Start an interpreter with a wire's other end.

    It inherits nothing else: no descriptor, no environment, no terminal. The kernel kills it with
    the thread that calls this, so it must be one that lives as long as the gate.

    Raises:
        OSError: No process can be had.
    """
    roots = code_folders()
    # As ``arrival`` reads them.
    arguments = [
        str(theirs.fileno()),
        str(os.getpid()),
        str(surroundings.memory_bytes_max),
        str(len(roots) + len(surroundings.readable)),
        *roots,
        *surroundings.readable,
        *surroundings.secret,
    ]
    imports = f"import sys; sys.path[:] = {sys.path!r}; from {surroundings.entry} import main"
    code = f"{collector.PAUSED}; {imports}; main()"
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-I", "-B", "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


_ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    # Each arena reserves 64 MiB of the address space that is bounded.
    "MALLOC_ARENA_MAX": "2",
}


def code_folders() -> list[str]:
    """Return where code and the data of libraries may be."""
    own = {one for one in (*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix) if one}
    return [*sorted(own), *_SYSTEM]


_SYSTEM: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
    "/dev/zero",
)


def launcher(surroundings: Surroundings, decode: Callable[[bytes], MessageT]) -> Launcher[MessageT]:
    """Return what launches processes in these surroundings.

    Args:
        surroundings: The same for each of them.
        decode: Reads what they say.
    """

    def launch_one(
        on_message: Callable[[MessageT, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        on_ended: Callable[[str], None],
    ) -> Launched:
        return LaunchedProcess(surroundings, decode, on_message, on_broken, on_ended)

    return launch_one


class LaunchedProcess(Generic[MessageT]):
    """A launched interpreter, until it was waited for; satisfies ``Launched``."""

    def __init__(
        self,
        surroundings: Surroundings,
        decode: Callable[[bytes], MessageT],
        on_message: Callable[[MessageT, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        on_ended: Callable[[str], None],
    ) -> None:
        """Launch it; arguments and errors as for ``Launcher``."""
        ours, theirs = wire_sockets()
        try:
            self._process = spawn(surroundings, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.wire = SocketWire(ours, decode, on_message, on_broken)
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._end = os.pidfd_open(self.pid)
        self._loop.add_reader(self._end, self._on_end)

    def kill(self) -> None:
        """As ``Launched.kill``."""
        if self._end >= 0:
            self._process.kill()

    def memory_bytes(self) -> int:
        """As ``Launched.memory_bytes``."""
        try:
            fields = pathlib.Path(f"/proc/{self.pid}/statm").read_bytes().split()
        except OSError:
            return 0
        return int(fields[1]) * _PAGE_BYTES

    def _on_end(self) -> None:
        self._loop.remove_reader(self._end)
        os.close(self._end)
        self._end = -1
        status = self._process.wait()
        self.wire.close()
        self._on_ended(describe_end(status))


_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def describe_end(status: int) -> str:
    """Say how a process ended, for people."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
