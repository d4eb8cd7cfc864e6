"""Child: one process that the supervisor started, from its start until it has ended.

``supervisor`` has one for each worker and one for the audit writer. The invariant: a child gets its
end of a channel, the standard descriptors, and nothing else that this process has open; what it
needs beside comes over the channel.

It is a fresh interpreter, not a fork: nothing of this process is in its memory, and after an update
of the program on disk its replacement is of the new version (``orders.PROTOCOL`` guards that).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from sluicegate import collector

from .channel import Channel, FrameReader
from .handover import ChildLeft
from .orders import AnyMessage, Message

__all__ = ["START", "Child", "Role"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic

Role: TypeAlias = Literal[
    "worker",
    "audit_writer",
    "signer",
    "store_keeper",
    "forwarder",
    "console",
    "metrics_exporter",
    "alerter",
]

START: Final = (
    f"{collector.PAUSED}; import sys; sys.path[:] = sys.argv[4:]; "
    "from sluicegate.app.processes.{role} import main; main(int(sys.argv[2])); "
    "from sluicegate import collector; collector.end(0)"
)
"""What a child runs. It gets this process's path of modules as it is: ``-m`` would put the current
folder in front of it, and whatever lies there."""


OnMessage: TypeAlias = Callable[["Child", AnyMessage, list[int]], None]
OnEnded: TypeAlias = Callable[["Child", str], None]


class Child:
    """One process; ``on_message`` and ``on_ended`` are told on the supervisor's loop."""

    def __init__(
        self, pid: int, connected: _Socket, on_message: OnMessage, on_ended: OnEnded, unread: bytes
    ) -> None:
        """Take a process that is this one's child, and its channel.

        Args:
            pid: Of the process.
            connected: The socket to it; owned from now on.
            on_message: Told of what it says.
            on_ended: Told once, how it ended (``signal SIGKILL``, ``status 1``).
            unread: What it has said already and was not whole.
        """
        self.pid = pid
        self.has_ended = False
        self._pidfd = os.pidfd_open(pid)
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        reader = FrameReader()
        reader.feed(unread, ())
        self._channel = Channel(
            connected,
            lambda message, descriptors: on_message(self, message, descriptors),
            lambda _: None,
            reader,
        )
        self._loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    def start(cls, role: Role, label: str, on_message: OnMessage, on_ended: OnEnded) -> Child:
        """Start a process.

        Args:
            role: Which module of this package it runs.
            label: Seen in the list of processes.
            on_message: Told of what it says.
            on_ended: Told once, how it ended.

        Raises:
            OSError: The system has no room for another process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-P", *_interpreter_options(), "-c", START.format(role=role)]
        arguments = [role, str(theirs.fileno()), label]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, *arguments, *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        # It is waited for by its number, as one that an earlier version of this program started.
        process.returncode = 0
        return cls(process.pid, ours, on_message, on_ended, b"")

    def leave(self, started: float, version: str) -> ChildLeft:
        """Describe it for the next version of this program."""
        channel, unread = self._channel.describe()
        return ChildLeft(self.pid, channel, unread, started, version)

    @property
    def is_told(self) -> bool:
        """Whether all that was sent to it has left this process."""
        return self._channel.is_idle

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """Say something to it."""
        self._channel.send(message, descriptors or ())

    def let_go(self) -> None:
        """Close the channel: it ends as soon as it has finished what it must."""
        self._channel.close()

    def kill(self) -> None:
        """End it at once."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _on_exit(self) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.has_ended = True
        # What it said last is still there.
        self._channel.drain_input()
        self._channel.close()
        self._on_ended(self, _describe(status))


def _describe(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _interpreter_options() -> list[str]:
    """Pass on what this interpreter was told about warnings, and about what it may write."""
    options = [f"-W{one}" for one in sys.warnoptions]
    if sys.dont_write_bytecode:
        options.append("-B")
    return options
