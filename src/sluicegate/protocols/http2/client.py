"""Http2Client: the end that faces a server: requests out, responses in.

The gate has one for each of its connections to servers of HTTP/2. The invariant: a response is
handed out for the request of its own stream, once its head was read strictly; a server opens no
streams, and no more are opened than it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from sluicegate.errors import BadContext, Side
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http1.messages import FramingKind, Request

from .bounds import DEFAULT_HTTP2_BOUNDS, Http2Bounds
from .connection import Http2Connection
from .events import ResponseBegan
from .fault import Http2Fault, StreamFault
from .field_lists import KnownLists, RawField
from .frames import PREFACE, Setting
from .request_head import request_fields
from .response_head import read_response
from .stream import Stream

__all__ = ["Http2Client"]

_STREAMS_MAX = (1 << 31) - 1
_REDIRECTED = 300


class Http2Client(Http2Connection):
    """One connection to a server."""

    peer = Side.SERVER

    def __init__(
        self,
        bounds: Http2Bounds = DEFAULT_HTTP2_BOUNDS,
        known: KnownLists | None = None,
        *,
        scheme: bytes = b"https",
    ) -> None:
        super().__init__(bounds, known or KnownLists(bounds.heads))
        self._scheme = scheme
        self._streams_max = bounds.streams_max
        #: Of the server; ours until it has said its own.
        self.takes_protocols = False
        #: Whether it understands an extended CONNECT.
        self._out.append(PREFACE)
        self._begin({Setting.ENABLE_PUSH: 0, Setting.MAX_CONCURRENT_STREAMS: 0})

    @property
    @override
    def _last_of_peer(self) -> int:
        return 0

    @override
    def _is_idle(self, number: int) -> bool:
        return number > self.last_stream or not number & 1

    @override
    def _open_from_peer(self, number: int) -> Stream | None:
        if number & 1 and number <= self.last_stream:
            if number in self._forgotten:
                return None
            raise self._refuse(Http2Fault.STREAM_CLOSED, str(number))
        raise self._refuse(Http2Fault.STREAM_ID, str(number))

    @override
    def _take_own_setting(self, key: int, value: int) -> None:
        if key == Setting.MAX_CONCURRENT_STREAMS:
            self._streams_max = min(value, self.bounds.streams_max)
        elif key == Setting.ENABLE_CONNECT_PROTOCOL:
            self.takes_protocols = bool(value)
        elif key == Setting.ENABLE_PUSH and value:
            raise self._refuse(Http2Fault.SETTING, "a server says ENABLE_PUSH")

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent on it."""
        return self.has_room_for(1)

    def has_room_for(self, count: int) -> bool:
        """Tell whether so many requests may be sent on it besides those that are open."""
        return (
            len(self.streams) + count <= self._streams_max
            and not (self.is_leaving or self.has_peer_left)
            and self.error is None
            and self.last_stream < _STREAMS_MAX - 2
        )

    def send_head(self, request: Request, *, is_last: bool, protocol: bytes = b"") -> int:
        """Send a request's head; return its stream.

        Args:
            request: The request.
            is_last: Whether nothing follows it.
            protocol: What an extended CONNECT asks for (RFC 8441); empty: it is none.

        Raises:
            BadContext: There is no room, or the request cannot be sent.
        """
        if not self.has_room:
            raise BadContext("the server takes no further stream")
        if protocol and not self.takes_protocols:
            raise BadContext("the server takes no extended CONNECT")
        fields = request_fields(request, self._scheme, protocol)
        number = self.last_stream = self.last_stream + 2 if self.last_stream else 1
        stream = Stream(number, self._peer_window, self.bounds.stream_window_bytes)
        stream.method = request.method
        self.streams[number] = stream
        self._send_block(number, fields, is_last=is_last)
        stream.is_local_over = is_last
        return number

    @override
    def _take_head(self, stream: Stream, fields: Sequence[RawField], *, is_last: bool) -> None:
        method = stream.method
        response = read_response(fields, self._known, method, is_whole=is_last)
        if response.is_informational:
            stream.informational += 1
            if stream.informational > self.bounds.heads.informational_responses_max:
                raise StreamFault(Http2Fault.INFORMATIONAL_FLOOD)
            self._events.append(ResponseBegan(stream.number, response, is_whole=False))
            return
        stream.has_head = True
        if method == b"CONNECT" and response.status < _REDIRECTED:
            stream.is_tunnel = True
        elif has_no_body(response.status, method):
            stream.body_left = 0
        elif response.framing.kind is FramingKind.LENGTH:
            stream.body_left = response.framing.length
        self._events.append(ResponseBegan(stream.number, response, is_last))
        if is_last:
            self._end_remote(stream)
