"""Http2Server: the end that faces a client: requests in, responses out.

The gate has one for each client's connection. The invariant: a request is handed out once its head
was read strictly, streams are bounded at once and counted over all, and what was refused is
answered or reset, never passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from sluicegate.errors import BadContext, Side
from sluicegate.protocols.http1.messages import FramingKind, Response

from .bounds import DEFAULT_HTTP2_BOUNDS, Http2Bounds
from .connection import Http2Connection
from .events import MalformedRequest, RequestBegan
from .fault import ErrorCode, Http2Fault, StreamFault
from .field_lists import KnownLists, RawField
from .frames import PREFACE, Setting, reset_stream
from .request_head import ServedAs, read_request
from .response_head import response_fields
from .stream import Stream

__all__ = ["Http2Server"]


class Http2Server(Http2Connection):
    """One client's connection."""

    peer = Side.CLIENT

    def __init__(
        self,
        served: ServedAs,
        bounds: Http2Bounds = DEFAULT_HTTP2_BOUNDS,
        known: KnownLists | None = None,
    ) -> None:
        super().__init__(bounds, known or KnownLists(bounds.heads))
        self._served = served
        self.is_full = False
        #: Whether further streams are refused, such that clients ask again elsewhere. GOAWAY says
        #: so, too, but there are clients (those of ``h2``) that lose their answers by it.
        self._preface = PREFACE
        #: What of it has not come.
        values = {Setting.MAX_CONCURRENT_STREAMS: bounds.streams_max}
        if served.protocols:
            values[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        self._begin(values)

    @override
    def _read_frame(self) -> bool:
        if self._preface and not self._read_preface():
            return False
        return super()._read_frame()

    def _read_preface(self) -> bool:
        came = self._data[self._at : self._at + len(self._preface)]
        if not self._preface.startswith(came):
            raise self._refuse(Http2Fault.PREFACE)
        self._preface = self._preface[len(came) :]
        self._at += len(came)
        return not self._preface

    @property
    @override
    def _last_of_peer(self) -> int:
        return self.last_stream

    @override
    def _is_idle(self, number: int) -> bool:
        return number > self.last_stream or not number & 1

    @override
    def _open_from_peer(self, number: int) -> Stream | None:
        if not number & 1:
            raise self._refuse(Http2Fault.STREAM_ID, str(number))
        if number <= self.last_stream:
            if number in self._forgotten:
                return None
            raise self._refuse(Http2Fault.STREAM_CLOSED, str(number))
        if self.is_leaving:
            # RFC 9113 section 6.8: what is above GOAWAY's stream was never looked at.
            self.floods.note_reset()
            return None
        self.last_stream = number
        if self.is_full or len(self.streams) >= self.bounds.streams_max:
            self._out.append(reset_stream(number, ErrorCode.REFUSED_STREAM))
            self._forget(number)
            self.floods.note_reset()
            return None
        stream = Stream(number, self._peer_window, self.bounds.stream_window_bytes)
        self.streams[number] = stream
        return stream

    @override
    def _take_head(self, stream: Stream, fields: Sequence[RawField], *, is_last: bool) -> None:
        stream.has_head = True
        try:
            request, protocol = read_request(fields, self._known, self._served, is_whole=is_last)
        except StreamFault as fault:
            self.floods.note_reset()
            stream.is_remote_over = stream.is_remote_over or is_last
            self._events.append(MalformedRequest(stream.number, fault.fault, fault.hint))
            return
        stream.method = request.method
        stream.is_tunnel = request.method == b"CONNECT"
        framing = request.framing
        if framing.kind is FramingKind.LENGTH:
            stream.body_left = framing.length
        if is_last:
            stream.is_remote_over = True
        self._events.append(RequestBegan(stream.number, request, is_last, protocol))

    @override
    def _take_own_setting(self, key: int, value: int) -> None:
        """Take what is of no use to a server: it pushes nothing."""

    def send_head(self, number: int, response: Response, *, is_last: bool = False) -> None:
        """Send a response's head, informational or final; nothing where the stream is over.

        Raises:
            BadContext: The message was ended.
        """
        stream = self.streams.get(number)
        if stream is not None:
            self.send_fields(number, response_fields(response, stream.method), is_last=is_last)

    def send_fields(
        self, number: int, fields: Sequence[RawField], *, is_last: bool = False
    ) -> None:
        """Send a response's head as ``response_fields`` or ``whole_fields`` made it.

        Raises:
            BadContext: The message was ended.
        """
        stream = self.streams.get(number)
        if stream is None:
            return
        if stream.is_local_over:
            raise BadContext("the message was ended")
        self._send_block(number, fields, is_last=is_last)
        if is_last:
            self._end_local(stream)
