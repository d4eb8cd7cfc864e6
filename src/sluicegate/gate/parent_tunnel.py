"""ParentTunnel: asks a parent proxy for a tunnel to one host, on a connection to that proxy.

Whoever is to speak TLS with a server behind a parent makes one on the connected socket. The
invariant: the host that is asked for is the one that was judged; the tunnel is handed out once,
with nothing received of it; and what is not handed out is closed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from sluicegate.buffer import Buffer, ConstBuffer
from sluicegate.errors import ProtocolError, errno_name
from sluicegate.port.layer import driver_of
from sluicegate.protocols.http_connect_reply import ConnectReply

from .internal_error import internal_error

if TYPE_CHECKING:
    from sluicegate.names import CanonicalHost
    from sluicegate.port import CompletionPort
    from sluicegate.port.backend import RawSocket

__all__ = ["PARENT_MEANINGS", "ParentReason", "ParentTunnel", "TunnelEnd"]

TunnelEnd: TypeAlias = Callable[["RawSocket | None", str], None]
"""Told once, later: the socket, which is the tunnel from now on; or None, and why there is none."""


class ParentReason:
    """Why there is no tunnel."""

    REFUSED: Final = "parent-refused"
    MALFORMED: Final = "parent-malformed"
    CUT_OFF: Final = "parent-cut-off"
    EARLY: Final = "parent-spoke-early"


class ParentTunnel:
    """One tunnel, until it is there."""

    __slots__ = ("_buffer", "_done", "_driver", "_operation", "_port", "_raw", "_reply", "_request")

    def __init__(
        self,
        port: CompletionPort,
        raw: RawSocket,
        host: CanonicalHost,
        target_port: int,
        done: TunnelEnd,
    ) -> None:
        """Make it; ``begin`` asks.

        Args:
            port: Moves the bytes.
            raw: Connected to the parent, in the open or inside TLS; it belongs to the tunnel.
            host: Who is asked for.
            target_port: Where.
            done: Told how it ended.
        """
        self._port = port
        self._raw = raw
        self._driver = driver_of(raw, port.backend)
        self._done: TunnelEnd | None = done
        name = f"[{host.text}]" if ":" in host.text else host.text
        target = f"{name}:{target_port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        self._request = ConstBuffer(request.encode("ascii"))
        self._buffer = Buffer(_READ_BYTES)
        self._reply = ConnectReply()
        self._operation = port.operations.take(self._on_sent)

    def begin(self) -> None:
        """Ask for it."""
        self._request.lease()
        self._driver.send(self._operation, self._raw, self._request, 0, self._request.used)

    def stop(self) -> None:
        """Give up, and tell nobody."""
        if self._done is not None:
            self._done = None
            self._driver.cancel(self._operation)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        done, self._done = self._done, None
        if done is None:
            return
        if self._operation.in_flight:
            self._driver.cancel(self._operation)
        else:
            self._drop()
        done(None, internal_error(error))

    # -- moving bytes --------------------------------------------------------------------------

    def _on_sent(self, result: int, _flags: int) -> None:
        self._request.release()
        if self._done is None:
            self._drop()
        elif result < 0:
            self._fail(f"{ParentReason.CUT_OFF}: {errno_name(-result)}")
        else:
            self._port.backend.redirect(self._operation, self._on_received)
            self._receive()

    def _receive(self) -> None:
        self._buffer.lease()
        self._driver.receive_into(self._operation, self._raw, self._buffer, 0, _READ_BYTES)

    def _on_received(self, result: int, _flags: int) -> None:
        self._buffer.release()
        if self._done is None:
            self._drop()
        elif result <= 0:
            words = errno_name(-result) if result and result != -errno.ECANCELED else "its end"
            self._fail(f"{ParentReason.CUT_OFF}: {words}")
        else:
            self._take(bytes(self._buffer.view[:result]))

    def _take(self, data: bytes) -> None:
        reply = self._reply
        try:
            reply.receive_data(data)
            status = reply.status()
        except ProtocolError as error:
            self._fail(f"{ParentReason.MALFORMED}: {error.hint}")
            return
        if status is None:
            self._receive()
        elif status not in _GRANTED:
            self._fail(f"{ParentReason.REFUSED}: {status}")
        elif reply.early:
            self._fail(ParentReason.EARLY)
        else:
            done, self._done = self._done, None
            self._port.operations.give(self._operation)
            assert done is not None, "it is told once"
            done(self._raw, "")

    # -- the end -------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        done, self._done = self._done, None
        self._drop()
        assert done is not None, "it is told once"
        done(None, reason)

    def _drop(self) -> None:
        self._port.operations.give(self._operation)
        self._driver.abort(self._raw)


PARENT_MEANINGS: Final = {
    ParentReason.REFUSED: "the parent proxy does not grant a tunnel to the host",
    ParentReason.MALFORMED: "the parent proxy's answer to CONNECT can be read in no way, or in two",
    ParentReason.CUT_OFF: "the parent proxy closed the connection before it had answered",
    ParentReason.EARLY: "bytes came behind the parent proxy's answer before anything was said",
}
"""Every reason code of tunnels by parents, in words."""

_READ_BYTES: Final = 4096
_GRANTED: Final = range(200, 300)
