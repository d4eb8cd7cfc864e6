r"""One FTP control connection followed in both directions, with its order kept.

A filter that stands between client and server feeds it parsed commands and replies, asks it what
they mean, decides, and writes what ``bytes_for_server`` and ``bytes_for_client`` give. The
invariant: a reply is matched to the one command it answers or the connection ends, and the client
sees exactly one final reply per command, in the order of its commands, whoever made the reply.

How a filter uses it::

    for command in iter(commands.next_event, None):          # FtpCommandParser
        exchange = dialogue.receive_command(command)
        if exchange.refusal:                                 # AUTH, MODE B, STOR when read-only ...
            dialogue.answer(exchange, exchange.refusal.to_bytes())
        else:                                                # line=... to rewrite PORT or EPRT
            dialogue.forward(exchange)
    for reply in iter(replies.next_event, None):             # FtpReplyParser
        answered = dialogue.receive_reply(reply)
        if answered.is_for_client:                           # not to a NOOP of the gate's own
            dialogue.answer(answered.exchange, reply.to_bytes(), is_final=answered.is_final)
    server_socket.send(dialogue.bytes_for_server())
    client_socket.send(dialogue.bytes_for_client())

To hold the 226 of a transfer, do not ``answer`` it yet; later answer with it, or with a 550.
Replies to later commands wait behind it by themselves. While ``has_room`` is false, do not take
commands from the parser.

What is decided here:

- **One thing at a time.** Nothing is sent to the server before its greeting, nor while an ``ABOR``
  or a transfer waits for its final reply, a held one included (servers that answer other commands
  meanwhile would make replies ambiguous). ``ABOR``, and ``STAT`` without an argument, go out
  during a transfer, and a ``NOOP`` of the gate's own while a transfer is held.
- **ABOR.** The usual answer is the transfer's 426 or 226 and then ``ABOR``'s 226. A 225 during a
  transfer answers ``ABOR`` and ends the transfer without a reply of its own (pyftpdlib).
- **Codes.** 227 and 229 answer only PASV and EPSV, 1yz only transfers, 226 and 250 end them; what
  does not fit raises, for it is either a desynchronized server or a forged reply.
- **REST** holds until a file transfer started, whatever failed in between: servers differ, and to
  believe in an offset that is gone refuses a file, the contrary would pass one without its head.
- **Keep-alive.** Towards the server ``own_command("NOOP")`` while ``is_server_idle`` (its part of
  the transfer done, its idle timer running). Towards the client nothing by default; TCP keep-alive
  holds the path. RFC 959 section 5.4 would allow further 1yz replies, but curl and ftplib fail on
  them. ``encode_reply(150, ..., is_continued=True)`` can keep the 150 open and feed it with lines:
  lftp and ftplib then wait as long as lines come, but libcurl's response time-out (two minutes)
  runs until a reply is whole, while after a whole 150 it waits for data without one. A final reply
  cannot be kept open (``226-``) because its code is the verdict; after an upload curl waits for it
  one minute, whatever lines come.
"""

from __future__ import annotations

from collections import deque

from sluicegate.errors import BadContext, ProtocolError, Side
from sluicegate.protocol_limits import FTP_PIPELINE_COMMANDS_MAX, FTP_PRELIMINARY_REPLIES_MAX
from sluicegate.protocols.ftp import FtpCommand, FtpReply
from sluicegate.protocols.ftp_address import (
    EpsvRequest,
    decode_epsv_argument,
    decode_epsv_reply,
    decode_pasv_reply,
)
from sluicegate.protocols.ftp_exchange import (
    FtpAnswered,
    FtpExchange,
    FtpTransfer,
    FtpTransferState,
)
from sluicegate.protocols.ftp_state import FtpState
from sluicegate.protocols.ftp_verbs import VERBS, FtpRefusal, FtpRole, FtpRules, find_refusal

__all__ = ["FtpDialogue"]


