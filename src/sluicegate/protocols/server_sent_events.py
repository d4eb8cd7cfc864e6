"""Server-sent events (``text/event-stream``, WHATWG HTML section 9.2): bytes in, events out.

``gate/web`` reads streams with it, event by event. The invariant: any cut of the input gives the
same events, an event that does not fit its bound is refused, and what is written reads back as the
event that it was written from.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.protocol_limits import SSE_EVENT_BYTES_MAX

__all__ = ["EventStreamError", "EventStreamReader", "ServerSentEvent"]


class EventStreamError(ProtocolError):
    """A stream is refused: ``code`` says why, for records."""

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """What stands between two empty lines of a stream.

    A browser dispatches it if it has data; without any it may yet set ``id`` or ``retry_ms``, or be
    a comment that keeps the connection alive.
    """

    data: str | None = None
    """Its lines joined by line feeds; None: it has none."""
    event: str | None = None
    """Its type; None: the type ``message``."""
    id: str | None = None
    """What a client says in ``Last-Event-ID`` when it comes again."""
    retry_ms: int | None = None
    """After how long a client comes again."""
    comments: tuple[str, ...] = ()
    """Lines that no browser tells anybody of."""

    def __post_init__(self) -> None:
        """Find what cannot be written, where its author sees it."""
        for value in (self.event, self.id, *self.comments):
            if value is not None and _LINE_END.search(value):
                raise ValueError("only data may have several lines")
        if self.id is not None and "\0" in self.id:
            raise ValueError("an identifier with NUL is ignored by browsers")
        if self.data is not None and "\r" in self.data:
            raise ValueError("lines of data are joined by line feeds")
        if self.retry_ms is not None and self.retry_ms < 0:
            raise ValueError("retry_ms is 0 or more")

    def to_bytes(self) -> bytes:
        """Return it as it stands in a stream, with its empty line."""
        lines = [f":{one}" for one in self.comments]
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry_ms is not None:
            lines.append(f"retry: {self.retry_ms}")
        if self.data is not None:
            lines += [f"data: {line}" for line in self.data.split("\n")]
        return ("\n".join([*lines, "", ""])).encode()


class EventStreamReader:
    """Reads one stream; ``next_event`` until None after each ``receive_data``."""

    def __init__(self, event_bytes_max: int = SSE_EVENT_BYTES_MAX) -> None:
        self._bytes_max = event_bytes_max
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at: int = 0
        self._scanned: int = 0
        #: Where the line begins that is read, and up to where it has no end.
        self._lines: list[str] = []
        self._size = 0
        self._is_first = True
        #: Whether a byte order mark may come.
        self._was_return = False
        #: Whether a line feed belongs to the carriage return before it.

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take bytes of the stream; they are read as browsers do, with U+FFFD for what is no UTF-8.

        What is no UTF-8 does not go on as it was: the receiver is sent what was read.
        """
        text = self._decoder.decode(bytes(data))
        if self._is_first and text:
            self._is_first = False
            text = text.removeprefix("\ufeff")
        if self._was_return and text:
            self._was_return = False
            text = text.removeprefix("\n")
        self._text = self._text[self._at :] + text
        self._scanned -= self._at
        self._at = 0

    def next_event(self) -> ServerSentEvent | None:
        """Return what has come next; None: the rest of it has not.

        Raises:
            EventStreamError: It is larger than the bound.
        """
        while (line := self._next_line()) is not None:
            if line:
                self._size += len(line)
                self._check_size()
                self._lines.append(line)
            elif self._lines:
                lines, self._lines, self._size = self._lines, [], 0
                event = _event_of(lines)
                if event != _NOTHING:
                    return event
        self._check_size(len(self._text) - self._at)
        return None

    def _check_size(self, more: int = 0) -> None:
        # Characters: in UTF-8 each has one byte or more, and at most four.
        if self._size + more > self._bytes_max:
            self._lines.clear()
            self._text, self._at, self._scanned = "", 0, 0
            raise EventStreamError(
                "event-too-large", f"an event is larger than {self._bytes_max} characters"
            )

    def _next_line(self) -> str | None:
        text = self._text
        found = _LINE_END.search(text, self._scanned)
        if found is None:
            self._scanned = len(text)
            return None
        line = text[self._at : found.start()]
        self._at = self._scanned = found.end()
        self._was_return = found[0] == "\r" and found.end() == len(text)
        return line


def _event_of(lines: list[str]) -> ServerSentEvent:
    data: list[str] | None = None
    event = identifier = None
    retry_ms: int | None = None
    comments: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            comments.append(line[1:])
        elif name == "data":
            data = [*(data or ()), value]
        elif name == "event":
            event = value
        elif name == "id":
            # A browser ignores an identifier with NUL.
            identifier = identifier if "\0" in value else value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry_ms = int(value[:_RETRY_DIGITS_MAX])
        # What has another name is ignored by everybody, so it does not go on.
    return ServerSentEvent(
        None if data is None else "\n".join(data), event, identifier, retry_ms, tuple(comments)
    )


_NOTHING: Final = ServerSentEvent()
"""Fields that nobody knows: nothing to tell anybody, so it does not go on."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_RETRY_DIGITS_MAX: Final = 10
"""Longer waits than 115 days are cut to that many digits; browsers cap them, too."""
