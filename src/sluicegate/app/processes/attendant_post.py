"""AttendantPost: the place of a process that looks after the gate and meets no traffic of clients.

Base of the places of the console and of the process that is asked for metrics. The invariant: such
a process may ask what its ``may`` lists, so many things at a time, and nothing else; its address is
opened here, and read from by the process alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import TypeAlias

import msgspec
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate.control import ControlTarget, answer
from sluicegate.gate.control_messages import (
    AcknowledgeRequest,
    AnyReply,
    KillRequest,
    RefusedReply,
    Request,
)
from sluicegate.process_limits import ATTENDANT_QUESTIONS_MAX

from .child import Child, Role
from .child_post import ChildPost, Upkeep
from .orders import Answer, AnyMessage, AskFor

__all__ = ["AttendantPost"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries pages and metrics, not traffic


class AttendantPost(ChildPost):
    """One such process, its address, and its replacements."""

    def __init__(
        self,
        role: Role,
        name: str,
        may: tuple[type[Request], ...],
        target: ControlTarget,
        upkeep: Upkeep,
    ) -> None:
        """Have none yet.

        Args:
            role: Which process.
            name: What people call it.
            may: What it may ask.
            target: Who answers it.
            upkeep: What every place needs.
        """
        super().__init__(role, name, upkeep)
        self._may = may
        self._answerer = target
        self._listening: _Socket | None = None
        self._tasks: dict[asyncio.Task[None], Child] = {}
        #: By whom it was asked.

    @property
    def address(self) -> SocketAddress | None:
        """Where it listens; None: nowhere."""
        if self._listening is None:
            return None
        return SocketAddress.from_kernel(self._listening.getsockname())

    def listen(self) -> None:
        """Open its address, if the configuration has it.

        Raises:
            ConfigError: It cannot be opened, or a library is missing.
        """
        raise NotImplementedError

    @override
    async def close(self) -> None:
        """End it, and close its address."""
        await super().close()
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _open(self, address: SocketAddress, table: str, backlog: int) -> None:
        """Listen at an address that a table of the configuration names."""
        listening = _Socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address.host, address.port))
            listening.listen(backlog)
        except OSError as error:
            listening.close()
            raise ConfigError(
                f'"listen" in {table}',
                f"{address} cannot be listened on: {error.strerror}",
                f"choose another port, or leave {table} out",
            ) from error
        self._listening = listening

    @override
    def _on_said(self, child: Child, message: AnyMessage) -> None:
        if isinstance(message, AskFor):
            self._run(child, self._answer(child, message))
        else:
            super()._on_said(child, message)

    def _run(self, child: Child, answering: Coroutine[None, None, None]) -> None:
        """Answer something, beside what else is asked."""
        if sum(one is child for one in self._tasks.values()) >= ATTENDANT_QUESTIONS_MAX:
            answering.close()
            self._say(
                f"the {self.name} (pid {child.pid}) asks more than {ATTENDANT_QUESTIONS_MAX} "
                "things at a time: killed"
            )
            child.let_go()  # what it has asked beyond that is not even read
            child.kill()
            return
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks[task] = child
        task.add_done_callback(self._tasks.pop)

    def _who(self, asked: AskFor) -> str:
        """Return who wants it, for the records: what asks cannot pass for somebody else.

        Raises:
            ConfigRefused: It is not to be done for them.
        """
        return asked.by if asked.by.startswith(self.name) else f"{self.name}: {asked.by}"

    async def _answer(self, child: Child, asked: AskFor) -> None:
        reply: AnyReply
        request = asked.request
        if isinstance(request, KillRequest | AcknowledgeRequest):
            request = msgspec.structs.replace(request, by="")  # who wants it is known here
        if isinstance(request, self._may):
            try:
                reply = await answer(self._answerer, request, self._who(asked))
            except ConfigRefused as error:
                reply = RefusedReply(causes=[str(one) for one in error.errors])
        else:
            reply = RefusedReply(causes=[f"the {self.name} may not ask that"])
        if not child.has_ended:
            child.send(Answer(number=asked.number, reply=reply))
