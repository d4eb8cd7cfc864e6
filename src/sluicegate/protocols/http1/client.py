r"""The gate as a client: requests to one server out, its responses in (RFC 9112).

The proxy gives it what to send and feeds it what the server answers. The invariant: one request is
on its way at a time, a response is read only for a request that was sent, and a connection is
reusable only if both were whole and nothing else came: bytes that answer nothing end it.

After each ``receive_data`` take ``next_event`` until it is None.

>>> from sluicegate.protocols.http1 import Fields, Target
>>> client = Http1Client()
>>> host = Fields([(b"Host", b"a.example")])
>>> client.send(Request(b"GET", Target.origin(b"/a"), host))
(b'GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n',)
>>> client.send(EndOfMessage())
()
>>> client.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
>>> print(client.next_event())
200 OK
>>> bytes(client.next_event().data)
b'hi'
>>> client.next_event()
EndOfMessage(trailers=Fields())
>>> client.is_reusable
True
"""

from __future__ import annotations

from typing_extensions import override

from sluicegate.errors import BadContext, Side
from sluicegate.protocols.http1.body_readers import body_reader
from sluicegate.protocols.http1.bounds import DEFAULT_BOUNDS, HttpBounds
from sluicegate.protocols.http1.connection_end import ConnectionEnd, Reading, Writing
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http1.known_heads import KnownHeads, KnownResponse
from sluicegate.protocols.http1.messages import (
    NO_BODY,
    SWITCHING_PROTOCOLS,
    UNTIL_CLOSE,
    Body,
    EndOfMessage,
    EndOfStream,
    RawData,
    Request,
    Response,
    Upgraded,
)
from sluicegate.protocols.http1.response_head import read_response_head
from sluicegate.protocols.http1.writing import BodyWriter, Pieces, write_request

__all__ = ["ClientEvent", "Http1Client"]

ClientEvent = Response | Body | EndOfMessage | Upgraded | RawData | EndOfStream


