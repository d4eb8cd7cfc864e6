"""FtpControl: the data filter on an FTP control connection.

It reads both directions with the parsers of ``protocols.ftp``, follows the dialogue, has data
connections announced in the gate's name (``ftp_announcements``), and lets each transfer be held
(``ftp_transfer``). ``ftp_access`` attaches one to every connection of its rule. The invariant:
nothing is written to either side but what the dialogue gives out, in the order that it keeps.

A task reads the client, the run itself reads the server, and each held transfer is a task that
waits for its outcome; all of them write through ``flush``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
from collections.abc import Coroutine
from typing import Any

from typing_extensions import override

from sluicegate.errors import ProtocolError, Side, SluicegateError, TransportError
from sluicegate.filterapi import (
    Connection,
    DataFilter,
    DataSocket,
    Firewall,
    Position,
    SocketAddress,
)
from sluicegate.protocol_limits import FTP_KEEP_ALIVE_S, FTP_QUIT_TIMEOUT_S
from sluicegate.protocols.ftp import (
    FtpCommand,
    FtpCommandParser,
    FtpReply,
    FtpReplyParser,
    encode_reply,
)
from sluicegate.protocols.ftp_dialogue import FtpDialogue
from sluicegate.protocols.ftp_exchange import FtpAnswered, FtpExchange, FtpTransfer
from sluicegate.protocols.ftp_verbs import (
    FtpDirection,
    FtpRefusal,
    FtpRole,
    FtpRules,
    find_refusal,
    hide_features,
)

from .ftp_announcements import ANNOUNCING, FtpAnnouncements
from .ftp_data import DataChannel
from .ftp_settings import FtpConduct
from .ftp_transfer import HeldDownload, HeldUpload, UnheldTransfer

__all__ = ["FtpControl"]


class FtpControl(DataFilter):
    """Follows one control connection, and lives as long."""

    name = "ftp_access"
    position = Position.NAT

    def __init__(
        self, firewall: Firewall, conduct: FtpConduct, by_connection: dict[str, DataChannel]
    ) -> None:
        """Prepare.

        Args:
            firewall: The service.
            conduct: What the operator wants of this connection.
            by_connection: Where data channels are found when their connection ends.
        """
        self.limits = firewall.limits
        self._firewall = firewall
        self._conduct = conduct
        self._by_connection = by_connection
        # Which user it is, and whether exempted, is not known yet: what only holding forbids is
        # asked of ``_strict`` for each command.
        self._strict = FtpRules(is_read_only=conduct.is_read_only)
        self._lenient = dataclasses.replace(self._strict, allows_restart=True, allows_append=True)
        self._dialogue = FtpDialogue(self._lenient)
        self._commands = FtpCommandParser()
        self._replies = FtpReplyParser()
        self._transfers: dict[FtpExchange, UnheldTransfer] = {}
        self._asked: dict[FtpExchange, asyncio.Future[FtpReply | None]] = {}
        #: Commands of the gate's own whose reply somebody waits for.
        self._has_room = asyncio.Event()
        self._to_server = asyncio.Lock()
        self._to_client = asyncio.Lock()
        self._is_client_gone = False
        self._tasks: asyncio.TaskGroup
        self.announcements: FtpAnnouncements
        self.connection: Connection
        self._client: DataSocket
        self._server: DataSocket

    # -- life ----------------------------------------------------------------------------------

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "an FTP control connection has a server"
        self._client, self._server, self.connection = client, server, connection
        self.announcements = FtpAnnouncements(
            self._firewall, connection, self._conduct, self._by_connection
        )
        try:
            await self._relay()
        except ExceptionGroup as group:
            # The first is the cause; what follows from it stands behind.
            error = group.exceptions[0]
            if not isinstance(error, ProtocolError):
                raise error from None
            self._on_protocol_error(error)
        finally:
            self.announcements.drop_all("the control connection ended")

    async def _relay(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            reading = self._tasks.create_task(self._read_client())
            waking = self._tasks.create_task(self._keep_server_awake())
            await self._read_server()
            reading.cancel()
            waking.cancel()
            self._forget_server()
            # Transfers that the server has finished are delivered to their end.
        await self.flush()
        self._client.close()
        self._server.close()

    async def _read_client(self) -> None:
        while data := bytes(await self._client.receive()):
            self._commands.receive_data(data)
            await self._take_commands()
        self._is_client_gone = True
        for transfer in list(self._transfers.values()):
            transfer.abort("the client closed the control connection")
        if not self._dialogue.is_closing:
            self._dialogue.own_command("QUIT")
        await self.flush()
        await asyncio.sleep(FTP_QUIT_TIMEOUT_S)
        self.connection.fail("no answer to QUIT", errno.ETIMEDOUT, Side.SERVER)

    async def _take_commands(self) -> None:
        while True:
            while not self._dialogue.has_room:
                self._has_room.clear()
                await self.flush()
                await self._has_room.wait()
            command = self._commands.next_event()
            if command is None:
                break
            self._on_command(command)
        await self.flush()

    async def _read_server(self) -> None:
        while data := bytes(await self._server.receive()):
            self._replies.receive_data(data)
            for reply in iter(self._replies.next_event, None):
                self._on_reply(self._dialogue.receive_reply(reply))
                if reply.code == _SERVICE_CLOSING:
                    return  # some servers say so and stay; nothing is asked of them any more
            self._has_room.set()
            await self.flush()

    async def _keep_server_awake(self) -> None:
        """Let the server's idle time-out not end what waits for a verdict."""
        while True:
            await asyncio.sleep(FTP_KEEP_ALIVE_S)
            is_holding = any(transfer.is_holding for transfer in self._transfers.values())
            if is_holding and self._dialogue.is_server_idle:
                self._dialogue.own_command("NOOP")
                await self.flush()

    def _forget_server(self) -> None:
        """Take that the server will not answer any more."""
        for transfer in list(self._transfers.values()):
            transfer.on_server_gone()
        for future in self._asked.values():
            if not future.done():
                future.set_result(None)
        self._asked.clear()

    def _on_protocol_error(self, error: ProtocolError) -> None:
        reason = f"FTP: {error.hint}"
        try:
            self._client.start_send(encode_reply(421, f"Closing: {error.hint}"))
        except SluicegateError:
            # A reply is under way already, or nobody is there: the reset says it.
            reason = f"{reason} (not told)"
        if error.side is Side.SERVER:
            self.connection.fail(reason, errno.EPROTO, Side.SERVER)
        else:
            self.connection.refuse(reason)

    # -- for transfers (TransferHost) ------------------------------------------------------------

    async def flush(self) -> None:
        """Write what the dialogue gives out."""
        async with self._to_server:
            if data := self._dialogue.bytes_for_server():
                await self._server.send(data)
        async with self._to_client:
            if data := self._dialogue.bytes_for_client():
                try:
                    await self._client.send(data)
                except TransportError:
                    if not self._is_client_gone:
                        raise

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; replies that it gave are written when it ends."""
        self._tasks.create_task(self._flushed(work))

    async def _flushed(self, work: Coroutine[Any, Any, None]) -> None:
        await work
        await self.flush()

    def forward(self, exchange: FtpExchange) -> bool:
        """Send a command to the server; False when the control connection is closing."""
        if self._dialogue.is_closing or exchange.is_answered:
            return False
        self._dialogue.forward(exchange)
        return True

    def answer(self, exchange: FtpExchange, reply: bytes, *, is_final: bool = True) -> None:
        """Give the client a reply, unless it has its final one already (ABOR may answer for it)."""
        if not exchange.is_answered:
            self._dialogue.answer(exchange, reply, is_final=is_final)
            self._has_room.set()

    async def open_passive(self, transfer: FtpTransfer) -> SocketAddress | FtpReply | None:
        """Ask the server for a fresh data port: its address, its refusal, or None (it is gone)."""
        if self._dialogue.is_closing:
            return None
        announcement = transfer.announcement
        server = self.connection.server_address
        is_extended = (
            announcement is None or announcement.command.verb.startswith("E") or ":" in server.host
        )
        exchange = self._dialogue.own_command("EPSV" if is_extended else "PASV")
        future: asyncio.Future[FtpReply | None] = asyncio.get_running_loop().create_future()
        self._asked[exchange] = future
        await self.flush()
        reply = await future
        if reply is None or not reply.is_success:
            return reply
        address, hazard = self.announcements.server_of(exchange)
        return FtpReply(425, (hazard.encode(),)) if hazard else address

    def on_transfer_ended(self, exchange: FtpExchange) -> None:
        """Take that the client was given the final reply of a transfer."""
        transfer = self._transfers.pop(exchange, None)
        if transfer is not None:
            self.announcements.forget(transfer.transfer)

    # -- commands ------------------------------------------------------------------------------

    def _on_command(self, command: FtpCommand) -> None:
        exchange = self._dialogue.receive_command(command)
        refusal = exchange.refusal
        if refusal is None and not self._conduct.is_exempt(self._dialogue.user):
            refusal = find_refusal(command, self._strict)
        if refusal is None:
            refusal = self._take(exchange)
        if refusal is not None:
            self.answer(exchange, refusal.to_bytes())

    def _take(self, exchange: FtpExchange) -> FtpRefusal | None:
        """Do what a command asks for; return what speaks against it."""
        if exchange.transfer is not None:
            return self._begin_transfer(exchange, exchange.transfer)
        match exchange.role:
            case role if role in ANNOUNCING:
                line = self.announcements.announce(exchange)
                if isinstance(line, FtpRefusal):
                    return line
                self._dialogue.forward(exchange, line)
            case FtpRole.ABORT:
                self._dialogue.forward(exchange)
                for transfer in list(self._transfers.values()):
                    if transfer.transfer is exchange.aborts:
                        transfer.abort("aborted by the client")
            case _:
                self._dialogue.forward(exchange)
        return None

    def _begin_transfer(self, exchange: FtpExchange, transfer: FtpTransfer) -> FtpRefusal | None:
        channel = self.announcements.channel_of(transfer)
        if channel is None or channel.is_used or channel.has_ended:
            return FtpRefusal(425, "No data connection: use EPSV, PASV, EPRT or PORT before")
        is_listing = transfer.direction is FtpDirection.LISTING
        is_held = not is_listing and not self._conduct.is_exempt(transfer.user)
        if is_held and transfer.is_partial:
            return FtpRefusal(550, "Refused: files are inspected whole, from their start")
        kind: type[UnheldTransfer] = UnheldTransfer
        if is_held:
            kind = HeldDownload if transfer.direction is FtpDirection.DOWNLOAD else HeldUpload
        channel.is_used = True
        begun = self._transfers[exchange] = kind(self, exchange, channel)
        begun.begin()
        return None

    # -- replies -------------------------------------------------------------------------------

    def _on_reply(self, answered: FtpAnswered) -> None:
        exchange, reply = answered.exchange, answered.reply
        asked = self._asked.pop(exchange, None) if answered.is_final else None
        if asked is not None and not asked.done():
            asked.set_result(reply)
        elif (transfer := self._transfers.get(exchange)) is not None:
            transfer.on_reply(reply, is_final=answered.is_final)
        elif answered.is_for_client:
            shown = self._shown(exchange, reply)
            self.answer(exchange, shown, is_final=answered.is_final)
        if exchange.role is FtpRole.ABORT:
            self._end_silent_transfers()
        if reply.code == _SERVICE_CLOSING:
            self._forget_server()

    def _shown(self, exchange: FtpExchange, reply: FtpReply) -> bytes:
        """Return what the client is shown of a reply."""
        if exchange.role in ANNOUNCING:
            return self.announcements.answer(exchange, reply)
        if exchange.command.verb == "FEAT":
            is_exempt = self._conduct.is_exempt(self._dialogue.user)
            return hide_features(reply, self._lenient if is_exempt else self._strict).to_bytes()
        return reply.to_bytes()

    def _end_silent_transfers(self) -> None:
        """Forget transfers for which the reply to ABOR stands (pyftpdlib answers so)."""
        for exchange, transfer in list(self._transfers.items()):
            if exchange.is_answered:
                transfer.on_server_gone()


_SERVICE_CLOSING = 421
