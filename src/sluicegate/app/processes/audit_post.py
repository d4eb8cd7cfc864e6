"""AuditPost: the place that the audit writer fills, in the supervisor.

``supervisor`` has one. The invariant: there is one audit writer at a time, each begins where the
last one ended (``audit.journal``), and the file stays open here, whoever writes it.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
from collections.abc import Callable

from sluicegate.audit.journal import JOURNAL_BYTES, Journal
from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.process_limits import WORKER_START_TIMEOUT_S

from .backoff import Backoff
from .child import Child
from .handover import ChildLeft, Handover
from .orders import AnyMessage, BeginAudit, ChangeLog, HoldLog, Ready, Said, StreamEnded, TakeStream

__all__ = ["AuditPost"]


class AuditPost:
    """The audit writer of one gate, and its replacements."""

    def __init__(
        self,
        path: pathlib.Path,
        clock: Clock,
        say: Callable[[str], None],
        *,
        on_replaced: Callable[[int, str], None],
        on_stream_ended: Callable[[int, int], None],
        left: Handover | None = None,
    ) -> None:
        """Open the log.

        Args:
            path: Of the log; made with mode 0640 when it does not exist.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
            on_replaced: Told the number of a writer that is gone, and how it ended (nothing when
                that was wanted), when there is another one: every sender needs a socket to it.
            on_stream_ended: Told the row of a sender that is gone, and how many of its records are
                in the file.
            left: By the version before, if there was one.

        Raises:
            ConfigError: The log cannot be opened.
        """
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self._path = path
        self._clock = clock
        self._say = say
        self._on_replaced = on_replaced
        self._on_stream_ended = on_stream_ended
        if left is None:
            self._log = open_log(path)
            self._journal_fd = os.memfd_create("sluicegate-journal", os.MFD_CLOEXEC)
            os.ftruncate(self._journal_fd, JOURNAL_BYTES)
        else:
            self._log, self._journal_fd = left.log, left.journal
        self.journal = Journal(self._journal_fd)
        self._backoff = Backoff()
        self._child: Child | None = None
        self._ready: asyncio.Future[None] | None = None
        self._gone: asyncio.Event = asyncio.Event()
        self._gone_pid, self._gone_cause = 0, ""
        self._left_log = -1
        #: The file before, in which the last write of a writer that died may be.
        self._held = ""
        #: Why nothing is to be written, though it could be.
        self._is_closing = False
        self._is_renewing = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The writer's process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    @property
    def is_holding_back(self) -> bool:
        """Whether writers end soon after their start."""
        return self._backoff.is_holding_back

    async def start(self) -> None:
        """Start the first writer.

        Raises:
            ConfigError: It does not work.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._start()
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise ConfigError(
                str(self._path), "the audit writer did not start", "see the output above"
            ) from None

    def take(self, left: ChildLeft) -> None:
        """Go on with the writer that the version before has started."""
        self.started, self.version = left.started, left.version
        self._ready = asyncio.get_running_loop().create_future()
        self._ready.set_result(None)
        connected = socket.socket(fileno=left.channel)  # noqa: TID251 - it carries orders
        self._child = Child(left.pid, connected, self._on_message, self._on_ended, left.unread)

    def leave(self) -> tuple[int, int, ChildLeft] | None:
        """Describe journal, log and writer for the next version; None when there is no writer."""
        if self._child is None or not self._child.is_told:
            return None
        return self._journal_fd, self._log, self._child.leave(self.started, self.version)

    def renew(self) -> None:
        """Put a writer of this version in the place of an older one.

        It is killed: that loses nothing, and waiting for its end would hold up everybody.
        """
        if self._child is not None:
            self._is_renewing = True
            self._child.kill()

    def connect(self, row: int) -> int:
        """Return the descriptor of a new socket to the writer, for a sender."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            if self._child is not None:
                self._child.send(TakeStream(row=row), [theirs.fileno()])
        return ours.detach()

    def reopen(self) -> None:
        """Open the log's path again, after a rotation; the old file goes on if that fails."""
        try:
            opened = open_log(self._path)
        except ConfigError as error:
            self._say(f"{error}; records go on to the file that was open")
            return
        if self._child is None and self._left_log >= 0:
            os.close(self._log)  # nobody wrote to it: the last writer wrote to the one before
        else:
            self._close_left()
            self._left_log = self._log
        self._log = opened
        if self._child is not None:
            self._child.send(ChangeLog(), [opened])

    def hold(self, cause: str) -> None:
        """Have nothing written, as if the file could not be; for no cause, go on."""
        if cause != self._held:
            self._held = cause
            if self._child is not None:
                self._child.send(HoldLog(cause=cause))

    async def close(self) -> None:
        """Let the writer write what it has, and end."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
        if self._child is not None:
            self._child.let_go()
            try:
                async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                    await self._gone.wait()
            except TimeoutError:
                self._say("the audit writer does not end: killed")
                self._child.kill()
                await self._gone.wait()
        self.journal.close()
        os.close(self._journal_fd)
        os.close(self._log)
        self._close_left()

    # -- private -------------------------------------------------------------------------------

    def _close_left(self) -> None:
        if self._left_log >= 0:
            os.close(self._left_log)
            self._left_log = -1

    def _start(self) -> None:
        self._retry = None
        if self._left_log >= 0:
            self.journal.recover_left(self._left_log)
        self._gone.clear()
        self._backoff.on_started(self._clock.monotonic())
        self.started = self._clock.wall()
        try:
            self._child = Child.start(
                "audit_writer", str(self._path), self._on_message, self._on_ended
            )
        except OSError as error:
            self._say(f"the audit writer cannot be started: {error.strerror}")
            self._try_again()
            return
        begin = BeginAudit(path=str(self._path))
        self._child.send(begin, [self._journal_fd, self._log])
        if self._held:
            self._child.send(HoldLog(cause=self._held))

    def _on_message(self, child: Child, message: AnyMessage, _descriptors: list[int]) -> None:
        if child is not self._child:
            return
        match message:
            case Ready(version=version):
                self.version = version
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
                elif self._gone_pid:
                    pid, self._gone_pid = self._gone_pid, 0
                    self._on_replaced(pid, self._gone_cause)
            case Said(line=line):
                self._say(line)
            case StreamEnded(row=row, records=records):
                self._on_stream_ended(row, records)
            case _:
                raise AssertionError(f"{message} is no audit writer's")

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if self._is_closing:
            return
        self._gone_pid, self._gone_cause = child.pid, how
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(
                ConfigError(str(self._path), f"the audit writer ended: {how}", "see the output")
            )
            return
        if self._is_renewing:
            self._is_renewing = False
            self._gone_cause = ""
            self._start()
            return
        self._say(f"the audit writer ended ({how}) and is started again; records wait")
        self._try_again()

    def _try_again(self) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start)


def open_log(path: pathlib.Path) -> int:
    """Open the log for appending.

    Raises:
        ConfigError: It cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(
            str(path),
            f"the log cannot be opened: {error.strerror}",
            'set "path" in [log] to a file that the gate may write',
        ) from error
