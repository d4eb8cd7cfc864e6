"""The exporter's process: Prometheus and its kin ask it for metrics over HTTP.

The supervisor starts it where the configuration has ``[metrics]``. The invariant: it has a
listening socket and a channel on which it may ask for numbers; it writes nowhere, and whoever asks
it can do nothing but read ``/metrics`` and ``/healthz``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TypeAlias

from sluicegate.app.confinement import confine_process
from sluicegate.gate.control_messages import (
    MeasuresReply,
    MeasuresRequest,
    StatusReply,
    StatusRequest,
)
from sluicegate.gate.views import Phase
from sluicegate.metrics import CATALOGUE
from sluicegate.metrics.exposition import write_metrics
from sluicegate.names import AddressClass, classify
from sluicegate.process_limits import (
    METRICS_CLIENTS_MAX,
    METRICS_HEAD_BYTES_MAX,
    METRICS_TIMEOUT_S,
)
from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    Fields,
    Framing,
    Http1Server,
    HttpProtocolError,
    Request,
    Response,
)
from sluicegate.version import VERSION

from .asking import Asking, GateSilent
from .channel import FrameReader
from .orders import PROTOCOL, AnyMessage, BeginMetrics, Ready
from .start import arrive

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders and metrics, not traffic


def main(channel: int) -> None:
    """Be the exporter.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends by its channel.
    arrived = arrive(channel, BeginMetrics, "sluice-metrics")
    if arrived is None:
        return
    _, connected, begin, descriptors, reader = arrived
    confine_process((), has_sandbox=begin.has_sandbox)
    asyncio.run(_Exporter().live(connected, reader, _Socket(fileno=descriptors[0])))


class _Exporter:
    """The process's life."""

    def __init__(self) -> None:
        self._clients = 0

    async def live(self, connected: _Socket, reader: FrameReader, listening: _Socket) -> None:
        """Serve until the supervisor lets go."""
        self._gate = Asking(connected, reader, "metrics", self._on_message)
        self._gate.say(Ready(protocol=PROTOCOL, version=VERSION))
        self._gate.deliver()
        address = ipaddress.ip_address(listening.getsockname()[0])
        self._is_local = classify(address).address_class is AddressClass.LOOPBACK
        server = await asyncio.start_server(
            self._serve, sock=listening, limit=METRICS_HEAD_BYTES_MAX
        )
        await self._gate.over.wait()
        server.close()
        self._gate.close()

    def _on_message(self, message: AnyMessage) -> None:
        raise AssertionError(f"{message} is for another process")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close: collectors ask seldom."""
        self._clients += 1
        try:
            if self._clients <= METRICS_CLIENTS_MAX:
                async with asyncio.timeout(METRICS_TIMEOUT_S):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        except (ConnectionError, TimeoutError):
            pass  # it went away, or it has nothing to say
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        http = Http1Server()
        response, text = Response(400, b"Bad Request"), b"a request is missing\n"
        taken = 0
        try:
            while (event := http.next_event()) is None:
                received = await reader.read(METRICS_HEAD_BYTES_MAX)
                taken += len(received)
                if not received or taken > METRICS_HEAD_BYTES_MAX:
                    raise ConnectionResetError
                http.receive_data(received)
            assert isinstance(event, Request), "a server reads requests"
            response, text = await self._respond(event)
        except HttpProtocolError as error:
            response, text = Response(error.status, b"Bad Request"), b"not a request\n"
        http.close_after_message()
        response.framing = Framing.of_length(len(text))
        pieces = [*http.send(response), *http.send(Body(text)), *http.send(EndOfMessage())]
        return b"".join(pieces)

    async def _respond(self, request: Request) -> tuple[Response, bytes]:
        path = request.target.path.partition(b"?")[0]
        if self._is_local and not _names_this_machine(request):
            return Response(421, b"Misdirected Request", _PLAIN), b"no name leads here\n"
        if request.method != b"GET":
            return Response(405, b"Method Not Allowed", Fields([(b"Allow", b"GET")])), b"GET it\n"
        try:
            if path == b"/metrics":
                return await self._metrics(request)
            if path == b"/healthz":
                return await self._health()
        except GateSilent as error:
            return Response(503, b"Service Unavailable", _PLAIN), f"{error}\n".encode()
        return Response(404, b"Not Found", _PLAIN), b"/metrics and /healthz are here\n"

    async def _metrics(self, request: Request) -> tuple[Response, bytes]:
        reply = await self._gate.ask(MeasuresRequest())
        assert isinstance(reply, MeasuresReply), "an exporter may ask that"
        accept = b",".join(request.fields.all(b"accept")).decode("latin-1")
        text, kind = write_metrics(CATALOGUE, reply.series, accept)
        return Response(200, b"OK", Fields([(b"Content-Type", kind.encode())])), text

    async def _health(self) -> tuple[Response, bytes]:
        reply = await self._gate.ask(StatusRequest())
        assert isinstance(reply, StatusReply), "an exporter may ask that"
        phase = reply.status.phase
        text = f"{phase.value}\n".encode()
        if phase is Phase.READY:
            return Response(200, b"OK", _PLAIN), text
        return Response(503, b"Service Unavailable", _PLAIN), text


def _names_this_machine(request: Request) -> bool:
    """Tell whether a request was meant for a loopback address.

    Else a page in a browser of this machine could read numbers, by a name that it has made lead
    here (DNS rebinding).
    """
    # Browsers always say one; a program of HTTP/1.0 may say none.
    return all(map(_OF_LOOPBACK.fullmatch, request.fields.all(b"host")))


_OF_LOOPBACK = re.compile(rb"(?i:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?")
_PLAIN = Fields([(b"Content-Type", b"text/plain; charset=utf-8")])