class FtpDialogue:
    """The state of one control connection; it lives as long, and belongs to its filter."""

    __slots__ = (
        "_client_order",
        "_rules",
        "_sent",
        "_state",
        "_to_client",
        "_to_server",
        "_unsent",
        "greeting",
        "is_closing",
    )

    def __init__(self, rules: FtpRules | None = None) -> None:
        self._rules = rules or FtpRules()
        self._state = FtpState()
        self.greeting = FtpExchange(FtpCommand(""), FtpRole.GREETING)
        #: The exchange that the server's first reply answers.
        self.is_closing = False
        #: After QUIT was forwarded or a 421 came: no further command reaches the server.
        self._client_order = deque([self.greeting])
        self._sent = deque([self.greeting])
        #: Exchanges whose final reply the server owes, in the order they were sent.
        self._unsent: deque[tuple[FtpExchange, bytes]] = deque()
        self._to_client = bytearray()
        self._to_server = bytearray()

    # The client's direction.

    def receive_command(self, command: FtpCommand) -> FtpExchange:
        """Take the client's next command and say what it means; nothing is sent yet.

        The caller then calls ``forward`` or ``answer`` for it before the next command.

        Raises:
            ProtocolError: More commands than ``FTP_PIPELINE_COMMANDS_MAX`` wait (``has_room``).
        """
        if not self.has_room:
            raise ProtocolError(
                f"more than {FTP_PIPELINE_COMMANDS_MAX} commands wait for replies", Side.CLIENT
            )
        exchange = self._exchange_for(command)
        if exchange.role is FtpRole.ABORT:
            exchange.aborts = self.transfer
        first = self._client_order[0] if self._client_order else None
        if _is_status_now(exchange) and first is not None and first.transfer is not None:
            exchange.is_out_of_turn = True
        else:
            self._client_order.append(exchange)
        return exchange

    def forward(self, exchange: FtpExchange, line: bytes | None = None) -> None:
        """Send a command to the server as soon as its turn comes.

        ``line`` replaces the command's own line (a rewritten ``PORT``), line end included.

        Raises:
            BadContext: The command has a refusal, was answered or forwarded before, or the
                connection is closing.
        """
        if exchange.refusal is not None or exchange.is_answered or exchange.is_forwarded:
            raise BadContext(f"{exchange.command.verb} was refused, answered or forwarded before")
        if self.is_closing:
            raise BadContext("no command can be forwarded after QUIT or 421")
        exchange.is_forwarded = True
        self._state.on_forward(exchange)
        self.is_closing = exchange.role is FtpRole.QUIT
        self._unsent.append((exchange, exchange.command.to_bytes() if line is None else line))
        self._send_what_may_go()

    def answer(self, exchange: FtpExchange, reply: bytes, *, is_final: bool = True) -> None:
        """Give the client a reply to a command: the server's, or one in its place.

        Raises:
            BadContext: The command already has its final reply.
        """
        if exchange.is_answered or exchange.is_own:
            raise BadContext(f"{exchange.command.verb} needs no further reply to the client")
        exchange.output += reply
        exchange.is_answered = is_final
        if exchange.is_out_of_turn:
            self._to_client += exchange.output
            exchange.output.clear()
        self._show_what_is_due()
        self._send_what_may_go()

    def own_command(self, verb: str, argument: bytes = b"") -> FtpExchange:
        """Send a command of the gate's own (``NOOP``, ``ABOR``); its replies are not the client's.

        Raises:
            BadContext: The connection is closing.
        """
        exchange = self._exchange_for(FtpCommand(verb, argument), is_own=True)
        self.forward(exchange)
        return exchange

    # The server's direction.

    def receive_reply(self, reply: FtpReply) -> FtpAnswered:
        """Take the server's next reply and say which command it answers.

        The exchange and its transfer are up to date when this returns: the address that a 227 or
        229 announced, the transfer's state.

        Raises:
            ProtocolError: Nobody asked for it, or it does not fit the command it would answer.
        """
        if reply.code == _SERVICE_CLOSING:
            return self._receive_closing(reply)
        if not self._sent:
            raise ProtocolError(f"a reply {reply.code} that nobody asked for", Side.SERVER)
        exchange = self._match(reply)
        _check_fit(exchange, reply)
        was_answered = exchange.is_answered
        self._note(exchange, reply)
        if not reply.is_preliminary:
            self._sent.remove(exchange)
            self._send_what_may_go()
        is_for_client = not exchange.is_own and not was_answered
        return FtpAnswered(exchange, reply, not reply.is_preliminary, is_for_client)

    # What is to be written.

    def bytes_for_server(self) -> bytes:
        """Take what is to be written to the server now."""
        taken = bytes(self._to_server)
        self._to_server.clear()
        return taken

    def bytes_for_client(self) -> bytes:
        """Take what is to be written to the client now."""
        taken = bytes(self._to_client)
        self._to_client.clear()
        return taken

    # Asking.

    @property
    def has_room(self) -> bool:
        """Whether another command may be taken; else leave it in the parser."""
        waiting = max(len(self._client_order), len(self._sent) + len(self._unsent))
        return waiting < FTP_PIPELINE_COMMANDS_MAX

    @property
    def is_server_idle(self) -> bool:
        """Whether the server owes no reply: a NOOP of the gate's own may go."""
        return not self._sent and not self.is_closing

    @property
    def transfer(self) -> FtpTransfer | None:
        """The first transfer whose final reply the client has not got, held ones included."""
        for exchange in self._client_order:
            if exchange.transfer is not None and not exchange.is_answered:
                return exchange.transfer
        return None

    @property
    def user(self) -> str | None:
        """The user that the server accepted; None before, and while another login is under way."""
        return self._state.user

    # Inside.

    def _exchange_for(self, command: FtpCommand, *, is_own: bool = False) -> FtpExchange:
        verb = VERBS.get(command.verb)
        exchange = FtpExchange(command, verb.role if verb else FtpRole.OTHER, is_own=is_own)
        exchange.refusal = find_refusal(command, self._rules)
        if self.is_closing and exchange.refusal is None:
            exchange.refusal = FtpRefusal(_SERVICE_CLOSING, "this connection is closing")
        if verb is not None and exchange.refusal is None:
            self._state.describe(exchange, verb)
        return exchange

    def _send_what_may_go(self) -> None:
        while True:
            following = next((one for one in self._unsent if self._may_go(one[0])), None)
            if following is None:
                return
            self._unsent.remove(following)
            exchange, line = following
            self._sent.append(exchange)
            self._to_server += line

    def _may_go(self, exchange: FtpExchange) -> bool:
        """Tell whether the server may get a command now; commands of one kind keep their order."""
        if any(sent.role in _BARRIERS for sent in self._sent):
            return False
        if exchange.role is FtpRole.ABORT or exchange.is_out_of_turn:
            return True
        if any(sent.transfer is not None for sent in self._sent):
            return False
        return exchange.is_own or not self._waits_for_transfer(exchange)

    def _waits_for_transfer(self, exchange: FtpExchange) -> bool:
        """Tell whether the client still awaits the final reply of a transfer before this."""
        for earlier in self._client_order:
            if earlier is exchange:
                return False
            if earlier.transfer is not None and not earlier.is_answered:
                return True
        return False

    def _show_what_is_due(self) -> None:
        while self._client_order:
            first = self._client_order[0]
            self._to_client += first.output
            first.output.clear()
            if not first.is_answered:
                return
            self._client_order.popleft()

    def _match(self, reply: FtpReply) -> FtpExchange:
        """Find the command that a reply answers: the oldest, but for ABOR and STAT."""
        oldest = self._sent[0]
        if oldest.transfer is None:
            return oldest
        for exchange in self._sent:
            if exchange.role is FtpRole.ABORT and reply.code == _NO_TRANSFER:
                self._end_silently(oldest)
                return exchange
            if exchange.role is FtpRole.STATUS and reply.code in _STATUS_CODES:
                return exchange
        return oldest

    def _end_silently(self, exchange: FtpExchange) -> None:
        """End a transfer that the server answers no more: ABOR's reply stands for both."""
        assert exchange.transfer is not None
        exchange.transfer.state = FtpTransferState.ABORTED
        exchange.is_answered = True
        self._sent.remove(exchange)
        self._show_what_is_due()

    def _note(self, exchange: FtpExchange, reply: FtpReply) -> None:
        exchange.code = reply.code
        if reply.is_preliminary:
            exchange.preliminary_count += 1
            if exchange.preliminary_count > FTP_PRELIMINARY_REPLIES_MAX:
                raise ProtocolError("a command gets 1yz replies without end", Side.SERVER)
        if exchange.role is FtpRole.PASSIVE and reply.is_success:
            exchange.announced = decode_pasv_reply(reply.lines[-1])
            exchange.announced_port = exchange.announced.port
        elif reply.code == _EXTENDED_PASSIVE_MODE:
            exchange.announced_port = decode_epsv_reply(reply.lines[-1])
        self._state.on_reply(exchange, reply)

    def _receive_closing(self, reply: FtpReply) -> FtpAnswered:
        """Take a 421, which ends everything and may come unasked."""
        self.is_closing = True
        for exchange in self._sent:
            if exchange.transfer is not None:
                exchange.transfer.state = FtpTransferState.FAILED
        unasked = FtpExchange(FtpCommand(""), FtpRole.UNSOLICITED)
        # Also of what the server did not get yet: the client gets no other reply to it.
        waiting = (*self._sent, *(unsent for unsent, _ in self._unsent))
        asked = (one for one in waiting if not one.is_own and not one.is_answered)
        exchange = next(asked, unasked)
        if exchange is unasked:
            self._client_order.append(unasked)
        exchange.code = reply.code
        self._sent.clear()
        self._unsent.clear()
        return FtpAnswered(exchange, reply, is_final=True, is_for_client=True)


