"""What both ends of HTTP/1.1 have in common: bytes that come, the first error, the end.

``Http1Server`` and ``Http1Client`` are its two kinds. The invariant: the first error is final, and
what ``next_event`` handed out as a view is not touched before more data is received.
"""

from __future__ import annotations

import abc
import enum
from typing import Final, Generic, TypeVar

from sluicegate.errors import BadContext, Side
from sluicegate.protocols.http1.body_readers import BodyReader
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.incoming import BlockBounds, Incoming
from sluicegate.protocols.http1.messages import (
    NO_BODY,
    Body,
    EndOfMessage,
    EndOfStream,
    RawData,
    Upgraded,
)
from sluicegate.protocols.http1.writing import BodyWriter, Pieces

__all__ = ["ConnectionEnd", "Reading", "Writing"]

EventT = TypeVar("EventT")
"""What one kind of end tells."""


class Reading(enum.Enum):
    """What is read next."""

    IDLE = "idle"
    """Nothing: no request was sent (client), or no other request is read (server)."""
    HEAD = "head"
    BODY = "body"
    PAUSED = "paused"
    """A message was read, and the other direction is not done with its answer."""
    UPGRADED = "upgraded"
    """``Upgraded`` is told next."""
    RAW = "raw"


class Writing(enum.Enum):
    """What may be sent next."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    DONE = "done"
    RAW = "raw"


class ConnectionEnd(abc.ABC, Generic[EventT]):
    """One end of one connection, for as long as that lives; see the two kinds."""

    __slots__ = (
        "_block", "_bounds", "_closes", "_end_told", "_has_ended", "_incoming", "_reader",
        "_reading", "_side", "_writer", "_writing", "error",
    )  # fmt: skip

    def __init__(self, bounds: HttpBounds, block: BlockBounds, side: Side) -> None:
        self._bounds = bounds
        self._block = block
        self._side = side
        self._incoming = Incoming()
        self._reader: BodyReader | None = None
        self._reading = Reading.IDLE
        self._writer = _NO_WRITER
        self._writing = Writing.IDLE
        self._has_ended = False
        self._end_told = False
        self._closes = False
        self.error: HttpProtocolError | None = None
        #: The peer's first error; raised again by every later ``next_event``.

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Add what the peer sent; its memory must not change until ``next_event`` returns None."""
        if self.error is None and len(data):
            self._incoming.receive(data)

    def next_event(self) -> EventT | None:
        """Return what comes next; None until more bytes come, or while it is not their turn.

        Raises:
            HttpProtocolError: The peer's message is refused; the error is final.
        """
        if self.error is not None:
            raise self.error
        try:
            event = self._read()
        except HttpProtocolError as error:
            self._fail(error)
            raise
        if event is None:
            self._incoming.keep()
        return event

    def keep_data(self) -> None:
        """Let go of the memory that was received: what no event has taken yet is copied.

        ``next_event`` does so when it returns None; whoever stops before that calls this.
        """
        self._incoming.keep()

    @property
    def waiting(self) -> int:
        """How many bytes were received that no event has taken."""
        return self._incoming.waiting

    @property
    def has_plain_body(self) -> bool:
        """Whether what comes next is bytes of a body, nothing between them, and none wait here."""
        reader = self._reader
        return (
            reader is not None
            and self._reading is Reading.BODY
            and self.error is None
            and not (self._has_ended or self._incoming.waiting)
            and reader.is_plain
        )

    @property
    def body_left(self) -> int | None:
        """How many bytes of a plain body are to come; None: all until the connection ends."""
        return None if self._reader is None else self._reader.left

    def skip_body(self, count: int) -> None:
        """Take that somebody else has taken so many bytes of a plain body."""
        assert self._reader is not None, "a body has a reader"
        self._reader.skip(count)

    def take_waiting(self) -> bytes:
        """Return what came behind the message that was read: somebody else goes on."""
        return bytes(self._incoming.take(self._incoming.waiting))

    def receive_end(self) -> None:
        """Note that the peer will send nothing more."""
        self._has_ended = True

    def close_after_message(self) -> None:
        """Decide that the connection ends with the message that is on its way, or is next."""
        self._closes = True

    @property
    def has_ended(self) -> bool:
        """Whether the peer will send nothing more."""
        return self._has_ended

    @property
    def needs_data(self) -> bool:
        """Whether the peer is to say something now.

        While it is False stop receiving, or go on only to notice that the peer is gone: what comes
        is kept, up to ``pipeline_bytes_max``.
        """
        is_open = self.error is None and not self._has_ended
        return is_open and self._reading in {Reading.HEAD, Reading.BODY, Reading.RAW}

    @property
    def is_upgraded(self) -> bool:
        """Whether this connection carries another protocol by now."""
        return self._writing is Writing.RAW

    @property
    def sends_chunks(self) -> bool:
        """Whether the body that is being sent goes out in chunks."""
        return self._writer.is_chunked

    def skip_sent(self, count: int) -> None:
        """Take that somebody else has sent so many bytes of the body."""
        self._writer.skip(count)

    @abc.abstractmethod
    def _read(self) -> EventT | None:
        """Return what comes next of what has come, by this kind of end's turns."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Go on behind a message that was sent to its end, or read to it."""

    def _send_part(self, event: Body | EndOfMessage | RawData) -> Pieces:
        """Return what is to be sent for what stands behind a head.

        Raises:
            BadContext: It is not this event's turn, or a body is not as long as was declared.
        """
        match event:
            case Body():
                self._expect(Writing.BODY, "a body")
                return self._writer.write(event.data)
            case EndOfMessage():
                self._expect(Writing.BODY, "the end of a message")
                pieces = self._writer.end(event.trailers)
                self._writing = Writing.DONE
                self._finish()
                return pieces
            case RawData():
                self._expect(Writing.RAW, "raw data")
                return (event.data,)

    def _expect(self, writing: Writing, what: str) -> None:
        if self._writing is not writing:
            raise BadContext(f"it is not the turn of {what}")

    def _take_head(self) -> bytes | None:
        """Take a whole head; None until it has come."""
        head = self._incoming.take_head(self._block.bytes_max)
        if head is None:
            fault = self._incoming.check(self._block)
            if fault is not None:
                raise HttpProtocolError(fault, self._side)
        return head

    def _read_body(self) -> Body | EndOfMessage | None:
        assert self._reader is not None, "a body has a reader"
        event = self._reader.next_event(self._incoming)
        if event is None and self._has_ended:
            event = self._reader.end()
            if event is None:
                raise HttpProtocolError(HttpFault.TRUNCATED, self._side, "in a body")
        return event

    def _read_raw(self) -> Upgraded | RawData | EndOfStream | None:
        if self._reading is Reading.UPGRADED:
            self._reading = Reading.RAW
            return Upgraded()
        waiting = self._incoming.waiting
        if waiting:
            return RawData(self._incoming.take(waiting))
        return self._tell_end()

    def _tell_end(self) -> EndOfStream | None:
        """Tell, once, that the peer has ended where it may."""
        if not self._has_ended or self._end_told:
            return None
        self._end_told = True
        return EndOfStream()

    def _check_pause(self) -> None:
        """Bound what waits while nothing is read.

        Raises:
            HttpProtocolError: It is too much.
        """
        if self._incoming.waiting > self._bounds.pipeline_bytes_max:
            raise HttpProtocolError(HttpFault.PIPELINE_TOO_LARGE, self._side)

    def _fail(self, error: HttpProtocolError) -> None:
        self.error = error
        self._closes = True
        self._reader = None
        self._incoming = Incoming()


_NO_WRITER: Final = BodyWriter(NO_BODY)
"""Of every end that sends nothing; it takes nothing, so nothing of it changes."""
