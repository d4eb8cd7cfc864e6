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

from .channel import Channel
from .orders import AnyMessage, Message

__all__ = ["Child", "Role"]

Role: TypeAlias = Literal["worker", "audit_writer"]

_START: Final = (
    "import sys; sys.path[:] = sys.argv[4:]; "
    "from sluicegate.app.processes.{role} import main; main(int(sys.argv[2]))"
)
"""What a child runs. It gets this process's path of modules as it is: ``-m`` would put the current
folder in front of it, and whatever lies there."""


class Child:
    """One process; ``on_message`` and ``on_ended`` are told on the supervisor's loop."""

    def __init__(
        self,
        role: Role,
        label: str,
        on_message: Callable[[Child, AnyMessage, list[int]], None],
        on_ended: Callable[[Child, str], None],
    ) -> None:
        """Start it.

        Args:
            role: Which module of this package it runs.
            label: Seen in the list of processes.
            on_message: Told of what it says.
            on_ended: Told once, how it ended (``signal SIGKILL``, ``status 1``).

        Raises:
            OSError: The system has no room for another process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-P", *_interpreter_options(), "-c", _START.format(role=role)]
        arguments = [role, str(theirs.fileno()), label]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, *arguments, *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(
            ours, lambda message, fds: on_message(self, message, fds), lambda _: None
        )
        self._loop.add_reader(self._pidfd, self._on_exit)
        self.has_ended = False

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
        status = self._process.wait()
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
