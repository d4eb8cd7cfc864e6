"""Ends of UDP connections in a playbook: what a client or a server sends, and what has come.

``playbook`` makes them. The invariant: a datagram is one element of a list, whole, and each that
came is expected by the test once, in order, or is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.audit import Record
from sluicegate.protocols.socks_udp import decode_socks_datagram

from .difference import shown
from .exchange import Outcomes
from .peers import PeerDatagrams
from .proxied import ProxiedExchange
from .proxy_client import where
from .scripted_peer import PlaybookError

if TYPE_CHECKING:
    from .playbook import Playbook

__all__ = ["Association", "DatagramExchange", "ScriptedDatagrams"]


class ScriptedDatagrams:
    """A socket for datagrams; every method returns when the world is quiet."""

    def __init__(
        self,
        name: str,
        peer: PeerDatagrams,
        settle: Callable[[], None],
        to: SocketAddress | None = None,
    ) -> None:
        self.name = name
        self.received_count = 0
        #: Datagrams that came so far.
        self.heard_from: SocketAddress | None = None
        #: Who sent the last datagram that came: for a server, the gate's socket for its client.
        self._peer = peer
        self._settle = settle
        self._to = to
        self._unread: list[bytes] = []
        peer.socket.on_change = self._on_change

    @property
    def address(self) -> SocketAddress:
        """Where it is."""
        return self._peer.address

    @property
    def unread(self) -> tuple[bytes, ...]:
        """What has come since the last expectation."""
        return tuple(self._unread)

    def sends(self, *datagrams: bytes, to: SocketAddress | str | None = None) -> None:
        """Send datagrams.

        Args:
            datagrams: One after the other.
            to: Where to; a client's are for the gate, a server's for whom it heard last.

        Raises:
            PlaybookError: A server has heard of nobody yet.
        """
        __tracebackhide__ = True
        for data in datagrams:
            self._send(bytes(data), to)
        self._settle()

    def receives(self, *datagrams: bytes) -> None:
        """Expect exactly these, in this order, since the last expectation.

        Raises:
            PlaybookError: Others came, or none.
        """
        __tracebackhide__ = True
        came = self.reads()
        if came != list(datagrams):
            wanted = "".join(f"\n- {shown(one)}" for one in datagrams)
            found = "".join(f"\n+ {shown(one)}" for one in came) or "\n+ nothing"
            raise PlaybookError(f"the {self.name} was to receive other datagrams{wanted}{found}")

    def receives_nothing(self) -> None:
        """Expect that no datagram has come since the last expectation.

        Raises:
            PlaybookError: One came.
        """
        __tracebackhide__ = True
        self.receives()

    def reads(self) -> list[bytes]:
        """Return what has come since the last expectation, and take it as expected."""
        self._settle()
        came, self._unread = self._unread, []
        return came

    def close(self) -> None:
        """Close its socket (the playbook only)."""
        self._peer.close()

    def _send(self, data: bytes, to: SocketAddress | str | None) -> None:
        __tracebackhide__ = True
        target = SocketAddress.parse(to) if isinstance(to, str) else to
        target = target or self._to or self.heard_from
        if target is None:
            raise PlaybookError(f"the {self.name} has heard of nobody: say where to")
        self._peer.send(data, target)

    def _on_change(self) -> None:
        sock = self._peer.socket
        while sock.is_readable:
            data, sender, _ = sock.take()
            self._take(data, sender)

    def _take(self, data: bytes, sender: SocketAddress) -> None:
        self.received_count += 1
        self.heard_from = sender
        self._unread.append(data)


class DatagramExchange(Outcomes):
    """One UDP connection of a published port: its client, its server, and how it ended."""

    def __init__(
        self, play: Playbook, client: ScriptedDatagrams, server: ScriptedDatagrams
    ) -> None:
        super().__init__(play)
        self.client = client
        self.server = server

    @override
    def _is_its(self, record: Record) -> bool:
        is_datagrams = getattr(record, "transport", "") == "udp"
        return is_datagrams and getattr(record, "client", None) == str(self.client.address)

    @override
    def _error(self, message: str) -> PlaybookError:
        return _caused(PlaybookError(message), self._play)


class Association(ScriptedDatagrams):
    """A client's association with a proxy: datagrams to any destination, and their answers.

    ``heard_from`` is whom the last answer came from, as the proxy says.
    """

    def __init__(
        self, peer: PeerDatagrams, settle: Callable[[], None], control: ProxiedExchange
    ) -> None:
        super().__init__("client", peer, settle, control.address)
        self.control = control
        #: The connection by which it was asked for; its end is the association's.

    def ends(self) -> None:
        """End the association: the client closes the connection by which it asked."""
        self.control.client.ends()

    @override
    def _send(self, data: bytes, to: SocketAddress | str | None) -> None:
        __tracebackhide__ = True
        if to is None:
            raise PlaybookError("a client of a proxy says where each datagram goes: to=…")
        host, _, port = str(to).rpartition(":")
        super()._send(bytes(3) + where(host, int(port)) + data, None)

    @override
    def _take(self, data: bytes, sender: SocketAddress) -> None:
        head = decode_socks_datagram(data)
        source = head.destination
        told = sender if source.address is None else SocketAddress(str(source.address), source.port)
        super()._take(data[head.payload_at :], told)


def _caused(error: PlaybookError, play: Playbook) -> PlaybookError:
    for cause in play.filter_errors[-1:]:
        error.__cause__ = cause
    return error