def _is_status_now(exchange: FtpExchange) -> bool:
    """Tell whether a STAT asks for the state of the transfer under way (RFC 959 section 4.1.3)."""
    return exchange.role is FtpRole.STATUS and not exchange.command.argument


def _check_fit(exchange: FtpExchange, reply: FtpReply) -> None:
    """Refuse a reply that cannot answer the command whose turn it is."""
    is_fit = reply.code not in _NEVER_ASKED_FOR
    if reply.is_preliminary:
        is_fit = exchange.transfer is not None or exchange.role is FtpRole.GREETING
    elif exchange.transfer is not None:
        is_started = exchange.transfer.state is FtpTransferState.STARTED
        needs_account = reply.code == _NEED_ACCOUNT and not is_started
        is_fit = reply.is_failure or reply.code in _TRANSFER_DONE or needs_account
    elif exchange.role is FtpRole.PASSIVE:
        is_fit = reply.is_failure or reply.code == _PASSIVE_MODE
    elif exchange.role is FtpRole.EXTENDED_PASSIVE and _asks_for_port(exchange):
        is_fit = reply.is_failure or reply.code == _EXTENDED_PASSIVE_MODE
    elif reply.code in (_PASSIVE_MODE, _EXTENDED_PASSIVE_MODE):
        is_fit = False
    if not is_fit:
        asked = exchange.command.verb or exchange.role.value
        raise ProtocolError(f"a reply {reply.code} does not fit {asked}", Side.SERVER)


def _asks_for_port(exchange: FtpExchange) -> bool:
    return decode_epsv_argument(exchange.command.argument) is not EpsvRequest.ALL


_BARRIERS = frozenset({FtpRole.GREETING, FtpRole.ABORT, FtpRole.QUIT, FtpRole.REINITIALIZE})
_SERVICE_CLOSING = 421
#: "Data connection open; no transfer in progress."
_NO_TRANSFER = 225
_TRANSFER_DONE = frozenset({226, 250})
_STATUS_CODES = frozenset({211, 212, 213})
_PASSIVE_MODE = 227
_EXTENDED_PASSIVE_MODE = 229
_NEED_ACCOUNT = 332
#: Long passive mode, and security exchanges (RFC 2228): the commands never pass.
_NEVER_ASKED_FOR = frozenset({228, 232, 234, 235, 334, 335, 336})
