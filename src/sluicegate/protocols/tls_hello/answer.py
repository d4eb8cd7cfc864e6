"""The server's answer to a ClientHello, as far as it asks for another one.

A server may ask for a second ClientHello (HelloRetryRequest, RFC 8446 section 4.1.4), which comes
in clear, and which some servers read the name from: so a name that was judged once is not enough.
The gate watches until the answer is there, which is one look at the server's first bytes. The
invariant: what a client sends before the answer is no hello, unless it was asked for.
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import Side

from .records import HANDSHAKE, RecordHead

__all__ = ["AnswerReader", "RecordSkipper"]


class AnswerReader:
    """The server's first bytes in, whether it asks again out."""

    __slots__ = ("_message", "_record", "asks_again")

    def __init__(self) -> None:
        self._record = RecordHead(Side.SERVER)
        self._message = bytearray()
        self.asks_again: bool | None = None
        #: Once that is known.

    def read(self, data: bytes | memoryview) -> bool | None:
        """Take what the server sent next; say whether it asks again, None while that is open.

        Raises:
            TlsRefused: It is no record of TLS.
        """
        record, message, at = self._record, self._message, 0
        while at < len(data) and self.asks_again is None:
            if record.left:
                count = min(record.left, len(data) - at, _ANSWER_SIZE - len(message))
                message += data[at : at + count]
                record.left -= count
                at += count
                self._check()
            else:
                at = record.take(data, at)
                if record.left and record.type != HANDSHAKE:
                    # An alert, or what has no place here: in either case no question.
                    self.asks_again = False
        return self.asks_again

    def _check(self) -> None:
        message = self._message
        if message[0] != _SERVER_HELLO:
            self.asks_again = False
        elif len(message) == _ANSWER_SIZE:
            self.asks_again = message.endswith(_ASKS_AGAIN)


class RecordSkipper:
    """Passes by a client's records behind its hello: early data, change of cipher, alerts."""

    __slots__ = ("_record",)

    def __init__(self) -> None:
        self._record = RecordHead(Side.CLIENT)

    def skip(self, data: bytes | memoryview) -> int:
        """Take what the client sent next; return where a handshake record begins, or the end.

        From there on the bytes are not taken.

        Raises:
            TlsRefused: It is no record of TLS.
        """
        record, at = self._record, 0
        while at < len(data):
            if record.left:
                count = min(record.left, len(data) - at)
                record.left -= count
                at += count
            elif record.is_between and data[at] == HANDSHAKE:
                return at
            else:
                at = record.take(data, at)
        return at


_SERVER_HELLO: Final = 2
#: Head of the message, and the version of the server.
_RANDOM_AT: Final = 4 + 2
#: SHA-256 of "HelloRetryRequest", in the place of the server's random.
_ASKS_AGAIN: Final = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
_ANSWER_SIZE: Final = _RANDOM_AT + len(_ASKS_AGAIN)
