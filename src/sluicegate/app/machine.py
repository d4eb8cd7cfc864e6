"""What the gate asks of the machine that it runs on: descriptors, folders, memory, its one lock.

``build`` and ``run`` call it at start. The invariant: whatever the machine cannot give is an error
or a warning with its cure before the first client comes, not a surprise afterwards.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import resource
import socket
from typing import Final, Self

from sluicegate.errors import ConfigError
from sluicegate.limits import Limits

__all__ = [
    "StateLock",
    "Usage",
    "make_directory",
    "notify_service_manager",
    "raise_descriptor_limit",
]

_DESCRIPTORS_BESIDE: Final = 512
"""Descriptors for what is not a connection: files of the spool, pipes, listeners, libraries."""


class StateLock:
    """Held by the one gate that uses a ``state_dir``, until it ends, however it ends."""

    def __init__(self, path: pathlib.Path) -> None:
        """Take the lock.

        Raises:
            ConfigError: Another gate has it, or the file cannot be made.
        """
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                str(path),
                f"cannot be made: {error.strerror}",
                'set "state_dir" in [service] to a folder that the gate may write',
            ) from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.descriptor)
            raise ConfigError(
                str(path.parent),
                "another gate runs with this state_dir",
                "stop it (sluicegate stop), or give each its own",
            ) from error

    @classmethod
    def take(cls, descriptor: int) -> Self:
        """Go on with the lock that the version of this program before has taken."""
        lock = cls.__new__(cls)
        lock.descriptor = descriptor
        return lock

    def release(self) -> None:
        """Let another gate have it."""
        os.close(self.descriptor)


def make_directory(path: pathlib.Path, key: str) -> None:
    """Make a private folder, unless it is there.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be made: {error.strerror}", f"set {key} to a folder that can"
        ) from error


def raise_descriptor_limit(limits: Limits) -> tuple[int, str]:
    """Raise RLIMIT_NOFILE to what the hard limit allows; return it, and a warning or nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = 2 * limits.connections_max + _DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY and hard < needed:
        return hard, (
            f"{hard} descriptors are allowed, {needed} are needed for connections_max = "
            f"{limits.connections_max}: beyond, accepting waits (raise LimitNOFILE or ulimit -Hn)"
        )
    return hard, ""


class Usage:
    """What this process takes; holds its descriptor open, to be asked when there are no others.

    It answers after ``close`` too: who ends is still asked how it is.
    """

    def __init__(self) -> None:
        self._statm = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)

    def resident_bytes(self) -> int:
        """Return the resident memory."""
        if self._statm >= 0:
            read = os.pread(self._statm, 256, 0)
        else:
            read = pathlib.Path(_STATM).read_bytes()
        return int(read.split()[1]) * resource.getpagesize()

    def cpu_s(self) -> float:
        """Return the CPU time since the start."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._statm)
        self._statm = -1


_STATM: Final = "/proc/self/statm"


def notify_service_manager(message: str) -> None:
    """Tell the service manager (sd_notify), if one asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A datagram to the machine's own service manager, not traffic: no port is needed for it.
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_UNIX, kind) as sender:  # noqa: TID251 - see above
        sender.connect(address)
        sender.send(message.encode())
