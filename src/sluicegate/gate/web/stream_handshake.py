"""StreamHandshake: a client's CONNECT on a stream of HTTP/2 (RFC 9113 section 8.5).

``multiplexed`` begins one for each, as on any client's socket: what it reads first is the request
as HTTP/1 would say it, and what is answered first is said in HTTP/2. The invariant: a tunnel on a
stream is asked for, judged and recorded as all others are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.gate.entry_answers import EntryAnswer
from sluicegate.gate.entry_dialogue import EntryRequest, Step
from sluicegate.gate.entry_handshake import EntryHandshake
from sluicegate.protocols.http2 import ErrorCode

from .stream_tunnel import StreamTunnel

if TYPE_CHECKING:
    from sluicegate.gate.flood_count import FloodClient
    from sluicegate.protocols.http1 import Request

    from .multiplexed import MultiplexedConnection

__all__ = ["ConnectTunnel", "StreamHandshake"]


class ConnectTunnel(StreamTunnel):
    """The stream of a CONNECT; what is written first answers it."""

    __slots__ = ("_client", "_is_answered")

    _lingers = False

    def __init__(self, carrier: MultiplexedConnection, stream: int, request: Request) -> None:
        super().__init__(carrier, stream, (), carrier.on_tunnel_over, ErrorCode.CONNECT_ERROR)
        self._client = carrier
        self._is_answered = False
        self._came.append((memoryview(_connect_text(request)), 0))

    @override
    def write(self, data: memoryview | bytes) -> int:
        if self._is_answered or self.error or self.is_released or self._is_shut:
            return super().write(data)
        self._is_answered = True
        self._answer(bytes(data))
        return len(data)

    @property
    @override
    def _has_room(self) -> bool:
        return not self._is_answered or super()._has_room

    @override
    def _end_whole(self) -> None:
        if self._is_answered:
            super()._end_whole()

    def _answer(self, text: bytes) -> None:
        """Say in HTTP/2 what a client of HTTP/1 would be answered."""
        head, _, body = text.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        fields = [(b":status", line.split(b" ")[1])]
        for one in lines:
            name, _, value = one.partition(b": ")
            if name.lower() != b"connection":
                fields.append((name.lower(), value))
        http = self._client.http
        http.send_fields(self.stream, fields)
        if body:
            http.send_data(self.stream, body)
        self._carrier.flush_soon()


class StreamHandshake(EntryHandshake):
    """A client that asks for a tunnel on a stream."""

    __slots__ = ("_refusal",)

    def __init__(
        self, carrier: MultiplexedConnection, tunnel: StreamTunnel, flood: FloodClient
    ) -> None:
        entry = carrier.entry
        assert entry is not None, "only proxy listeners have such clients"
        desk = carrier.service.entries
        name = carrier.listener_name
        super().__init__(desk, name, entry, tunnel.as_socket(), carrier.client_address, flood)
        self._refusal = carrier.refusal
        self.user = carrier.session.user
        self.announced = carrier.announced
        # No listener is called so; what was asked for without a password is known apart.
        known_as = f"{name} by a stream, authentication {entry.authenticate}"
        self._opening = desk.openings.beginning(known_as, entry)

    @property
    @override
    def refusal(self) -> str:
        return self._refusal

    @override
    def take_step(self, step: Step) -> None:
        """As for everybody; a request by a certificate that names nobody is refused."""
        if self._refusal and isinstance(step, EntryRequest):
            self._desk.record_refusal(self, self._refusal, target=str(step.destination))
            self.refuse(EntryAnswer.NOT_ALLOWED)
        else:
            super().take_step(step)


def _connect_text(request: Request) -> bytes:
    """Return a CONNECT as HTTP/1 says it."""
    host = bytes(request.target)
    lines = [b"CONNECT %b HTTP/1.1" % host, b"Host: %b" % host]
    lines += [
        b"Proxy-Authorization: %b" % value
        for name, value in request.hop_fields
        if name == b"proxy-authorization"
    ]
    return b"\r\n".join([*lines, b"", b""])
