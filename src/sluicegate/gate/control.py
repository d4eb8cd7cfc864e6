"""The control socket: operators' commands ask the running gate.

``app/run`` opens it beside the service; ``control_client`` is its other end. It runs on asyncio, on
the same loop as the gate, so a command sees one consistent moment. The invariant: only the gate's
own user and root reach it (mode 0600, in a folder of mode 0700), and what it is sent is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import pwd
import socket
import struct
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from sluicegate.audit.alerts import Raising
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.metrics import Series
from sluicegate.process_limits import (
    CONTROL_CLIENTS_MAX,
    CONTROL_REQUEST_BYTES_MAX,
    CONTROL_ROWS_MAX,
    CONTROL_TIMEOUT_S,
)

from .control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    ActedRequest,
    AlertsReply,
    AlertsRequest,
    AnyReply,
    AnyRequest,
    ConnectionsReply,
    ConnectionsRequest,
    DoneReply,
    FiltersReply,
    FiltersRequest,
    KilledReply,
    KillRequest,
    MeasuresReply,
    MeasuresRequest,
    MessageTooLong,
    PolicyReply,
    PolicyRequest,
    Question,
    RefusedReply,
    ReloadRequest,
    SessionsReply,
    SessionsRequest,
    StatusReply,
    StatusRequest,
    StopRequest,
    TransfersReply,
    TransfersRequest,
    UpgradeRequest,
    decode_request,
    read_message,
    write_message,
)
from .operator_log import OperatorLog
from .policy_orders import AnyPolicyAnswer, AnyPolicyOrder
from .reserve import DescriptorReserve
from .views import ConnectionView, FilterView, SessionView, StatusView, TransferView

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries commands, not traffic

__all__ = ["ControlServer", "ControlTarget", "answer"]


class ControlTarget(Protocol):
    """What can be asked of a running gate."""

    async def status(self) -> StatusView:
        """Return the service as a whole."""
        ...

    async def sessions(self) -> list[SessionView]:
        """Return every session."""
        ...

    async def connections(self) -> list[ConnectionView]:
        """Return every open connection."""
        ...

    async def filters(self) -> list[FilterView]:
        """Return every installed filter."""
        ...

    async def transfers(self) -> list[TransferView]:
        """Return every object that is held, the oldest first."""
        ...

    async def measures(self) -> list[Series]:
        """Return what is measured, counters since the start."""
        ...

    async def alerts(self) -> list[Raising]:
        """Return the alerts that were raised and are known still, the last one first.

        Raises:
            ConfigRefused: Who knows is not there.
        """
        ...

    async def acknowledge(self, identifiers: Sequence[str], by: str) -> list[str]:
        """Acknowledge alerts; return the identifiers of the raisings that were open.

        Args:
            identifiers: Of raisings, or names of alerts.
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: Who keeps them is not there; nothing was changed.
        """
        ...

    async def reload(self, by: str) -> list[str]:
        """Read the configuration again and put it in force, whole; return its warnings.

        Args:
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: It is wrong; the old one stays in force.
        """
        ...

    async def kill(self, identifiers: Sequence[str], by: str) -> list[str]:
        """End connections, and all connections of sessions; return the identifiers that were there.

        Args:
            identifiers: Of connections or sessions.
            by: Who asked for it, for the records.
        """
        ...

    async def upgrade(
        self, program: Sequence[str], drain_timeout_s: float | None, by: str
    ) -> list[str]:
        """Let another version of the program take over; return what an operator should know.

        Args:
            program: The command that starts the other version.
            drain_timeout_s: How long connections may go on with this version; None for as long as
                any connection may live.
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: It cannot; nothing was changed.
        """
        ...

    async def answer_policy(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        """Answer what is asked about the policy, or change it.

        Args:
            order: What is wanted.
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: It is refused; nothing was changed.
        """
        ...

    def request_stop(self, timeout_s: float | None) -> None:
        """Begin to drain, for at most ``timeout_s`` (default: the limit ``drain_timeout_s``)."""
        ...


class ControlServer:
    """The listening end; lives as long as the gate."""

    def __init__(
        self,
        target: ControlTarget,
        path: pathlib.Path,
        log: OperatorLog,
        listening: int | None = None,
    ) -> None:
        """Prepare it.

        Args:
            target: Who answers.
            path: Of the socket.
            log: Takes what operators do.
            listening: Descriptor of the socket, where a version before has made it.
        """
        self.path = path
        self._taken = listening
        self._target = target
        self._log = log
        self._listening: _Socket | None = None
        self._reserve = DescriptorReserve()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(CONTROL_CLIENTS_MAX)
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. The caller holds the lock of the folder, so a socket found there is stale.

        Raises:
            ConfigError: The socket cannot be made.
        """
        if self._taken is not None:
            self._listening = _Socket(fileno=self._taken)
        else:
            self._listening = self._bind()
        self._listen_again()

    async def pause(self) -> int:
        """Take no commands, which wait in the backlog; return the socket's descriptor.

        Who is being answered gets its answer first.
        """
        assert self._listening is not None, "it was started"
        asyncio.get_running_loop().remove_reader(self._listening)
        for writer in list(self._writers):
            with contextlib.suppress(ConnectionError):  # who asked has gone: nobody waits
                await writer.drain()
        return self._listening.fileno()

    def resume(self) -> None:
        """Take commands again."""
        self._listen_again()

    def _bind(self) -> _Socket:
        encoded = os.fsencode(self.path)
        if len(encoded) > _PATH_BYTES_MAX:
            raise ConfigError(
                str(self.path),
                f"the path of a Unix socket has at most {_PATH_BYTES_MAX} bytes",
                'choose a shorter "state_dir"',
            )
        self.path.unlink(missing_ok=True)
        # Nobody else may connect in the moment between the bind and a chmod.
        before = os.umask(0o177)
        # Not asyncio's server: out of descriptors, that accepts nobody and floods the output.
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        listening = _Socket(socket.AF_UNIX, kind)
        try:
            listening.bind(encoded)
            listening.listen(CONTROL_CLIENTS_MAX)
        except OSError as error:
            listening.close()
            raise ConfigError(
                str(self.path),
                f"the control socket cannot be made: {error.strerror}",
                'set "state_dir" to a folder that the gate may write',
            ) from error
        finally:
            os.umask(before)
        return listening

    async def stop(self) -> None:
        """Stop listening, remove the socket, and let go of who is connected."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            self.path.unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.close()
        self._reserve.close()

    def _on_client(self) -> None:
        """Accept a command; it is the loop that says that one is there."""
        assert self._listening is not None
        loop = asyncio.get_running_loop()
        try:
            with self._reserve.lent():
                client, _ = self._listening.accept()
        except BlockingIOError:
            return  # it has gone again
        except OSError:
            # Not even the reserve is there: in use for commands, which end soon.
            loop.remove_reader(self._listening)
            loop.call_later(_ACCEPT_AGAIN_S, self._listen_again)
            return
        task = loop.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen_again(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._on_client)

    async def _serve(self, client: _Socket) -> None:
        """Answer one command; it may ask again until it goes away or says nothing."""
        with self._reserve.lent():
            by = _name_peer(client)
        reader, writer = await asyncio.open_unix_connection(sock=client)
        self._writers.add(writer)
        try:
            async with self._turn:
                while True:
                    async with asyncio.timeout(CONTROL_TIMEOUT_S):
                        message = await read_message(reader, CONTROL_REQUEST_BYTES_MAX)
                    write_message(writer, await self._answer(message, by))
                    async with asyncio.timeout(CONTROL_TIMEOUT_S):
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # it went away, or it has nothing to say
        except MessageTooLong as error:
            write_message(writer, RefusedReply(causes=[str(error)]))
        finally:
            self._writers.discard(writer)
            writer.close()
            await self._refill(writer)

    async def _refill(self, writer: asyncio.StreamWriter) -> None:
        """Take back the descriptor of a client that has gone."""
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        if self._listening is not None:
            self._reserve.fill()

    async def _answer(self, message: bytes, by: str) -> AnyReply:
        try:
            request = decode_request(message)
        except msgspec.DecodeError as error:
            return RefusedReply(causes=[f"not a request that this version knows: {error}"])
        if isinstance(request, ActedRequest):
            self._log.note_act(request, by)
            return DoneReply()
        reply: AnyReply
        try:
            reply = await answer(self._target, request, by)
        except ConfigRefused as error:
            reply = RefusedReply(causes=[str(one) for one in error.errors])
        self._log.note_order(request, reply, by)
        return reply


async def answer(target: ControlTarget, request: AnyRequest, by: str) -> AnyReply:
    """Answer one request; a worker of several answers the supervisor in the same words.

    Args:
        target: Who knows.
        request: What is asked.
        by: Who asks, for the records.

    Raises:
        ConfigRefused: What was ordered is refused, and nothing was changed.
    """
    match request:
        case ReloadRequest():
            return DoneReply(notes=await target.reload(by))
        case KillRequest(identifiers=identifiers):
            return KilledReply(killed=await target.kill(identifiers, request.by or by))
        case AcknowledgeRequest(alerts=alerts):
            acknowledged = await target.acknowledge(alerts, request.by or by)
            return AcknowledgedReply(acknowledged=acknowledged)
        case UpgradeRequest(program=program, drain_timeout_s=timeout_s):
            return DoneReply(notes=await target.upgrade(program, timeout_s, by))
        case PolicyRequest(order=order):
            return PolicyReply(answer=await target.answer_policy(order, by))
        case StopRequest(timeout_s=timeout_s):
            target.request_stop(timeout_s)
            return DoneReply()
        case _:
            return await _answer_question(target, request)


async def _answer_question(target: ControlTarget, request: Question) -> AnyReply:
    """Answer what changes nothing."""
    match request:
        case StatusRequest():
            return StatusReply(status=await target.status())
        case SessionsRequest():
            sessions = await target.sessions()
            return SessionsReply(rows=sessions[:CONTROL_ROWS_MAX], total=len(sessions))
        case ConnectionsRequest(client=client):
            connections = await target.connections()
            if client:
                connections = [row for row in connections if _host(row.client) == client]
            return ConnectionsReply(rows=connections[:CONTROL_ROWS_MAX], total=len(connections))
        case FiltersRequest():
            return FiltersReply(rows=await target.filters())
        case MeasuresRequest():
            return MeasuresReply(series=await target.measures())
        case AlertsRequest():
            alerts = await target.alerts()
            return AlertsReply(rows=alerts[:CONTROL_ROWS_MAX], total=len(alerts))
        case TransfersRequest():
            transfers = await target.transfers()
            return TransfersReply(rows=transfers[:CONTROL_ROWS_MAX], total=len(transfers))


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _name_peer(client: _Socket) -> str:
    """Say whose process is at the other end: the kernel's word, not its own."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user = _CREDENTIALS.unpack(credentials)[1]
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


_CREDENTIALS: Final = struct.Struct("iII")
"""``struct ucred``: process, user, group."""

_ACCEPT_AGAIN_S: Final = 1.0
"""As long as listeners for clients wait for descriptors."""

_PATH_BYTES_MAX: Final = 107
"""``sun_path`` of ``sockaddr_un`` without its terminator."""
