"""What clamd, ClamAV's daemon, is told and answers: commands out, replies in.

``scan/clamd`` sends and receives. The invariant: an answer is clean only if it is exactly that;
what is cut off, unknown or an error is something else.

Commands and replies end in NUL (the ``z`` form), which no name of a signature can hold. Source:
clamd(8), "COMMANDS", and the replies of ClamAV 1.4.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.scan_limits import CLAMD_REPLY_BYTES_MAX

__all__ = [
    "END_OF_STREAM",
    "FILDES",
    "INSTREAM",
    "PING",
    "VERSION",
    "ClamdReply",
    "ClamdVerdict",
    "ClamdVersion",
    "ReplyReader",
    "chunk_header",
    "parse_scan_reply",
    "parse_version",
]

PING: Final = b"zPING\0"
VERSION: Final = b"zVERSION\0"
INSTREAM: Final = b"zINSTREAM\0"
"""What follows are chunks, each behind ``chunk_header``, and ``END_OF_STREAM``."""
FILDES: Final = b"zFILDES\0"
"""What follows is one byte that carries a descriptor (SCM_RIGHTS)."""
END_OF_STREAM: Final = b"\0\0\0\0"


class ClamdVerdict(enum.Enum):
    """What became of one scan."""

    CLEAN = enum.auto()
    FOUND = enum.auto()
    LIMIT = enum.auto()
    """A limit of clamd was reached: the object, or a part of it, was not looked at."""
    ENCRYPTED = enum.auto()
    """It, or a part of it, is encrypted: nobody looked inside."""
    ERROR = enum.auto()


@dataclass(frozen=True, slots=True)
class ClamdReply:
    """The answer to one scan."""

    verdict: ClamdVerdict
    text: str = ""
    """The name of what was found, or the error; printable ASCII."""


@dataclass(frozen=True, slots=True)
class ClamdVersion:
    """Who answers: ``ClamAV 1.4.6/27777/Fri Nov 27 09:11:05 2026``."""

    engine: str
    signatures: str = ""
    """The number and the date of the official signatures; empty where there are only others."""


class ReplyReader:
    """Collects one reply, however it is cut."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def receive_data(self, data: bytes) -> bytes | None:
        """Take what came; return the reply without its end when it is whole.

        Raises:
            ProtocolError: It is longer than any reply, or the stream ended in the middle (``data``
                is empty).
        """
        if not data:
            raise ProtocolError("clamd closed the connection before its answer was whole")
        self._data += data
        end = self._data.find(0)
        if (len(self._data) if end < 0 else end) > CLAMD_REPLY_BYTES_MAX:
            raise ProtocolError(f"an answer of more than {CLAMD_REPLY_BYTES_MAX} bytes")
        if end < 0:
            return None
        if end != len(self._data) - 1:
            raise ProtocolError("clamd says more than was asked")
        return bytes(self._data[:end])


def chunk_header(size: int) -> bytes:
    """Return what stands before a chunk of a stream, which has at least one byte."""
    assert size > 0, "an empty chunk would end the stream"
    return struct.pack("!I", size)


def parse_scan_reply(reply: bytes) -> ClamdReply:
    """Read the answer to a scan.

    Raises:
        ProtocolError: It is no answer to a scan.
    """
    found = _SCAN_REPLY.fullmatch(reply)
    if found is None:
        if reply == _STREAM_TOO_LARGE:
            return ClamdReply(ClamdVerdict.LIMIT, "StreamMaxLength of clamd")
        if reply.endswith(b" ERROR"):
            return ClamdReply(ClamdVerdict.ERROR, _printable(reply.removesuffix(b" ERROR")))
        raise ProtocolError(f"clamd answers {reply[:80]!r}")
    if found["name"] is None:
        return ClamdReply(ClamdVerdict.CLEAN)
    name = _printable(found["name"])
    for prefix, verdict in _HEURISTICS.items():
        if name.startswith(prefix):
            return ClamdReply(verdict, name)
    return ClamdReply(ClamdVerdict.FOUND, name)


def parse_version(reply: bytes) -> ClamdVersion:
    """Read the answer to ``VERSION``.

    Raises:
        ProtocolError: It is none.
    """
    engine, _, signatures = _printable(reply).partition("/")
    if not engine.startswith("ClamAV "):
        raise ProtocolError(f"clamd says it is {reply[:80]!r}")
    return ClamdVersion(engine, signatures)


def _printable(text: bytes) -> str:
    return "".join(chr(one) if 0x20 <= one < 0x7F else "?" for one in text)  # noqa: PLR2004 - ASCII


_SCAN_REPLY: Final = re.compile(rb"(?:fd\[\d+\]|stream): (?:OK|(?P<name>[^\0]+) FOUND)", re.DOTALL)

_STREAM_TOO_LARGE: Final = b"INSTREAM size limit exceeded. ERROR"

#: Names under which clamd says, if it is told to (AlertExceedsMax, AlertEncrypted), that it did not
#: look: no signature has them.
_HEURISTICS: Final = {
    "Heuristics.Limits.Exceeded": ClamdVerdict.LIMIT,
    "Heuristics.Encrypted": ClamdVerdict.ENCRYPTED,
}
