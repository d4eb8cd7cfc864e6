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
import socket
from typing import Final, Protocol, TypeAlias

import msgspec

from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.limits import (
    CONTROL_CLIENTS_MAX,
    CONTROL_REQUEST_BYTES_MAX,
    CONTROL_ROWS_MAX,
    CONTROL_TIMEOUT_S,
)

from .control_messages import (
    AnyReply,
    AnyRequest,
    ConnectionsReply,
    ConnectionsRequest,
    DoneReply,
    FiltersReply,
    FiltersRequest,
    MessageTooLong,
    RefusedReply,
    ReloadRequest,
    SessionsReply,
    SessionsRequest,
    StatusReply,
    StatusRequest,
    StopRequest,
    decode_request,
    read_message,
    write_message,
)
from .reserve import DescriptorReserve
from .views import ConnectionView, FilterView, SessionView, StatusView

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries commands, not traffic

__all__ = ["ControlServer", "ControlTarget"]


class ControlTarget(Protocol):
    """What can be asked of a running gate."""

    def status(self) -> StatusView:
        """Return the service as a whole."""
        ...

    def sessions(self) -> list[SessionView]:
        """Return every session."""
        ...

    def connections(self) -> list[ConnectionView]:
        """Return every open connection."""
        ...

    def filters(self) -> list[FilterView]:
        """Return every installed filter."""
        ...

    async def reload(self) -> list[str]:
        """Read the configuration again and put it in force, whole; return its warnings.

        Raises:
            ConfigRefused: It is wrong; the old one stays in force.
        """
        ...

    def request_stop(self) -> None:
        """Begin to drain."""
        ...


class ControlServer:
    """The listening end; lives as long as the gate."""

    def __init__(self, target: ControlTarget, path: pathlib.Path) -> None:
        self.path = path
        self._target = target
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
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._on_client)

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
        reader, writer = await asyncio.open_unix_connection(sock=client)
        self._writers.add(writer)
        try:
            async with self._turn:
                while True:
                    async with asyncio.timeout(CONTROL_TIMEOUT_S):
                        message = await read_message(reader, CONTROL_REQUEST_BYTES_MAX)
                    write_message(writer, await self._answer(message))
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

    async def _answer(self, message: bytes) -> AnyReply:
        try:
            request = decode_request(message)
        except msgspec.DecodeError as error:
            return RefusedReply(causes=[f"not a request that this version knows: {error}"])
        try:
            return await self._answer_request(request)
        except ConfigRefused as error:
            return RefusedReply(causes=[str(one) for one in error.errors])

    async def _answer_request(self, request: AnyRequest) -> AnyReply:
        target = self._target
        match request:
            case StatusRequest():
                with self._reserve.lent():
                    return StatusReply(status=target.status())
            case SessionsRequest():
                sessions = target.sessions()
                return SessionsReply(rows=sessions[:CONTROL_ROWS_MAX], total=len(sessions))
            case ConnectionsRequest():
                connections = target.connections()
                return ConnectionsReply(rows=connections[:CONTROL_ROWS_MAX], total=len(connections))
            case FiltersRequest():
                return FiltersReply(rows=target.filters())
            case ReloadRequest():
                return DoneReply(notes=await target.reload())
            case StopRequest():
                target.request_stop()
                return DoneReply()


_ACCEPT_AGAIN_S: Final = 1.0
"""As long as listeners for clients wait for descriptors."""

_PATH_BYTES_MAX: Final = 107
"""``sun_path`` of ``sockaddr_un`` without its terminator."""
