r"""What earlier FTP commands left in force: user, type, restart offset, data address.

``ftp_dialogue`` keeps one per control connection and tells it of commands in the order of the
client, and of replies. The invariant: in doubt it believes what leads to a refusal, never what
would let a file pass uninspected (no user rather than the old one, an offset rather than none).
"""

from __future__ import annotations

from sluicegate.address import SocketAddress
from sluicegate.protocols.ftp import FtpReply
from sluicegate.protocols.ftp_address import (
    EpsvRequest,
    decode_eprt_argument,
    decode_epsv_argument,
    decode_port_argument,
)
from sluicegate.protocols.ftp_exchange import FtpExchange, FtpTransfer, FtpTransferState
from sluicegate.protocols.ftp_verbs import (
    FtpDirection,
    FtpRole,
    FtpVerb,
    decode_restart_argument,
    decode_type_argument,
)
from sluicegate.protocols.text import printable

__all__ = ["FtpState"]


class FtpState:
    """The settings of one control connection, each with the exchange that made it."""

    __slots__ = ("_announcement", "_login", "_restart", "_type", "user")

    def __init__(self) -> None:
        self.user: str | None = None
        #: Whom the server accepted.
        self._login: FtpExchange | None = None
        self._type: FtpExchange | None = None
        self._restart: FtpExchange | None = None
        self._announcement: FtpExchange | None = None

    def describe(self, exchange: FtpExchange, verb: FtpVerb) -> None:
        """Fill in what a command that has just come means under what is in force."""
        if verb.direction is not None:
            exchange.transfer = self._transfer_of(exchange, verb.direction)
        announced = _client_announcement(exchange)
        if announced is not None:
            exchange.announced = announced
            exchange.announced_port = announced.port

    def on_forward(self, exchange: FtpExchange) -> None:
        """Take into account a command that the server will get."""
        match exchange.role:
            case FtpRole.USER:
                self.user = None
                self._login = exchange
            case FtpRole.PASSWORD:
                exchange.login = self._login
            case FtpRole.REINITIALIZE:
                self.user = None
                self._login = None
            case FtpRole.TYPE:
                exchange.replaced, self._type = self._type, exchange
            case FtpRole.RESTART:
                exchange.replaced, self._restart = self._restart, exchange
            case _ if _announces(exchange):
                self._announcement = exchange
            case _:
                pass

    def on_reply(self, exchange: FtpExchange, reply: FtpReply) -> None:
        """Take into account what the server answered."""
        if exchange.transfer is not None:
            self._note_transfer(exchange.transfer, reply)
        elif reply.is_failure:
            self._take_back(exchange)
        else:
            exchange.replaced = None  # else every TYPE of a session would hang on the next
            if reply.code in _LOGGED_IN:
                self._note_login(exchange)
            elif exchange.role is FtpRole.REINITIALIZE and reply.is_success:
                self._type = self._restart = self._announcement = None
            elif reply.is_success:
                self._void_login(exchange)

    def _transfer_of(self, exchange: FtpExchange, direction: FtpDirection) -> FtpTransfer:
        restart = None if direction is FtpDirection.LISTING else self._restart
        return FtpTransfer(
            verb=exchange.command.verb,
            direction=direction,
            path=exchange.command.argument,
            user=self.user,
            is_ascii=self._is_ascii,
            restart_offset=_offset_of(restart),
            restart=restart,
            announcement=self._announcement,
        )

    def _note_transfer(self, transfer: FtpTransfer, reply: FtpReply) -> None:
        if reply.is_preliminary or reply.is_success:
            # The server has used both up now; newer ones, sent after this transfer, stand.
            if self._announcement is transfer.announcement:
                self._announcement = None
            if self._restart is transfer.restart:
                self._restart = None
        if reply.is_preliminary:
            transfer.state = FtpTransferState.STARTED
        elif reply.is_success:
            transfer.state = FtpTransferState.COMPLETED
        else:
            transfer.state = FtpTransferState.FAILED

    def _take_back(self, exchange: FtpExchange) -> None:
        """Return to what a refused command would have replaced."""
        if self._type is exchange:
            self._type = exchange.replaced
        elif self._restart is exchange:
            self._restart = exchange.replaced
        elif self._announcement is exchange:
            # Which data address a server keeps after it refused another one is unknown.
            self._announcement = None
        else:
            self._void_login(exchange)

    def _void_login(self, exchange: FtpExchange) -> None:
        """Let no later 230 vouch for a user whom the server did not take.

        Inside a session vsftpd answers any USER with 530, and any PASS after it with 230.
        """
        login = _login_of(exchange)
        if login is not None and login is self._login:
            self._login = None

    def _note_login(self, exchange: FtpExchange) -> None:
        login = _login_of(exchange)
        # A newer USER under way voids the answer to an older one.
        if login is not None and login is self._login:
            self.user = printable(login.command.argument)

    @property
    def _is_ascii(self) -> bool:
        return self._type is None or decode_type_argument(self._type.command.argument) is not False


def _login_of(exchange: FtpExchange) -> FtpExchange | None:
    """Return the USER that a command belongs to, or is."""
    return exchange if exchange.role is FtpRole.USER else exchange.login


def _offset_of(restart: FtpExchange | None) -> int:
    if restart is None:
        return 0
    return decode_restart_argument(restart.command.argument) or 0


def _client_announcement(exchange: FtpExchange) -> SocketAddress | None:
    if exchange.role is FtpRole.ACTIVE:
        return decode_port_argument(exchange.command.argument)
    if exchange.role is FtpRole.EXTENDED_ACTIVE:
        return decode_eprt_argument(exchange.command.argument)
    return None


def _announces(exchange: FtpExchange) -> bool:
    if exchange.role is FtpRole.EXTENDED_PASSIVE:
        return decode_epsv_argument(exchange.command.argument) is not EpsvRequest.ALL
    return exchange.role in (FtpRole.PASSIVE, FtpRole.ACTIVE, FtpRole.EXTENDED_ACTIVE)


_LOGGED_IN = frozenset({230, 232})
