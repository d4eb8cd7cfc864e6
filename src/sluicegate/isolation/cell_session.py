"""In a cell: a session, and what filters expect, bind and hold in its name.

``objects`` makes sessions. The invariant: nothing here decides anything: each method is a call, and
what it returns is what the gate said.
"""

from __future__ import annotations

import ipaddress
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from sluicegate.address import AddressFilter, IpAddress, SocketAddress
from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    Action,
    CallbackDataFilter,
    Connection,
    DataFilterFactory,
    DataSocket,
    Event,
    Position,
    SessionFilter,
    TransferOffer,
    TransferOutcome,
    User,
)

from . import calls
from .cell_calls import About, CellCalls
from .facts import AddressFacts, ConnectionFacts, OfferFacts, address_of, facts_of

if TYPE_CHECKING:
    from sluicegate.filterapi import AnyDataFilter

__all__ = [
    "CellAction",
    "CellBind",
    "CellHeldTransfer",
    "CellSession",
    "HeldInGate",
    "NotInCellError",
    "not_here",
]


class NotInCellError(BadContext, AttributeError):
    """A method of the filter API was called that does not reach out of a cell."""


def not_here(what: str, name: str) -> NotInCellError:
    """Return the refusal of what a cell cannot do."""
    return NotInCellError(
        f"{what} offers no {name!r} to a filter that runs in a process of its own; "
        "see docs/howto/isolate-a-filter.md"
    )


class CellAction:
    """Something that may be used in future; satisfies ``filterapi.Action``."""

    def __init__(self, cell_calls: CellCalls, number: int, address: AddressFacts) -> None:
        self.number = number
        self.address = address_of(address)
        self._calls = cell_calls

    @property
    def is_pending(self) -> bool:
        """As ``filterapi.Action.is_pending``."""
        return self._calls.now(calls.AskAction(self.number), calls.Truth).is_so

    def cancel(self) -> None:
        """As ``filterapi.Action.cancel``."""
        self._calls.tell(calls.CancelAction(self.number))


class CellBind(CellAction):
    """A bind; satisfies ``filterapi.Bind`` as far as it is not emulated."""

    @property
    def peers(self) -> AddressFilter:
        """As ``filterapi.Bind.peers``."""
        return self._calls.now(calls.AskPeers(self.number), calls.Peers).peers.peers()

    def set_peers(self, peers: AddressFilter) -> None:
        """As ``filterapi.Bind.set_peers``."""
        self._calls.do(calls.SetPeers(self.number, calls.PeersFacts.of(peers)))

    def set_client_address(self, client: SocketAddress) -> None:
        """As ``filterapi.Bind.set_client_address``."""
        self._calls.do(calls.SetClientAddress(self.number, facts_of(client)))

    def set_socket_name(self, address: SocketAddress) -> NoReturn:
        """As ``filterapi.Bind.set_socket_name``: too late here."""
        raise BadContext(f"the address was told already: {address} can only be named in the gate")

    def __getattr__(self, name: str) -> NoReturn:
        raise not_here("a bind", name)


class HeldInGate(CallbackDataFilter):
    """Stands for the data filter in the gate that holds an object; its place is handed over."""

    name = "transfer"

    def __init__(self, held: CellHeldTransfer) -> None:
        self._held: CellHeldTransfer | None = held
        #: None once what holds the object has its place.

    @override
    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> NoReturn:
        raise BadContext("an object is held in the gate")

    @override
    def detach(self) -> None:
        if self._held is not None:
            self._held.cancel("the data connection ended")

    @property
    def number(self) -> int:
        """The gate's number of the object."""
        return self._held.number if self._held is not None else 0

    def on_placed(self) -> None:
        """Take that what holds the object has its place."""
        self._held = None


class CellHeldTransfer:
    """A held object; satisfies ``filterapi.HeldTransfer``."""

    def __init__(self, cell_calls: CellCalls, number: int) -> None:
        self.number = number
        self._calls = cell_calls
        weakref.finalize(self, cell_calls.drop, number).atexit = False

    def factory(self, connection: Connection) -> AnyDataFilter:
        """As ``filterapi.HeldTransfer.factory``."""
        del connection
        return HeldInGate(self)

    async def judged(self) -> TransferOutcome:
        """As ``filterapi.HeldTransfer.judged``."""
        return await self._outcome(is_finished=False)

    async def finished(self) -> TransferOutcome:
        """As ``filterapi.HeldTransfer.finished``."""
        return await self._outcome(is_finished=True)

    async def _outcome(self, *, is_finished: bool) -> TransferOutcome:
        errand = calls.AwaitHeld(self.number, is_finished)
        return (await self._calls.later(errand, calls.OutcomeFacts)).transfer_outcome()

    def deliver(self) -> None:
        """As ``filterapi.HeldTransfer.deliver``."""
        self._calls.do(calls.DeliverHeld(self.number))

    def cancel(self, reason: str) -> None:
        """As ``filterapi.HeldTransfer.cancel``."""
        self._calls.do(calls.CancelHeld(self.number, reason))


