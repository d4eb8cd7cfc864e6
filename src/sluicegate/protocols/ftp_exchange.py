r"""One FTP command with its replies, and the transfer it may start.

``ftp_dialogue`` makes and updates them, filters read them. The invariant: an exchange changes only
inside calls of its dialogue, so what a filter reads between two calls stays true.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sluicegate.address import SocketAddress
from sluicegate.protocols.ftp import FtpCommand, FtpReply
from sluicegate.protocols.ftp_verbs import FtpDirection, FtpRefusal, FtpRole

__all__ = ["FtpAnswered", "FtpExchange", "FtpTransfer", "FtpTransferState"]


class FtpTransferState(enum.Enum):
    """How far a transfer is, as the server told."""

    REQUESTED = "requested"
    STARTED = "started"
    """A 1yz reply came: the data connection is in use."""
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    """ABOR ended it and the server gave no reply of its own for it."""


class FtpExchange:
    """One command, from its arrival to its final reply."""

    __slots__ = (
        "aborts",
        "announced",
        "announced_port",
        "code",
        "command",
        "is_answered",
        "is_forwarded",
        "is_out_of_turn",
        "is_own",
        "login",
        "output",
        "preliminary_count",
        "refusal",
        "replaced",
        "role",
        "transfer",
    )

    def __init__(self, command: FtpCommand, role: FtpRole, *, is_own: bool = False) -> None:
        self.command = command
        #: For the greeting and an unsolicited 421 its verb is empty.
        self.role = role
        self.is_own = is_own
        #: Whether the gate sent it by itself: the client never sees a reply to it.
        self.refusal: FtpRefusal | None = None
        #: What to answer in place of forwarding; ``forward`` refuses such a command.
        self.transfer: FtpTransfer | None = None
        #: For RETR, STOR, STOU, APPE, LIST, NLST and MLSD.
        self.aborts: FtpTransfer | None = None
        #: For ABOR: the transfer that the client is still waiting for.
        self.announced: SocketAddress | None = None
        #: PORT, EPRT: what the client announced; PASV: what the server did, once it answered.
        self.announced_port = 0
        #: The same port; for EPSV it stands alone, the host is the control connection's.
        self.code = 0
        #: The code of the server's latest reply, 0 before.
        self.is_answered = False
        #: Whether the client's final reply is settled.
        self.is_forwarded = False
        self.is_out_of_turn = False
        #: A STAT during a transfer: its reply overtakes the transfer's.
        self.output = bytearray()
        #: Reply bytes that wait for earlier replies; the dialogue's own.
        self.preliminary_count = 0
        #: 1yz replies so far.
        self.login: FtpExchange | None = None
        #: PASS, ACCT: the USER it belongs to; the dialogue's own.
        self.replaced: FtpExchange | None = None
        #: What this one takes the place of, should the server refuse it; the dialogue's own.


@dataclass(slots=True, eq=False)
class FtpTransfer:
    """One object, or listing, moved over a data connection."""

    verb: str
    direction: FtpDirection
    path: bytes
    #: The argument as the client sent it: relative to its directory, empty for LIST of it.
    user: str | None
    #: The user whom the server had accepted when the command came, None if none.
    is_ascii: bool
    #: TYPE A (the default): the server converts line ends, so the bytes are not the file's.
    restart_offset: int
    #: From REST; 0 for listings. Not 0 means that the object lacks its head.
    restart: FtpExchange | None
    #: The REST that the offset comes from.
    announcement: FtpExchange | None
    #: The latest PASV, EPSV, PORT or EPRT; None means the default data port (refuse it).
    state: FtpTransferState = FtpTransferState.REQUESTED

    @property
    def is_partial(self) -> bool:
        """Whether the object seen is not the whole file: after ``REST n``, or with ``APPE``."""
        return self.restart_offset > 0 or self.verb == "APPE"


@dataclass(frozen=True, slots=True)
class FtpAnswered:
    """What a reply of the server means."""

    exchange: FtpExchange
    #: The command it answers; ``role`` GREETING and UNSOLICITED stand for none.
    reply: FtpReply
    is_final: bool
    is_for_client: bool
    #: False for the gate's own commands, and where the client already has its final reply.
