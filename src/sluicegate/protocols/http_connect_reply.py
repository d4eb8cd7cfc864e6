r"""What a parent proxy answers to CONNECT: bytes in, a status out (RFC 9110 section 9.3.6).

The gate asks a parent for a tunnel and reads its answer with it. The invariant: the answer has one
reading; in one that grants the tunnel nothing but its head is the proxy's: the lengths that it may
state are ignored, and what follows is the server's.

>>> reply = ConnectReply()
>>> reply.receive_data(b"HTTP/1.1 200 Connection established\r\n\r\n")
>>> reply.status(), reply.early
(200, b'')
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.protocol_limits import (
    CONNECT_FIELDS_MAX,
    CONNECT_HEAD_BYTES_MAX,
    CONNECT_LINE_BYTES_MAX,
)

from .entry import EntryBuffer
from .http_head import HeadBounds, HttpHeadReader

__all__ = ["ConnectReply"]


class ConnectReply:
    """One proxy's answer."""

    __slots__ = ("_buffer", "_reader", "_status", "early")

    def __init__(self) -> None:
        self._buffer = EntryBuffer()
        bounds = HeadBounds(CONNECT_LINE_BYTES_MAX, CONNECT_HEAD_BYTES_MAX, CONNECT_FIELDS_MAX)
        self._reader = HttpHeadReader(self._buffer, bounds)
        self._status = 0
        self.early = b""
        #: What came behind the head.

    def receive_data(self, data: bytes) -> None:
        """Take what the proxy sent."""
        self._buffer.receive_data(data)

    def status(self) -> int | None:
        """Return the status once the head is whole; None: more has to come.

        Raises:
            ProtocolError: It is no answer to CONNECT, or can be read in two ways.
        """
        if self._buffer.error is not None:
            raise self._buffer.error
        if self._status:
            return self._status
        line = self._reader.read_first_line()
        if line is None:
            return None
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise self._buffer.fail("the first line is no status line of HTTP/1")
        if self._reader.read_fields() is None:
            return None
        status = int(found[1])
        if status < _OK:
            raise self._buffer.fail("an informational answer stands in the place of a final one")
        self._status, self.early = status, self._buffer.take_all()
        return status


_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t -~]*)?")
_OK: Final = 200
