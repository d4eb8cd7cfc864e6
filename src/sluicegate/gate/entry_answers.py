"""What a client of a proxy listener is told, in its protocol's words: one table.

``entry_handshake`` and ``entry_connection`` choose an answer, a dialogue encodes it. The invariant:
every end before the tunnel has exactly one answer here, and no answer says more of the policy than
that it refuses.
"""

from __future__ import annotations

import enum
import errno
from typing import Final

from sluicegate.errors import Side
from sluicegate.names import LookupReason
from sluicegate.protocols.http_connect_answer import ConnectAnswer
from sluicegate.protocols.socks import SocksReply

__all__ = ["EntryAnswer", "answer_to_failure", "answer_to_lookup"]


@enum.unique
class EntryAnswer(enum.Enum):
    """An outcome, as SOCKS 5 and as HTTP say it; SOCKS 4 knows only yes and no."""

    GRANTED = (SocksReply.SUCCEEDED, ConnectAnswer.ESTABLISHED)
    MALFORMED = (SocksReply.GENERAL_FAILURE, ConnectAnswer.MALFORMED)
    NOT_ALLOWED = (SocksReply.NOT_ALLOWED, ConnectAnswer.NOT_ALLOWED)
    CREDENTIALS_NEEDED = (SocksReply.NOT_ALLOWED, ConnectAnswer.CREDENTIALS_NEEDED)
    COMMAND_NOT_SUPPORTED = (SocksReply.COMMAND_NOT_SUPPORTED, ConnectAnswer.MALFORMED)
    NAME_UNKNOWN = (SocksReply.HOST_UNREACHABLE, ConnectAnswer.NAME_UNKNOWN)
    NETWORK_UNREACHABLE = (SocksReply.NETWORK_UNREACHABLE, ConnectAnswer.SERVER_UNREACHABLE)
    SERVER_UNREACHABLE = (SocksReply.HOST_UNREACHABLE, ConnectAnswer.SERVER_UNREACHABLE)
    SERVER_REFUSED = (SocksReply.CONNECTION_REFUSED, ConnectAnswer.SERVER_REFUSED)
    SERVER_TIMED_OUT = (SocksReply.HOST_UNREACHABLE, ConnectAnswer.SERVER_TIMED_OUT)
    GATE_BUSY = (SocksReply.GENERAL_FAILURE, ConnectAnswer.GATE_BUSY)
    GATE_FAILED = (SocksReply.GENERAL_FAILURE, ConnectAnswer.GATE_FAILED)

    def __init__(self, socks: SocksReply, connect: ConnectAnswer) -> None:
        self.socks = socks
        self.connect = connect


def answer_to_lookup(reason: LookupReason) -> EntryAnswer:
    """Return what a client is told whose host became no destination."""
    return _LOOKUPS.get(reason, EntryAnswer.NAME_UNKNOWN)


def answer_to_failure(error: int, side: Side | None) -> EntryAnswer:
    """Return what a client is told of an errno."""
    if side is not Side.SERVER:
        return EntryAnswer.GATE_FAILED
    return _ERRORS.get(error, EntryAnswer.SERVER_UNREACHABLE)


_LOOKUPS: Final = {
    LookupReason.NAME_DENIED: EntryAnswer.NOT_ALLOWED,
    LookupReason.SPECIAL_NAME: EntryAnswer.NOT_ALLOWED,
    LookupReason.ALIAS_DENIED: EntryAnswer.NOT_ALLOWED,
    LookupReason.ADDRESS_DENIED: EntryAnswer.NOT_ALLOWED,
    LookupReason.ADDRESSES_MIXED: EntryAnswer.NOT_ALLOWED,
    LookupReason.TOO_MANY_LOOKUPS: EntryAnswer.GATE_BUSY,
    LookupReason.NO_SERVERS: EntryAnswer.GATE_FAILED,
    LookupReason.CLOSED: EntryAnswer.GATE_FAILED,
}
"""What is not the name's fault; everything else is a name that could not be resolved."""

_ERRORS: Final = {
    errno.ECONNREFUSED: EntryAnswer.SERVER_REFUSED,
    errno.ETIMEDOUT: EntryAnswer.SERVER_TIMED_OUT,
    errno.ENETUNREACH: EntryAnswer.NETWORK_UNREACHABLE,
    errno.EMFILE: EntryAnswer.GATE_BUSY,
    errno.ENFILE: EntryAnswer.GATE_BUSY,
    errno.ENOBUFS: EntryAnswer.GATE_BUSY,
    errno.ENOMEM: EntryAnswer.GATE_BUSY,
}
