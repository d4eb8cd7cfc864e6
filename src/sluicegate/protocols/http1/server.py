r"""The gate as a server: requests of one client in, responses out (RFC 9112).

The proxy feeds it what a client sends and takes events; what it is given to send comes back as
bytes. The invariant: one request is read at a time, and the next one not before this one was read
to its end and answered to its end, so no response can be taken for another's, and a client that
pipelines is held back by not being read.

After each ``receive_data`` take ``next_event`` until it is None. After an error send one response
with ``error.status`` if none was begun, and end the connection.

>>> server = Http1Server()
>>> server.receive_data(b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n")
>>> print(server.next_event())
GET /a
>>> server.next_event()
EndOfMessage(trailers=Fields())
>>> server.send(Response(404, b"Not Found"))
(b'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',)
>>> server.send(EndOfMessage())
()
>>> server.needs_data
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
from sluicegate.protocols.http1.known_heads import KnownHeads
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
from sluicegate.protocols.http1.reasons import reason_of
from sluicegate.protocols.http1.writing import (
    BodyWriter,
    Pieces,
    framing_to_client,
    write_response,
)

__all__ = ["Http1Server", "ServerEvent"]

ServerEvent = Request | Body | EndOfMessage | Upgraded | RawData | EndOfStream


class Http1Server(ConnectionEnd[ServerEvent]):
    """One client's connection."""

    __slots__ = ("_has_continued", "_known", "_request")

    def __init__(
        self, bounds: HttpBounds = DEFAULT_BOUNDS, known: KnownHeads | None = None
    ) -> None:
        """Make one.

        Args:
            bounds: What it takes; those of ``known``, if that is given.
            known: What others like it have read.
        """
        if known is None:
            known = KnownHeads(bounds)
        super().__init__(known.bounds, known.request_block, Side.CLIENT)
        self._known = known
        self._reading = Reading.HEAD
        self._request: Request | None = None
        self._has_continued = False

    @property
    def must_close(self) -> bool:
        """Whether the connection is to be ended, once what was returned by ``send`` is sent."""
        is_over = self._reading is Reading.IDLE and self._writing is Writing.DONE
        return is_over or (self.error is not None and self._writing is not Writing.BODY)

    def receive_whole(self, data: memoryview | bytes) -> Request | None:
        """Take data that is exactly one request without a body, when one is awaited.

        The request is then read to its end. None: it is something else, and nothing was taken.

        Raises:
            HttpProtocolError: As ``next_event``.
        """
        if self._reading is not _HEAD or self.error is not None or self._incoming.waiting:
            return None
        head = bytes(data)
        end = head.find(_HEAD_END)
        if end < 0 or end != len(head) - 4 or len(head) > self._block.bytes_max:
            return None
        try:
            request = self._known.read_request(head)
        except HttpProtocolError as error:
            self._fail(error)
            raise
        if request.framing is not NO_BODY:
            return None
        self._begin(request)
        self._reading = _PAUSED
        return request

    def give_up(self) -> None:
        """Read nothing more: the request that is awaited did not come whole in time.

        It may be answered as one that was refused, which ends the connection.
        """
        self._fail(HttpProtocolError(HttpFault.TRUNCATED, Side.CLIENT, "in a head"))

    def send_whole(self) -> bool:
        """Take that a whole answer is sent; True: its head has to say that nothing follows it.

        Raises:
            BadContext: It is not an answer's turn.
        """
        if self._writing is not _AWAITED or self._reading is not _PAUSED:
            raise BadContext("it is not the turn of a whole answer")
        if self._closes:
            self._finish()
            return True
        self._reading, self._writing = _HEAD, _IDLE
        self._request = self._reader = None
        return False

    @property
    def takes_whole(self) -> bool:
        """Whether it is the turn of an answer to a request that was read to its end."""
        return self._writing is _AWAITED and self._reading is _PAUSED

    def send(self, event: Response | Body | EndOfMessage | RawData) -> Pieces:
        """Return what is to be sent for an event.

        A response is followed by its bodies and an ``EndOfMessage``, also if it has no body; only
        informational ones, 101, and 2xx to CONNECT are not.

        Raises:
            BadContext: It is not this event's turn, or a body is not as long as was declared.
        """
        if isinstance(event, Response):
            return self._send_response(event)
        return self._send_part(event)

    @override
    def _read(self) -> ServerEvent | None:
        match self._reading:
            case Reading.HEAD:
                return self._read_request()
            case Reading.BODY:
                event = self._read_body()
                if type(event) is EndOfMessage:
                    self._reading = Reading.PAUSED
                return event
            case Reading.PAUSED:
                self._check_pause()
                return None if self._incoming.waiting else self._tell_end()
            case Reading.UPGRADED | Reading.RAW:
                return self._read_raw()
            case Reading.IDLE:
                return None

    def _read_request(self) -> Request | EndOfStream | None:
        head = self._take_head()
        if head is None:
            if self._has_ended and self._incoming.waiting:
                raise HttpProtocolError(HttpFault.TRUNCATED, Side.CLIENT, "in a head")
            return self._tell_end()
        request = self._known.read_request(head)
        self._begin(request)
        self._reader = body_reader(request.framing, self._bounds, Side.CLIENT)
        self._reading = Reading.BODY
        return request

    def _begin(self, request: Request) -> None:
        self._request = request
        self._writing = _AWAITED
        self._has_continued = False
        if request.wants_close:
            self._closes = True

    def _send_response(self, response: Response) -> Pieces:
        request = self._request
        if self.error is not None and self._writing in {Writing.IDLE, Writing.HEAD}:
            self._writing = Writing.HEAD
        self._expect(Writing.HEAD, "a response")
        reason = reason_of(response.status)
        if response.status == SWITCHING_PROTOCOLS:
            self._switch(response)
            return (write_response(response, NO_BODY, reason=reason),)
        if response.is_informational:
            if request is None or not request.is_http_1_1:
                return ()  # RFC 9110 section 15.2: HTTP/1.0 has none.
            self._has_continued = self._has_continued or response.status == _CONTINUE
            return (write_response(response, NO_BODY, reason=reason),)
        method = request.method if request is not None else b"GET"
        is_http_1_1 = request is None or request.is_http_1_1
        framing = framing_to_client(response, method, is_http_1_1=is_http_1_1)
        if method == b"CONNECT" and has_no_body(response.status, method):
            self._open_tunnel()
            return (write_response(response, NO_BODY, reason=reason),)
        if framing is UNTIL_CLOSE or self._body_may_not_come() or method == b"CONNECT":
            # Behind a refused CONNECT a client may have begun its tunnel already.
            self._closes = True
        self._writing = Writing.BODY
        is_sent = not has_no_body(response.status, method)
        self._writer = BodyWriter(framing if is_sent else NO_BODY)
        option = b"close" if self._closes else b"" if is_http_1_1 else b"keep-alive"
        return (write_response(response, framing, option=option, reason=reason),)

    def _body_may_not_come(self) -> bool:
        """Tell whether the client still waits for 100, and will have its answer instead."""
        request = self._request
        waits = request is not None and request.expects_continue and not self._has_continued
        return waits and self._reading is Reading.BODY

    def _switch(self, response: Response) -> None:
        request = self._request
        offered = {protocol.lower() for protocol in request.upgrade} if request is not None else ()
        chosen = [protocol.lower() for protocol in response.upgrade]
        if not chosen or not all(protocol in offered for protocol in chosen):
            raise BadContext("101 without a protocol that the client offered")
        self._open_tunnel()

    def _open_tunnel(self) -> None:
        """Read what comes, and what came since the request, as another protocol's bytes."""
        if self._reading is not Reading.PAUSED:
            raise BadContext("the request was not read to its end")
        self._reading = Reading.UPGRADED
        self._writing = Writing.RAW

    @override
    def _finish(self) -> None:
        """End an answer; another request is read only behind one that was read to its end."""
        if self._closes or self._reading is not Reading.PAUSED:
            self._closes = True
            self._reading = Reading.IDLE
            self._writing = Writing.DONE
        else:
            self._reading = Reading.HEAD
            self._writing = Writing.IDLE
        self._request = None
        self._reader = None


_CONTINUE = 100
_HEAD_END = b"\r\n\r\n"
# Globals are found faster than attributes of a class.
_HEAD = Reading.HEAD
_PAUSED = Reading.PAUSED
_IDLE = Writing.IDLE
_AWAITED = Writing.HEAD
