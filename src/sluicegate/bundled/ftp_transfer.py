"""One FTP transfer on its way through the gate: passed on, or held until its verdict.

``ftp_control`` makes one per transfer command and tells it the server's replies; it says what the
client is answered, and when. The invariants: of a held download the client gets its final reply
after the last byte, or 550 in its place; of a held upload the server learns nothing, not even that
it was asked for, before the verdict, so that a refused one leaves the old file as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from typing_extensions import override

from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    Connection,
    Direction,
    HeldTransfer,
    Outcome,
    SocketAddress,
    TransferOffer,
    TransferOutcome,
)
from sluicegate.limits import Limits
from sluicegate.protocols.ftp import FtpReply, encode_reply
from sluicegate.protocols.ftp_exchange import FtpExchange, FtpTransfer
from sluicegate.protocols.text import printable

from .ftp_announcements import FtpAnnouncements
from .ftp_data import DataChannel

__all__ = ["HeldDownload", "HeldUpload", "TransferHost", "UnheldTransfer"]


class TransferHost(Protocol):
    """What a transfer asks of its control connection."""

    connection: Connection
    limits: Limits
    announcements: FtpAnnouncements

    def forward(self, exchange: FtpExchange) -> bool:
        """Send the command to the server; False when the control connection is closing."""
        ...

    def answer(self, exchange: FtpExchange, reply: bytes, *, is_final: bool = True) -> None:
        """Give the client a reply, unless it has its final one already."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; replies that it gave are written when it ends."""
        ...

    async def flush(self) -> None:
        """Write what is to be written now."""
        ...

    async def open_passive(self, transfer: FtpTransfer) -> SocketAddress | FtpReply | None:
        """Ask the server for a fresh data port: its address, its refusal, or None (it is gone)."""
        ...

    def on_transfer_ended(self, exchange: FtpExchange) -> None:
        """Take that the client was given the final reply."""
        ...


class UnheldTransfer:
    """A transfer that passes: a listing, or one of an exempted client; base of the others."""

    def __init__(self, host: TransferHost, exchange: FtpExchange, channel: DataChannel) -> None:
        assert exchange.transfer is not None
        self.exchange = exchange
        self.transfer = exchange.transfer
        self.is_holding = False
        #: Whether an object waits here while the server has nothing to do.
        self._host = host
        self._channel = channel

    def begin(self) -> None:
        """Take the client's command."""
        self._channel.dial()
        self._host.forward(self.exchange)

    def on_reply(self, reply: FtpReply, *, is_final: bool) -> None:
        """Take a reply of the server to the command."""
        if reply.is_failure:
            self._channel.drop(str(reply))
        else:
            self._channel.let_pass()
        self._host.answer(self.exchange, reply.to_bytes(), is_final=is_final)
        if is_final:
            self._host.on_transfer_ended(self.exchange)

    def abort(self, reason: str) -> None:
        """Take the client's wish to end it (``ABOR`` is on its way to the server)."""

    def on_server_gone(self) -> None:
        """Take that the server will not answer any more."""
        self._channel.drop("the server closed the control connection")

    def _give_up(self, reason: str) -> None:
        """End a held transfer, and answer now: some servers answer ABOR alone."""
        self._channel.drop(reason)
        self._host.answer(self.exchange, _ABORTED.to_bytes())
        self._host.on_transfer_ended(self.exchange)


class HeldDownload(UnheldTransfer):
    """A file on its way to the client, held until its verdict."""

    def __init__(self, host: TransferHost, exchange: FtpExchange, channel: DataChannel) -> None:
        super().__init__(host, exchange, channel)
        self._held: HeldTransfer | None = None
        self._is_server_done = False

    @override
    def on_reply(self, reply: FtpReply, *, is_final: bool) -> None:
        if not reply.is_failure and self._held is None:
            self._held = _hold(self._host.connection, self.transfer, Direction.DOWNLOAD)
            self._channel.hold(self._held)
        if is_final:
            self._is_server_done = self.is_holding = True
            self._host.spawn(self._finish(reply))
        else:
            self._host.answer(self.exchange, reply.to_bytes(), is_final=False)

    async def _finish(self, reply: FtpReply) -> None:
        """Give the final reply when the client has every byte, or never will."""
        held, channel = self._held, self._channel
        answer = reply.to_bytes()
        if held is None:
            channel.drop(str(reply))
        else:
            if reply.is_failure:
                held.cancel(f"the server answered {reply}")
            elif not await channel.arrival(self._host.limits.connect_timeout_s):
                channel.drop("the data connection never came")
            answer = _final_reply(reply, await held.finished())
        self._host.answer(self.exchange, answer)
        self._host.on_transfer_ended(self.exchange)

    @override
    def abort(self, reason: str) -> None:
        self._give_up(reason)

    @override
    def on_server_gone(self) -> None:
        if not self._is_server_done:
            super().on_server_gone()


