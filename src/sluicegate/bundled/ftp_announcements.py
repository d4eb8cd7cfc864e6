"""The data connections that an FTP control connection announces, rewritten for the gate.

``ftp_control`` asks it what to forward for ``PORT``, ``EPRT``, ``PASV`` and ``EPSV``, and what to
show of their replies. The invariant: what a client announces leads to that client, what a server
announces leads to that server, both above port 1023, and neither ever sees the other's address.
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import BadContext, LimitExceeded, SluicegateError, TransportError
from sluicegate.filterapi import AddressFilter, Connection, Firewall, SocketAddress
from sluicegate.protocols.ftp import FtpReply, encode_command, encode_reply
from sluicegate.protocols.ftp_address import (
    EpsvRequest,
    bounce_hazard,
    decode_epsv_argument,
    encode_eprt_argument,
    encode_epsv_reply,
    encode_pasv_reply,
    encode_port_argument,
)
from sluicegate.protocols.ftp_exchange import FtpExchange, FtpTransfer
from sluicegate.protocols.ftp_verbs import FtpRefusal, FtpRole

from .ftp_data import DataChannel
from .ftp_settings import FtpConduct

__all__ = ["ANNOUNCING", "FtpAnnouncements"]

ANNOUNCING: Final = frozenset(
    {FtpRole.ACTIVE, FtpRole.EXTENDED_ACTIVE, FtpRole.PASSIVE, FtpRole.EXTENDED_PASSIVE}
)
"""The roles of commands that announce a data connection."""


class FtpAnnouncements:
    """What one control connection has announced and not used up."""

    def __init__(
        self,
        firewall: Firewall,
        connection: Connection,
        conduct: FtpConduct,
        by_connection: dict[str, DataChannel],
    ) -> None:
        self._firewall = firewall
        self._connection = connection
        self._conduct = conduct
        self._by_connection = by_connection
        #: Where data channels are found when their connection ends.
        self._channels: dict[FtpExchange, DataChannel] = {}
        #: By the command that announced them.

    # -- for transfers -------------------------------------------------------------------------

    def channel_of(self, transfer: FtpTransfer) -> DataChannel | None:
        """Return the data connection that was announced for a transfer."""
        announcement = transfer.announcement
        return None if announcement is None else self._channels.get(announcement)

    def forget(self, transfer: FtpTransfer) -> None:
        """Take that a transfer has ended, and its data connection with it."""
        if transfer.announcement is not None:
            self._channels.pop(transfer.announcement, None)

    def drop_all(self, reason: str) -> None:
        """Give everything up."""
        for channel in self._channels.values():
            channel.drop(reason)

    def connect_to_client(self, channel: DataChannel) -> str:
        """Dial an active client for an upload; return what speaks against it."""
        session = self._connection.session
        assert channel.client is not None, "only an active client can be dialled"
        try:
            action = session.connect_to_client(self._connection, channel.client)
        except (BadContext, LimitExceeded, TransportError) as error:
            return str(error)
        channel.dial_client(action)
        session.set_data_filter_factory(action, channel.make_filter)
        return ""

    def server_of(self, exchange: FtpExchange) -> tuple[SocketAddress, str]:
        """Return where a passive server listens, and what speaks against connecting there."""
        server = self._connection.server_address
        target = server.with_port(exchange.announced_port)
        return target, bounce_hazard(exchange.announced or target, server) or ""

    # -- commands ------------------------------------------------------------------------------

    def announce(self, exchange: FtpExchange) -> bytes | FtpRefusal:
        """Return the line to forward for a command that announces, or what speaks against it."""
        if exchange.role in (FtpRole.ACTIVE, FtpRole.EXTENDED_ACTIVE):
            return self._announce_client(exchange)
        request = EpsvRequest.IPV4
        if exchange.role is FtpRole.EXTENDED_PASSIVE:
            request = decode_epsv_argument(exchange.command.argument)
        return self._ask_for_port(exchange, request)

    def _announce_client(self, exchange: FtpExchange) -> bytes | FtpRefusal:
        """Announce an address of the gate to the server, in place of the client's (active)."""
        announced, connection = exchange.announced, self._connection
        assert announced is not None
        if announced.ip.is_unspecified:
            # lftp says ``EPRT |2|::|...|`` for itself; vsftpd takes it for the peer's, too.
            announced = connection.client_address.with_port(announced.port)
        hazard = bounce_hazard(announced, connection.client_address)
        if hazard is not None:
            self._note_hazard(exchange, hazard)
            return FtpRefusal(501, f"Refused: {hazard}")
        channel = DataChannel(self._by_connection)
        session = connection.session
        try:
            action = session.bind_for_client(
                connection,
                announced,
                peers=AddressFilter.only(connection.server_address.host),
                ports=self._conduct.active_ports,
            )
        except (LimitExceeded, TransportError) as error:
            return _cannot_open(error)
        session.set_data_filter_factory(action, channel.make_filter)
        channel.expect_server(action, announced)
        self._supersede(exchange, channel)
        address = action.address
        if exchange.role is FtpRole.ACTIVE and ":" not in address.host:
            return encode_command("PORT", encode_port_argument(address))
        return encode_command("EPRT", encode_eprt_argument(address))

    def _ask_for_port(self, exchange: FtpExchange, request: EpsvRequest) -> bytes | FtpRefusal:
        """Let the server open a port (passive); ``answer`` names the gate when it has."""
        is_ipv6 = ":" in self._connection.client_address.host
        family = EpsvRequest.IPV6 if is_ipv6 else EpsvRequest.IPV4
        if request is EpsvRequest.ALL:
            return exchange.command.to_bytes()
        if request not in (EpsvRequest.ANY, family):
            return FtpRefusal(522, f"Another address family than yours, use EPSV ({family.value})")
        self._supersede(exchange, DataChannel(self._by_connection))
        # Without the family: the server's may be another one.
        return encode_command(exchange.command.verb)

    # -- replies -------------------------------------------------------------------------------

    def answer(self, exchange: FtpExchange, reply: FtpReply) -> bytes:
        """Take the server's reply to an announcement; return what the client is shown."""
        channel = self._channels.get(exchange)
        if channel is None:  # EPSV ALL, or announced again meanwhile
            return reply.to_bytes()
        if reply.is_failure:
            self._drop(exchange, str(reply))
        elif exchange.role in (FtpRole.ACTIVE, FtpRole.EXTENDED_ACTIVE):
            channel.on_answer()
        else:
            return self._announce_gate(exchange, channel)
        return reply.to_bytes()

    def _announce_gate(self, exchange: FtpExchange, channel: DataChannel) -> bytes:
        """Return the reply that names the gate in place of the server (passive)."""
        target, hazard = self.server_of(exchange)
        if hazard:
            self._note_hazard(exchange, hazard)
            self._drop(exchange, hazard)
            return encode_reply(425, f"Refused: {hazard}")
        connection = self._connection
        try:
            action = connection.session.allow_future_connect(
                connection, target, ports=self._conduct.passive_ports, dial_later=True
            )
        except (LimitExceeded, TransportError) as error:
            self._drop(exchange, str(error))
            return _cannot_open(error).to_bytes()
        connection.session.set_data_filter_factory(action, channel.make_filter)
        channel.expect_client(action, target)
        if exchange.role is FtpRole.EXTENDED_PASSIVE:
            return encode_epsv_reply(action.address.port)
        host = self._conduct.public_address or action.address.host
        return encode_pasv_reply(SocketAddress(host, action.address.port))

    # -- inside --------------------------------------------------------------------------------

    def _supersede(self, exchange: FtpExchange, channel: DataChannel) -> None:
        """Let a new announcement take the place of what was announced and never used."""
        for earlier, unused in list(self._channels.items()):
            if not unused.is_used and unused.action is not None:
                self._drop(earlier, "announced again")
        self._channels[exchange] = channel

    def _drop(self, exchange: FtpExchange, reason: str) -> None:
        channel = self._channels.pop(exchange, None)
        if channel is not None:
            channel.drop(reason)

    def _note_hazard(self, exchange: FtpExchange, hazard: str) -> None:
        self._firewall.note(
            "ftp_access",
            f"data address refused: {hazard}",
            {"connection": self._connection.id, "command": str(exchange.command)},
        )


def _cannot_open(error: SluicegateError) -> FtpRefusal:
    return FtpRefusal(425, f"Cannot open a data connection: {error}")