class Http1Client(ConnectionEnd[ClientEvent]):
    """One connection to a server, for one request after the other."""

    __slots__ = ("_informational", "_known", "_request", "has_received")

    def __init__(
        self, bounds: HttpBounds = DEFAULT_BOUNDS, known: KnownHeads | None = None
    ) -> None:
        """Make one; ``known`` is as for ``Http1Server``."""
        if known is None:
            known = KnownHeads(bounds)
        super().__init__(known.bounds, known.response_block, Side.SERVER)
        self._known = known
        self._request: Request | None = None
        self._informational = 0
        self.has_received = False
        #: Whether anything came since the request: if not, a server that ended may not have seen
        #: it, and an idempotent one may be sent again elsewhere (RFC 9112 section 9.3.1).

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: what was sent and what came was whole."""
        return (
            self._reading is _READS_NOTHING
            and self._writing is _IDLE
            and not (self._closes or self._has_ended or self._incoming.waiting)
            and self.error is None
        )

    def send_whole(self, request: Request) -> None:
        """Take that a request without a body is sent, as a whole.

        Raises:
            BadContext: The request before it is not answered, or the server has ended.
        """
        if not self.is_reusable:
            raise BadContext("it is not the turn of a request")
        self._request = request
        self._informational = 0
        self._reading, self._writing = _HEAD, _DONE
        self.has_received = False

    def receive_whole(self, data: memoryview | bytes) -> KnownResponse | None:
        """Take data that is exactly one response of the usual kind, with its body.

        The connection is then reusable; the body is what stands behind ``head_length``. None: it is
        something else, and nothing was taken.

        Raises:
            HttpProtocolError: As ``next_event``.
        """
        request = self._request
        is_awaited = self._reading is _HEAD and self._writing is _DONE and request is not None
        if not is_awaited or request is None or request.upgrade or self._informational:
            return None
        if self._closes or self._has_ended or self._incoming.waiting:
            return None
        piece = bytes(data[: self._block.bytes_max])
        end = piece.find(_HEAD_END)
        if end < 0:
            return None
        try:
            known = self._known.read_response(piece[: end + 4], request)
        except HttpProtocolError as error:
            self._fail(error)
            raise
        if known is None or known.head_length + known.body_length != len(data):
            return None
        self.has_received = True
        self._reading, self._writing = _READS_NOTHING, _IDLE
        self._request = None
        return known

    def send(self, event: Request | Body | EndOfMessage | RawData) -> Pieces:
        """Return what is to be sent for an event.

        A request is followed by its bodies and an ``EndOfMessage``, also if it has no body.

        Raises:
            BadContext: It is not this event's turn, or a body is not as long as was declared.
        """
        if isinstance(event, Request):
            return self._send_request(event)
        return self._send_part(event)

    def _send_request(self, request: Request) -> Pieces:
        if not (self._writing is Writing.IDLE and self._reading is Reading.IDLE):
            raise BadContext("the request before this one is not answered")
        if self.error is not None or self._has_ended or self._incoming.waiting:
            raise BadContext("the server has ended the connection, or spoken unasked")
        head = write_request(request, closes=self._closes)
        self._request = request
        self._writer = BodyWriter(request.framing)
        self._informational = 0
        self._writing = Writing.BODY
        self._reading = Reading.HEAD
        self.has_received = False
        return (head,)

    @override
    def _read(self) -> ClientEvent | None:
        match self._reading:
            case Reading.HEAD:
                return self._read_response()
            case Reading.BODY:
                event = self._read_body()
                if type(event) is EndOfMessage:
                    self._reading = Reading.PAUSED
                    self._finish()
                return event
            case Reading.IDLE | Reading.PAUSED:
                if self._incoming.waiting:
                    raise HttpProtocolError(HttpFault.UNSOLICITED, Side.SERVER)
                return self._tell_end()
            case Reading.UPGRADED | Reading.RAW:
                return self._read_raw()

    def _read_response(self) -> Response | None:
        if self._incoming.waiting:
            self.has_received = True
        head = self._take_head()
        if head is None:
            if self._has_ended:
                raise HttpProtocolError(HttpFault.TRUNCATED, Side.SERVER, "before a response")
            return None
        assert self._request is not None, "a response answers a request"
        request = self._request
        response = read_response_head(head, self._bounds, self._block, request)
        if response.is_informational:
            self._informational += 1
            if self._informational > self._bounds.informational_responses_max:
                raise HttpProtocolError(HttpFault.INFORMATIONAL_FLOOD, Side.SERVER)
            return response
        is_bodiless = has_no_body(response.status, request.method)
        is_tunnel = request.method == b"CONNECT" and is_bodiless
        if response.status == SWITCHING_PROTOCOLS or is_tunnel:
            self._open_tunnel()
            return response
        framing = NO_BODY if is_bodiless else response.framing
        self._reader = body_reader(framing, self._bounds, Side.SERVER)
        self._reading = Reading.BODY
        if response.wants_close or framing is UNTIL_CLOSE or request.upgrade:
            # A server that did not switch may yet have stopped to read requests: Node does.
            self._closes = True
        return response

    def _open_tunnel(self) -> None:
        """Read what comes behind this head as another protocol's bytes."""
        if self._writing is not Writing.DONE:
            raise HttpProtocolError(
                HttpFault.UPGRADE_UNASKED, Side.SERVER, "the request was not sent to its end"
            )
        self._reading = Reading.UPGRADED
        self._writing = Writing.RAW

    @override
    def _finish(self) -> None:
        """End a cycle when the request is sent and the response is read, each to its end."""
        if self._reading is not Reading.PAUSED:
            return
        if self._writing is Writing.DONE:
            self._reading = Reading.IDLE
            if not self._closes:
                self._writing = Writing.IDLE
            self._request = None
            self._reader = None
        else:
            # The answer came early; what the server makes of the rest is its own affair.
            self._closes = True


_HEAD_END = b"\r\n\r\n"
# Globals are found faster than attributes of a class.
_HEAD = Reading.HEAD
_READS_NOTHING = Reading.IDLE
_DONE = Writing.DONE
_IDLE = Writing.IDLE
