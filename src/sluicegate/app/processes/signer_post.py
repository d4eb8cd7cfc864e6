"""SignerPost: the place that the signer fills, in the supervisor or in a gate of one process.

The invariant: the keys stay open here, unread, so that a signer that has ended is replaced; while
there is none, whoever asks is told so at once; and other keys are taken over only once a signer
has shown that it can sign with them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from sluicegate.app.authority_files import OpenAuthority, warn_of_expiry
from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.process_limits import WORKER_START_TIMEOUT_S
from sluicegate.sandbox.wire import wire_sockets

from .backoff import Backoff
from .child import Child
from .handover import ChildLeft
from .orders import PROTOCOL, AnyMessage, BeginSigner, Failed, Ready, Said, TakeWorker

__all__ = ["SignerPost"]


class SignerPost:
    """The signer of one gate, and its replacements."""

    def __init__(
        self,
        clock: Clock,
        say: Callable[[str], None],
        on_replaced: Callable[[int, str], None],
    ) -> None:
        """Have none.

        Args:
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
            on_replaced: Told the number of a signer that is gone, and how it ended (nothing when
                that was wanted), when there is another one, or none is needed any more: every
                worker needs a socket to it.
        """
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self.opened: OpenAuthority | None = None
        #: What it signs with; None: there is no signer.
        self._clock = clock
        self._say = say
        self._on_replaced = on_replaced
        self._backoff = Backoff()
        self._child: Child | None = None
        self._fresh: Child | None = None
        #: One that is being started.
        self._fresh_ready: asyncio.Future[None] | None = None
        #: Somebody waits for it.
        self._leaving: set[Child] = set()
        self._empty = asyncio.Event()
        self._gone_pid, self._gone_cause = 0, ""
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The signer's process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    @property
    def chain(self) -> str:
        """The certificate that it signs with and what is sent with it, as PEM; empty: none."""
        return self.opened.chain if self.opened is not None else ""

    @property
    def is_holding_back(self) -> bool:
        """Whether signers end soon after their start."""
        return self._backoff.is_holding_back

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        if self.opened is None:
            return []
        found = warn_of_expiry(self.opened, self._clock)
        if self._child is None:
            found.append("the signer is not there: TLS is opened for known servers only")
        if self.is_holding_back:
            found.append(f"the signer had to be started again {self.restarts} times")
        return found

    # -- which keys ----------------------------------------------------------------------------

    async def change(self, opened: OpenAuthority | None) -> None:
        """Sign with these keys from now on, or with none; those before are closed.

        Raises:
            ConfigError: No signer can work with them; it is as it was, and they are closed.
        """
        before = self.opened
        if opened is not None:
            try:
                await self._try(opened)
            except ConfigError:
                opened.close()
                raise
        elif self._child is not None:
            self._let_go(self._child)
            self._child = None
        self.opened = opened
        if before is not None:
            before.close()
        if before is not None or opened is not None:
            self._on_replaced(0, "")

    async def _try(self, opened: OpenAuthority) -> None:
        """Put a signer with these keys in the place of the one that is there."""
        self._cancel_retry()
        if self._fresh is not None:
            self._let_go(self._fresh)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fresh_ready = ready
        fresh = self._fresh = self._start(opened)
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await ready
        except TimeoutError:
            raise ConfigError(
                "[ca]", "the signer did not start in time", "see the output"
            ) from None
        finally:
            self._fresh_ready = None
            if self._fresh is fresh:
                self._fresh = None
                if not fresh.has_ended:
                    self._leaving.add(fresh)  # its end is waited for
                fresh.kill()
            if self._child is None and self.opened is not None and not self._is_closing:
                self._try_again()

    def connect(self) -> int:
        """Return the descriptor of a new socket to the signer, for a worker.

        While there is no signer its other end is closed.
        """
        ours, theirs = wire_sockets()
        with theirs:
            if self._child is not None:
                self._child.send(TakeWorker(), [theirs.fileno()])
        return ours.detach()

    async def close(self) -> None:
        """End the signer: nobody asks any more."""
        self._is_closing = True
        self._cancel_retry()
        for child in (self._child, self._fresh):
            if child is not None:
                self._let_go(child)
        self._child = self._fresh = None
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await self._wait_empty()
        except TimeoutError:
            self._say("the signer does not end: killed")
            for child in self._leaving:
                child.kill()
            await self._wait_empty()
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    # -- from one version of the program to the next -------------------------------------------

    def leave(self) -> ChildLeft | None:
        """Describe the signer for the next version; None when there is none that can be left."""
        if self._child is None or not self._child.is_told:
            return None
        return self._child.leave(self.started, self.version)

    @property
    def can_leave(self) -> bool:
        """Whether nothing is on its way."""
        return self.opened is None or (self._child is not None and self._child.is_told)

    def take(self, opened: OpenAuthority, left: ChildLeft) -> None:
        """Go on with the keys and the signer of the version before."""
        self.opened = opened
        self.started, self.version = left.started, left.version
        connected = socket.socket(fileno=left.channel)  # noqa: TID251 - it carries orders
        self._child = Child(left.pid, connected, self._on_message, self._on_ended, left.unread)

    async def renew(self) -> None:
        """Put a signer of this version in the place of an older one, which stays if that fails."""
        if self.opened is None:
            return
        try:
            await self._try(self.opened)
        except ConfigError as error:
            self._say(f"{error}; the signer of the version before stays")
        else:
            self._on_replaced(0, "")

    # -- private -------------------------------------------------------------------------------

    def _start(self, opened: OpenAuthority) -> Child:
        """Start a signer.

        Raises:
            ConfigError: The system has no room for it.
        """
        try:
            folder = os.fspath(opened.settings.folder)
            child = Child.start("signer", folder, self._on_message, self._on_ended)
        except OSError as error:
            raise ConfigError("[ca]", f"the signer cannot be started: {error.strerror}") from error
        token = opened.settings.token
        begin = BeginSigner(
            chain=opened.chain,
            untrusted=opened.untrusted,
            token=token.uri if token is not None else "",
            module=token.module if token is not None else "",
            pin=opened.pin,
            folder=folder,
        )
        child.send(begin, opened.descriptors)
        return child

    def _let_go(self, child: Child) -> None:
        self._leaving.add(child)
        child.let_go()

    async def _wait_empty(self) -> None:
        while self._leaving:
            self._empty.clear()
            await self._empty.wait()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _on_message(self, child: Child, message: AnyMessage, _descriptors: list[int]) -> None:
        match message:
            case Ready(version=version, protocol=protocol):
                if child is not self._fresh:
                    return
                if protocol != PROTOCOL:
                    cause = f"the program on disk is version {version}, and not this one"
                    self._on_failed(ConfigError("[ca]", cause, "sluicegate upgrade"))
                    child.kill()
                    return
                self._on_ready(child, version)
            case Failed(causes=causes):
                if child is self._fresh:
                    self._on_failed(ConfigError("[ca]", "; ".join(causes)))
            case Said(line=line):
                self._say(line)
            case _:
                raise AssertionError(f"{message} is no signer's")

    def _on_ready(self, child: Child, version: str) -> None:
        before, self._child, self._fresh = self._child, child, None
        self.started, self.version = self._clock.wall(), version
        self._backoff.on_started(self._clock.monotonic())
        if before is not None:
            self._let_go(before)
        if self._fresh_ready is not None:
            self._fresh_ready.set_result(None)
            return
        pid, self._gone_pid = self._gone_pid, 0
        self._on_replaced(pid, self._gone_cause)

    def _on_failed(self, error: ConfigError) -> None:
        if self._fresh_ready is None:
            self._say(str(error))  # its end follows
        elif not self._fresh_ready.done():
            self._fresh_ready.set_exception(error)

    def _on_ended(self, child: Child, how: str) -> None:
        self._leaving.discard(child)
        self._empty.set()
        if child is self._fresh:
            self._fresh = None
            self._on_failed(ConfigError("[ca]", f"the signer ended at its start: {how}"))
        elif child is self._child:
            self._child = None
            self._gone_pid, self._gone_cause = child.pid, how
            self._say(f"the signer (pid {child.pid}) ended: {how}; it is started again")
        else:
            return
        if not self._is_closing and self._fresh_ready is None:
            self._try_again()

    def _try_again(self) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start_again)

    def _start_again(self) -> None:
        self._retry = None
        if self.opened is None:
            return
        self._backoff.on_started(self._clock.monotonic())
        try:
            self._fresh = self._start(self.opened)
        except ConfigError as error:
            self._say(str(error))
            self._try_again()
