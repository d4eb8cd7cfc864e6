"""The records of TLS before anything is encrypted: their heads checked, what they carry put out.

``reader`` and ``answer`` take handshake messages from it. The invariant: a head is judged byte by
byte in the order of the stream, so that the outcome is the same for every cut of it.
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import Side

from .fault import TlsFault, TlsRefused

__all__ = ["HANDSHAKE", "HEAD_SIZE", "RecordHead"]


class RecordHead:
    """The head of one record after the other (RFC 8446 section 5.1)."""

    __slots__ = ("_head", "_side", "left", "type", "wire")

    def __init__(self, side: Side) -> None:
        self._head = bytearray()
        self._side = side
        self.type = -1
        #: Of the record whose content is next.
        self.left = 0
        #: How much of that content is to come; 0: a head is.
        self.wire = 0
        #: Bytes of whole heads and of the content that they announce.

    def take(self, data: bytes | memoryview, at: int) -> int:
        """Take of a head what is there from ``at`` on; return where the rest begins.

        Raises:
            TlsRefused: It is no head of a record.
        """
        assert not self.left, "a record's content comes before the next head"
        head = self._head
        if not head and len(data) - at >= HEAD_SIZE and data[at] == HANDSHAKE:
            # What nearly every stream begins with, in one look.
            length = data[at + 3] << 8 | data[at + 4]
            is_usual = data[at + 1] == _MAJOR and data[at + 2] <= _MINOR_MAX
            if is_usual and 0 < length <= _RECORD_BYTES_MAX:
                self.type, self.left = HANDSHAKE, length
                self.wire += HEAD_SIZE + length
                return at + HEAD_SIZE
        while len(head) < HEAD_SIZE and at < len(data):
            head.append(data[at])
            at += 1
            self._check()
        if len(head) == HEAD_SIZE:
            self.type = head[0]
            self.left = int.from_bytes(head[3:], "big")
            self.wire += HEAD_SIZE + self.left
            head.clear()
        return at

    @property
    def is_between(self) -> bool:
        """Whether nothing of the next head has come."""
        return not self._head

    def _check(self) -> None:
        """Check the last byte of what is there of the head."""
        head, is_first = self._head, not self.wire
        match len(head):
            case 1:
                if head[0] not in _TYPES and not (is_first and head[0] & _SSL2):
                    raise self.refused(TlsFault.NOT_TLS if is_first else TlsFault.RECORD_TYPE)
            case 2:
                if head[1] != _MAJOR and not head[0] & _SSL2:
                    raise self.refused(TlsFault.NOT_TLS if is_first else TlsFault.RECORD_VERSION)
            case 3:
                if head[0] & _SSL2:
                    is_hello = head[2] == _SSL2_HELLO
                    raise self.refused(TlsFault.SSL2_HELLO if is_hello else TlsFault.NOT_TLS)
                if head[2] > _MINOR_MAX:
                    raise self.refused(TlsFault.RECORD_VERSION)
            case 5:
                self._check_length(head[0], int.from_bytes(head[3:], "big"))
            case _:
                pass

    def _check_length(self, kind: int, length: int) -> None:
        if not length:
            # Also of early data: what is encrypted has at least its seal.
            raise self.refused(TlsFault.RECORD_EMPTY)
        expansion = _EXPANSION_MAX if kind == _APPLICATION_DATA else 0
        if length > _RECORD_BYTES_MAX + expansion:
            raise self.refused(TlsFault.RECORD_TOO_LONG)

    def refused(self, fault: TlsFault) -> TlsRefused:
        """Make the error of a fault of this side."""
        return TlsRefused(fault, self._side)


HEAD_SIZE: Final = 5
HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
#: Change of cipher, alert, handshake, application data.
_TYPES: Final = frozenset({20, 21, HANDSHAKE, _APPLICATION_DATA})
_MAJOR: Final = 3
#: Records of SSL 3.0 to "TLS 1.3" have been seen; RFC 8446 says to overlook what they say.
_MINOR_MAX: Final = 4
_RECORD_BYTES_MAX: Final = 1 << 14
#: Encrypted records may be longer (RFC 8446 section 5.2; 2,048 in RFC 5246).
_EXPANSION_MAX: Final = 256
#: A record of SSL 2 has this bit set in its first byte, and the message's type in its third.
_SSL2: Final = 0x80
_SSL2_HELLO: Final = 1
