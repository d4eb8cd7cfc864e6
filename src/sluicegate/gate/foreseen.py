"""Foreseen connections of proxy clients: a CONNECT to what a filter announced goes where it leads.

A client that reached its server by a proxy asks the proxy for secondary connections, too (the data
connections of FTP). ``session`` notes what is expected of such clients, ``entry`` looks here before
it decides on a request. The invariant: only the client that an action was made for uses it, as
often as it may be used, and its target is judged by the rule of its primary before each dial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import FILTER_ERRORS, BadContext, Side
from sluicegate.filterapi import Event
from sluicegate.names import CanonicalHost
from sluicegate.verdict import Deny

from .connection import GateConnection
from .dispatch import dispatch
from .entry_connection import EntryConnection
from .readmission import Readmission

if TYPE_CHECKING:
    from .entry_handshake import EntryHandshake
    from .secondary import ExpectedConnection
    from .service import FirewallService

__all__ = ["Foreseen", "ForeseenConnection"]


class Foreseen:
    """What clients of one gate's proxy listeners are expected to ask for."""

    __slots__ = ("by_port",)

    def __init__(self) -> None:
        self.by_port: dict[int, dict[ExpectedConnection, None]] = {}
        #: By the port that the client was told; nearly always empty.

    def add(self, expected: ExpectedConnection) -> None:
        """Take note of an action until it is over."""
        self.by_port.setdefault(expected.address.port, {})[expected] = None
        expected.on_over = self._drop

    def find(self, key: str, host: CanonicalHost, port: int) -> ExpectedConnection | None:
        """Return the action that a request is for, of the client whose session has this key."""
        for expected in self.by_port.get(port, ()):
            if expected.primary.session.key == key and _is_at(expected, host):
                return expected
        return None

    def _drop(self, expected: ExpectedConnection) -> None:
        port = expected.address.port
        there = self.by_port.get(port, {})
        there.pop(expected, None)
        if not there:
            self.by_port.pop(port, None)


class ForeseenConnection(EntryConnection):
    """A secondary connection for which its client asked the proxy."""

    __slots__ = ()

    def __init__(
        self,
        service: FirewallService,
        expected: ExpectedConnection,
        handshake: EntryHandshake,
        host: CanonicalHost,
    ) -> None:
        primary = expected.primary
        port = expected.address.port
        super().__init__(service, primary.session, primary.plan, handshake, host, port)
        self.expected = expected
        self.server_address = expected.target

    def open_expected(self) -> None:
        """Use the action up, ask the filters, dial."""
        service, expected = self._service, self.expected
        assert expected is not None, "it was made for one"
        expected.use(self.client_address)
        expected.on_fulfilled(self)
        service.add_connection(self)
        denial = expected.primary.judge_target(self.server_address)
        if self.plan.blocked or denial is not None:
            self.refuse(self.plan.blocked if denial is None else denial.reason)
            return
        self.is_asking = True
        try:
            expected.attach_filters(self)
        except FILTER_ERRORS as error:
            self.is_asking = False
            self.on_filter_failure(error)
            return
        dispatch(service, self, self._opening_event(), self._on_verdict)

    @override
    def dial_server(self, address: SocketAddress) -> None:
        """As ``filterapi.Connection.dial_server``, judged by the rule of the primary."""
        assert self.expected is not None, "it was made for one"
        denial = self.expected.primary.judge_target(address)
        if denial is not None:
            raise BadContext(f"{address} is refused: {denial.reason}")
        super().dial_server(address)

    @override
    def judge_anew(self) -> Readmission:
        return GateConnection.judge_anew(self)

    @override
    def _opening_event(self) -> Event:
        return GateConnection._opening_event(self)  # noqa: SLF001 - the base class's own

    @override
    def _come_up(self) -> None:
        """Dial what the action leads to, or grant at once where a filter dials later."""
        assert self.expected is not None, "it was made for one"
        if self.is_emulated or self.expected.dial_later:
            self._grant_emulated()
        else:
            self._dial(Side.SERVER)

    @override
    def judge_target(self, address: SocketAddress) -> Deny | None:
        """As the primary does: it has the decision."""
        assert self.expected is not None, "it was made for one"
        return self.expected.primary.judge_target(address)


def _is_at(expected: ExpectedConnection, host: CanonicalHost) -> bool:
    """Tell whether a client means the announced place by this host.

    Some clients take the announced address, others the host that they asked for at first (curl, by
    default: an address in a reply to PASV is often wrong).
    """
    primary = expected.primary
    if isinstance(primary, EntryConnection) and primary.host == host:
        return True
    return host.address in (expected.address.ip, primary.server_address.ip)