class CellSession:
    """A session that the cell was told of; satisfies ``filterapi.Session``."""

    def __init__(self, cell_calls: CellCalls, facts: ConnectionFacts) -> None:
        self.id = facts.session
        self.client_address = SocketAddress(*facts.client).with_port(0)
        self.user: User | None = None
        if facts.user is not None:
            name, groups, scheme = facts.user
            self.user = User(name, tuple(groups), scheme)
        self._calls = cell_calls

    def __getattr__(self, name: str) -> NoReturn:
        raise not_here("a session", name)

    # -- expectations ----------------------------------------------------------------------------

    def allow_future_connect(
        self,
        connection: Connection,
        target: SocketAddress,
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        dial_later: bool = False,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> CellAction:
        """As ``filterapi.Session.allow_future_connect``."""
        how = self._how(ports, session_filter, context, allow_multiple, timeout_s)
        errand = calls.AllowFutureConnect(facts_of(target), how, dial_later)
        (row,) = self._expect(errand, connection, how.told)
        return CellAction(self._calls, *row)

    def connect_to_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        session_filter: SessionFilter | None = None,
        context: Any = None,
    ) -> CellAction:
        """As ``filterapi.Session.connect_to_client``."""
        told = self._told(session_filter, context)
        errand = calls.ConnectToClient(facts_of(client), told)
        (row,) = self._expect(errand, connection, told)
        return CellAction(self._calls, *row)

    def bind_for_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        peers: AddressFilter,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> CellBind:
        """As ``filterapi.Session.bind_for_client``; filters in cells are told of it afterwards."""
        how = self._how(ports, session_filter, context, allow_multiple, timeout_s)
        errand = calls.BindForClient(facts_of(client), calls.PeersFacts.of(peers), how)
        (row,) = self._expect(errand, connection, how.told)
        return CellBind(self._calls, *row)

    def redirect_connections(
        self,
        connection: Connection,
        targets: Sequence[SocketAddress],
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> list[Action]:
        """As ``filterapi.Session.redirect_connections``."""
        how = self._how(ports, session_filter, context, allow_multiple, timeout_s)
        errand = calls.RedirectConnections([facts_of(one) for one in targets], how)
        return [CellAction(self._calls, *row) for row in self._expect(errand, connection, how.told)]

    def retroactive_allow_bind(self, address: SocketAddress, peers: AddressFilter) -> bool:
        """As ``filterapi.Session.retroactive_allow_bind``."""
        errand = calls.RetroactiveAllowBind(facts_of(address), calls.PeersFacts.of(peers))
        return self._calls.now(errand, calls.Truth, About(self.id)).is_so

    def set_data_filter_factory(
        self,
        foreseen: Action | type[Event],
        factory: DataFilterFactory,
        *,
        address: SocketAddress | None = None,
        position: Position = Position.MIDDLE,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> CellAction:
        """As ``filterapi.Session.set_data_filter_factory``."""
        kind = foreseen.__name__ if isinstance(foreseen, type) else ""
        action = foreseen.number if isinstance(foreseen, CellAction) else 0
        if not kind and not action:
            raise BadContext("the expectation is over: set the factory before it is used")
        where = None if address is None else facts_of(address)
        token = self._calls.keep((factory, context))
        errand = calls.SetFactory(
            token, action, kind, where, int(position), allow_multiple, timeout_s
        )
        (row,) = self._given(errand, About(self.id), token)
        return CellAction(self._calls, *row)

    def _how(
        self,
        ports: range | None,
        session_filter: SessionFilter | None,
        context: Any,
        allow_multiple: bool,
        timeout_s: float | None,
    ) -> calls.How:
        wanted = None if ports is None else (ports.start, ports.stop, ports.step)
        return calls.How(wanted, self._told(session_filter, context), allow_multiple, timeout_s)

    def _told(self, session_filter: SessionFilter | None, context: Any) -> int:
        return 0 if session_filter is None else self._calls.keep((session_filter, context))

    def _expect(
        self, errand: calls.Errand, connection: Connection, token: int
    ) -> list[tuple[int, AddressFacts]]:
        return self._given(errand, About(self.id, connection.id), token)

    def _given(
        self, errand: calls.Errand, about: About, token: int
    ) -> list[tuple[int, AddressFacts]]:
        try:
            return self._calls.now(errand, calls.Actions, about).rows
        except BaseException:
            self._calls.forget(token)
            raise

    # -- objects ---------------------------------------------------------------------------------

    def hold_transfer(
        self, connection: Connection, offer: TransferOffer, *, deliver_later: bool = False
    ) -> CellHeldTransfer:
        """As ``filterapi.Session.hold_transfer``."""
        errand = calls.HoldObject(OfferFacts.of(offer), deliver_later)
        held = self._calls.now(errand, calls.Held, About(self.id, connection.id))
        return CellHeldTransfer(self._calls, held.number)

    # -- names and filters -------------------------------------------------------------------------

    def host_access_check(self, host: str, port: int) -> bool:
        """As ``filterapi.Session.host_access_check``."""
        return self._calls.now(calls.CheckHost(host, port), calls.Truth, About(self.id)).is_so

    async def host_by_name(
        self, connection: Connection, host: str, port: int
    ) -> tuple[IpAddress, ...]:
        """As ``filterapi.Session.host_by_name``."""
        about = About(self.id, connection.id)
        found = await self._calls.later(calls.LookUpHost(host, port), calls.Names, about)
        return tuple(ipaddress.ip_address(one) for one in found.texts)

    async def host_by_address(self, connection: Connection, address: IpAddress) -> tuple[str, ...]:
        """As ``filterapi.Session.host_by_address``."""
        about = About(self.id, connection.id)
        found = await self._calls.later(calls.LookUpAddress(str(address)), calls.Names, about)
        return tuple(found.texts)

    def attach_filter(self, name: str) -> None:
        """As ``filterapi.Session.attach_filter``."""
        self._calls.do(calls.AttachFilter(name), About(self.id))
