"""Listener: a listening socket on the port.

The gate takes every connection through ``accept_into``; filters use ``start_accept``, one call for
one connection. The invariant: an accepted descriptor is given to somebody or closed, never lost,
and running out of descriptors pauses accepting without spinning.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.errors import FILTER_ERRORS, BadContext, OperationPending, Side, TransportError
from sluicegate.limits import ACCEPT_AHEAD_MAX

from .answerable import end_both_ways
from .backend import MORE, Operation, RawSocket
from .scope import FailureScope, entered
from .stream import StreamSocket
from .timers import Timer

if TYPE_CHECKING:
    from .port import CompletionPort

__all__ = ["AcceptCompletion", "AcceptWaiter", "Accepted", "Listener"]

_RESOURCE_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_ONE_CLIENTS_ERRORS: Final = frozenset(
    {
        errno.ECANCELED,
        errno.EINTR,
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)
"""What accept(2) tells of a client that is gone already, and our own cancellation."""

_RETRY_S: Final = 0.5
"""How long accepting pauses when descriptors or memory ran out; the backlog holds the clients."""


class Accepted:
    """One accepted connection, as told to an ``AcceptCompletion``."""

    __slots__ = ("listener", "local", "remote", "socket")

    def __init__(
        self,
        listener: Listener,
        socket: StreamSocket | None,
        remote: SocketAddress | None,
        local: SocketAddress | None,
    ) -> None:
        self.listener = listener
        self.socket = socket
        self.remote = remote
        self.local = local


class AcceptCompletion(Protocol):
    """Whoever is told of an accepted connection."""

    def complete_async_accept(
        self, success: bool, error: int, accepted: Accepted, user_data: Any
    ) -> None:
        """Take one accepted connection; on failure ``accepted.socket`` is None."""
        ...


class Listener:
    """One listening socket; made by ``CompletionPort.listen``, ended by ``close``."""

    __slots__ = (
        "_ahead",
        "_family",
        "_handler",
        "_operation",
        "_pending",
        "_port",
        "_raw",
        "_retry",
        "closed",
        "on_paused",
        "scope",
    )

    def __init__(self, port: CompletionPort, raw: RawSocket, family: int) -> None:
        self.scope: FailureScope | None = None
        #: Whose failure an exception out of a completion is.
        self.closed = False
        self.on_paused: Callable[[int], None] | None = None
        #: Told the errno when accepting pauses for want of descriptors or memory.
        self._port = port
        self._raw = raw
        self._family = family
        self._operation = Operation(self._on_accepted)
        self._handler: Callable[[RawSocket], None] | None = None
        self._pending: tuple[AcceptCompletion, Any] | None = None
        self._ahead: deque[RawSocket] = deque()
        self._retry: Timer | None = None

    def local_address(self) -> SocketAddress:
        """Return the address it listens on."""
        return SocketAddress.from_kernel(self._raw.getsockname())

    @property
    def is_paused(self) -> bool:
        """Whether accepting waits for descriptors or memory."""
        return self._retry is not None and self._retry.is_pending

    def accept_into(self, handler: Callable[[RawSocket], None]) -> None:
        """Hand every connection to ``handler`` until ``pause_accepting`` or ``close``."""
        self._handler = handler
        while self._ahead:
            handler(self._ahead.popleft())
        self._arm()

    def pause_accepting(self) -> None:
        """Leave new clients in the kernel's backlog."""
        self._handler = None
        self._port.backend.cancel(self._operation)

    def start_accept(self, completion: AcceptCompletion, user_data: Any = None) -> None:
        """Accept one connection.

        Raises:
            OperationPending: An accept is in flight.
            BadContext: The listener is closed, or hands its connections to the gate.
            WrongThread: Not on the port's thread.
        """
        self._port.check_thread()
        if self.closed or self._handler is not None:
            raise BadContext("the listener is closed, or in use by accept_into")
        if self._pending is not None:
            raise OperationPending("one accept at a time on a listener")
        self._pending = (completion, user_data)
        if self._ahead:
            self._port.post(self._deliver)
        else:
            self._arm()

    async def accept(self) -> StreamSocket:
        """Accept one connection and return its socket.

        Raises:
            TransportError: Accepting failed.
        """
        future: asyncio.Future[StreamSocket] = asyncio.get_running_loop().create_future()
        self.start_accept(AcceptWaiter(), future)
        return await future

    def close(self, *, takes_late: bool = False) -> None:
        """Stop listening; a pending accept completes with ``ECANCELED``.

        Args:
            takes_late: Whether the handler of ``accept_into`` gets those that the kernel has
                accepted for us by now; else they are closed.
        """
        if self.closed:
            return
        self.closed = True
        if not takes_late:
            self._handler = None
        if self._retry is not None:
            self._retry.cancel()
        while self._ahead:
            self._ahead.popleft().close()
        if self._operation.in_flight:
            self._port.backend.cancel(self._operation)
        else:
            self._finish_close()

    def _arm(self) -> None:
        if not self._operation.in_flight and not self.closed:
            self._port.backend.accept(self._operation, self._raw)

    def _on_accepted(self, result: int, flags: int) -> None:
        if result >= 0:
            raw = self._port.backend.adopt(result, self._family)
            try:
                if self._handler is not None:
                    self._handler(raw)
                elif self.closed:
                    raw.close()
                else:
                    self._queue(raw, flags)
            except BaseException:
                # Whoever has it by now closes it; nobody else would, and its peer is not to wait.
                end_both_ways(raw)
                raise
            finally:
                # Also when the handler raised: the next client is not its fault.
                if not flags & MORE:
                    self._on_accept_ended(result)
        elif not flags & MORE:
            self._on_accept_ended(result)

    def _queue(self, raw: RawSocket, flags: int) -> None:
        self._ahead.append(raw)
        if len(self._ahead) >= ACCEPT_AHEAD_MAX and flags & MORE:
            self._port.backend.cancel(self._operation)
        self._deliver()

    def _on_accept_ended(self, result: int) -> None:
        if self.closed:
            self._finish_close()
        elif self._port.is_closing:
            self._fail(errno.ECANCELED)
        elif result >= 0 or -result in _ONE_CLIENTS_ERRORS:
            # The next accept is as good as any.
            self._resume()
        elif self._handler is None and -result not in _RESOURCE_ERRORS:
            self._fail(-result)
        else:
            # Whatever it is, trying again at once would spin.
            if self.on_paused is not None:
                self.on_paused(-result)
            self._retry = self._port.timers.call_after(_RETRY_S, self._resume)

    def _resume(self) -> None:
        if self._handler is not None or self._pending is not None:
            self._arm()

    def _deliver(self) -> None:
        if self._pending is None or not self._ahead:
            return
        (completion, user_data), self._pending = self._pending, None
        raw = self._ahead.popleft()
        try:
            remote = SocketAddress.from_kernel(raw.getpeername())
            local = SocketAddress.from_kernel(raw.getsockname())
        except OSError as error:
            raw.close()
            self._tell(
                completion, error.errno or errno.EIO, Accepted(self, None, None, None), user_data
            )
            return
        socket = StreamSocket(self._port, raw, Side.CLIENT)
        self._tell(completion, 0, Accepted(self, socket, remote, local), user_data)

    def _fail(self, error: int) -> None:
        if self._pending is not None:
            (completion, user_data), self._pending = self._pending, None
            self._tell(completion, error, Accepted(self, None, None, None), user_data)

    def _tell(
        self, completion: AcceptCompletion, error: int, accepted: Accepted, user_data: Any
    ) -> None:
        try:
            with entered(self.scope):
                completion.complete_async_accept(not error, error, accepted, user_data)
        except FILTER_ERRORS as raised:
            if accepted.socket is not None:
                accepted.socket.close(abortive=True)
            if self.scope is None:
                raise
            self.scope.on_filter_failure(raised)

    def _finish_close(self) -> None:
        self._handler = None
        if self._raw.fileno() >= 0:
            self._raw.close()
            self._port.backend.forget(self._operation)
            if self._pending is not None:
                self._port.post(lambda: self._fail(errno.ECANCELED))


class AcceptWaiter:
    """The completion behind ``await accept()``; the future is the user data."""

    __slots__ = ()

    def complete_async_accept(
        self,
        success: bool,
        error: int,
        accepted: Accepted,
        user_data: asyncio.Future[StreamSocket],
    ) -> None:
        """Resolve the future, or close what nobody waits for any more."""
        if user_data.done():
            if accepted.socket is not None:
                accepted.socket.close(abortive=True)
        elif success and accepted.socket is not None:
            user_data.set_result(accepted.socket)
        else:
            user_data.set_exception(
                TransportError(error or errno.ECONNABORTED, Side.CLIENT, "accept")
            )