class HeldUpload(UnheldTransfer):
    """A file on its way to the server, which is not told before the verdict."""

    def __init__(self, host: TransferHost, exchange: FtpExchange, channel: DataChannel) -> None:
        super().__init__(host, exchange, channel)
        self._held = _hold(host.connection, self.transfer, Direction.UPLOAD)
        self._final: asyncio.Future[FtpReply] | None = None
        #: What the server answers to the command, once it was sent.
        self._name_told: tuple[bytes, ...] = ()
        #: What the server says of the name that it chose, for STOU.

    @override
    def begin(self) -> None:
        self.is_holding = True
        self._channel.hold(self._held)
        self._host.answer(self.exchange, _SEND, is_final=False)
        self._host.spawn(self._run())

    @override
    def on_reply(self, reply: FtpReply, *, is_final: bool) -> None:
        # The client has its 150 already. What the server says before the end is not shown, but the
        # name of a STOU, which has its place there (RFC 1123 section 4.1.2.9).
        if not reply.is_failure:
            self._held.deliver()
        if reply.is_preliminary and self.transfer.verb == "STOU":
            self._name_told = reply.lines
        if is_final and self._final is not None and not self._final.done():
            self._final.set_result(reply)

    @override
    def abort(self, reason: str) -> None:
        self._give_up(reason)
        self.on_reply(_ABORTED, is_final=True)

    @override
    def on_server_gone(self) -> None:
        super().on_server_gone()
        self.on_reply(_SERVER_GONE, is_final=True)

    async def _run(self) -> None:
        held, channel = self._held, self._channel
        await channel.answer()
        if channel.client is not None and channel.connection is None:
            # Most servers connect when they get the command, which they do not get yet.
            failure = self._host.announcements.connect_to_client(channel)
            if failure:
                channel.drop(failure)
        reply: FtpReply | None = None
        if not await channel.arrival(self._host.limits.expected_connection_timeout_s):
            channel.drop("the client opened no data connection")
            reply = _CANNOT_OPEN
        outcome = await held.judged()
        if outcome.outcome is Outcome.RELEASED:
            reply = await self._deliver()
            if reply.is_failure:
                held.cancel(f"the server answered {reply}")
            outcome = await held.finished()
        if reply is not None and reply.is_success:
            reply = FtpReply(reply.code, (*self._name_told, *reply.lines))
        self._host.answer(self.exchange, _final_reply(reply, outcome))
        self._host.on_transfer_ended(self.exchange)

    async def _deliver(self) -> FtpReply:
        """Ask the server to take the object; return its final reply."""
        host = self._host
        if self._channel.needs_server:
            address = await host.open_passive(self.transfer)
            if not isinstance(address, SocketAddress):
                return address or _SERVER_GONE
            connection = self._channel.connection
            if connection is None:
                return _CANNOT_OPEN
            try:
                connection.dial_server(address)
            except BadContext:
                return _CANNOT_OPEN
        self._final = asyncio.get_running_loop().create_future()
        if not host.forward(self.exchange):
            return _SERVER_GONE
        self.is_holding = False
        await host.flush()
        return await self._final


def _hold(connection: Connection, transfer: FtpTransfer, direction: Direction) -> HeldTransfer:
    offer = TransferOffer(
        name=printable(transfer.path) or transfer.verb,
        direction=direction,
        protocol="ftp",
        user=transfer.user or "",
        is_text=transfer.is_ascii,
        facts={"command": transfer.verb},
    )
    return connection.session.hold_transfer(
        connection, offer, deliver_later=direction is Direction.UPLOAD
    )


def _final_reply(reply: FtpReply | None, outcome: TransferOutcome) -> bytes:
    """Return what the client is told: the server's reply, or the gate's in its place."""
    if outcome.outcome is Outcome.REFUSED:
        return encode_reply(550, f"Refused: {outcome.reason}")
    if reply is not None and (reply.is_failure or outcome.outcome is Outcome.RELEASED):
        return reply.to_bytes()
    return encode_reply(426, f"Transfer failed: {outcome.reason}")


_SEND = encode_reply(150, "Ok to send; the file is inspected before it is stored")
_CANNOT_OPEN = FtpReply(425, (b"Cannot open the data connection",))
_ABORTED = FtpReply(426, (b"Transfer aborted",))
_SERVER_GONE = FtpReply(426, (b"The server closed the connection",))
